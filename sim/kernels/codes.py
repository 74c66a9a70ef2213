"""Weights as small unsigned codes: what the kernels that multiply bytes read.

The terms of an activation stream become a few code matrices and, per group of columns, a rest::

    W[m,k] = sum_i multiplier_i[m,g] * (step_i * u_i[m,k] - zero_i) + rest[m,g],     0 <= u_i <= 255

``u`` counts from the smallest digit, so ``zero`` is what a digit of 0 is coded as; ``step`` is 2 where digits
are -1 and +1, whose code is then the bit itself. The rest (zero points, offsets) multiplies the sum of a
group's activations; where a term has a mask, its rest is a code matrix too: the mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix, Term

Int = NDArray[np.int64]
TOP = 255  #: largest ``step * u``: with activations of 8 bits it bounds every sum


@dataclass(frozen=True, kw_only=True)
class Part:
    """Planes of one mask that a code sums: ``base + sum of weight * bit`` on the mask, ``base`` off it."""

    planes: tuple[str, ...]
    weights: tuple[int, ...]  #: negative: counted as ``|weight|`` where the bit is 0
    mask: str | None
    base: int  #: code off the mask, 0 where there is none
    start: int = 0  #: code on the mask of planes that count nothing


@dataclass(frozen=True, kw_only=True)
class Code:
    """One code matrix, not yet laid out."""

    multiplier: Int  #: [rows or 1, groups]
    step: int
    zero: int
    top: int  #: largest code
    parts: tuple[Part, ...]

    @property
    def bits(self) -> int:
        """Width that holds every code."""
        return max(1, self.top.bit_length())

    def values(self, matrix: PackedMatrix, rows: slice) -> NDArray[np.uint8]:
        """The codes of some rows, uint8 [rows, columns]."""
        total, *others = (_part_values(matrix, part, rows) for part in self.parts)
        for values in others:
            total += values
        return total


@dataclass(frozen=True, kw_only=True, eq=False)
class Codes:
    """The weights of one activation stream."""

    codes: tuple[Code, ...]
    rest: Int | None  #: [rows or 1, groups], multiplies the sum of a group's activations


def lower(matrix: PackedMatrix, stream: str | None) -> Codes:
    """The code matrices of a stream; terms that share scale and step are one where their codes fit a byte."""
    found: dict[tuple[str, int, int], list[Code]] = {}
    masks: dict[str, Int] = {}
    rest: Int = np.zeros((1, matrix.groups), np.int64)
    for term in (t for t in matrix.terms if t.col == stream):
        scale = matrix.ints[term.scale].values
        for factor, code in _term_codes(term, scale):
            _join(found.setdefault((term.scale, factor, code.step), []), code)
        added = _rest(matrix, term, scale)
        if term.mask is None:
            rest = rest + added
        elif np.any(added):
            masks[term.mask] = masks.get(term.mask, np.int64(0)) + added
    for text, multiplier in masks.items():
        part = Part(planes=(), weights=(), mask=text, base=0, start=1)
        found["", 1, len(found)] = [Code(multiplier=multiplier, step=1, zero=0, top=1, parts=(part,))]
    codes = tuple(code for same in found.values() for code in same)
    return Codes(codes=codes, rest=rest if np.any(rest) else None)


def _join(same: list[Code], code: Code) -> None:
    """Add a code to the last of its kind, or after it where the sum would not fit."""
    if same and same[-1].step * (same[-1].top + code.top) <= TOP:
        last = same[-1]
        same[-1] = replace(
            last, zero=last.zero + code.zero, top=last.top + code.top, parts=last.parts + code.parts
        )
    else:
        same.append(code)


def _rest(matrix: PackedMatrix, term: Term, scale: Int) -> Int:
    rest = np.zeros((1, 1), np.int64)
    if term.zero is not None:
        rest = rest - scale * matrix.ints[term.zero].values
    if term.offset is not None:
        rest = rest + matrix.ints[term.offset].values
    return rest


def _term_codes(term: Term, scale: Int) -> Iterator[tuple[int, Code]]:
    """Codes of a term's digit, each with the factor that its multiplier is of the scale."""
    bipolar = term.digit is Digit.BIPOLAR
    for planes, coefs in _chunks(term, bipolar):
        factor = gcd(*coefs)
        weights = tuple(coef // factor for coef in coefs)
        size = sum(map(abs, weights))
        below = (
            size if bipolar else -sum(w for w in weights if w < 0)
        )  # what a digit of 0 lies above the lowest
        doubled = bipolar and term.mask is None
        step = 2 if doubled else 1
        if bipolar and not doubled:  # 0, off the mask, lies between the digits
            weights, size = tuple(2 * w for w in weights), 2 * size
        part = Part(planes=planes, weights=weights, mask=term.mask, base=0 if term.mask is None else below)
        yield factor, Code(multiplier=factor * scale, step=step, zero=below, top=size, parts=(part,))


def _chunks(term: Term, bipolar: bool) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
    """The planes in runs, by place, whose digits fit a byte."""
    limit = TOP // 2 if bipolar else TOP
    pairs = sorted(zip(term.planes, term.coefs, strict=True), key=lambda pair: abs(pair[1]))
    run: list[tuple[str, int]] = []
    for pair in pairs:
        coefs = [coef for _, coef in [*run, pair]]
        if run and sum(map(abs, coefs)) // gcd(*coefs) > limit:
            yield tuple(p for p, _ in run), tuple(c for _, c in run)
            run = []
        run.append(pair)
    yield tuple(p for p, _ in run), tuple(c for _, c in run)


def _part_values(matrix: PackedMatrix, part: Part, rows: slice) -> NDArray[np.uint8]:
    count = len(range(*rows.indices(matrix.rows)))
    total = np.full((count, matrix.columns), part.start, np.uint8)
    for text, weight in zip(part.planes, part.weights, strict=True):
        bits = _bits(matrix, text, rows)
        total += np.uint8(abs(weight)) * (bits if weight > 0 else 1 - bits)
    if part.mask is None:
        return total
    return np.where(_bits(matrix, part.mask, rows).view(np.bool_), total, np.uint8(part.base))


def _bits(matrix: PackedMatrix, text: str, rows: slice) -> NDArray[np.uint8]:
    return words.unpack(matrix.words_of(text)[rows], matrix.columns).view(np.uint8)
