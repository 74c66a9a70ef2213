"""Dyadic numbers ``b / 2**c``: a real factor that integer hardware multiplies and shifts by.

Source: Yao et al., HAWQ-V3: Dyadic Neural Network Quantization, arXiv:2011.10680, section 3.1. The released
simulation multiplies in float64 and rounds ties to even; hardware adds half and shifts, which sends ties up.
Both rules are here by name. The RTL of `hw.accelerator.requantize` rounds ties to even.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor, frexp

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]

ROUNDINGS = ("half-up", "half-even")
WIDEST = 31  #: bits of a mantissa, at most [HAWQ-V3's]
_LIMIT = 2.0**63 * (1 - 2.0**-40)  #: int64, less what float64 may lose in a bound
_MOST_SHIFT = 62  #: half of ``2**c`` and a product must both fit int64


@dataclass(frozen=True, kw_only=True, eq=False)
class Dyadic:
    """Factors ``mantissa / 2**shift``, one a row or one for all."""

    mantissa: Int  #: [rows] or [1]
    shift: Int  #: as many

    def __post_init__(self) -> None:
        for name in ("mantissa", "shift"):
            array = getattr(self, name)
            if array.dtype != np.int64 or array.ndim != 1 or array.shape != self.mantissa.shape:
                raise ValueError(
                    f"{name} must be int64 of one axis as mantissa is, not {array.dtype} {list(array.shape)}"
                )
        if np.any((self.shift < 0) | (self.shift > _MOST_SHIFT)):
            bad = self.shift[(self.shift < 0) | (self.shift > _MOST_SHIFT)]
            raise ValueError(f"shift must be at least 0 and at most {_MOST_SHIFT}, not {int(bad[0])}")

    @classmethod
    def of(cls, real: NDArray[np.float64] | float, bits: int = 15) -> Dyadic:
        """The nearest dyadics to positive reals [rows], or one, with a mantissa of ``bits`` bits.

        ``(m, e) = frexp(real)``, ``b = floor(m * 2**bits + 1/2)``, ``c = bits - e``; a b that rounds up to
        ``2**bits`` is halved. Raises ValueError if a real is not positive and finite, or needs another shift
        than 0 to 62.
        """
        if not isinstance(bits, int) or isinstance(bits, bool) or not 1 <= bits <= WIDEST:
            raise ValueError(f"bits must be an integer from 1 to {WIDEST}, not {bits!r}")
        pairs = [_nearest(value, bits) for value in np.atleast_1d(np.asarray(real, np.float64)).tolist()]
        mantissa, shift = np.array(pairs, np.int64).reshape(-1, 2).T
        return cls(mantissa=mantissa.copy(), shift=shift.copy())

    def real(self) -> list[Fraction]:
        """What the factors stand for, exactly."""
        pairs = zip(self.mantissa.tolist(), self.shift.tolist(), strict=True)
        return [Fraction(b, 1 << c) for b, c in pairs]


def _nearest(value: float, bits: int) -> tuple[int, int]:
    if not 0 < value < float("inf"):
        raise ValueError(f"factor must be positive and finite, not {value!r}")
    share, power = frexp(value)
    # At most 31 of the 53 bits stand before the point: the sum is exact.
    mantissa = floor(share * (1 << bits) + 0.5)
    if mantissa == 1 << bits:
        return mantissa >> 1, bits - power - 1
    return mantissa, bits - power


def requantize(sums: Int, factor: Dyadic, low: int, high: int, rounding: str = "half-up") -> Int:
    """``sums * factor`` to the nearest integer in [low, high]; multiply, add, shift and compare alone.

    Parameters: sums, int64 [tokens, rows]; factor, one or one a row; rounding, where ties go, of `ROUNDINGS`.
    Raises ValueError if sums are no int64, the rule is unknown, or a product could leave int64.
    """
    return np.clip(scaled(sums, factor, rounding), low, high)


def scaled(sums: Int, factor: Dyadic, rounding: str = "half-up") -> Int:
    """`requantize` without the bounds, int64 [tokens, rows]."""
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding must be one of {', '.join(ROUNDINGS)}, not {rounding!r}")
    if sums.dtype != np.int64:
        raise ValueError(f"sums must be int64, not {sums.dtype}")
    half = np.left_shift(1, factor.shift) >> 1
    reach = np.abs(sums).max(axis=0, initial=0).astype(np.float64) * np.abs(factor.mantissa)
    most = float(np.max(reach + half, initial=0.0))
    if most >= _LIMIT:
        raise ValueError(f"products of sums and mantissas must stay below 2**63, not reach {most:.3g}")
    product = sums * factor.mantissa
    up = (product + half) >> factor.shift
    if rounding == "half-up":
        return up
    # Where the half that is lost is all that is lost, an odd result came up from an even one.
    tie = (product & (np.left_shift(1, factor.shift) - 1)) == half
    return up - (tie & (factor.shift > 0) & (up & 1 == 1))
