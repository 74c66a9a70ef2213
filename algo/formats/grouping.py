"""Column groups of a matrix, and the scale each of them is stored with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.build import exponent_ints, mantissa_ints
from algo.bitplane.ints import Ints
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


def visible_scale(real: Floats, scale_format: str) -> Floats:
    """Scales rounded to their format, but up where it is too coarse to hold them to a part in a thousand.

    A scale that vanishes or shrinks there would cut off codes: a wider step loses less.
    """
    rounded = round_scale(real, scale_format)
    short = rounded < real * (1 - 2.0**-10)
    if not np.any(short):
        return rounded
    return np.where(short, round_scale(rounded + smallest_scale(scale_format), scale_format), rounded)


def visible_mantissas(grid: Grid, scale: Floats) -> Ints:
    """Scales [rows, groups] at least 0 as mantissas: the nearest, but up where the grid is coarse for them.

    For scales of codes that share their row with much larger scalars; see `visible_scale`.
    """
    nearest = grid.mantissas(scale)
    return Ints(nearest + (grid.values(nearest) < scale * (1 - 2.0**-10)), grid.bits, signed=True)


def stored_scalars(real: Mapping[str, Floats], scale_format: str) -> tuple[dict[str, Ints], Ints]:
    """Scales and offsets [rows, groups], by name, as stored mantissas, and the row exponents they share.

    Raises ValueError for a value outside the format.
    """
    rounded = {name: round_scale(values, scale_format) for name, values in real.items()}
    grid = Grid.covering(*rounded.values())
    return {name: mantissa_ints(grid, values) for name, values in rounded.items()}, exponent_ints(grid)


def real_scalars(mantissas: Ints, exponent: Ints) -> Floats:
    """What stored mantissas [rows, groups] stand for; exact."""
    return np.ldexp(mantissas.values.astype(np.float64), exponent.values)


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


def min_max(low: Floats, high: Floats, top: int, scale_format: str) -> Floats:
    """Scales of the grid 0 .. ``top`` that spans ``low .. high`` and 0, as their format holds them."""
    return visible_scale((np.maximum(high, 0) - np.minimum(low, 0)) / top, scale_format)


def zero_points(low: Floats, scale: Floats, top: int) -> NDArray[np.int64]:
    """The codes nearest to 0's place on grids that begin at ``min(low, 0)``; ``scale`` as stored."""
    return np.clip(codes_of(-np.minimum(low, 0), scale), 0, top)
