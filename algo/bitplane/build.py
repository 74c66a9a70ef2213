"""Packed matrices of a plain format: one digit per entry, one scale per group."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from algo.bitplane import words
from algo.bitplane.format import Format
from algo.bitplane.ints import Coding, Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Plane
from algo.bitplane.scales import CODED, MANTISSA_BITS, Grid, round_scale

EXPONENT_BITS = 16  #: stored width of a row's exponent
SPREAD = 31  #: powers of two between the largest and the smallest scale of a row, at most


def exponent_ints(grid: Grid, unit: int = 0) -> Ints:
    """A grid's exponents as they are stored, [rows, 1]; ``unit`` is added."""
    return Ints(grid.exponent[:, None] + unit, EXPONENT_BITS, signed=True)


def mantissa_ints(grid: Grid, values: ArrayLike) -> Ints:
    """Real scales or offsets [rows, groups] as stored mantissas on a grid."""
    return Ints(grid.mantissas(values), grid.bits, signed=True)


def code_planes(fmt: Format, bits: NDArray[np.uint64]) -> dict[str, Plane]:
    """The stored planes of a format, of words [code_bits, rows, words]: the last one is the sign's."""
    kind, top = "code" if fmt.tables else "plane", len(bits) - 1
    return {
        f"{kind}{p}": Plane(bits[p], "sign planes" if p == top else "extra planes") for p in range(top + 1)
    }


def coded_scales(fmt: Format, scale: ArrayLike, unit: int = 0) -> tuple[Ints, Ints]:
    """Scales [rows, groups] of a format of `CODED` as stored codes, and the exponents of their rows.

    Powers of two are told from the smallest of the matrix that is not 0, or where they lie far apart of their
    row; a 0 is held as that one, its digits
    must be 0. ``unit`` is added to the exponents.

    Raises ValueError if a scale is not of the format, or powers of two of a row lie too far apart.
    """
    kind, fixed = CODED[fmt.scale]
    real = np.asarray(scale, np.float64)
    if fixed is not None:
        mantissas = np.rint(np.ldexp(real, -fixed)).astype(np.int64)
        exponent = Ints(np.full((1, 1), fixed + unit, np.int64), EXPONENT_BITS, signed=True)
        return Ints.coded(mantissas, Coding(kind, tile=fmt.tile)), exponent
    power = np.frexp(real)[1].astype(np.int64) - 1
    some = real > 0
    known = power[some]
    if known.size and int(np.ptp(known)) < MANTISSA_BITS - 1:
        # Close enough for one exponent to serve all rows.
        above = np.where(some, power - known.min(), 0)
        exponent = Ints(np.full((1, 1), known.min() + unit, np.int64), EXPONENT_BITS, signed=True)
        return Ints.coded(np.left_shift(1, above), Coding(kind, tile=fmt.tile)), exponent
    lowest = np.min(np.where(some, power, 1 << 20), axis=1, keepdims=True)
    lowest = np.where(np.any(some, axis=1, keepdims=True), lowest, -127)
    above = np.where(some, power - lowest, 0)
    if int(above.max()) > SPREAD:
        raise ValueError(
            f"e8m0 scales of a row must lie within 2**{SPREAD} of each other, not 2**{int(above.max())}"
        )
    exponents = Ints(lowest + unit, EXPONENT_BITS, signed=True)
    return Ints.coded(np.left_shift(1, above), Coding(kind, tile=fmt.tile)), exponents


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

    Scales of a coded format (`CODED`) are rounded to it, which changes none that is of it.

    Raises ValueError if a digit is not in the format, or zero points are missing or too many.
    """
    if (zero is not None) != fmt.zero:
        raise ValueError(f"zero must be {'given' if fmt.zero else 'absent'} for {fmt.name}")
    bits = fmt.bits(digits)
    if fmt.scale in CODED:
        stored, exponent = coded_scales(fmt, round_scale(scale, fmt.scale), fmt.unit)
    else:
        grid = Grid.covering(scale, bits=scale_bits)
        stored, exponent = mantissa_ints(grid, scale), exponent_ints(grid, fmt.unit)
    ints = {"scale": stored}
    if zero is not None:
        ints["zero"] = Ints(zero, len(fmt.coefs), signed=False)
    term = Term(
        planes=fmt.expressions(),
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
        planes=code_planes(fmt, words.pack(bits)),
        ints=ints,
        exponent=exponent,
    )
