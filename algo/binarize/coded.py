"""Blocks of codes as the planes and scalars that are stored, in the forms of `algo.binarize.packing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from algo.binarize.codebook import PRUNED, Codes
from algo.binarize.joint import Coded
from algo.binarize.levels import FOUR_LEVEL_AMOUNTS, HIGH, ROW_COLUMN_AMOUNTS, SALIENT, THREE_ZONE_AMOUNTS
from algo.binarize.packing import ROW_COLUMN_TERMS, SPARSE_TERMS, TWO_PLANE_TERMS, term
from algo.binarize.zone import Bools, Floats
from algo.bitplane import words
from algo.bitplane.build import exponent_ints, mantissa_ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Pattern, Plane, Stored, gather
from algo.bitplane.scales import Grid

SEGMENT = 64  #: columns over which zones of a fixed size are counted


def two_planes(
    blocks: Sequence[Coded], grid: Grid, group: int, shared_mean: bool, zoned: int
) -> PackedMatrix:
    """BiLLM's form. ``zoned``: so many of every `SEGMENT` columns are in the high zone, 0: a bit says it."""
    codes, kinds = _wide([block.codes for block in blocks]), _wide([block.kinds for block in blocks])
    salient = kinds[0] == SALIENT
    planes = _flags_and_sign(salient, codes)
    second = (codes & 2).astype(np.bool_)
    names = [name for name in FOUR_LEVEL_AMOUNTS if not (shared_mean and name == "offset_difference")]
    terms = [t for t in TWO_PLANE_TERMS if t.scale in names]
    if zoned:
        planes["zone"] = Pattern.of_bits(kinds == HIGH, zoned, SEGMENT)
        planes["second"] = gather(second, salient[None], "salient", "extra planes")
        terms = [_zoned(t) for t in terms]
    else:
        planes["second"] = Plane(words.pack(second), "extra planes")
    scalars = {name: FOUR_LEVEL_AMOUNTS.index(name) for name in names}
    return _matrix(blocks, grid, group, planes, terms, scalars)


def _zoned(old: Term) -> Term:
    """The term outside the salient columns with its zone in a plane of its own."""
    if old.mask == "salient":
        return old
    return term(old.planes[0].replace("second", "zone"), old.scale, old.offset, old.mask)


def row_column_planes(
    blocks: Sequence[Coded], grid: Grid, group: int, factors: Sequence[NDArray[np.float16]]
) -> PackedMatrix:
    """ARB-RC's form; ``factors``, two of [columns]."""
    codes, kinds = _wide([block.codes for block in blocks]), _wide([block.kinds for block in blocks])
    planes = _flags_and_sign(kinds[0] == SALIENT, codes)
    planes["second"] = Plane(words.pack((codes & 2).astype(np.bool_)), "masks")
    scalars = {name: place for place, name in enumerate(ROW_COLUMN_AMOUNTS)}
    named = {f"column{place + 1}": factor for place, factor in enumerate(factors)}
    return _matrix(blocks, grid, group, planes, ROW_COLUMN_TERMS, scalars, named)


def sparse_planes(blocks: Sequence[Coded], grid: Grid, group: int, kept: int, of: int) -> PackedMatrix:
    """STBLLM's form."""
    codes, kinds = _wide([block.codes for block in blocks]), _wide([block.kinds for block in blocks])
    keep = kinds != PRUNED
    salient = np.concatenate([_salient(block.kinds) for block in blocks])
    top, rest = keep & salient, keep & ~salient
    planes: dict[str, Stored] = {
        "keep": Pattern.of_bits(keep, kept, of),
        "salient": Plane(words.pack(salient[None]), "masks"),
        "sign": gather((codes & 1).astype(np.bool_), keep, "keep"),
        "second": gather((codes & 2).astype(np.bool_), top, "keep & salient", "extra planes"),
        "outer": gather(codes >> 1 == 0, rest, "keep & ~salient", "masks"),
        "middle": gather(codes >> 1 == 1, rest, "keep & ~salient", "masks"),
    }
    scalars = {name: place for place, name in enumerate(THREE_ZONE_AMOUNTS)}
    return _matrix(blocks, grid, group, planes, SPARSE_TERMS, scalars)


def _salient(kinds: Codes) -> Bools:
    """Columns with a salient entry: all of a column's kept entries are."""
    return np.any(kinds == SALIENT, axis=0)


def _flags_and_sign(salient: Bools, codes: Codes) -> dict[str, Stored]:
    return {
        "salient": Plane(words.pack(salient[None]), "masks"),
        "sign": Plane(words.pack((codes & 1).astype(np.bool_))),
    }


def _wide(parts: Sequence[Codes]) -> Codes:
    return np.concatenate(parts, axis=1)


def _matrix(
    blocks: Sequence[Coded],
    grid: Grid,
    group: int,
    planes: Mapping[str, Stored],
    terms: Sequence[Term],
    scalars: Mapping[str, int],
    factors: Mapping[str, NDArray[np.float16]] | None = None,
) -> PackedMatrix:
    columns = sum(block.codes.shape[1] for block in blocks)

    def of(place: int) -> Floats:
        return np.stack([block.amounts[:, place] for block in blocks], axis=1)

    return PackedMatrix(
        rows=len(grid.exponent),
        columns=columns,
        group=min(group, columns),
        terms=tuple(terms),
        planes=planes,
        ints={name: mantissa_ints(grid, of(place)) for name, place in scalars.items()},
        exponent=exponent_ints(grid),
        factors=factors or {},
    )
