"""``planeforge eval``: perplexity of a model, quantized or not."""

from __future__ import annotations

from pathlib import Path

import typer

from planeforge.output import progress, show, table


def evaluate(
    model: Path = typer.Argument(..., help="Hugging Face directory, or the folder `quantize` made of one."),
    method: str | None = typer.Option(None, help="Quantize with this method first."),
    format_name: str | None = typer.Option(None, "--format", help="Number format of the method."),
    settings: list[str] = typer.Option([], "--set", help="A setting of the method, key=value."),
    rotate: int | None = typer.Option(None, help="Rotate blocks of so many columns before the method."),
    calib: Path | None = typer.Option(None, help="Calibration text; default: the demo's."),
    text: Path | None = typer.Option(None, help="Text to score; default: the demo's held-out text."),
    characters: int | None = typer.Option(None, min=2, help="Score only the first so many characters."),
    engine: str = typer.Option("float", help="float, integer or numba (exact integers at --act-bits)."),
    act_bits: int = typer.Option(8, help="Bits of an activation integer, for the integer engines."),
    act_format: str = typer.Option("", help="Activation format in its place: mxfp4, nvint4, int8-g128, ..."),
    reference: Path | None = typer.Option(
        None, help="Hugging Face directory of the original: KL, flip rate and increase of a packed model."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Score a model on held-out text, in windows no longer than its training context.

    A window of text moves on by half its length (the stride); only what is new in it is scored.

    Example: planeforge eval path/to/model --method rtn --format int4-g128
    """
    from planeforge import evaluating
    from planeforge.settings import pairs

    with progress("eval") as moved:
        figures = evaluating.evaluate(
            model,
            method,
            format_name,
            pairs(settings),
            calib=calib,
            text=text,
            characters=characters,
            engine=engine,
            act_bits=act_bits,
            act_format=act_format,
            reference=reference,
            rotate=rotate,
            progress=moved,
        )
    rows = [{"figure": key, "value": value} for key, value in figures.items() if value is not None]
    show(figures, as_json, lambda: table(rows))


COMMANDS = {"eval": evaluate}
