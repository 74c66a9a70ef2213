"""``planeforge validate``: published figures beside the models'."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer

from planeforge.output import show


def validate(
    output: Path | None = typer.Option(None, "-o", "--output", help="Write the report, .md; else printed."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Hold the models against published figures: source, published, model, ratio, and why where far off.

    Example: planeforge validate -o docs/validation.md
    """
    from planeforge import validation
    from planeforge.workload import write_text

    if as_json:
        found = [asdict(row) | {"ratio": row.ratio, "far": row.far} for row in validation.rows()]
        return show({"rows": found}, True, lambda: None)
    text = validation.document()
    if output is None:
        print(text, end="")
    else:
        write_text(output, text)
        print(f"wrote {output}")


COMMANDS = {"validate": validate}
