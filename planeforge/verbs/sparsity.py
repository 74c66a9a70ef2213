"""``planeforge sparsity``: what zeros save and cost, of patterns and of packed matrices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from planeforge.output import show, table


def sparsity(
    out: Path | None = typer.Argument(None, help="Packed file or folder, to count the zeros of; or none."),
    tech: str = typer.Option("generic_ge", help="Technology of the patterns' areas (planeforge techs)."),
    lanes: int = typer.Option(64, min=1, help="Lanes of a word that may be skipped."),
    layer: str = typer.Option("", help="Which matrix, where the file holds several; default: all."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Say what N:M patterns cost a PE in area and bits, and how far real zeros can be skipped.

    Example: planeforge sparsity w.packed --lanes 16
    """
    from cost_models.sparsity import price
    from planeforge import sparsity as counted

    rows: list[dict[str, Any]] = []
    if out is not None:
        from planeforge.packed import chosen, read

        matrices = read(out)[0]
        rows = counted.rows(chosen(matrices, layer) if layer else matrices, lanes)
    result = {
        "tech": tech,
        "patterns": counted.patterns(tech),
        "sentences": price.sentences(tech),
        "layers": rows,
    }
    show(result, as_json, lambda: _print(result))


def _print(result: dict[str, Any]) -> None:
    table(result["patterns"], f"area of N:M over dense, {result['tech']}; the same columns a clock")
    print("\n".join(f"* {sentence}" for sentence in result["sentences"]))
    if result["layers"]:
        table(result["layers"], "zeros of packed matrices, by term")


COMMANDS = {"sparsity": sparsity}
