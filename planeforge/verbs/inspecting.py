"""``planeforge inspect``: what a packed file holds, and where its bits go."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
    # One matrix by itself is no factor of a product, and what is published is said of all together.
    whole = {"matrix": next(iter(picked.values()))} if layer else picked
    total = overall_bits(whole)
    bill = _explained(whole, provenance.published_bits if picked == matrices else None)
    result = {**asdict(provenance), "bits_per_weight": total, "from_published": bill, "matrices": described}
    show(result, as_json, lambda: _print(described, bill, total, provenance.method))


#: What each role of the bill is; a published formula counts the planes at most.
_MEANING = {
    "masks": "zone bits, masks and column flags",
    "indices": "which of every N:M group is kept",
    "scales": "a scale per row and group, or several",
    "offsets": "a mean per row and group, or several",
    "zeros": "zero points",
    "exponents": "one exponent a row, shared by its scales",
    "factors": "real factors of rows and columns",
}


def _explained(matrices: Mapping[str, PackedMatrix], published: float | None) -> dict[str, float]:
    """Bits per weight by cause, from what the authors print to what is stored; they add up to the latter."""
    from algo.bitplane import storage
    from algo.formats import stages

    weights = sum(math.prod(layer.shape) for layer in stages.by_layer(matrices).values())
    roles: dict[str, float] = {}
    for matrix in matrices.values():
        for role, share in storage.breakdown(matrix).items():
            roles[role] = roles.get(role, 0.0) + share * matrix.rows * matrix.columns / weights
    planes = roles.pop("sign planes", 0.0) + roles.pop("extra planes", 0.0)
    if published is None:
        return {"planes": planes} | roles
    return {"published": published, "planes": planes - published} | roles


def _describe(name: str, matrix: PackedMatrix) -> dict[str, Any]:
    from algo.bitplane import storage

    return {
        "name": name,
        "shape": [matrix.rows, matrix.columns],
        "group": matrix.group,
        **({} if matrix.rotate is None else {"rotate": matrix.rotate}),
        "bits_per_weight": storage.bits_per_weight(matrix),
        "breakdown": storage.breakdown(matrix),
        "bytes": storage.stored_bytes(matrix),
        "terms": [asdict(term) | {"digit": term.digit.value} for term in matrix.terms],
    }


def _print(described: list[dict[str, Any]], bill: Mapping[str, float], total: float, method: str) -> None:
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
    words = {"published": "by the authors' formula", "planes": "sign and extra planes, beyond that formula"}
    if "published" not in bill:
        words["planes"] = "sign and extra planes"
    lines = [{"from": key, "bits": bits, "what": (words | _MEANING)[key]} for key, bits in bill.items()]
    table(
        [*lines, {"from": "stored", "bits": total, "what": "all that the decoder needs"}], "where the bits go"
    )
    table(terms, f"terms of {described[0]['name']}")


COMMANDS = {"inspect": inspect}
