"""``planeforge quantize``: one tensor or a whole model through a method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from planeforge.output import progress, show, table


def quantize(
    source: str = typer.Argument(..., help=".npy, .safetensors[::tensor] or a Hugging Face directory."),
    method: str = typer.Option(..., help="Quantization method (planeforge methods)."),
    format_name: str | None = typer.Option(None, "--format", help="Number format (planeforge formats)."),
    calib: Path | None = typer.Option(None, help="Activations .npy [tokens, columns]; for a model: a text."),
    holdout: Path | None = typer.Option(None, help="Held-out activations .npy, for the error on them."),
    settings: list[str] = typer.Option([], "--set", help="A setting of the method, key=value."),
    output: Path = typer.Option(..., "-o", "--output", help="Packed file; for a model: a folder."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Quantize into packed bitplanes and count every bit that is stored.

    Example: planeforge quantize w.npy --method billm --calib x.npy -o w.packed
    """
    from planeforge.settings import configure, pairs
    from planeforge.settings import method as find

    given = pairs(settings)
    configure(find(method), format_name, given)
    if Path(source).is_dir():
        figures = _model(Path(source), method, format_name, given, calib, holdout, output)
    else:
        figures = _tensor(source, method, format_name, given, calib, holdout, output)
    show(figures, as_json, lambda: _print(figures))


def _tensor(
    source: str,
    method: str,
    format_name: str | None,
    given: dict[str, str],
    calib: Path | None,
    holdout: Path | None,
    output: Path,
) -> dict[str, Any]:
    from algo.bitplane import store
    from algo.checkpoint import read_activations, read_tensor
    from planeforge import quantizing

    weight = read_tensor(source)
    columns = weight.shape[1]
    x = None if calib is None else read_activations(calib, columns, "calib")
    held = None if holdout is None else read_activations(holdout, columns, "holdout")
    made = quantizing.quantize(weight, method, format_name, calibration=x, holdout=held, **given)
    store.save(output, {"weight": made.matrix}, made.provenance)
    return {**made.figures, "output": str(output)}


def _model(
    source: Path,
    method: str,
    format_name: str | None,
    given: dict[str, str],
    calib: Path | None,
    holdout: Path | None,
    output: Path,
) -> dict[str, Any]:
    from planeforge import model_quantizing

    if holdout is not None:
        raise ValueError("holdout must be left out for a model (planeforge eval scores it on held-out text)")
    with progress(f"quantize {method}") as moved:
        return model_quantizing.quantize(source, method, format_name, given, calib, output, progress=moved)


def _print(figures: dict[str, Any]) -> None:
    rows = [
        {"figure": key, "value": value}
        for key, value in figures.items()
        if value is not None and not isinstance(value, dict | list)
    ]
    rows += [{"figure": f"bits: {role}", "value": bits} for role, bits in figures["breakdown"].items()]
    if figures.get("salient_columns"):
        rows.append({"figure": "salient columns per block", "value": figures["salient_columns"]})
    table(rows)


COMMANDS = {"quantize": quantize}
