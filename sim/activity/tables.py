"""The words a product's beats bring, by row and by token, a block at a time.

A table is uint64 [rows or tokens, keys, words], the last key the word of zeros (`Program`). Blocks keep the
memory of a count independent of the layer's height and the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import rows as row_blocks
from algo.bitplane import words
from algo.bitplane.activations import Activations
from algo.bitplane.decode import check_fit
from algo.bitplane.matrix import PackedMatrix
from algo.compiled import kernel
from sim.activity.program import Program

Int = NDArray[np.int64]
Tables = Iterator[tuple[slice, words.Words]]  #: blocks of a side, and which rows or tokens they are

KEPT_BYTES = 8 << 20  #: packed tokens are kept for further passes where they are no more than this


@kernel
def cut(plane: words.Words, starts: Int, sizes: Int, out: words.Words) -> None:
    """``sizes[c]`` columns from ``starts[c]`` on, of words [n, ...], into ``out`` [n, c, words]."""
    n, chunks, width = out.shape
    for i in range(n):
        for c in range(chunks):
            for w in range(width):
                first = starts[c] + 64 * w
                left = min(64, sizes[c] - 64 * w)
                out[i, c, w] = 0
                if left <= 0:
                    continue
                at, shift = first >> 6, np.uint64(first & 63)
                word = plane[i, at] >> shift
                if shift + np.uint64(left) > np.uint64(64):
                    word |= plane[i, at + 1] << (np.uint64(64) - shift)
                out[i, c, w] = word & (np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - left))


@dataclass(frozen=True, kw_only=True, eq=False)
class Batches:
    """A batch of tokens as it comes: ``each`` yields the quantized streams of some tokens after others."""

    tokens: int
    bits: int
    each: Callable[[], Iterable[Sequence[Activations]]]  #: may be called again, and yields the same

    @classmethod
    def whole(cls, activations: Sequence[Activations]) -> Batches:
        """A batch that is all there.

        Raises ValueError if there is no stream, or streams differ in their width.
        """
        if not activations:
            raise ValueError("activations must hold at least one stream, not ()")
        widths = [act.bits for act in activations]
        if len(set(widths)) > 1:
            raise ValueError(f"activations must have one width in all streams, not {widths!r}")
        return cls(tokens=len(activations[0].values), bits=widths[0], each=lambda: (activations,))


def row_tables(matrix: PackedMatrix, program: Program) -> Tables:
    """Tables of all rows, and which rows they are."""
    for here, part in row_blocks.split(matrix):
        table = np.zeros((part.rows, program.row_keys, program.words), np.uint64)
        for i, text in enumerate(program.texts):
            _fill(program, part.words_of(text), i, table)
        yield here, table


class TokenTables:
    """Tables of all tokens; iterated over again and again."""

    def __init__(self, matrix: PackedMatrix, batches: Batches, program: Program) -> None:
        self._matrix, self._batches, self._program = matrix, batches, program
        size = batches.tokens * program.token_keys * program.words * 8
        self._kept = list(self._made()) if size <= KEPT_BYTES else None

    def __iter__(self) -> Tables:
        return self._made() if self._kept is None else iter(self._kept)

    def _made(self) -> Tables:
        first, program = 0, self._program
        for activations in self._batches.each():
            check_fit(self._matrix, activations)
            tokens = len(activations[0].values)
            table = np.zeros((tokens, program.token_keys, program.words), np.uint64)
            for stream, act in enumerate(activations):
                planes = act.planes()
                for plane, found in enumerate(planes):
                    _fill(program, found, stream * len(planes) + plane, table)
            yield slice(first, first + tokens), table
            first += tokens


def _fill(program: Program, plane: words.Words, source: int, table: words.Words) -> None:
    """One plane's words into its keys of a table."""
    at = slice(source * program.chunks, (source + 1) * program.chunks)
    cut(np.ascontiguousarray(plane), program.starts, program.sizes, table[:, at])
