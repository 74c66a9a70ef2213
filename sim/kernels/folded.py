"""Terms folded into one integer a weight, multiplied byte by byte: what many masked terms cost least as.

A stream's terms and scales are integers, so each weight is one too: ``W = mantissas times digits + offsets``.
Its bytes are code matrices of their own, ``W = sum_i 256**i * byte_i - 2**(8 n - 1)``, whatever the number of
terms, masks and groups; three bytes hold BiLLM's seven masked planes. Prepared weights take n bytes each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import rows
from algo.bitplane.decode import integer_weights
from algo.bitplane.matrix import PackedMatrix
from sim.kernels import dots_layout
from sim.kernels.codes import Codes, Int
from sim.kernels.dots import Dots
from sim.kernels.dots_kernels import Columns, Laid

NAME = "folded"
GOLDEN = "algo.bitplane.decode.integer_sums"

BITS = 8  #: of a byte
MOST = 3  #: bytes of a weight; what makes it positive must fit 32 bits with it


@dataclass(frozen=True)
class Whole:
    """The extent of a matrix whose rows are one group each."""

    rows: int
    columns: int
    groups: int = 1

    @property
    def group(self) -> int:
        """Columns of the group."""
        return self.columns


@dataclass(frozen=True)
class Byte:
    """What one byte of every weight means."""

    place: int  #: 0: the lowest
    top: bool  #: the highest, off which comes what made all weights positive
    bits: int = BITS
    step: int = 1

    @property
    def zero(self) -> int:
        """The code that stands for 0."""
        return 1 << (BITS - 1) if self.top else 0

    @property
    def multiplier(self) -> Int:
        """[1, 1]: the byte's place value."""
        return np.full((1, 1), 1 << (BITS * self.place), np.int64)


@dataclass(eq=False)
class Folded(Dots):
    """Whole weights as bytes."""

    stream: str | None
    count: int  #: bytes of a weight

    @cached_property
    def columns(self) -> Columns:
        return dots_layout.columns(self._extent, self.widths)

    @property
    def widths(self) -> list[int]:
        return [BITS] * self.count

    @cached_property
    def laid(self) -> tuple[Laid, ...]:
        weights = np.empty((self.matrix.rows, self.matrix.columns), np.int32)
        for here, part in rows.split(self.matrix):
            weights[here] = integer_weights(part, self.stream)
        weights += np.int32(1 << (BITS * self.count - 1))

        def codes(place: int, some: slice) -> NDArray[np.uint8]:
            return (weights[some] >> (BITS * place)).astype(np.uint8)

        meanings = [Byte(place, place == self.count - 1) for place in range(self.count)]
        return tuple(
            dots_layout.lay(self._extent, byte, partial(codes, byte.place), None, self.columns)
            for byte in meanings
        )

    def cost(self, bits: int, tokens: int, mantissas: bool) -> float | None:
        """Nanoseconds; None where groups of activations have scales, which a folded weight cannot meet."""
        return None if mantissas else super().cost(bits, tokens, False)

    @property
    def _extent(self) -> Whole:
        return Whole(self.matrix.rows, self.matrix.columns)


def prepare(matrix: PackedMatrix, stream: str | None) -> Folded | None:
    """The stream's weights as bytes; None where one might need more than `MOST`."""
    reach = 0
    for term in (t for t in matrix.terms if t.col == stream):
        low, high = term.digit_range()
        zero = np.int64(0) if term.zero is None else matrix.ints[term.zero].values
        digit = np.maximum(np.abs(low - zero), np.abs(high - zero))
        reach += int((np.abs(matrix.ints[term.scale].values) * digit).max(initial=0))
        if term.offset is not None:
            reach += int(np.abs(matrix.ints[term.offset].values).max(initial=0))
    count = (reach.bit_length() + BITS) // BITS
    return None if count > MOST else Folded(matrix, Codes(codes=(), rest=None), stream, count)
