"""Minifloats whose exponent bias is a real number, and activations whose channels add an integer to it.

With a real bias b a float of E exponent and M mantissa bits is an integer times ``2**(1 - M - b)``: the bias
is the scale. What a channel adds to the bias of the tensor is a shift, which the weights of its column take
back, so that all channels have one scale.

Source: Liu et al., LLM-FP4, arXiv:2310.16836 (pre-shifted exponent bias).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from algo.bitplane.activations import Activations
from algo.bitplane.format import ROW, Digit, Format
from algo.compiled import kernel
from algo.formats import elements, nearest

Floats = NDArray[np.float64]
Int = NDArray[np.int64]

SOURCE = "Liu et al., LLM-FP4, arXiv:2310.16836 (real exponent bias)"

#: What a bias is multiplied by in a search [LLM-FP4: 0.01 .. 1.2 in 100], and 1: the bias that clips nothing.
SHARES = np.append(np.linspace(0.01, 1.2, 100), 1.0)


@dataclass(frozen=True)
class RealBias:
    """A minifloat, sign beside ``exponent`` and ``mantissa`` bits, without a bias of its own."""

    exponent: int
    mantissa: int

    @cached_property
    def format(self) -> Format:
        """Its integers as a format with a scale a row, kept as a mantissa on a power of two."""
        tables = elements.minifloat(self.exponent, self.mantissa).tables
        return Format(
            name=f"e{self.exponent}m{self.mantissa}-row",
            digit=Digit.UNIPOLAR,
            coefs=Format.places(value for value in tables[0] if value is not None),
            group=ROW,
            scale="dyadic",
            published_bits=1.0 + self.exponent + self.mantissa,
            source=SOURCE,
            tables=tables,
        )

    @property
    def top(self) -> int:
        """Largest integer."""
        return self.format.high

    def bias(self, peak: ArrayLike) -> Floats:
        """Biases at which ``peak``, above 0, is the largest value; float64.

        ``2**E - log2(peak) + log2(2 - 2**-M) - 1``.
        """
        largest = np.log2(2 - 2.0**-self.mantissa)
        return np.asarray(2.0**self.exponent - np.log2(np.asarray(peak, np.float64)) + largest - 1)

    def unit(self, bias: ArrayLike) -> Floats:
        """What the integer 1 stands for; float64."""
        return np.asarray(np.exp2(1 - self.mantissa - np.asarray(bias, np.float64)))

    def candidates(self, peak: ArrayLike) -> Floats:
        """Biases to search for values up to ``peak``, above 0; float64 [..., candidates].

        `SHARES` of the bias of the peak less its power of two: of 0.37 that is 0.74, of 3 it is 0.75. So the
        search does not depend on the power, which a bias multiplied as a whole does.
        """
        share, power = np.frexp(np.asarray(peak, np.float64))
        return np.asarray(self.bias(share)[..., None] * SHARES - power[..., None])


E2M1 = RealBias(2, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class ShiftedActivations:
    """How activations are quantized: one real bias, and what each channel adds to it."""

    element: RealBias
    bias: float
    shift: Int  #: [columns], at least 0

    @property
    def factor(self) -> NDArray[np.float16]:
        """What each column of activations is multiplied by before it is rounded, [columns]; exact."""
        return np.ldexp(np.float32(1), self.shift).astype(np.float16)

    def quantize(self, x: ArrayLike) -> Activations:
        """The element's integers nearest to ``x * 2**shift`` over the unit, x float [tokens, columns].

        All tokens have one scale, known beforehand; larger values become the largest. They are the stream of
        a matrix whose column factor is `factor`: what it multiplies is already in them.
        Raises ValueError if x is not finite, of two axes, or of another width.
        """
        array = np.asarray(x, np.float64)
        if array.ndim != 2 or array.shape[1] != len(self.shift):
            wanted = f"[tokens, {len(self.shift)}]"
            raise ValueError(f"activations must have shape {wanted}, not {list(array.shape)}")
        if not np.all(np.isfinite(array)):
            raise ValueError("activations must be finite, not NaN or infinity")
        scale = np.float32(self.element.unit(self.bias))
        values = nearest.round_to(self.element.format, np.ldexp(array, self.shift) / float(scale))
        bits = self.element.top.bit_length() + 1
        return Activations(values=values, bits=bits, scale=np.full(len(array), scale))

    def dequantized(self, x: ArrayLike) -> Floats:
        """What the integers of x stand for, the shifts taken off; float64 [tokens, columns]."""
        act = self.quantize(x)
        return np.ldexp(act.values * act.scale[:, None].astype(np.float64), -self.shift)


def fitted(peak: Floats, most: int, element: RealBias = E2M1) -> ShiftedActivations:
    """Bias and shifts of channels with ranges ``peak``, float64 [columns].

    The bias is the least of the channels' own, b; a shift ``clip(rne(b), rne(bias), rne(bias) + most) -
    rne(bias)``. A channel of zeros has the largest shift; of zeros alone the bias is 0.
    Raises ValueError if a range is below 0 or not finite.
    """
    if not np.all(np.isfinite(peak)) or np.any(peak < 0):
        raise ValueError("peak must be finite and at least 0, and is not")
    if not np.any(peak > 0):
        return ShiftedActivations(element=element, bias=0.0, shift=np.zeros(len(peak), np.int64))
    own = np.where(peak > 0, element.bias(np.where(peak > 0, peak, 1.0)), np.inf)
    least = float(own.min())
    shift = np.clip(np.rint(own) - np.rint(least), 0, most).astype(np.int64)
    return ShiftedActivations(element=element, bias=least, shift=shift)


def searched(
    start: ShiftedActivations, peak: float, x: Floats, lost: Callable[[Floats], float]
) -> ShiftedActivations:
    """The bias, of the candidates for values up to ``peak``, at which quantized ``x`` loses least.

    Parameters: start, whose shifts are kept, and its bias where none loses less; x, [tokens, columns]; lost,
    of activations as they are after quantization.
    """
    best, least = start, lost(start.dequantized(x))
    for bias in start.element.candidates(peak) if peak > 0 else ():
        tried = replace(start, bias=float(bias))
        error = lost(tried.dequantized(x))
        if error < least:
            best, least = tried, error
    return best


@kernel(error_model="numpy")
def weighted_squares(
    weight: Floats, steps: Floats, diagonal: Floats, digits: Floats, bounds: Floats
) -> Floats:
    """Squared error of each row under each of several steps, columns weighted by ``diagonal``.

    Parameters: weight, float64 [rows, columns]; steps, [tried, rows], 0 where all digits are 0; digits,
    rising, and the bounds between them, of `algo.formats.nearest.Grid`.
    Returns float64 [tried, rows].
    """
    rows, columns = weight.shape
    out = np.zeros(steps.shape)
    share, value = np.empty(columns), np.empty(columns)
    for r in range(rows):
        for t in range(len(steps)):
            step = steps[t, r] if steps[t, r] > 0 else 1.0
            for c in range(columns):
                share[c] = weight[r, c] / step
            value[:] = digits[0]
            for k in range(len(bounds)):
                bound, more = bounds[k], digits[k + 1] - digits[k]
                for c in range(columns):
                    value[c] += more if share[c] >= bound else 0.0
            if steps[t, r] <= 0:
                value[:] = 0.0
            total = 0.0
            for c in range(columns):
                error = (share[c] - value[c]) * step
                total += error * error * diagonal[c]
            out[t, r] = total
    return out
