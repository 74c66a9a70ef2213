"""Packed matrices of a plain format: one digit per entry, one scale per group."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from algo.bitplane import words
from algo.bitplane.format import Format
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Plane
from algo.bitplane.scales import MANTISSA_BITS, Grid

EXPONENT_BITS = 16  #: stored width of a row's exponent


def exponent_ints(grid: Grid) -> Ints:
    """A grid's exponents as they are stored, [rows, 1]."""
    return Ints(grid.exponent[:, None], EXPONENT_BITS, signed=True)


def mantissa_ints(grid: Grid, values: ArrayLike) -> Ints:
    """Real scales or offsets [rows, groups] as stored mantissas on a grid."""
    return Ints(grid.mantissas(values), grid.bits, signed=True)


def from_digits(
    fmt: Format,
    digits: NDArray[np.int64],
    scale: ArrayLike,
    zero: NDArray[np.int64] | None = None,
    *,
    scale_bits: int = MANTISSA_BITS,
) -> PackedMatrix:
    """Pack integers of ``fmt`` with their scales.

    Parameters: digits, int64 [rows, columns]; scale, float [rows, groups], already of the format's scale
    type; zero, int64 [rows, groups] for a format with zero points, each as wide as a digit's planes.

    Raises ValueError if a digit is not in the format, or zero points are missing or too many.
    """
    if (zero is not None) != fmt.zero:
        raise ValueError(f"zero must be {'given' if fmt.zero else 'absent'} for {fmt.name}")
    bits = fmt.bits(digits)
    top = len(fmt.coefs) - 1
    planes = {
        f"plane{p}": Plane(words.pack(bits[p]), "sign planes" if p == top else "extra planes")
        for p in range(top + 1)
    }
    grid = Grid.covering(scale, bits=scale_bits)
    ints = {"scale": mantissa_ints(grid, scale)}
    if zero is not None:
        ints["zero"] = Ints(zero, len(fmt.coefs), signed=False)
    term = Term(
        planes=tuple(planes),
        coefs=fmt.coefs,
        digit=fmt.digit,
        scale="scale",
        zero=None if zero is None else "zero",
    )
    return PackedMatrix(
        rows=digits.shape[0],
        columns=digits.shape[1],
        group=min(fmt.group, digits.shape[1]),
        terms=(term,),
        planes=planes,
        ints=ints,
        exponent=exponent_ints(grid),
    )
