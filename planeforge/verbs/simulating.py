"""``planeforge simulate``: a packed matrix on activations from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from planeforge.hardware import DEFAULT_ARRAY, DEFAULT_PE
from planeforge.output import show, table

#: Columns of the printed table by plane: all that `--json` gives would not fit a screen.
SHOWN = ("side", "term", "plane", "place", "beats", "zero_beats")
TOGGLES = ("w", "x", "mask", "product", "dot", "accumulator")


def simulate(
    out: Path = typer.Argument(..., help="Packed file, or the folder `quantize` made of a model."),
    activations: Path = typer.Option(..., help="Float activations, .npy of shape [tokens, columns]."),
    act_bits: int = typer.Option(8, help="Bits of an activation integer; 1: -1/+1."),
    act_format: str = typer.Option("", help="Activation format in its place: mxfp4, nvint4, int8-g128, ..."),
    layer: str = typer.Option("", help="Which matrix, where the file holds several."),
    engine: str = typer.Option("numba", help="Who computes: numba, integer, torch."),
    pe: str = typer.Option(DEFAULT_PE, help="PE, as NAME or NAME:key=value,..."),
    array: str = typer.Option(DEFAULT_ARRAY, help="PE array, ROWSxCOLUMNS[:key=value,...]."),
    sample: int = typer.Option(
        0, min=0, help="Rows and tokens whose registers' toggles are followed; 0: all, exactly."
    ),
    output: Path | None = typer.Option(None, "-o", "--output", help="Write float32 [tokens, rows], .npy."),
    partials: Path | None = typer.Option(None, help="Write the int64 sums, .npy [tokens, rows]."),
    vcd: Path | None = typer.Option(None, help="Write the waves of one PE, on output 0, as VCD."),
    vcd_beats: int = typer.Option(1000, min=1, help="Beats the waves show at most."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Compute what the hardware computes: integers, outputs, cycles, activity.

    Example: planeforge simulate w.packed --activations x.npy -o y.npy --partials s.npy
    """
    from algo.bitplane import activation_formats
    from algo.checkpoint import read_activations
    from planeforge import hardware, simulating
    from planeforge.packed import chosen, read, write_npy

    matrix = next(iter(chosen(read(out)[0], layer).values()))
    x = read_activations(activations, matrix.columns, "activations")
    spec = hardware.array(array, pe)
    act = activation_formats.get(act_format) if act_format else None
    bits = act_bits if act is None else act.bits
    run = simulating.simulate(
        matrix, x, act_bits=bits, engine=engine, array=spec, sample=sample or None, act=act
    )
    if output is not None:
        write_npy(output, run.outputs)
    if partials is not None:
        # One stream, the usual case, has no axis of its own.
        write_npy(partials, run.sums[0] if len(run.sums) == 1 else run.sums)
    if vcd is not None:
        beats = simulating.first_beats(matrix, x, bits, spec.pe, vcd_beats, act)
        simulating.write_waves(vcd, spec.pe, beats)
    named = {} if act is None else {"act_format": act.name}
    figures = {"engine": engine, "act_bits": bits, **named, "pe": pe, "array": array, **run.figures()}
    show(figures, as_json, lambda: _print(figures))


def _print(figures: Mapping[str, Any]) -> None:
    planes = figures["by_plane"]
    rest = {key: value for key, value in figures.items() if key not in {"by_plane", "schedule"}}
    table([{"figure": k, "value": v} for k, v in _flat(rest).items()])
    schedule = _flat(figures["schedule"])
    table([{"with memory": k, "value": v} for k, v in schedule.items()], title="schedule, buffers and port")
    if planes:
        table([_plane(plane) for plane in planes], title="by plane; toggles per beat")


def _plane(plane: Mapping[str, Any]) -> dict[str, Any]:
    """A plane's line: counts as shares, toggles by beat."""
    line = {name: plane[name] for name in SHOWN}
    line["term"] = "-" if plane["term"] < 0 else str(plane["term"])
    for name, part, whole in (
        ("ones", "ones", "bits"),
        ("zero words", "zero_words", "words"),
        ("zero planes", "zero_planes", "group_planes"),
    ):
        line[name] = _share(plane[part], plane[whole])
    return line | {name: round(plane[f"{name}_toggles"] / max(1, plane["beats"]), 2) for name in TOGGLES}


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"


def _flat(figures: Mapping[str, object]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in figures.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return flat


COMMANDS = {"simulate": simulate}
