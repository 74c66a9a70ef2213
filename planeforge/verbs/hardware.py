"""``planeforge verilog | synth``: RTL to disk, and through real synthesis."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from planeforge.hardware import DEFAULT_PE
from planeforge.output import show, table

if TYPE_CHECKING:
    from hw.spec import ArraySpec, PeSpec


def verilog(
    pe: str = typer.Option(DEFAULT_PE, help="PE, as NAME or NAME:key=value,..."),
    array: str = typer.Option("", help="A whole array of it, ROWSxCOLUMNS."),
    output: Path = typer.Option(..., "-o", "--output", help="Folder to write; it appears whole."),
    vectors: int = typer.Option(1000, help="Beats in the self-checking testbench."),
    seed: int = typer.Option(0, help="Of the testbench's random beats."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Write Verilog, a self-checking testbench with vectors, constraints and build scripts.

    Example: planeforge verilog --pe bitserial:lanes=128 -o rtl
    """
    from planeforge import hardware

    if vectors < 1:
        raise ValueError(f"vectors must be at least 1, not {vectors!r}")
    spec = hardware.array(array, pe) if array else hardware.pe(pe)
    _export(spec, output, vectors, seed)
    files = sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
    result = {"pe": pe, "array": array, "parameters": asdict(spec), "directory": str(output), "files": files}
    show(result, as_json, lambda: print(f"{output}: {', '.join(files)}"))


def _export(spec: PeSpec | ArraySpec, output: Path, vectors: int, seed: int) -> None:
    from hw import verilog as folder
    from hw.beats import Beats
    from hw.grid import Grid
    from hw.spec import ArraySpec

    made = Grid(array=spec) if isinstance(spec, ArraySpec) else spec
    clock_hz = {"clock_hz": spec.clock_hz} if isinstance(spec, ArraySpec) else {}
    folder.export(made, output, Beats.random(made, vectors, seed), **clock_hz)


def synth(
    directory: Path = typer.Argument(..., help="Folder `planeforge verilog` wrote."),
    target: str = typer.Option(..., help="ice40, ecp5, xilinx or liberty."),
    liberty: Path | None = typer.Option(None, help="Cell library, .lib or .lib.gz, for target liberty."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Synthesize with Yosys: cells, area, and fmax where a placer is at hand.

    Example: planeforge synth rtl --target ecp5
    """
    from hw import synth as flow

    found = [top for top in ("pe", "array") if (directory / f"{top}.v").is_file()]
    if not found:
        raise ValueError(
            f"directory must hold pe.v or array.v (planeforge verilog -o DIR), not {str(directory)!r}"
        )
    text = (directory / f"{found[0]}.v").read_text()
    # Only ECP5 has a placer on the package index that needs no pins.
    result = asdict(flow.synthesize(text, found[0], target, liberty, place=target == "ecp5"))
    result.pop("netlist", None)
    rows: list[dict[str, Any]] = [
        {"figure": key, "value": value}
        for key, value in result.items()
        if value not in (None, "") and key not in ("script", "cells")
    ]
    rows += [{"figure": f"cells {kind}", "value": count} for kind, count in sorted(result["cells"].items())]
    show(result, as_json, lambda: table(rows))


COMMANDS = {"verilog": verilog, "synth": synth}
