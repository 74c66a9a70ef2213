"""The popcount engine: exact integer sums from packed words alone.

Every term becomes AND operations, ``sum_g multiplier[m,g] * sum_k bit[m,k] * A[k]``: a bipolar digit is twice
its bit less one, so what is taken off joins the zero point and the offset in one operation on the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.activations import Activations
from algo.bitplane.decode import check_fit
from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix, Term
from sim.kernels import add_sums

Int = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """The operations of one activation stream."""

    words: words.Words  #: [ops, words, rows]
    multipliers: Int  #: [ops, groups, rows]


@dataclass(frozen=True, kw_only=True, eq=False)
class Lowered:
    """A matrix ready for the kernel; make it once, use it for any activations."""

    matrix: PackedMatrix
    streams: tuple[Stream, ...]
    segments: Int  #: word of each run of columns within one word and one group
    masks: words.Words  #: the run's columns in that word
    groups: Int  #: the run's group, and one more past the end

    @classmethod
    def of(cls, matrix: PackedMatrix) -> Lowered:
        """Lower a matrix."""
        segments, masks, groups = _runs(matrix)
        streams = tuple(_stream(matrix, name) for name in matrix.streams)
        return cls(matrix=matrix, streams=streams, segments=segments, masks=masks, groups=groups)

    def integer_sums(self, activations: Sequence[Activations]) -> Int:
        """``S``, int64 [streams, tokens, rows].

        Raises ValueError if an activation does not fit the matrix or a sum could leave int64.
        """
        check_fit(self.matrix, activations)
        tokens = len(activations[0].values)
        sums = np.zeros((len(activations), tokens, self.matrix.rows), np.int64)
        for out, stream, act in zip(sums, self.streams, activations, strict=True):
            if act.mantissa is None:
                self._add(stream, act, stream.multipliers, slice(None), out)
                continue
            for token in range(tokens):  # each has multipliers of its own
                scaled = stream.multipliers * act.mantissa[token][None, :, None]
                self._add(stream, act, scaled, slice(token, token + 1), out[token : token + 1])
        return sums

    def _add(self, stream: Stream, act: Activations, multipliers: Int, tokens: slice, out: Int) -> None:
        planes = np.ascontiguousarray(act.planes()[:, tokens])
        fixed = (self.segments, self.masks, self.groups)
        if not act.bipolar:
            add_sums(stream.words, multipliers, *fixed, planes, True, out)
            return
        # -1/+1 is twice the bit less one: two unipolar passes, the second over all ones.
        ones = np.broadcast_to(words.valid(self.matrix.columns), planes.shape).copy()
        add_sums(stream.words, 2 * multipliers, *fixed, planes, False, out)
        add_sums(stream.words, -multipliers, *fixed, ones, False, out)


def integer_sums(matrix: PackedMatrix, activations: Sequence[Activations]) -> Int:
    """``S``, int64 [streams, tokens, rows], of a matrix used once."""
    return Lowered.of(matrix).integer_sums(activations)


def _runs(matrix: PackedMatrix) -> tuple[Int, words.Words, Int]:
    """Runs of columns that share a word and a group."""
    column = np.arange(matrix.columns)
    word, group = column // words.WORD, matrix.group_of
    starts = np.flatnonzero(np.r_[True, (np.diff(word) != 0) | (np.diff(group) != 0)])
    bits = np.uint64(1) << (column % words.WORD).astype(np.uint64)
    masks = np.bitwise_or.reduceat(bits, starts)
    return word[starts], masks, np.r_[group[starts], -1]


def _stream(matrix: PackedMatrix, name: str | None) -> Stream:
    operations: dict[str, tuple[words.Words, Int]] = {}

    def add(key: str, bits: words.Words, multiplier: Int) -> None:
        known = operations.get(key)
        operations[key] = (bits, multiplier if known is None else known[1] + multiplier)

    for term in (t for t in matrix.terms if t.col == name):
        mask = matrix.words_of(term.mask)
        scale = _stored(matrix, term.scale)
        factor = 2 if term.digit is Digit.BIPOLAR else 1
        for text, coef in zip(term.planes, term.coefs, strict=True):
            add(f"({text}) & ({term.mask})", matrix.words_of(text) & mask, factor * coef * scale)
        rest = _rest(matrix, term, scale)
        if np.any(rest):
            add(f"{term.mask}", mask, rest)
    return Stream(
        words=np.stack([np.ascontiguousarray(bits.T) for bits, _ in operations.values()]),
        multipliers=np.stack([np.ascontiguousarray(m.T) for _, m in operations.values()]),
    )


def _rest(matrix: PackedMatrix, term: Term, scale: Int) -> Int:
    """What multiplies the sum of the activations on the mask."""
    rest = np.zeros_like(scale)
    if term.digit is Digit.BIPOLAR:
        rest = rest - sum(term.coefs) * scale
    if term.zero is not None:
        rest = rest - scale * _stored(matrix, term.zero)
    if term.offset is not None:
        rest = rest + _stored(matrix, term.offset)
    return rest


def _stored(matrix: PackedMatrix, name: str) -> Int:
    return np.broadcast_to(matrix.ints[name].values, (matrix.rows, matrix.groups))
