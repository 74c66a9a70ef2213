"""Scales as hardware multiplies by them: integers on one power-of-two grid per row.

A quantizer's real scale is first rounded to the format it is published in, then put on the row's grid
``mantissa * 2**exponent``. What is stored is the mantissa; every error is reported after this rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MANTISSA_BITS = 16  #: default width of a scale mantissa, two's complement


def _fp16(values: Floats) -> Floats:
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16).astype(np.float64)
    if not np.all(np.isfinite(rounded)):
        stray = values[~np.isfinite(rounded)].flat[0]
        raise ValueError(f"scale must fit fp16 (at most 65504), not {float(stray)!r}")
    return rounded


def _bf16(values: Floats) -> Floats:
    return np.asarray(values.astype(ml_dtypes.bfloat16).astype(np.float64))


def _e8m0(values: Floats) -> Floats:
    """Nearest power of two by exponent; E8M0 has no zero, so a zero scale becomes the smallest, 2^-127."""
    if np.any(values < 0):
        raise ValueError(f"scale must be positive for e8m0, not {float(values.min())!r}")
    exponent = np.where(values > 0, np.rint(np.log2(np.where(values > 0, values, 1.0))), -127)
    return np.ldexp(1.0, np.clip(exponent, -127, 127).astype(np.int64))


def _fp32(values: Floats) -> Floats:
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32).astype(np.float64)
    if not np.all(np.isfinite(rounded)):
        raise ValueError(f"scale must fit fp32, not {float(np.abs(values).max())!r}")
    return rounded


def _ue4m3(values: Floats) -> Floats:
    return unsigned_float(values, 3, -9, 448.0)


def _ue5m3(values: Floats) -> Floats:
    return unsigned_float(values, 3, -17, 114688.0)


def unsigned_float(values: Floats, mantissa: int, unit: int, top: float) -> Floats:
    """The nearest of 0 and the floats with so many mantissa bits from 2**unit to ``top``, ties to even.

    What is larger becomes ``top``. Raises ValueError for a value below 0.
    """
    if np.any(values < 0):
        raise ValueError(f"scale must not be below 0, not {float(values.min())!r}")
    clipped = np.minimum(values, top)
    binade = np.frexp(np.where(clipped > 0, clipped, 1.0))[1] - 1
    step = np.maximum(binade - mantissa, unit)
    return np.minimum(np.ldexp(np.rint(np.ldexp(clipped, -step)), step), top)


def _dyadic(values: Floats) -> Floats:
    return values


#: Rounding of a real scale to each named format, before the grid.
SCALE_FORMATS: Mapping[str, Callable[[Floats], Floats]] = {
    "fp16": _fp16,
    "bf16": _bf16,
    "e8m0": _e8m0,
    "dyadic": _dyadic,
    "fp32": _fp32,
    "ue4m3": _ue4m3,
    #: 5 exponent and 3 mantissa bits without sign, bias 15; the top code is NaN here, an own choice.
    "ue5m3": _ue5m3,
    "int8": _dyadic,  # a share of the row's largest, see `CODED`
    "int8-256": _dyadic,  # the mean and a share of the largest of 256
}

#: Formats whose scales are kept as 8-bit codes: their coding, and the exponent of a mantissa's unit; None
#: where each row has one.
CODED: Mapping[str, tuple[str, int | None]] = {
    "e8m0": ("power", None),
    "ue4m3": ("ue4m3", -9),
    "ue5m3": ("ue5m3", -17),
}
#: Bits of a mantissa that keeps what the format has, where that is not `MANTISSA_BITS`.
WIDTHS: Mapping[str, int] = {"fp32": 32, "int8": 8}


def round_scale(values: ArrayLike, scale_format: str) -> Floats:
    """Real scales rounded to ``scale_format``, float64.

    Raises ValueError for an unknown format, NaN, infinity, or a value outside the format.
    """
    if scale_format not in SCALE_FORMATS:
        raise ValueError(f"scale format must be one of {', '.join(SCALE_FORMATS)}, not {scale_format!r}")
    array = np.asarray(values, np.float64)
    if not np.all(np.isfinite(array)):
        raise ValueError("scale must be finite, not NaN or infinity")
    return SCALE_FORMATS[scale_format](array)


@dataclass(frozen=True)
class Grid:
    """One exponent per row, shared by all scales and offsets of a matrix."""

    exponent: NDArray[np.int64]  #: [rows]
    bits: int = MANTISSA_BITS  #: width of a mantissa, two's complement

    @classmethod
    def covering(cls, *scales: ArrayLike, bits: int = MANTISSA_BITS) -> Grid:
        """The finest grid whose mantissas hold every value of ``scales``, arrays [rows, ...].

        Raises ValueError if bits is no width a mantissa can have.
        """
        if not 2 <= bits <= 32:
            raise ValueError(f"scale_bits must be at least 2 and at most 32, not {bits!r}")
        peaks = [
            np.abs(np.asarray(s, np.float64)).reshape(len(np.asarray(s)), -1).max(axis=1) for s in scales
        ]
        peak = np.max(peaks, axis=0)
        top = (1 << (bits - 1)) - 1
        exponent = np.where(peak > 0, np.frexp(peak)[1] - (bits - 1), 0).astype(np.int64)
        # A peak just below a power of two may round up past the largest mantissa.
        exponent += np.rint(np.ldexp(peak, -exponent)) > top
        return cls(exponent, bits)

    def mantissas(self, values: ArrayLike) -> NDArray[np.int64]:
        """Nearest mantissas (ties to even) of real values [rows, groups], int64."""
        array = np.asarray(values, np.float64)
        return np.rint(np.ldexp(array, -self.exponent[:, None])).astype(np.int64)

    def values(self, mantissas: NDArray[np.int64]) -> Floats:
        """Real values of mantissas [rows, groups], exact in float64."""
        return np.ldexp(mantissas.astype(np.float64), self.exponent[:, None])
