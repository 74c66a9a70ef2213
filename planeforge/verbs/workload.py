"""``planeforge workload``: a whole decoder on an array, prefill and decode, for any weight formats."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from planeforge.hardware import DEFAULT_ARRAY, DEFAULT_PE
from planeforge.output import progress, show, table

if TYPE_CHECKING:
    from hw.spec import ArraySpec
    from planeforge.workload import Job
    from sim.weight_formats import WeightFormat
    from sim.workload import Phase

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


#: Of the costs, by heading: the row's figure and its scale.
BANDED = {
    "uJ/token": ("energy_per_token_pj", 1e-6),
    "W": ("power_w", 1.0),
    "bit-TOPS/W": ("bit_tops_per_w", 1.0),
    "bit-TOPS/mm2": ("bit_tops_per_mm2", 1.0),
    "mm2": ("array_area_mm2", 1.0),
}
#: Of a layer's point on the roofline.
POINTS = ("pe", "format", "phase", "layer", "copies", "bit_operations_per_byte", "ridge", "binds", "attained")


def workload(
    model: str = typer.Argument(
        "", help="Library model, config.json, or its directory; none: list models and peers."
    ),
    formats: list[str] = typer.Option(["int4-g128"], "--format", help="Weight format; again for more; all."),
    pe: list[str] = typer.Option([DEFAULT_PE], help="PE, as NAME or NAME:key=value,...; again for more."),
    array: str = typer.Option(DEFAULT_ARRAY, help="PE array, ROWSxCOLUMNS[:key=value,...]."),
    dataflow: str = typer.Option("", help="output-stationary or weight-stationary."),
    peer: str = typer.Option("", help="A published accelerator in place of PE, array and formats."),
    prefill: int = typer.Option(2048, min=0, help="Tokens of the prompt; 0: no prefill."),
    decode: bool = typer.Option(True, help="One decoded token behind the prompt."),
    context: int = typer.Option(0, min=0, help="Positions it attends to; 0: the prompt and itself."),
    batch: int = typer.Option(1, help="Sequences at once."),
    iso: str = typer.Option("", help="area: arrays of further PEs get the rows that fill the first's area."),
    tech: str = typer.Option(
        "asap7", help="Technology of energy and area (planeforge techs); none: neither."
    ),
    dram: str = typer.Option("lpddr5", help="External memory."),
    roofline: bool = typer.Option(False, "--roofline", help="Also every layer's intensity and roof."),
    act_bits: int = typer.Option(8, help="Bits of an activation integer."),
    kv_bits: int = typer.Option(8, help="Bits of the key-value cache."),
    output: Path | None = typer.Option(None, "-o", "--output", help="Write the table, .csv."),
    trace: Path | None = typer.Option(None, help="Write a Chrome trace of one product's first tiles, .json."),
    trace_product: str = typer.Option("q", help="Product of the trace: q, k, v, o, up, down, scores, ..."),
    trace_jobs: int = typer.Option(200, help="Tile jobs of the trace."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Count the clocks, stalls and bytes of a decoder's prefill and decode, without a checkpoint.

    Energies take operands to toggle as random data do. All PEs have the same port to memory and buffers.

    Example: planeforge workload llama-2-7b --format int4-g128 --format sign-g128 --prefill 2048
    """
    from planeforge import workload as work
    from planeforge import workload_costs as costs
    from sim.workload import Setting

    if not model:
        return _list(as_json)
    one = work.peer(peer) if peer else None
    if tech == "none":
        tech = ""
    specs = {peer: one.array} if one else _arrays(pe, array, iso, tech)
    if dataflow:
        specs = {name: replace(each, dataflow=dataflow) for name, each in specs.items()}
    spec = next(iter(specs.values()))
    job = work.Job(
        model=work.model(model),
        setting=replace(one.setting, batch=batch)
        if one
        else Setting(batch=batch, act_bits=act_bits, kv_bits=kv_bits),
        prefill=prefill,
        context=(context or prefill + 1) if decode else 0,
        peer=one,
    )
    if not (job.prefill or job.context):
        raise ValueError("prefill must be at least 1 where nothing is decoded, not 0")
    chosen = {one.weights.name: one.weights} if one else work.formats(formats)
    # A peer's PE is timed, not built: it has no cells to price.
    priced = "" if one else tech
    reasons = {name: costs.why_no_energy(each, priced) for name, each in specs.items()}
    no_energy = {name: reason for name, reason in reasons.items() if reason}
    rows: list[dict[str, Any]] = []
    layers: list[dict[str, Any]] = []
    firsts: dict[str, Phase] = {}
    left_out: dict[str, str] = {}
    pairs = [(name, each, fmt) for name, each in specs.items() for fmt in chosen.items()]
    with progress("workload") as moved:
        for at, (on, each, (name, fmt)) in enumerate(pairs):
            moved(at / len(pairs), name)
            if isinstance(fmt, str):
                left_out[name] = fmt
                continue
            found = _run(job, fmt, each, refused=len(pairs) > 1)
            if isinstance(found, str):
                left_out[f"{name} on {on}"] = found
                continue
            for phase in found:
                head = {"pe": on, "array": f"{each.rows}x{each.columns}"}
                priced_columns = costs.columns(phase, priced, dram) if priced else {}
                if priced and firsts.setdefault(phase.name, phase) is not phase:
                    priced_columns |= costs.against(phase, firsts[phase.name], priced, dram)
                rows.append(head | work.row(phase, fmt) | priced_columns)
                if roofline:
                    points = costs.layers(phase.name, job.works(phase.name, fmt), each)
                    layers += [head | {"format": name} | point for point in points]
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
        "tech": priced or None,
        "dram": dram if priced else None,
        "rows": rows,
        "layers": layers,
        "left_out": left_out,
        "no_energy": no_energy if priced else {},
        "sparsity": costs.sparsity([f for f in chosen.values() if not isinstance(f, str)], priced),
    }
    return show(result, as_json, lambda: _print(result))


