"""Terms as sums of plain bits: what every popcount kernel starts from.

A term's digits are ``sum_g v[m,g] * sum_{k in g} q[m,k] * A[k]`` over planes ``q`` of bits: a bipolar digit
is twice its bit less one, so what is taken off joins the zero point and the offset on the mask. Where all
rows share a mask, the sum of the activations on it is one number per token and group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix, Term

Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Weighted:
    """A plane of bits times an integer per row and group."""

    bits: words.Words  #: [rows, words], or [1, words] where all rows share them
    values: Int  #: [rows, groups]


@dataclass(frozen=True, eq=False)
class Lowered:
    """One activation stream of a matrix."""

    planes: tuple[Weighted, ...]  #: each row its own bits
    shared: tuple[Weighted, ...]  #: one row of bits for all


def lowered(matrix: PackedMatrix, stream: str | None) -> Lowered:
    """The terms that read a stream, as sums of bits; planes that two terms use are one."""
    found: dict[str, Weighted] = {}

    def add(key: str, bits: words.Words, values: Int) -> None:
        known = found.get(key)
        found[key] = Weighted(bits, values if known is None else known.values + values)

    for term in (t for t in matrix.terms if t.col == stream):
        mask = matrix.words_of(term.mask)
        scale = stored(matrix, term.scale)
        factor = 2 if term.digit is Digit.BIPOLAR else 1
        for text, coef in zip(term.planes, term.coefs, strict=True):
            add(f"({text}) & ({term.mask})", matrix.words_of(text) & mask, factor * coef * scale)
        add(f"{term.mask}", mask, on_mask(matrix, term, scale))
    kept = [Weighted(once(part.bits), part.values) for part in found.values() if np.any(part.values)]
    return Lowered(
        tuple(part for part in kept if len(part.bits) == matrix.rows > 1),
        tuple(part for part in kept if len(part.bits) == 1),
    )


def on_mask(matrix: PackedMatrix, term: Term, scale: Int) -> Int:
    """What multiplies the sum of the activations on a term's mask; int64 [rows, groups]."""
    rest = np.zeros_like(scale)
    if term.digit is Digit.BIPOLAR:
        rest = rest - sum(term.coefs) * scale
    if term.zero is not None:
        rest = rest - scale * stored(matrix, term.zero)
    if term.offset is not None:
        rest = rest + stored(matrix, term.offset)
    return rest


def stored(matrix: PackedMatrix, name: str) -> Int:
    """Stored integers as [rows, groups]."""
    return np.broadcast_to(matrix.ints[name].values, (matrix.rows, matrix.groups))


def once(bits: words.Words) -> words.Words:
    """Rows that are all the same as one."""
    return bits[:1] if np.array_equal(bits, np.broadcast_to(bits[:1], bits.shape)) else bits


def group_sums(values: Int, bits: words.Words, matrix: PackedMatrix) -> Int:
    """Activations summed on shared bits within each group, int64 [tokens, groups].

    Parameters: values, int64 [tokens, columns]; bits, uint64 [1, words].
    """
    on = values * words.unpack(bits, matrix.columns)
    return np.add.reduceat(on, np.arange(0, matrix.columns, matrix.group), axis=1)
