"""``planeforge export``: an array's costs as other simulators read them."""

from __future__ import annotations

from pathlib import Path

import typer

from planeforge.hardware import DEFAULT_ARRAY, DEFAULT_PE
from planeforge.output import show


def export(
    to: str = typer.Option(..., "--to", help="accelergy: energy and area tables. zigzag: a core."),
    pe: str = typer.Option(DEFAULT_PE, help="PE, as NAME or NAME:key=value,..."),
    array: str = typer.Option(DEFAULT_ARRAY, help="PE array, ROWSxCOLUMNS[:key=value,...]."),
    tech: str = typer.Option("asap7", help="Technology (planeforge techs)."),
    dram: str = typer.Option("lpddr5", help="External memory."),
    output: Path | None = typer.Option(
        None, "-o", "--output", help="Write the file, .yaml; else it is printed."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Write an array's energies and areas as YAML of Accelergy or ZigZag, with sources and ranges.

    Example: planeforge export --to zigzag --array 16x16 --tech asap7 -o core.yaml
    """
    from cost_models.exports import export as text_of
    from planeforge import hardware
    from planeforge.workload import write_text

    text = text_of(to, hardware.array(array, pe), tech, dram)
    if output is not None:
        write_text(output, text)
    result = {"to": to, "pe": pe, "array": array, "tech": tech, "output": output, "text": text}
    show(result, as_json, lambda: print(f"wrote {output}" if output else text))


COMMANDS = {"export": export}
