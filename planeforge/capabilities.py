"""What runs on which PE: kinds of dot products, and whole packed matrices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from hw.pe.twoplane import TwoPlane
from hw.spec import PeSpec, Segment

if TYPE_CHECKING:
    from algo.bitplane.matrix import PackedMatrix

_INT8 = (1, 2, 4, 8, 16, 32, 64, -128)
_SIGNS = Segment(columns=64, weight=(1,), activation=_INT8, w_bipolar=True)

#: One dot product of each kind that packed matrices are made of, by what a user would call it.
KINDS: Mapping[str, Segment] = MappingProxyType(
    {
        "1 bit x 1 bit": replace(_SIGNS, activation=(1,), x_bipolar=True),
        "1 bit x int8": _SIGNS,
        "masked 1 bit x int8": replace(_SIGNS, masked=True),
        "pairs of sign planes x int8": replace(_SIGNS, weight=(1, 1)),
        "2:4 1 bit x int8": replace(_SIGNS, masked=True, kept=(2, 4)),
        "ternary x int8": replace(_SIGNS, weight=(1, -1), w_bipolar=False),
        "int2 x int8": replace(_SIGNS, weight=(1, -2), w_bipolar=False),
        "int4 x int8": replace(_SIGNS, weight=(1, 2, 4, -8), w_bipolar=False),
        "int8 x int8": replace(_SIGNS, weight=_INT8, w_bipolar=False),
        "uint4 x int8": replace(_SIGNS, weight=(1, 2, 4, 8), w_bipolar=False),
    }
)


def runs(pe: PeSpec) -> list[str]:
    """Names of the `KINDS` that a PE computes."""
    return [name for name, segment in KINDS.items() if _computes(pe, segment)]


def _computes(pe: PeSpec, segment: Segment) -> bool:
    try:
        pe.steps(segment)
    except ValueError:
        return False
    # Sums of pairs have a schedule of their own.
    return pe.outputs == pe.rows * pe.tokens or isinstance(pe, TwoPlane)


def refusal(pe: PeSpec, matrices: Iterable[PackedMatrix], act_bits: int) -> str:
    """Why a PE does not run all of the matrices; nothing if it does."""
    import numpy as np

    from planeforge.simulating import streams
    from sim import tiles

    try:
        for matrix in matrices:
            tiles.check(matrix, streams(matrix, np.ones((1, matrix.columns)), act_bits), pe)
    except ValueError as error:
        return str(error)
    return ""