def _arrays(pes: list[str], array: str, iso: str, tech: str) -> dict[str, ArraySpec]:
    """An array for each PE, of equal area if asked for."""
    from planeforge import hardware
    from planeforge.workload_costs import of_equal_area

    if iso not in ("", "area"):
        raise ValueError(f"iso must be area or nothing, not {iso!r}")
    if iso and not tech:
        raise ValueError("tech must be given where arrays are of equal area, not 'none'")
    found = {name: hardware.array(array, name) for name in pes}
    first = next(iter(found.values()))
    if not iso:
        return found
    return {name: spec if spec is first else of_equal_area(spec, first, tech) for name, spec in found.items()}


def _run(job: Job, fmt: WeightFormat, array: ArraySpec, refused: bool) -> list[Phase] | str:
    """Phases of a job, or the reason why the PE cannot run it, where another may."""
    from planeforge import workload as work

    try:
        return work.phases(job, fmt, array)
    except ValueError as error:
        if not refused:
            raise
        return str(error)


def _print(result: dict[str, Any]) -> None:
    lines: list[dict[str, Any]] = []
    costs: list[dict[str, Any]] = []
    several = len({row["pe"] for row in result["rows"]}) > 1
    for row in result["rows"]:
        line = {name: row[name] for name in COLUMNS if name in row}
        waits = " ".join(f"{n} {row[n + '_share']:.1%}" for n in WAITS if row[n + "_share"] >= 0.0005)
        lines.append({"pe": row["pe"], "array": row["array"]} | line if several else line)
        lines[-1] |= {"waits for": waits or "-", "DRAM MB": row["dram_bytes"] / 1e6}
        named = {name: row[name] for name in ("pe", "array", "format", "phase")}
        if result["tech"]:
            line = named | {title: _banded(row, *at) for title, at in BANDED.items()}
            if len(result["rows"]) > 2:
                line["energy to first"] = _banded(row, "energy_over_first", 1.0)
                line["takes"] = row.get("energy_order", "-")
            costs.append(line)
    at = f"{result['clock_hz'] / 1e6:g} MHz, batch {result['batch']}, context {result['context']}"
    on = f" on {result['peer']}" if result["peer"] else ""
    table(lines, f"{result['model']}{on}: {result['weights'] / 1e9:.2f} G weights at {at}")
    if costs:
        table(
            costs,
            f"{result['tech']}, {result['dram']}, operands that toggle as random data do; ranges in brackets",
        )
    points = [{name: row[name] for name in POINTS} for row in result["layers"]]
    if points:
        table(points, "rooflines: bit-operations a byte of external memory, and what binds")
    for name, figures in result["closed_form"].items():
        print(f"its own formula: {name}: {figures}")
    for sentence in result["sparsity"]:
        print(sentence)
    for name, reason in result["no_energy"].items():
        print(f"no energy: {name}: {reason}")
    for name, reason in result["left_out"].items():
        print(f"left out: {name}: {reason}")


def _banded(row: dict[str, Any], name: str, scale: float) -> str:
    if row.get(name) is None:
        return "-"
    value, low, high = (scale * row[name + end] for end in ("", "_low", "_high"))
    return f"{value:.3g} [{low:.3g}-{high:.3g}]"


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
