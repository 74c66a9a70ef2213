"""``planeforge inspect``: what a packed file holds, and where its bits go."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from planeforge.output import show, table

if TYPE_CHECKING:
    from algo.bitplane.matrix import PackedMatrix


def inspect(
    out: Path = typer.Argument(..., help="Packed file, or the folder `quantize` made of a model."),
    layer: str = typer.Option("", help="Only this matrix."),
    dequantized: Path | None = typer.Option(None, help="Write the float32 matrix it stands for, .npy."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Show shapes, terms, masks and bits per weight broken down.

    Example: planeforge inspect w.packed --dequantized w.npy
    """
    import numpy as np

    from algo.bitplane import decode
    from planeforge.packed import chosen, read, write_npy
    from planeforge.quantizing import overall_bits

    matrices, provenance = read(out)
    picked = chosen(matrices, layer) if layer else matrices
    if dequantized is not None:
        one = chosen(matrices, layer)
        write_npy(dequantized, decode.dequantize(next(iter(one.values()))).astype(np.float32))
    described = [_describe(name, matrix) for name, matrix in picked.items()]
    total = overall_bits(picked)
    result = {**asdict(provenance), "bits_per_weight": total, "matrices": described}
    show(result, as_json, lambda: _print(described, total, provenance.method))


def _describe(name: str, matrix: PackedMatrix) -> dict[str, Any]:
    from algo.bitplane import storage

    return {
        "name": name,
        "shape": [matrix.rows, matrix.columns],
        "group": matrix.group,
        "bits_per_weight": storage.bits_per_weight(matrix),
        "breakdown": storage.breakdown(matrix),
        "bytes": storage.stored_bytes(matrix),
        "terms": [asdict(term) | {"digit": term.digit.value} for term in matrix.terms],
    }


def _print(described: list[dict[str, Any]], total: float, method: str) -> None:
    rows = [
        {
            "matrix": d["name"],
            "shape": "x".join(map(str, d["shape"])),
            "bits/weight": d["bits_per_weight"],
        }
        | {f"{role} [b/w]": bits for role, bits in d["breakdown"].items()}
        for d in described
    ]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    table([{key: row.get(key) for key in keys} for row in rows], f"{method}: {total:.4f} bits per weight")
    terms = [
        {
            "matrix": d["name"],
            "term": f"{index}",
            "mask": t["mask"] or "(all)",
            "planes": ", ".join(f"{c:+d} {p}" for c, p in zip(t["coefs"], t["planes"], strict=True)),
            "digit": t["digit"],
            "scale": t["scale"],
            "zero": t["zero"],
            "offset": t["offset"],
        }
        for d in described[:1]
        for index, t in enumerate(d["terms"])
    ]
    table(terms, f"terms of {described[0]['name']}")


COMMANDS = {"inspect": inspect}
