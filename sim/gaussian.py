"""Schedule of complex weights: a matrix in real form on the complex PE, two rows and two columns at a time.

Rows and columns come in pairs, real part and imaginary part. A term whose entries, pair by pair, are the real
form of units 1, i, -1, -i (or 0 off its mask) is a dot product of Gaussian integers for each pair of rows: an
item of two accumulators, in half the beats of half the rows. A layer may multiply conj(x) where the PE
multiplies x: then the second row is the PE's with the sign turned over, and so is its factor.
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
from hw.beats import FIRST, LAST, NEG, SHIFT, X_BIPOLAR, Beats
from hw.pe.complex import Complex
from hw.spec import Segment, Shape
from sim import schedule
from sim.operands import Slot

Int = NDArray[np.int64]
Bits = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Units:
    """A term's weights as the PE reads them, each bool [pairs of rows, pairs of columns]."""

    axis: Bits
    positive: Bits
    mask: Bits
    turned: bool  #: the second row of each pair is the PE's imaginary item with the sign turned over


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """Beats of a tile, and what becomes of its items."""

    beats: Beats
    tokens: int
    pairs: Int  #: of the rows, ascending
    rows: Int
    streams: tuple[int, ...]  #: activation stream of each slot
    multipliers: Int  #: [slots, tokens, rows]


def units(matrix: PackedMatrix, term: Term, conjugate: bool) -> Units:
    """The units of a term, for a PE whose weights are conjugated or not.

    Raises ValueError if rows or columns are odd, or the term is not one sign plane in a unit's real form.
    """
    if matrix.rows % 2 or matrix.columns % 2 or (matrix.groups > 1 and matrix.group % 2):
        raise ValueError(
            f"rows, columns and groups must be of whole pairs for complex weights, "
            f"not {matrix.rows} x {matrix.columns} in groups of {matrix.group}"
        )
    if (term.digit, term.coefs, term.zero, term.offset) != (Digit.BIPOLAR, (1,), None, None):
        raise ValueError(f"terms must each be one sign plane for complex weights, not {term!r}")
    texts = (term.planes[0], term.mask)
    plane, mask = (words.unpack(matrix.words_of(text), matrix.columns) for text in texts)
    digits = np.where(mask, 2 * plane.astype(np.int8) - 1, np.int8(0))
    real, across, down, other = (digits[r::2, k::2] for r in (0, 1) for k in (0, 1))
    # [[re, -im], [im, re]], and of conjugated weights [[re, im], [-im, re]].
    imag = across if conjugate else -across
    below = -imag if conjugate else imag
    straight = np.array_equal(down, below) and np.array_equal(other, real)
    turned = np.array_equal(down, -below) and np.array_equal(other, -real)
    if np.any(real & imag) or not (straight or turned):
        raise ValueError(f"terms must be of complex units in pairs of rows and columns, not {term!r}")
    return Units(axis=imag != 0, positive=real + imag > 0, mask=real + imag != 0, turned=not straight)


