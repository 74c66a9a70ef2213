"""Signal to quantization noise that a block format will have, from the block's crest factor alone.

Source: Chen et al., "INT v.s. FP: A Comprehensive Study of Fine-Grained Low-bit Quantization Formats",
arXiv:2510.25602, section 3 (integers: a uniform step over the range; floats: a step that follows the binade,
for values of a normal distribution). Their figures come from a scale overhead of 1.5 for power-of-two scales,
the mean of what such a scale lies above the exact one; E4M3 scales count as exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import norm

Floats = NDArray[np.float64]

#: Mean ratio of a power of two, rounded up, to the scale it stands for: E8M0 scales [1].
POWER_OF_TWO = 1.5
#: Ratio of an E4M3 scale to the scale it stands for [1].
EXACT = 1.0
#: Decibels of a bit, and of a uniform step against a full-scale value of crest factor 1.
DB_PER_BIT, DB_OFFSET = 20 * np.log10(2), 10 * np.log10(3)


class Element(Protocol):
    """What a number format's elements say about noise."""

    def qsnr(self, crest: ArrayLike, overhead: float, block: int | None) -> Floats:
        """Predicted signal to noise [dB] of blocks of crest factor ``crest``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Integers:
    """Symmetric integers of so many bits."""

    bits: int

    def qsnr(self, crest: ArrayLike, overhead: float, block: int | None = None) -> Floats:
        """Signal to noise [dB]; ``block`` given: one value of a block, its largest, has no error."""
        exact = 0.0 if block is None else 10 * np.log10(block / (block - 1))
        loss = 20 * np.log10(overhead) + 20 * np.log10(np.asarray(crest, np.float64))
        return np.asarray(DB_OFFSET + DB_PER_BIT * self.bits - loss + exact)


@dataclass(frozen=True, kw_only=True)
class Floating:
    """Elements of ``mantissa`` bits behind the leading one, gradual below ``2**(1 - bias)``."""

    mantissa: int
    bias: int
    largest: float  #: largest value of an element

    def qsnr(self, crest: ArrayLike, overhead: float, block: int | None = None) -> Floats:
        """Signal to noise [dB]; ``block`` given: one value of a block, its largest, has no error."""
        peak = overhead * np.asarray(crest, np.float64)
        # In units of the block's rms: below this the step no longer shrinks with the value.
        least = peak * 2.0 ** (1 - self.bias) / self.largest
        below = 2 * norm.cdf(least) - 1
        power_above = 2 * (least * norm.pdf(least) + norm.sf(least))
        if block is not None:
            power_above = power_above - np.asarray(crest, np.float64) ** 2 / block
        relative = 1 / (24 * 4.0**self.mantissa)
        step = 4.0 ** (1 - self.bias - self.mantissa) / (12 * self.largest**2)
        noise = relative * power_above + step * peak**2 * below
        return np.asarray(-10 * np.log10(noise))


#: Elements of the block formats that the paper compares, by the names of OCP Microscaling Formats 1.0.
ELEMENTS: dict[str, Element] = {
    "int8": Integers(bits=8),
    "int6": Integers(bits=6),
    "int4": Integers(bits=4),
    "e4m3": Floating(mantissa=3, bias=7, largest=448.0),
    "e2m3": Floating(mantissa=3, bias=1, largest=7.5),
    "e2m1": Floating(mantissa=1, bias=1, largest=6.0),
}


def crest_factors(values: ArrayLike, block: int) -> Floats:
    """Largest magnitude over root mean square of each block of a row, float64 [blocks]; none of zeros.

    Parameters: values, [rows, columns] or [columns]; block, columns that share a scale, the last one may be
    short.
    Raises ValueError if a value is not finite or block is below 2.
    """
    array = np.atleast_2d(np.asarray(values, np.float64))
    if array.ndim != 2 or not np.all(np.isfinite(array)):
        raise ValueError(f"values must be finite and of one or two axes, not of shape {array.shape}")
    if block < 2:
        raise ValueError(f"block must be at least 2, not {block!r}")
    first = np.arange(0, array.shape[1], block)
    sizes = np.diff(first, append=array.shape[1])
    peak = np.maximum.reduceat(np.abs(array), first, axis=1)
    power = np.add.reduceat(array**2, first, axis=1) / sizes
    some = peak > 0
    return np.asarray(peak[some] / np.sqrt(power[some]))


def measured(values: ArrayLike, quantized: ArrayLike) -> float:
    """Signal to noise of a whole tensor [dB]; infinite where nothing was lost.

    Raises ValueError if the shapes differ or the tensor is all 0.
    """
    exact, found = np.asarray(values, np.float64), np.asarray(quantized, np.float64)
    if exact.shape != found.shape:
        raise ValueError(f"quantized must have shape {list(exact.shape)}, not {list(found.shape)}")
    power = float(np.sum(exact**2))
    if not power:
        raise ValueError("values must hold something beyond 0")
    noise = float(np.sum((exact - found) ** 2))
    return float(10 * np.log10(power / noise)) if noise else float("inf")


def crossover(one: Element, other: Element, overhead: float, block: int | None = None) -> float:
    """Crest factor where two elements are predicted equal: below it the integers win.

    Raises ValueError where one of them is ahead throughout crest factors of 1 to 100.
    """

    def ahead(crest: float) -> float:
        return float(one.qsnr(crest, overhead, block) - other.qsnr(crest, overhead, block))

    low, high = (1.0, 100.0) if block is None else (1.0, float(np.sqrt(block)) * (1 - 1e-9))
    if ahead(low) * ahead(high) > 0:
        raise ValueError(
            f"elements must cross between crest factors {low:g} and {high:g}, not {one!r}, {other!r}"
        )
    return float(brentq(ahead, low, high))
