"""Column groups of a matrix, and the scale each of them is stored with."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.scales import Grid, round_scale

Floats = NDArray[np.float64]
Number = TypeVar("Number", np.float64, np.int64)


def starts(columns: int, group: int) -> NDArray[np.int64]:
    """First column of each group; the last group may be short."""
    return np.arange(0, columns, group)


def means(values: Floats, group: int) -> Floats:
    """Mean of each row over each column group, [rows, groups]."""
    first = starts(values.shape[1], group)
    return np.add.reduceat(values, first, axis=1) / np.diff(first, append=values.shape[1])


def spread(per_group: NDArray[Number], columns: int, group: int) -> NDArray[Number]:
    """Values [rows, groups] repeated over the columns of their groups, [rows, columns]."""
    return per_group[:, np.arange(columns) // group]


def stored_scale(real: Floats, scale_format: str) -> Floats:
    """Scales [rows, groups] as hardware will multiply by them: of their format, then on the row's grid.

    Codes are chosen against these. Packing them changes nothing: they are their own nearest mantissas.
    """
    rounded = round_scale(real, scale_format)
    grid = Grid.covering(rounded)
    return grid.values(grid.mantissas(rounded))


@lru_cache
def smallest_scale(scale_format: str) -> float:
    """Smallest scale above 0 that a format holds, among powers of two up to 1."""
    value = 1.0
    while 0 < (half := float(round_scale(value / 2, scale_format))) < value:
        value = half
    return value


def codes_of(values: Floats, scale: Floats) -> NDArray[np.int64]:
    """``values / scale`` to the nearest integer, ties to even; 0 where the scale is 0."""
    quotient = np.divide(values, scale, out=np.zeros_like(values), where=scale > 0)
    return np.rint(quotient).astype(np.int64)
