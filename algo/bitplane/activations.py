"""Activations as integers, and the bit planes a PE reads of them."""

from __future__ import annotations

from dataclasses import InitVar, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from algo.bitplane import words

MAX_BITS = 20  #: widest activation integer the engines take: E4M3 has 19, in units of its smallest value


@dataclass(frozen=True, kw_only=True, eq=False)
class Activations:
    """Integers [tokens, columns] with a real scale per token; two's complement, or -1/+1 at one bit."""

    values: NDArray[np.int64]
    bits: int
    scale: NDArray[np.float32]  #: [tokens]
    mantissa: NDArray[np.int64] | None = None  #: [tokens, groups], where groups have scales of their own
    in_range: InitVar[bool] = (
        False  #: the maker knows that every value fits ``bits``: it is not looked at again
    )

    def __post_init__(self, in_range: bool) -> None:
        if self.values.dtype != np.int64 or self.values.ndim != 2:
            raise ValueError(f"values must be int64 of two axes, not {self.values.dtype} {self.values.shape}")
        if not isinstance(self.bits, int) or not 1 <= self.bits <= MAX_BITS:
            raise ValueError(f"bits must be at least 1 and at most {MAX_BITS}, not {self.bits!r}")
        if self.scale.dtype != np.float32 or self.scale.shape != self.values.shape[:1]:
            raise ValueError(
                f"scale must be float32 of shape [{len(self.values)}], not "
                f"{self.scale.dtype} {list(self.scale.shape)}"
            )
        if not np.all(np.isfinite(self.scale)):
            raise ValueError("scale must be finite, not NaN or infinity")
        if self.mantissa is not None and (self.mantissa.ndim != 2 or len(self.mantissa) != len(self.values)):
            raise ValueError(f"mantissa must have a row per token, not {list(self.mantissa.shape)}")
        if not in_range:
            self._check_range()

    def _check_range(self) -> None:
        low, high = int(self.values.min(initial=0)), int(self.values.max(initial=0))
        if self.bipolar:
            if low >= -1 and high <= 1 and np.all(self.values):
                return
            wanted, bad = "-1 or +1", np.abs(self.values) != 1
        else:
            if low >= -self.limit and high < self.limit:
                return
            wanted = f"in [{-self.limit}, {self.limit - 1}]"
            bad = (self.values < -self.limit) | (self.values >= self.limit)
        raise ValueError(f"values must be {wanted}, not {int(self.values[bad].flat[0])}")

    @property
    def bipolar(self) -> bool:
        """The single plane's digit is -1/+1."""
        return self.bits == 1

    @property
    def limit(self) -> int:
        """Largest magnitude of a value."""
        return 1 if self.bipolar else 1 << (self.bits - 1)

    @property
    def places(self) -> tuple[int, ...]:
        """Place value of each plane: 1, 2, ..., and minus the top one in two's complement."""
        if self.bipolar:
            return (1,)
        return (*(1 << i for i in range(self.bits - 1)), -(1 << (self.bits - 1)))

    def planes(self) -> words.Words:
        """Words uint64 [bits, tokens, ceil(columns/64)], plane i the bit of place value ``places[i]``."""
        if self.bipolar:
            return words.pack(self.values > 0)[None]
        return np.stack([words.pack(((self.values >> i) & 1).astype(np.bool_)) for i in range(self.bits)])


def quantize_activations(
    x: ArrayLike, bits: int = 8, col: NDArray[np.float32] | NDArray[np.float16] | None = None
) -> Activations:
    """Activations nearest to ``x``, float [tokens, columns], symmetric, one scale per token.

    ``scale = max|x| / (2**(bits-1) - 1)`` in float32, integers by round-half-even; -2**(bits-1) is not used.
    At one bit: the sign (of 0: +1) and ``scale = mean|x|``. ``col``, float32 or float16 [columns], multiplies
    x first, in float32.

    Raises ValueError if x is not finite or of two axes, or bits is out of range.
    """
    array = np.asarray(x, np.float32)
    if array.ndim != 2:
        raise ValueError(f"activations must have two axes [tokens, columns], not shape {list(array.shape)}")
    if not np.all(np.isfinite(array)):
        raise ValueError("activations must be finite, not NaN or infinity")
    if not isinstance(bits, int) or isinstance(bits, bool) or not 1 <= bits <= MAX_BITS:
        raise ValueError(f"act-bits must be an integer from 1 to {MAX_BITS}, not {bits!r}")
    if col is not None:
        array = array * col.astype(np.float32)
    if bits == 1:
        mean = np.abs(array).mean(axis=1, dtype=np.float64).astype(np.float32)
        return Activations(values=np.where(array < 0, -1, 1).astype(np.int64), bits=1, scale=mean)
    top = (1 << (bits - 1)) - 1
    peak = np.abs(array).max(axis=1, initial=0)
    # A quotient that underflows to 0 would divide by 0; such a token is 0 to float32 anyway.
    scale = np.where(peak / np.float32(top) > 0, peak / np.float32(top), np.float32(1))
    values = np.clip(np.rint(array / scale[:, None]), -top, top).astype(np.int64)
    return Activations(values=values, bits=bits, scale=scale.astype(np.float32))
