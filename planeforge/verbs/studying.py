"""``planeforge compare | demo``: the main job, a study of formats on one model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from planeforge.output import progress, show, table


def compare(
    study: Path | None = typer.Argument(
        None, help="STUDY.toml: model, texts, formats, PE, array, technology."
    ),
    output: Path | None = typer.Option(None, "-o", "--output", help="Folder of results; rows are kept."),
    builtin: str = typer.Option("", help="A study that ships with planeforge, in place of STUDY: bitmod."),
    model: Path | None = typer.Option(None, help="Hugging Face directory, in place of the study's."),
    text: Path | None = typer.Option(None, help="Held-out text, in place of the study's."),
    calib: Path | None = typer.Option(None, help="Calibration text, in place of the study's."),
    sweep: str = typer.Option(
        "", help="NAME=LOW:HIGH, such as dram_pj_per_bit=0.6:20: where the order of formats in energy flips."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Compare formats on accuracy, bits, cycles, area and energy: table, plots, report.

    Example: planeforge compare study.toml -o results
    """
    from planeforge import study as runner

    if builtin:
        if sweep:
            raise ValueError(f"sweep must not be given with --builtin, not {sweep!r}")
        return _builtin(builtin, study, output, as_json)
    if study is None:
        raise ValueError("study must be a STUDY.toml, or --builtin name one that ships; neither is given")
    if output is None:
        raise ValueError("output must be a folder of results (-o), not None")

    with progress("compare") as moved:
        given = {"model": model, "text": text, "calibration": calib}
        replaced = {key: path for key, path in given.items() if path is not None}
        result = runner.compare(study, output, progress=moved, replaced=replaced, sweep=sweep)
    show(result, as_json, lambda: _print(result))


def _print(result: dict[str, Any]) -> None:
    """Where the report is; before it the formats' places by energy and the sweep."""
    from planeforge.verbs.costing import print_sweep

    if result["energy_places"]:
        table(result["energy_places"], "energy a token: places that are certain, others have no order")
    if "sweep" in result:
        print_sweep(result["sweep"])
    print(f"open {result['report']}")


def _builtin(name: str, study: Path | None, output: Path | None, as_json: bool) -> None:
    """Run a built-in study; with ``output`` its rows also go to a table there."""
    from planeforge import builtin
    from planeforge.workload import write_csv

    if study is not None:
        raise ValueError(f"study must not be given with --builtin, not {str(study)!r}")
    result = builtin.run(name)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        write_csv(output / f"{name}.csv", result["rows"])
    show(result, as_json, lambda: _print_builtin(result))


def _print_builtin(result: dict[str, Any]) -> None:
    columns = ("model", "accelerator", "phase", "cycles", "compute_cycles", "dram_cycles")
    shown = [
        {name: row[name] for name in columns}
        | {f"{part} uJ": row[f"energy_{part}pj"] / 1e6 for part in ("", "low_", "high_")}
        | {
            "of it DRAM": f"{row['energy_dram_pj'] / row['energy_pj']:.0%}",
            "over FP16": f"{row['energy_over_fp16']:.2f} "
            f"[{row['energy_over_fp16_low']:.2f}-{row['energy_over_fp16_high']:.2f}]",
        }
        for row in result["rows"]
    ]
    table(shown, f"{result['study']}: {result['source']}")
    table(result["accelerators"], "arrays (area of the PEs with room to place and route)")
    table(result["means"], "means over the models; ratios above 1: the accelerator is better")
    print("constants:\n" + "\n".join(f"  {line}" for line in result["constants"]))


def demo(
    output: Path = typer.Option(Path("demo-out"), "-o", "--output", help="Folder of results."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Run the built-in study on the model that ships with planeforge.

    Example: planeforge demo -o demo-out
    """
    from planeforge.demo import run

    with progress("demo") as moved:
        report = run.run(output, progress=moved)
    show({"report": report}, as_json, lambda: print(f"open {report}"))


COMMANDS = {"compare": compare, "demo": demo}
