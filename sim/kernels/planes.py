"""Any planes, any activations: an AND and a popcount for every plane of both.

Rows lie side by side in vectors, 32 to a block. Columns are cut into segments, each within one word and one
group; a block keeps only segments in which some row has a bit, so words that a mask empties cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.activations import Activations
from algo.bitplane.matrix import PackedMatrix
from algo.compiled import kernel
from sim.kernels.contract import Sums
from sim.kernels.lowering import Lowered, Weighted, group_sums, lowered
from sim.kernels.vectors import U64x8, count_ones, element, load, splat, store

NAME = "planes"
GOLDEN = "algo.bitplane.decode.integer_sums"

BLOCK = 32  #: rows of four vectors, which with their sums stay in registers
# Estimates of nanoseconds, measured at 2.5 GHz with AVX-512BW.
NS_PER_STEP = 5.0  #: of a vector, bit and token
NS_PER_CALL, NS_PER_BYTE = 170e3, 0.05  #: of a call, and of a byte of weights read
HELD_BYTES = 16 << 20  #: of any temporary array

Int = NDArray[np.int64]

_load, _splat = load(U64x8), splat(U64x8)


@kernel
def add_runs(bits, values, blocks, runs, segment, group, x, mantissa, scaled, rows, out):  # type: ignore[no-untyped-def]
    """Add to ``out`` the products of cut activations with every block of rows.

    Parameters: bits, uint64, 32 rows of each kept segment; values, int64, 32 rows of each run; blocks, int64
    [row blocks + 1], first run of each; runs, int64 [runs + 1], first kept segment of each; segment, int64 of
    each kept one; group, int64 of each run; x, uint64 [tokens, planes, segments], the top plane negative;
    mantissa, int64 [tokens, groups], used if scaled; rows, of a token in ``out``, int64, a multiple of 32.
    """
    tokens, planes, segments = x.shape
    flat = x.reshape(-1)
    zero = _splat(np.uint64(0))
    for block in range(len(blocks) - 1):
        for token in range(tokens):
            at = token * rows + block * 32
            s0, s1 = _load(out, at), _load(out, at + 8)
            s2, s3 = _load(out, at + 16), _load(out, at + 24)
            for run in range(blocks[block], blocks[block + 1]):
                # Horner's rule over planes, the negative one first.
                a0, a1, a2, a3 = zero, zero, zero, zero
                for plane in range(planes - 1, -1, -1):
                    a0, a1, a2, a3 = a0 + a0, a1 + a1, a2 + a2, a3 + a3
                    first = (token * planes + plane) * segments
                    for i in range(runs[run], runs[run + 1]):
                        word = _splat(element(flat, first + element(segment, i)))
                        a0 += count_ones(_load(bits, i * 32) & word)
                        a1 += count_ones(_load(bits, i * 32 + 8) & word)
                        a2 += count_ones(_load(bits, i * 32 + 16) & word)
                        a3 += count_ones(_load(bits, i * 32 + 24) & word)
                    if plane == planes - 1:
                        a0, a1, a2, a3 = zero - a0, zero - a1, zero - a2, zero - a3
                if scaled:
                    factor = _splat(mantissa[token, group[run]])
                    a0, a1, a2, a3 = a0 * factor, a1 * factor, a2 * factor, a3 * factor
                s0 += a0 * _load(values, run * 32)
                s1 += a1 * _load(values, run * 32 + 8)
                s2 += a2 * _load(values, run * 32 + 16)
                s3 += a3 * _load(values, run * 32 + 24)
            store(out, at, s0)
            store(out, at + 8, s1)
            store(out, at + 16, s2)
            store(out, at + 24, s3)


@kernel
def add_shared(sums, values, out):  # type: ignore[no-untyped-def]
    """``out[n, m] += sum_g sums[n, g] * values[g, m]``, all int64."""
    for token in range(len(sums)):
        row = out[token]
        for group in range(len(values)):
            factor, scale = sums[token, group], values[group]
            if factor != 0:
                for m in range(len(row)):
                    row[m] += factor * scale[m]


@dataclass(frozen=True, eq=False)
class Laid:
    """Planes cut into runs: kept segments of one block of rows, one plane and one group; see `add_runs`."""

    bits: words.Words
    values: Int
    blocks: Int
    runs: Int
    segment: Int
    group: Int
    shared: tuple[tuple[words.Words, Int], ...]  #: bits of all rows, and their values [groups, rows]


@dataclass(frozen=True, eq=False)
class Planes:
    """A stream of any planes."""

    matrix: PackedMatrix
    stream: str | None
    planes: int  #: of which each row has bits of its own
    word: Int  #: [segments], the word each lies in
    mask: words.Words  #: [segments], its columns there
    groups: Int  #: [segments], its group

    def cost(self, bits: int, tokens: int, mantissas: bool) -> float | None:
        """See `sim.kernels.contract.Prepared`; no segment is taken to be empty."""
        vectors = 4 * -(-self.matrix.rows // BLOCK) * self.planes
        steps = len(self.word) * (2 if bits == 1 else bits) + self.matrix.groups
        return NS_PER_CALL + vectors * (len(self.word) * 64 * NS_PER_BYTE + tokens * steps * NS_PER_STEP)

    @cached_property
    def laid(self) -> Laid:
        """The planes' words, every run's together."""
        of = lowered(self.matrix, self.stream)
        count = -(-self.matrix.rows // BLOCK)
        return _laid(of, self.word, self.mask, self.groups, count)

    def add(self, act: Activations, out: Sums) -> None:
        """See `sim.kernels.contract.Prepared`."""
        padded = -(-self.matrix.rows // BLOCK) * BLOCK
        widest = max(act.bits * len(self.word), padded, 3 * self.matrix.columns)
        step = max(1, HELD_BYTES // (8 * widest))
        for first in range(0, len(out), step):
            here = slice(first, first + step)
            mantissa = None if act.mantissa is None else np.ascontiguousarray(act.mantissa[here])
            part = Activations(
                values=act.values[here], bits=act.bits, scale=act.scale[here], mantissa=mantissa
            )
            self._add_shared(part, out[here])
            if len(self.laid.group):
                self._add_runs(part, padded, out[here])

    def _add_runs(self, act: Activations, padded: int, out: Sums) -> None:
        laid, x = self.laid, self._cut(act)
        sums = np.zeros((len(out), padded), np.int64)
        sums[:, : out.shape[1]] = out
        scale = np.zeros((0, 0), np.int64) if act.mantissa is None else act.mantissa
        fixed = (laid.bits, laid.values, laid.blocks, laid.runs, laid.segment, laid.group)
        add_runs(*fixed, x, scale, act.mantissa is not None, padded, sums.reshape(-1))
        out[:] = sums[:, : out.shape[1]]

    def _cut(self, act: Activations) -> words.Words:
        """Segments of activation planes, uint64 [tokens, planes, segments]; the top plane is negative."""
        # -1 and +1 are two's complement of two bits.
        count = 2 if act.bipolar else act.bits
        planes = [words.pack(((act.values >> place) & 1).astype(np.bool_)) for place in range(count)]
        return np.ascontiguousarray(np.stack([plane[:, self.word] & self.mask for plane in planes], axis=1))

    def _add_shared(self, act: Activations, out: Sums) -> None:
        for bits, values in self.laid.shared:
            sums = group_sums(act.values, bits, self.matrix)
            if act.mantissa is not None:
                sums = sums * act.mantissa
            add_shared(sums, values, out)


def prepare(matrix: PackedMatrix, stream: str | None) -> Planes:
    """See `sim.kernels.contract`; every matrix suits it."""
    word, mask, groups = segments(matrix)
    planes = len(lowered(matrix, stream).planes)
    return Planes(matrix=matrix, stream=stream, planes=planes, word=word, mask=mask, groups=groups)


def _laid(of: Lowered, word: Int, mask: words.Words, groups: Int, count: int) -> Laid:
    parts = [_runs(plane, word, mask, groups, count) for plane in of.planes]
    bits = np.concatenate([np.zeros((0, BLOCK), np.uint64), *(part.bits for part in parts)])
    values = np.concatenate([np.zeros((0, BLOCK), np.int64), *(part.values for part in parts)])
    none = np.zeros(0, np.int64)
    block = np.concatenate([none, *(part.block for part in parts)])
    sizes = np.concatenate([none, *(part.sizes for part in parts)])
    order = np.argsort(block, kind="stable")
    starts = np.cumsum(sizes) - sizes
    kept = np.concatenate([none, *(np.arange(starts[r], starts[r] + sizes[r]) for r in order)])
    return Laid(
        bits=np.ascontiguousarray(bits[kept]).reshape(-1),
        values=np.ascontiguousarray(values[order]).reshape(-1),
        blocks=np.searchsorted(block[order], np.arange(count + 1)),
        runs=np.r_[0, np.cumsum(sizes[order])],
        segment=np.concatenate([none, *(part.segment for part in parts)])[kept],
        group=np.concatenate([none, *(part.group for part in parts)])[order],
        shared=tuple((part.bits, np.ascontiguousarray(part.values.T)) for part in of.shared),
    )


def segments(matrix: PackedMatrix) -> tuple[Int, words.Words, Int]:
    """Word, columns in it and group of each run of columns that share both."""
    column = np.arange(matrix.columns)
    word, group = column // words.WORD, matrix.group_of
    starts = np.flatnonzero(np.r_[True, (np.diff(word) != 0) | (np.diff(group) != 0)])
    bits = np.uint64(1) << (column % words.WORD).astype(np.uint64)
    return word[starts], np.bitwise_or.reduceat(bits, starts), group[starts]


@dataclass(frozen=True, eq=False)
class _Runs:
    """One plane's."""

    bits: words.Words  #: [kept segments, 32]
    segment: Int  #: [kept segments], its number
    values: Int  #: [runs, 32]
    block: Int  #: [runs]
    group: Int  #: [runs]
    sizes: Int  #: [runs], kept segments


def _runs(plane: Weighted, word: Int, masks: words.Words, groups: Int, count: int) -> _Runs:
    """Kept segments of a plane by block and group."""
    rows = len(plane.bits)
    cut = np.zeros((count * BLOCK, len(word)), np.uint64)
    cut[:rows] = plane.bits[:, word] & masks
    blocks = cut.reshape(count, BLOCK, len(word)).transpose(0, 2, 1)
    block, segment = np.nonzero(blocks.any(axis=2))
    values = np.zeros((count * BLOCK, plane.values.shape[1]), np.int64)
    values[:rows] = plane.values
    by_group = values.reshape(count, BLOCK, -1).transpose(0, 2, 1)
    _, first = np.unique(block * (int(groups[-1]) + 1) + groups[segment], return_index=True)
    of_block, of_group = block[first], groups[segment][first]
    return _Runs(
        bits=blocks[block, segment],
        segment=segment,
        values=by_group[of_block, of_group],
        block=of_block,
        group=of_group,
        sizes=np.diff(np.r_[first, len(block)]),
    )
