"""``planeforge compare | demo``: the main job, a study of formats on one model."""

from __future__ import annotations

from pathlib import Path

import typer

from planeforge.output import progress, show


def compare(
    study: Path = typer.Argument(..., help="STUDY.toml: model, texts, formats, PE, array, technology."),
    output: Path = typer.Option(..., "-o", "--output", help="Folder of results; finished rows are kept."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Compare formats on accuracy, bits, cycles, area and energy: table, plots, report.

    Example: planeforge compare study.toml -o results
    """
    from planeforge import study as runner

    with progress("compare") as moved:
        result = runner.compare(study, output, progress=moved)
    show(result, as_json, lambda: print(f"open {result['report']}"))


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
