"""``planeforge workload``: a whole decoder on an array, prefill and decode, for any weight formats."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from planeforge.hardware import DEFAULT_ARRAY, DEFAULT_PE
from planeforge.output import progress, show, table

COLUMNS = (
    "format",
    "phase",
    "bits_per_weight",
    "clocks",
    "seconds",
    "tokens_per_second",
    "utilisation",
    "bound",
)
#: Of the array's waits, those worth a column each; the rest are in the table file.
WAITS = ("weights", "activations", "results", "scale")


def workload(
    model: str = typer.Argument(
        "", help="Library model, config.json, or its directory; none: list models and peers."
    ),
    formats: list[str] = typer.Option(["int4-g128"], "--format", help="Weight format; again for more; all."),
    pe: str = typer.Option(DEFAULT_PE, help="PE, as NAME or NAME:key=value,..."),
    array: str = typer.Option(DEFAULT_ARRAY, help="PE array, ROWSxCOLUMNS[:key=value,...]."),
    dataflow: str = typer.Option("", help="output-stationary or weight-stationary."),
    peer: str = typer.Option("", help="A published accelerator in place of PE, array and formats."),
    prefill: int = typer.Option(2048, min=0, help="Tokens of the prompt; 0: no prefill."),
    decode: bool = typer.Option(True, help="One decoded token behind the prompt."),
    context: int = typer.Option(0, min=0, help="Positions it attends to; 0: the prompt and itself."),
    batch: int = typer.Option(1, help="Sequences at once."),
    act_bits: int = typer.Option(8, help="Bits of an activation integer."),
    kv_bits: int = typer.Option(8, help="Bits of the key-value cache."),
    output: Path | None = typer.Option(None, "-o", "--output", help="Write the table, .csv."),
    trace: Path | None = typer.Option(None, help="Write a Chrome trace of one product's first tiles, .json."),
    trace_product: str = typer.Option("q", help="Product of the trace: q, k, v, o, up, down, scores, ..."),
    trace_jobs: int = typer.Option(200, help="Tile jobs of the trace."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Count the clocks, stalls and bytes of a decoder's prefill and decode, without a checkpoint.

    Example: planeforge workload llama-2-7b --format int4-g128 --format sign-g128 --prefill 2048
    """
    from planeforge import hardware
    from planeforge import workload as work
    from sim.workload import Setting

    if not model:
        return _list(as_json)
    one = work.peer(peer) if peer else None
    spec = one.array if one else hardware.array(array, pe)
    job = work.Job(
        model=work.model(model),
        setting=replace(one.setting, batch=batch)
        if one
        else Setting(batch=batch, act_bits=act_bits, kv_bits=kv_bits),
        prefill=prefill,
        context=(context or prefill + 1) if decode else 0,
        peer=one,
    )
    if dataflow:
        spec = replace(spec, dataflow=dataflow)
    if not (job.prefill or job.context):
        raise ValueError("prefill must be at least 1 where nothing is decoded, not 0")
    chosen = {one.weights.name: one.weights} if one else work.formats(formats)
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    with progress("workload") as moved:
        for at, (name, fmt) in enumerate(chosen.items()):
            moved(at / len(chosen), name)
            if isinstance(fmt, str):
                left_out[name] = fmt
            else:
                rows += [work.row(phase, fmt) for phase in work.phases(job, fmt, spec)]
    if trace is not None:
        first = next(fmt for fmt in chosen.values() if not isinstance(fmt, str))
        work.write_text(trace, json.dumps(work.trace(job, first, spec, trace_product, trace_jobs)))
    if output is not None:
        work.write_csv(output, rows)
    result = {
        "model": job.model.name,
        "weights": job.model.weights(),
        "source": job.model.source,
        "peer": peer or None,
        "closed_form": work.closed_form(peer, job),
        "prefill": job.prefill,
        "context": job.context,
        "batch": batch,
        "act_bits": job.setting.act_bits,
        "kv_bits": job.setting.kv_bits,
        "clock_hz": spec.clock_hz,
        "rows": rows,
        "left_out": left_out,
    }
    return show(result, as_json, lambda: _print(result))


def _print(result: dict[str, Any]) -> None:
    shown = []
    for row in result["rows"]:
        line = {name: row[name] for name in COLUMNS}
        waits = " ".join(f"{n} {row[n + '_share']:.1%}" for n in WAITS if row[n + "_share"] >= 0.0005)
        shown.append(line | {"waits for": waits or "-", "DRAM MB": row["dram_bytes"] / 1e6})
    at = f"{result['clock_hz'] / 1e6:g} MHz, batch {result['batch']}, context {result['context']}"
    on = f" on {result['peer']}" if result["peer"] else ""
    table(shown, f"{result['model']}{on}: {result['weights'] / 1e9:.2f} G weights at {at}")
    for name, figures in result["closed_form"].items():
        print(f"its own formula: {name}: {figures}")
    for name, reason in result["left_out"].items():
        print(f"left out: {name}: {reason}")


def _list(as_json: bool) -> None:
    """The library's models and the peers."""
    from sim.decoders import LIBRARY
    from sim.peers.scheduled import PEERS

    models = [
        {"model": m.name, "weights": m.weights(), "layers": m.layers, "hidden": m.hidden, "source": m.source}
        for m in LIBRARY.values()
    ]
    peers = [
        {"peer": p.name, "array": f"{p.array.rows}x{p.array.columns}", "source": p.source}
        for p in PEERS.values()
    ]

    def people() -> None:
        table(models)
        table(peers)

    show({"models": models, "peers": peers}, as_json, people)


COMMANDS = {"workload": workload}
