"""``planeforge recommend``: integers or floats, for a tensor or a whole checkpoint."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

import typer

from planeforge.output import show, table


def recommend(
    source: Path = typer.Argument(..., help=".npy, .safetensors, or Hugging Face directory."),
    tensor: str = typer.Option("", help="Only this tensor, or layer of a directory."),
    rotate: int = typer.Option(0, min=0, help="Columns of a Hadamard block that spreads outliers first."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Say whether integers or floats keep a tensor better, at 8, 6 and 4 bits.

    Noise is predicted from the crest factors of the tensor's blocks (largest magnitude over root mean
    square), and measured beside it.

    Example: planeforge recommend path/to/model --rotate 32
    """
    from planeforge import recommending

    advice = recommending.recommend(source, tensor or None, rotate)
    if not advice:
        raise ValueError(f"tensor must be a linear layer of {str(source)!r}, not {tensor!r}")
    wins = Counter((one.bits, one.row["winner"]) for one in advice)
    figures = {
        "rotate": rotate,
        "tensors": [asdict(one) | {"winner": one.row["winner"]} for one in advice],
        "wins": [{"bits": bits, "format": name, "tensors": n} for (bits, name), n in wins.items()],
    }

    def human() -> None:
        table([one.row for one in advice], "signal to noise by format")
        table(figures["wins"], "measured winners")  # type: ignore[arg-type]

    show(figures, as_json, human)


COMMANDS = {"recommend": recommend}
