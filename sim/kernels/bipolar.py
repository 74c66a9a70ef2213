"""A stream of terms over activations of -1 and +1, as counts of differing bits.

With ``x`` the bits of a token, a plane of bits ``q`` inside columns ``c`` that all rows share has
``sum_k q[k] A[k] = ones(x & c) - ones(q ^ (x & c))``: plane and token meet in an XOR. Signs on a mask ``m``
of each row's own have ``sum_{k in m} sign[k] A[k] = ones(m) - 2 ones((sign ^ x) & m)``. So a sum is

    S[n,m] = constant[m] + sum_c sum_g share_c[m,g] * ones_g(x & c) - sum_ops sum_g values[m,g] * differing_g
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix, Term
from algo.compiled import kernel
from sim.kernels.lowering import Int, on_mask, once, stored
from sim.kernels.vectors import U64x8, load, negative

_load = load(U64x8)


@dataclass(frozen=True, eq=False)
class Differing:
    """Ones of ``(bits ^ x) & mask`` in each group, times ``values``, taken off."""

    bits: words.Words  #: [rows or 1, words]
    mask: words.Words | None  #: [rows, words] of each row's own; None: columns alone
    columns: int  #: which of `Signs.columns`
    values: Int  #: [rows, groups]


@dataclass(frozen=True, eq=False)
class Signs:
    """One stream; see this module's head."""

    operations: tuple[Differing, ...]
    columns: tuple[words.Words, ...]  #: [words] each
    shares: tuple[Int, ...]  #: [rows, groups] for each of ``columns``
    constant: Int  #: [rows]


class _Sum:
    """Terms taken up one after the other."""

    def __init__(self, matrix: PackedMatrix) -> None:
        self.matrix = matrix
        self.constant = np.zeros(matrix.rows, np.int64)
        self.found: dict[tuple[str, str, int], Differing] = {}
        self.columns: dict[bytes, int] = {}
        self.shares: list[Int] = []

    def column(self, bits: words.Words) -> int:
        """Number of a set of columns, uint64 [1, words]."""
        number = self.columns.setdefault(bits.tobytes(), len(self.columns))
        if number == len(self.shares):
            self.shares.append(np.zeros((self.matrix.rows, self.matrix.groups), np.int64))
        return number

    def differing(
        self, text: str, mask: str, parts: tuple[words.Words, words.Words | None], column: int, values: Int
    ) -> None:
        known = self.found.get((text, mask, column))
        total = values if known is None else known.values + values
        self.found[text, mask, column] = Differing(*parts, column, total)

    def add(self, given: Term) -> None:
        matrix, term = self.matrix, upright(given)
        scale = stored(matrix, term.scale)
        mask = once(matrix.words_of(term.mask))
        rest = on_mask(matrix, term, scale)
        own = len(mask) > 1
        column = self.column(words.valid(matrix.columns)[None] if own else mask)
        plain = rest + sum(term.coefs) * scale if term.digit is Digit.BIPOLAR else rest
        if own and term.digit is Digit.BIPOLAR and not np.any(plain):
            sizes = group_counts(mask, matrix)
            for text, coef in zip(term.planes, term.coefs, strict=True):
                parts = (matrix.words_of(text), mask)
                self.differing(text, str(term.mask), parts, column, 2 * coef * scale)
                self.constant += (coef * scale * sizes).sum(axis=1)
            return
        factor = 2 if term.digit is Digit.BIPOLAR else 1
        for text, coef in zip(term.planes, term.coefs, strict=True):
            bits = matrix.words_of(text) & mask
            self.differing(f"({text}) & ({term.mask})", "", (bits, None), column, factor * coef * scale)
            self.shares[column] += factor * coef * scale
        if own:
            self.differing(f"{term.mask}", "", (mask, None), column, rest)
            self.shares[column] += rest
        else:  # ones less zeros among the columns
            self.shares[column] += 2 * rest
            self.constant -= (rest * group_counts(mask, matrix)).sum(axis=1)


def signs(matrix: PackedMatrix, stream: str | None) -> Signs:
    """The terms of one stream."""
    found = _Sum(matrix)
    for term in matrix.terms:
        if term.col == stream:
            found.add(term)
    return Signs(
        operations=tuple(part for part in found.found.values() if np.any(part.values)),
        columns=tuple(np.frombuffer(bits, np.uint64) for bits in found.columns),
        shares=tuple(found.shares),
        constant=found.constant,
    )


def upright(term: Term) -> Term:
    """The same term of signs without complemented planes: their signs are the opposite ones.

    Then the XNOR of two planes is minus their XOR, which one pass over the two makes.
    """
    if term.digit is not Digit.BIPOLAR:
        return term
    turned = [_complement_of(plane) for plane in term.planes]
    return replace(
        term,
        planes=tuple(
            plane if other is None else other for plane, other in zip(term.planes, turned, strict=True)
        ),
        coefs=tuple(coef if other is None else -coef for coef, other in zip(term.coefs, turned, strict=True)),
    )


def _complement_of(text: str) -> str | None:
    """What an expression is the complement of as a whole, if it is that."""
    inner = text.strip()
    if not inner.startswith("~"):
        return None
    inner = inner[1:].strip()
    if inner.isidentifier():
        return inner
    depth = 0
    for at, letter in enumerate(inner):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return inner[1:-1] if at == len(inner) - 1 and letter == ")" else None
    return None


def group_counts(bits: words.Words, matrix: PackedMatrix) -> Int:
    """Ones of each row within each group, int64 [rows, groups]."""
    if matrix.group % words.WORD == 0:
        counts = np.bitwise_count(bits).astype(np.int64)
        return np.add.reduceat(counts, np.arange(0, counts.shape[1], matrix.group // words.WORD), axis=1)
    whole = words.unpack(bits, matrix.columns)
    return np.add.reduceat(whole, np.arange(0, matrix.columns, matrix.group), axis=1, dtype=np.int64)


@kernel
def positive(values, first, column, columns):  # type: ignore[no-untyped-def]
    """Which of 32 activations from a column on are above -1, as a uint32; those past the last column are not.

    Parameters: values, int64, flat; first, where the token begins.
    """
    bits = np.uint32(0)
    at, left = first + column, min(32, columns - column)
    if left == 32:
        for i in range(4):
            eight = ~np.uint32(negative(_load(values, at + 8 * i))) & np.uint32(255)
            bits |= eight << np.uint32(8 * i)
        return bits
    for i in range(left):
        if values[at + i] >= 0:
            bits |= np.uint32(1) << np.uint32(i)
    return bits


@kernel
def pack_positive(values, out):  # type: ignore[no-untyped-def]
    """`positive` of int64 [tokens, columns] as words uint64 [tokens, words]."""
    tokens, columns = values.shape
    flat = values.reshape(-1)
    for token in range(tokens):
        for word in range(out.shape[1]):
            low = np.uint64(positive(flat, token * columns, 64 * word, columns))
            high = np.uint64(positive(flat, token * columns, 64 * word + 32, columns))
            out[token, word] = low | high << np.uint64(32)


def packed(values: NDArray[np.int64], columns: int) -> words.Words:
    """Words [tokens, words] of activations of -1 and +1."""
    out = np.empty((len(values), words.word_count(columns)), np.uint64)
    pack_positive(np.ascontiguousarray(values), out)
    return out
