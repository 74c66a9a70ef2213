"""``planeforge simulate``: a packed matrix on activations from a file."""

from __future__ import annotations

from pathlib import Path

import typer

from planeforge.hardware import DEFAULT_ARRAY, DEFAULT_PE
from planeforge.output import show, table


def simulate(
    out: Path = typer.Argument(..., help="Packed file, or the folder `quantize` made of a model."),
    activations: Path = typer.Option(..., help="Float activations, .npy of shape [tokens, columns]."),
    act_bits: int = typer.Option(8, help="Bits of an activation integer; 1: -1/+1."),
    layer: str = typer.Option("", help="Which matrix, where the file holds several."),
    engine: str = typer.Option("numba", help="Who computes: numba, integer, torch."),
    pe: str = typer.Option(DEFAULT_PE, help="PE, as NAME or NAME:key=value,..."),
    array: str = typer.Option(DEFAULT_ARRAY, help="PE array, ROWSxCOLUMNS."),
    output: Path | None = typer.Option(None, "-o", "--output", help="Write float32 [tokens, rows], .npy."),
    partials: Path | None = typer.Option(None, help="Write the int64 sums, .npy [tokens, rows]."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Compute what the hardware computes: integers, outputs, cycles, activity.

    Example: planeforge simulate w.packed --activations x.npy -o y.npy --partials s.npy
    """
    from algo.checkpoint import read_activations
    from planeforge import hardware, simulating
    from planeforge.packed import chosen, read, write_npy

    matrix = next(iter(chosen(read(out)[0], layer).values()))
    x = read_activations(activations, matrix.columns, "activations")
    spec = hardware.array(array, pe)
    run = simulating.simulate(matrix, x, act_bits=act_bits, engine=engine, array=spec)
    if output is not None:
        write_npy(output, run.outputs)
    if partials is not None:
        # One stream, the usual case, has no axis of its own.
        write_npy(partials, run.sums[0] if len(run.sums) == 1 else run.sums)
    figures = {"engine": engine, "act_bits": act_bits, "pe": pe, "array": array, **run.figures()}
    show(figures, as_json, lambda: table([{"figure": k, "value": v} for k, v in _flat(figures).items()]))


def _flat(figures: dict[str, object]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in figures.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return flat


COMMANDS = {"simulate": simulate}
