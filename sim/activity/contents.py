"""What a matrix's and a batch's words hold: ones, words without any, planes of a group without any.

A word without a lane that counts adds nothing: a PE that skips words saves its beats, one that skips planes
saves a group's. A unipolar digit counts where its bit is 1, a bipolar one wherever the mask is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.words import Words
from sim.activity.program import Program

Int = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Content:
    """Counts over all rows or tokens, int64 [sources, chunks] unless said otherwise."""

    ones: Int  #: bits set, of those that count
    bits: Int  #: bits that count: on the mask, or of the columns there are
    zero_words: Int  #: words without a one
    zero_planes: Int  #: [sources]: groups without a one
    words: int  #: words of a chunk
    planes: int  #: groups of all rows or tokens


@dataclass(frozen=True)
class Source:
    """A plane of a side by its index, the mask it counts under (None: every column) and its digits' kind."""

    word: int
    mask: int | None
    bipolar: bool


class Survey:
    """Counts words under masks, block after block."""

    def __init__(self, program: Program, sources: Iterable[Source]) -> None:
        self._program, self._sources = program, list(sources)
        shape = (len(self._sources), program.chunks)
        self._ones, self._bits, self._zero = (np.zeros(shape, np.int64) for _ in range(3))
        self._planes = np.zeros(len(self._sources), np.int64)
        self._rows = 0

    def add(self, table: Words) -> None:
        """Count a table's rows."""
        for i, source in enumerate(self._sources):
            ones = on = self._plane(table, source.word)
            if source.mask is not None:
                on = self._plane(table, source.mask)
                ones = ones & on
                self._bits[i] += np.bitwise_count(on).sum(axis=(0, 2), dtype=np.int64)
            else:
                self._bits[i] += len(table) * self._program.sizes
            self._ones[i] += np.bitwise_count(ones).sum(axis=(0, 2), dtype=np.int64)
            zero = np.logical_not((on if source.bipolar else ones).any(axis=2))
            if source.bipolar and source.mask is None:  # a chunk has columns, and each counts
                zero = np.zeros_like(zero)
            self._zero[i] += zero.sum(axis=0)
            self._planes[i] += int(np.logical_and.reduceat(zero, self._program.group_starts, axis=1).sum())
        self._rows += len(table)

    def _plane(self, table: Words, source: int) -> Words:
        chunks = self._program.chunks
        return table[:, source * chunks : (source + 1) * chunks]

    def content(self) -> Content:
        """What was counted."""
        return Content(
            ones=self._ones,
            bits=self._bits,
            zero_words=self._zero,
            zero_planes=self._planes,
            words=self._rows,
            planes=self._rows * len(self._program.group_starts),
        )
