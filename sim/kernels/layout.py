"""Columns dealt out to blocks of whole bytes, each within one group.

A set of columns that all rows share may be few of each group: then those alone are gathered into a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.matrix import PackedMatrix
from algo.compiled import kernel
from sim.kernels.bipolar import positive
from sim.kernels.vectors import element, popcount

WIDEST = 16  #: bytes of a block

Int = NDArray[np.int64]
Octets = NDArray[np.uint8]


@kernel
def deal(values, tokens, masks, source, width, plain, running, counts):  # type: ignore[no-untyped-def]
    """Activations of -1 and +1 dealt out to blocks.

    Parameters: values, int64 [tokens, columns]; masks, uint32, the columns that count, if blocks follow each
    other; else source, int64 [blocks, width, 8], the column of each bit or -1; plain and running, uint8
    [tokens, blocks, width], bits and their running XORs; counts, int16 [tokens, blocks], their ones; flat.
    """
    columns, blocks = len(values) // tokens, len(counts) // tokens
    for place in range(len(counts)):
        token, block = place // blocks, place % blocks
        last, total, word = np.uint8(0), 0, np.uint32(0)
        for byte in range(width):
            at = block * width + byte
            if len(source) == 0:
                if byte % 4 == 0:
                    word = positive(values, token * columns, 8 * at, columns) & element(masks, at // 4)
                bits = np.uint8(word & np.uint32(255))
                word >>= np.uint32(8)
            else:
                bits = np.uint8(0)
                for i in range(8):
                    column = element(source, 8 * at + i)
                    if column >= 0 and element(values, token * columns + column) >= 0:
                        bits |= np.uint8(1 << i)
            last ^= bits
            total += popcount(np.uint64(bits))
            plain[place * width + byte] = bits
            running[place * width + byte] = last
        counts[place] = total


@dataclass(frozen=True, eq=False)
class Dealt:
    """Tokens in blocks, flat."""

    plain: Octets  #: [tokens, 2 * pairs, width]
    running: Octets  #: the same as running XORs
    ones: NDArray[np.int32]  #: [tokens, pairs], two counts of 16 bits each


@dataclass(frozen=True, eq=False)
class Layout:
    """Blocks of ``width`` bytes; block b lies in group ``groups[b]``."""

    columns: words.Words  #: [words] that count; others are 0 in every block
    count: int  #: columns of the matrix
    width: int  #: 2, 4, 8 or 16
    groups: Int  #: [blocks]
    source: Int | None  #: [blocks * width * 8], the column of each bit or -1; None: they follow each other

    @property
    def pairs(self) -> int:
        """Pairs of blocks, the last maybe half empty."""
        return -(-len(self.groups) // 2)

    def rows(self, plane: words.Words, rows: int) -> Octets:
        """Bits of a plane [rows or 1, words] as [rows, 2 * pairs, width]."""
        plane = np.broadcast_to(plane, (rows, plane.shape[1])) & self.columns
        if self.source is None:
            return self._blocks(np.ascontiguousarray(plane).view(np.uint8))
        return self._gathered(words.unpack(plane, self.count))

    def tokens(self, values: Int) -> Dealt:
        """Activations of -1 and +1, int64 [tokens, columns], in blocks."""
        tokens, blocks = len(values), 2 * self.pairs
        plain, running = (np.empty(tokens * blocks * self.width, np.uint8) for _ in range(2))
        counts = np.empty(tokens * blocks, np.int16)
        flat = np.ascontiguousarray(values).reshape(-1)
        deal(flat, tokens, self._masks, self._places, self.width, plain, running, counts)
        return Dealt(plain, running, counts.view(np.int32))

    @cached_property
    def _masks(self) -> NDArray[np.uint32]:
        return self._blocks(self.columns[None].view(np.uint8)).reshape(-1).view(np.uint32)

    @cached_property
    def _places(self) -> Int:
        if self.source is None:
            return np.zeros(0, np.int64)
        whole = np.full(2 * self.pairs * self.width * 8, -1)
        whole[: len(self.source)] = self.source
        return whole

    def _gathered(self, bits: NDArray[np.bool_]) -> Octets:
        assert self.source is not None
        chosen = bits[:, np.maximum(self.source, 0)] & (self.source >= 0)
        return self._blocks(np.packbits(chosen, axis=1, bitorder="little"))

    def _blocks(self, octets: Octets) -> Octets:
        whole = np.zeros((len(octets), 2 * self.pairs * self.width), np.uint8)
        used = min(whole.shape[1], octets.shape[1])  # words may end in empty bytes
        whole[:, :used] = octets[:, :used]
        return whole.reshape(len(octets), 2 * self.pairs, self.width)


def layout_of(matrix: PackedMatrix, columns: words.Words) -> Layout:
    """The narrowest layout of a set of columns, uint64 [words]."""
    chosen = words.unpack(columns, matrix.columns)
    starts = np.arange(0, matrix.columns, matrix.group)
    most = int(np.add.reduceat(chosen, starts, dtype=np.int64).max())
    whole = matrix.group % (8 * WIDEST) == 0
    if whole and most > 4 * WIDEST:
        blocks = -(-matrix.columns // (8 * WIDEST))
        groups = np.arange(blocks) // (matrix.group // (8 * WIDEST))
        return Layout(columns=columns, count=matrix.columns, width=WIDEST, groups=groups, source=None)
    width = next((w for w in (2, 4, 8) if 8 * w >= most), WIDEST)
    each = -(-most // (8 * width)) or 1
    source = np.full((matrix.groups, each * 8 * width), -1)
    for group, first in enumerate(starts):
        found = first + np.flatnonzero(chosen[first : first + matrix.group])
        source[group, : len(found)] = found
    return Layout(
        columns=columns,
        count=matrix.columns,
        width=width,
        groups=np.repeat(np.arange(matrix.groups), each),
        source=source.reshape(-1),
    )
