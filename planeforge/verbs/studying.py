"""``planeforge compare | demo``: the main job, a study of formats on one model."""

from __future__ import annotations

from pathlib import Path

import typer

from planeforge.output import progress, show


def compare(
    study: Path = typer.Argument(..., help="STUDY.toml: model, texts, formats, PE, array, technology."),
    output: Path = typer.Option(..., "-o", "--output", help="Folder of results; finished rows are kept."),
    model: Path | None = typer.Option(None, help="Hugging Face directory, in place of the study's."),
    text: Path | None = typer.Option(None, help="Held-out text, in place of the study's."),
    calib: Path | None = typer.Option(None, help="Calibration text, in place of the study's."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Compare formats on accuracy, bits, cycles, area and energy: table, plots, report.

    Example: planeforge compare study.toml -o results
    """
    from planeforge import study as runner

    with progress("compare") as moved:
        given = {"model": model, "text": text, "calibration": calib}
        replaced = {key: path for key, path in given.items() if path is not None}
        result = runner.compare(study, output, progress=moved, replaced=replaced)
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
