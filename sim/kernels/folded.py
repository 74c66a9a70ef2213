"""Terms folded into one integer a weight, multiplied byte by byte: what many masked terms cost least as.

A stream's terms and scales are integers, so each weight is one too: ``W = mantissas times digits + offsets``.
Its bytes stand side by side as three times the columns would, ``W = sum_i 256**i * (byte_i - 128)``, each
byte's columns a group whose multiplier is the place value: one pass, whatever the number of terms, masks and
groups. Three bytes hold BiLLM's seven masked planes. Prepared weights take n bytes each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
MOST = 3  #: bytes of a weight: with what makes it positive it fits 32 bits


@dataclass(frozen=True)
class Extent:
    """The extent of a matrix whose groups are the bytes of its weights."""

    rows: int
    columns: int
    groups: int

    @property
    def group(self) -> int:
        """Columns of a group."""
        return self.columns


@dataclass(frozen=True)
class Bytes:
    """What the bytes of a weight mean."""

    count: int
    bits: int = BITS
    step: int = 1
    zero: int = 1 << (BITS - 1)  #: the code that stands for 0

    @property
    def multiplier(self) -> Int:
        """[1, count]: place values."""
        return (1 << BITS * np.arange(self.count, dtype=np.int64))[None]


@dataclass(eq=False)
class Folded(Dots):
    """Whole weights as bytes."""

    stream: str | None
    count: int  #: bytes of a weight

    @cached_property
    def columns(self) -> Columns:
        whole = Extent(self.matrix.rows, self.matrix.columns, 1)
        return dots_layout.repeated(dots_layout.columns(whole, self.widths), self.count)

    @property
    def widths(self) -> list[int]:
        return [BITS]

    @cached_property
    def laid(self) -> tuple[Laid, ...]:
        weights = np.empty((self.matrix.rows, self.matrix.columns), np.int32)
        for here, part in rows.split(self.matrix):
            weights[here] = integer_weights(part, self.stream)
        meaning = Bytes(self.count)
        weights += np.int32(meaning.zero * int(meaning.multiplier.sum()))

        def codes(some: slice) -> NDArray[np.uint8]:
            return np.concatenate(
                [(weights[some] >> (BITS * place)).astype(np.uint8) for place in range(self.count)], axis=1
            )

        extent = Extent(self.matrix.rows, self.matrix.columns, self.count)
        return (dots_layout.lay(extent, meaning, codes, None, self.columns),)

    def cost(self, bits: int, tokens: int, mantissas: bool) -> float | None:
        """Nanoseconds; None where groups of activations have scales, which a folded weight cannot meet."""
        return None if mantissas else super().cost(bits, tokens, False)


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
    for count in range(1, MOST + 1):
        if reach <= 127 * int(Bytes(count).multiplier.sum()):
            return Folded(matrix, Codes(codes=(), rest=None), stream, count)
    return None
