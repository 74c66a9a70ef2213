"""Number formats as data: which integers a term's digit can be, and how its scale is kept."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from algo.bitplane.scales import SCALE_FORMATS


class Digit(Enum):
    """What the two states of a plane's bit mean."""

    UNIPOLAR = "unipolar"  #: {0, 1}
    BIPOLAR = "bipolar"  #: {-1, +1}, bit 1 = +1

    def of(self, bit: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Digits of bits, int64."""
        ones = np.asarray(bit).astype(np.int64)
        return ones if self is Digit.UNIPOLAR else 2 * ones - 1


@dataclass(frozen=True, kw_only=True)
class Format:
    """value = scale * (sum_p coefs[p] * digit(bit[p]) - zero): a digit set with its scale.

    Non-linear element formats enter as integers of a linear one (every finite float format is a set of
    multiples of its smallest positive value).
    """

    name: str  #: key in the catalog, such as "int4-g128"
    digit: Digit
    coefs: tuple[int, ...]  #: place value of each plane
    group: int  #: columns that share a scale
    scale: str = "fp16"  #: key of `SCALE_FORMATS`
    zero: bool = False  #: an integer zero point per group is stored
    rounding: str = "rne"  #: "rne": nearest, ties to even
    published_bits: float  #: bits per weight by the formula its authors print
    source: str  #: where the format is defined

    def __post_init__(self) -> None:
        if not self.coefs or any(not isinstance(c, int) or c == 0 for c in self.coefs):
            raise ValueError(f"coefs must be non-zero integers, not {self.coefs!r}")
        if not isinstance(self.group, int) or isinstance(self.group, bool):
            raise TypeError(f"group must be an integer, not {self.group!r}")
        if self.group < 1:
            raise ValueError(f"group must be at least 1, not {self.group!r}")
        if self.scale not in SCALE_FORMATS:
            raise ValueError(f"scale must be one of {', '.join(SCALE_FORMATS)}, not {self.scale!r}")
        if self.rounding != "rne":
            raise ValueError(f"rounding must be one of rne, not {self.rounding!r}")

    def values(self) -> NDArray[np.int64]:
        """Integer of every code, int64 [2**planes]; plane p is bit p of the code."""
        low = 0 if self.digit is Digit.UNIPOLAR else -1
        codes = product((low, 1), repeat=len(self.coefs))
        # itertools counts with the last place fastest; plane 0 is the fastest here.
        return np.array(
            [sum(c * d for c, d in zip(self.coefs, reversed(code), strict=True)) for code in codes]
        )

    @property
    def low(self) -> int:
        """Smallest digit."""
        return int(self.values().min())

    @property
    def high(self) -> int:
        """Largest digit."""
        return int(self.values().max())

    def bits(self, digits: ArrayLike) -> NDArray[np.bool_]:
        """Plane bits, boolean [planes, ...], of integers [...]; of two codes for one integer the lower.

        Raises ValueError if an integer is not in the format.
        """
        digits = np.asarray(digits, np.int64)
        values, first = np.unique(self.values(), return_index=True)
        at = np.clip(np.searchsorted(values, digits), 0, len(values) - 1)
        if np.any(values[at] != digits):
            stray = digits[values[at] != digits].flat[0]
            raise ValueError(f"digits must be values of {self.name}, not {int(stray)}")
        codes = first[at]
        return np.stack([(codes >> p) & 1 for p in range(len(self.coefs))]).astype(np.bool_)
