"""Toggles of words that follow each other, at the speed they can be read.

A toggle is a bit that differs between one word and the next. The earlier words are a slice of their own: an
index that may be negative would keep LLVM from vectorising. Four vectors are counted side by side, since one
sum would wait for itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.compiled import kernel
from hw.beats import W_BIPOLAR, X_BIPOLAR, Beats
from hw.spec import PeSpec, signed_bits
from sim.kernels.vectors import U64x8, count_ones, load, popcount, splat, total

Words = NDArray[np.uint64]


_load, _splat = load(U64x8), splat(U64x8)


@kernel
def differing(before: Words, after: Words) -> int:
    """Bits that differ between two flat arrays of one length."""
    a = b = c = d = _splat(np.uint64(0))
    at = 0
    while at + 32 <= len(before):
        a = a + count_ones(_load(before, at) ^ _load(after, at))
        b = b + count_ones(_load(before, at + 8) ^ _load(after, at + 8))
        c = c + count_ones(_load(before, at + 16) ^ _load(after, at + 16))
        d = d + count_ones(_load(before, at + 24) ^ _load(after, at + 24))
        at += 32
    found = total((a + b) + (c + d))
    for i in range(at, len(before)):
        found += popcount(before[i] ^ after[i])
    return found


def stream(words: Words) -> int:
    """Toggles of a bus: bits that change from one row of uint64 [beats, words] to the next.

    Raises ValueError for another kind of array.
    """
    if words.dtype != np.uint64 or words.ndim != 2:
        raise ValueError(f"words must be uint64 [beats, words], not {words.dtype} {list(words.shape)}")
    flat = np.ascontiguousarray(words).reshape(-1)
    step = words.shape[1]
    return int(differing(flat[: len(flat) - step], flat[step:])) if len(words) > 1 else 0


@dataclass(frozen=True, kw_only=True)
class Toggles:
    """Bits that changed in one PE."""

    w: int  #: in its weight operand, between successive beats
    x: int  #: in its activation operand, likewise
    mask: int  #: in its mask, likewise
    product: int  #: in its lanes' two product bits, likewise
    dot: int  #: in its register of a beat's signed dot product, which begins at 0
    accumulator: int  #: in its accumulator, which begins at 0


def of_beats(spec: PeSpec, beats: Beats) -> Toggles:
    """Toggles of a run of beats on one PE, by its definition.

    A lane's product is two bits: ``base``, that it is not 0, and ``hit``, that it is +1 (`hw.pe.bitserial`).
    """
    flags = beats.flags[:, None]
    whole = np.uint64(0xFFFFFFFFFFFFFFFF)
    w_on = np.where(flags & W_BIPOLAR, whole, beats.w)
    x_on = np.where(flags & X_BIPOLAR, whole, beats.x)
    base = beats.mask & w_on & x_on
    hit = base & ~(beats.w ^ beats.x)
    dot_bits = (1 << signed_bits(-spec.lanes, spec.lanes)) - 1
    acc_bits = (1 << spec.acc_width) - 1
    acc = dot = dot_toggles = acc_toggles = 0
    for beat in beats:
        after = spec.golden(acc, beat)
        alone = spec.golden(0, beat)
        acc_toggles += ((after ^ acc) & acc_bits).bit_count()
        dot_toggles += ((alone ^ dot) & dot_bits).bit_count()
        acc, dot = after, alone
    return Toggles(
        w=stream(beats.w),
        x=stream(beats.x),
        mask=stream(beats.mask),
        product=stream(base) + stream(hit),
        dot=dot_toggles,
        accumulator=acc_toggles,
    )