def shape(matrix: PackedMatrix, act_bits: int, tokens: int) -> Shape:
    """The matrix product as the compute contract counts it for a complex PE: complex rows and columns."""
    places = (1,) if act_bits == 1 else (*(1 << i for i in range(act_bits - 1)), -(1 << (act_bits - 1)))
    sizes = np.bincount(matrix.group_of, minlength=matrix.groups).tolist()
    segments = [
        _segment(size // 2, places, act_bits == 1, sizes.count(size))
        for _ in matrix.terms
        for size in sorted(set(sizes), reverse=True)
    ]
    return Shape(tokens=tokens, rows=-(-matrix.rows // 2), segments=tuple(segments))


def _segment(columns: int, places: tuple[int, ...], bipolar: bool, count: int = 1) -> Segment:
    return Segment(
        columns=columns,
        weight=(1,),
        activation=places,
        count=count,
        w_bipolar=True,
        x_bipolar=bipolar,
        masked=True,
    )


def work(
    matrix: PackedMatrix, activations: Sequence[Activations], spec: Complex, tokens: Int, rows: Int
) -> Work:
    """Beats of the outputs ``tokens`` x ``rows`` (indices); items in the order token, pair, term, group.

    Both rows of a pair are computed where one is wanted. Raises ValueError if the activations do not fit the
    matrix, its terms are no complex units (`units`), or an item may not fit an accumulator.
    """
    check_fit(matrix, activations)
    pairs = np.unique(rows // 2)
    parts, flags, streams, multipliers = [], [], [], []
    for term in matrix.terms:
        found = units(matrix, term, spec.conjugate)
        stream = matrix.streams.index(term.col)
        act = activations[stream]
        for group in range(matrix.groups):
            slot = Slot(term=term, group=group, digits=True)
            schedule.check_width(matrix, slot, act, spec)
            operands, marks = _item(matrix, found, group, act, spec, tokens, pairs)
            parts.append(operands)
            flags.append(marks)
            streams.append(stream)
            factor = schedule.multiplier(matrix, slot, act, tokens, rows)
            multipliers.append(np.where(found.turned & (rows % 2 == 1), -factor, factor))
    return Work(
        beats=schedule.joined(parts, flags, spec),
        tokens=len(tokens),
        pairs=pairs,
        rows=rows,
        streams=tuple(streams),
        multipliers=np.stack(multipliers),
    )


def _item(
    matrix: PackedMatrix, found: Units, group: int, act: Activations, spec: Complex, tokens: Int, pairs: Int
) -> tuple[tuple[words.Words, words.Words, words.Words], NDArray[np.uint8]]:
    """Words w, x and mask, uint64 [tokens, pairs, beats, words of each], and flags [beats], of one item."""
    first, last = group * matrix.group, min((group + 1) * matrix.group, matrix.columns)
    here = slice(first // 2, last // 2)
    w = _packed((found.axis[pairs, here], found.positive[pairs, here]), spec.lanes)
    mask = _packed((found.mask[pairs, here],), spec.lanes)
    planes = words.unpack(act.planes()[:, tokens].reshape(act.bits * len(tokens), -1), matrix.columns)
    planes = planes.reshape(act.bits, len(tokens), -1)[:, :, first:last]
    segment = _segment(last // 2 - first // 2, act.places, act.bipolar)
    steps = spec.steps(segment)
    parts = [planes[step.x[0] // 2] for step in steps]
    x = [_packed((part[:, 0::2], part[:, 1::2]), spec.lanes) for part in parts]
    chunks = w.shape[1]
    grid = (len(tokens), len(pairs), len(steps) * chunks)
    flags = np.array(
        [
            (X_BIPOLAR if act.bipolar else 0)
            | (NEG if step.neg else 0)
            | (SHIFT if step.shift and chunk == 0 else 0)
            for step in steps
            for chunk in range(chunks)
        ],
        np.uint8,
    )
    flags[0] |= FIRST
    flags[-1] |= LAST
    weights, masks = (np.tile(each, (1, len(steps), 1))[None] for each in (w, mask))
    read = np.concatenate(x, axis=1)[:, None]
    operands = [np.broadcast_to(each, (*grid, each.shape[3])) for each in (weights, read, masks)]
    return (operands[0], operands[1], operands[2]), flags


def _packed(planes: tuple[Bits, ...], lanes: int) -> words.Words:
    """Planes bool [n, columns] side by side as words uint64 [n, beats, ceil(planes * lanes / 64)]."""
    n, columns = planes[0].shape
    chunks = -(-columns // lanes)
    stacked = np.zeros((n, len(planes), chunks * lanes), np.bool_)
    stacked[:, :, :columns] = np.stack(planes, axis=1)
    split = stacked.reshape(n, len(planes), chunks, lanes).transpose(0, 2, 1, 3)
    return words.pack(split.reshape(n * chunks, -1)).reshape(n, chunks, -1)


def assemble(done: Work, items: Int) -> Int:
    """Integer sums [streams, tokens, rows] of a tile's items [n, 2].

    Raises ValueError if there is another number of items than the beats finish.
    """
    slots = len(done.streams)
    wanted = (done.tokens * len(done.pairs) * slots, 2)
    if items.shape != wanted:
        raise ValueError(f"items must be {list(wanted)} for the tile, not {list(items.shape)}")
    by_output = items.reshape(done.tokens, len(done.pairs), slots, 2)
    pair, part = np.searchsorted(done.pairs, done.rows // 2), done.rows % 2
    sums = np.zeros((max(done.streams) + 1, done.tokens, len(done.rows)), np.int64)
    for slot, (stream, multiplier) in enumerate(zip(done.streams, done.multipliers, strict=True)):
        sums[stream] += by_output[:, pair, slot, part] * multiplier
    return sums
