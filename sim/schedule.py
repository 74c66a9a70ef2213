"""From a packed matrix and activations to a PE's work, and from its items back to integer sums.

Items come in the order token, row, term, group; a term with a zero point or an offset has a second item per
group, the sum of the activations on its mask. Mantissas are multiplied onto items outside the PE.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.activations import Activations
from algo.bitplane.decode import check_fit
from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix, Term
from hw.beats import FIRST, LAST, NEG, SHIFT, W_BIPOLAR, X_BIPOLAR, Beats
from hw.spec import PeSpec, Segment, Shape, Step, horner, require_power_of_two, signed_bits

Int = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Slot:
    """What one item of every output is: a term's digits, or its activations alone, in one group."""

    term: Term
    group: int
    digits: bool  #: True: digits times activations; False: the sum of the activations on the mask


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """Beats of a tile, and what its items are multiplied by."""

    beats: Beats
    tokens: int
    rows: int
    streams: tuple[int, ...]  #: activation stream of each slot
    multipliers: Int  #: [slots, tokens, rows]


def shape(matrix: PackedMatrix, act_bits: int, tokens: int) -> Shape:
    """The matrix product as the compute contract counts it."""
    places = (1,) if act_bits == 1 else (*(1 << i for i in range(act_bits - 1)), -(1 << (act_bits - 1)))
    sizes = np.bincount(matrix.group_of, minlength=matrix.groups).tolist()
    segments = []
    for term in matrix.terms:
        kinds = [_places(term), (1,)] if _has_sum(term) else [_places(term)]
        for size in sorted(set(sizes), reverse=True):
            segments += [
                Segment(columns=size, weight=weight, activation=places, count=sizes.count(size))
                for weight in kinds
            ]
    return Shape(tokens=tokens, rows=matrix.rows, segments=tuple(segments))


def work(
    matrix: PackedMatrix, activations: Sequence[Activations], spec: PeSpec, tokens: Int, rows: Int
) -> Work:
    """Beats of the outputs ``tokens`` x ``rows`` (indices) on a PE.

    Raises ValueError if the activations do not fit the matrix, a coefficient is no signed power of two, or an
    item may not fit the accumulator.
    """
    check_fit(matrix, activations)
    wanted = list(slots(matrix))
    parts, flags, streams, multipliers = [], [], [], []
    for slot in wanted:
        stream = matrix.streams.index(slot.term.col)
        act = activations[stream]
        check_width(matrix, slot, act, spec)
        operands, marks = _item(matrix, slot, act, spec.lanes, tokens, rows)
        parts.append(operands)
        flags.append(marks)
        streams.append(stream)
        multipliers.append(_multiplier(matrix, slot, act, tokens, rows))
    width = words.word_count(spec.lanes)
    w, x, mask = (np.concatenate([part[i] for part in parts], axis=2).reshape(-1, width) for i in range(3))
    per_output = np.concatenate(flags)
    beats = Beats(lanes=spec.lanes, w=w, x=x, mask=mask, flags=np.tile(per_output, len(tokens) * len(rows)))
    return Work(
        beats=beats,
        tokens=len(tokens),
        rows=len(rows),
        streams=tuple(streams),
        multipliers=np.stack(multipliers),
    )


def assemble(done: Work, items: Int) -> Int:
    """Integer sums [streams, tokens, rows] of a tile's items.

    Raises ValueError if there is another number of items than the beats finish.
    """
    slots = len(done.streams)
    wanted = done.tokens * done.rows * slots
    if len(items) != wanted:
        raise ValueError(f"items must be {wanted} for the tile, not {len(items)}")
    by_slot = np.moveaxis(items.reshape(done.tokens, done.rows, slots), 2, 0)
    sums = np.zeros((max(done.streams) + 1, done.tokens, done.rows), np.int64)
    for stream, part, multiplier in zip(done.streams, by_slot, done.multipliers, strict=True):
        sums[stream] += part * multiplier
    return sums


def slots(matrix: PackedMatrix) -> Iterator[Slot]:
    """What the items of every output are, in their order."""
    for term in matrix.terms:
        for group in range(matrix.groups):
            yield Slot(term=term, group=group, digits=True)
            if _has_sum(term):
                yield Slot(term=term, group=group, digits=False)


def _has_sum(term: Term) -> bool:
    return term.zero is not None or term.offset is not None


def _places(term: Term) -> tuple[int, ...]:
    for coef in term.coefs:
        require_power_of_two("coefs", coef)
    return term.coefs


def check_width(matrix: PackedMatrix, slot: Slot, act: Activations, spec: PeSpec) -> None:
    """Refuse a PE whose accumulator may not hold the slot's item. Raises ValueError with both widths."""
    low, high = slot.term.digit_range() if slot.digits else (0, 1)
    size = min(matrix.group, matrix.columns - slot.group * matrix.group)
    reach = max(-low, high) * act.limit * size
    needed = signed_bits(-reach, reach)
    if spec.acc_width < needed:
        raise ValueError(
            f"acc_width must be at least {needed} for {size} columns of digits {low} to {high} at "
            f"{act.bits} activation bits, not {spec.acc_width!r}"
        )


def check_pe(matrix: PackedMatrix, activations: Sequence[Activations], spec: PeSpec) -> None:
    """Refuse a PE whose accumulator may not hold an item of the product.

    Raises ValueError with both widths, or where the activations do not fit the matrix.
    """
    check_fit(matrix, activations)
    for slot in slots(matrix):
        check_width(matrix, slot, activations[matrix.streams.index(slot.term.col)], spec)


def _item(
    matrix: PackedMatrix, slot: Slot, act: Activations, lanes: int, tokens: Int, rows: Int
) -> tuple[tuple[words.Words, ...], NDArray[np.uint8]]:
    """Operands uint64 [tokens, rows, beats, words] of one item of every output, and its beats' flags."""
    term = slot.term
    texts = term.planes if slot.digits else ()
    planes = [_cut(matrix, matrix.words_of(text)[rows], slot.group, lanes) for text in texts]
    mask = _cut(matrix, matrix.words_of(term.mask)[rows], slot.group, lanes)
    ones = _cut(matrix, matrix.words_of(None)[rows], slot.group, lanes)
    acts = [_cut(matrix, plane[tokens], slot.group, lanes) for plane in act.planes()]
    steps = horner(_places(term) if slot.digits else (1,), act.places)
    base = W_BIPOLAR if slot.digits and term.digit is Digit.BIPOLAR else 0
    base |= X_BIPOLAR if act.bipolar else 0
    grid = (len(tokens), len(rows), *mask.shape[1:])
    nothing = np.zeros((*grid[:2], 1, grid[3]), np.uint64)
    columns: tuple[list[words.Words], ...] = ([], [], [])
    flags: list[int] = []
    for step in steps:
        if step.w_plane < 0:
            operands = [nothing] * 3
        else:
            w = planes[step.w_plane] if slot.digits else ones
            chosen = (w[None], acts[step.x_plane][:, None], mask[None])
            operands = [np.broadcast_to(operand, grid) for operand in chosen]
        for column, operand in zip(columns, operands, strict=True):
            column.append(operand)
        flags += _step_flags(step, operands[0].shape[2], base)
    flags[0] |= FIRST
    flags[-1] |= LAST
    return tuple(np.concatenate(column, axis=2) for column in columns), np.array(flags, np.uint8)


def _step_flags(step: Step, beats: int, base: int) -> list[int]:
    """Flags of a step's beats: only the first of them doubles."""
    each = base | (NEG if step.neg else 0)
    return [each | (SHIFT if step.shift and beat == 0 else 0) for beat in range(beats)]


def _cut(matrix: PackedMatrix, plane: words.Words, group: int, lanes: int) -> words.Words:
    """One group's columns of words [n, ...] as words of ``lanes`` columns: [n, chunks, ceil(lanes/64)]."""
    first = group * matrix.group
    bits = words.unpack(plane, matrix.columns)[:, first : first + matrix.group]
    chunks = -(-bits.shape[1] // lanes)
    padded = np.zeros((len(bits), chunks * lanes), np.bool_)
    padded[:, : bits.shape[1]] = bits
    return words.pack(padded.reshape(len(bits), chunks, lanes))


def _multiplier(matrix: PackedMatrix, slot: Slot, act: Activations, tokens: Int, rows: Int) -> Int:
    """What the slot's items are multiplied by, int64 [tokens, rows]."""

    def stored(name: str) -> Int:
        values = matrix.ints[name].values[:, slot.group]
        return np.broadcast_to(values, matrix.rows)[rows]

    weight = stored(slot.term.scale)
    if not slot.digits:
        weight = np.zeros(len(rows), np.int64)
        if slot.term.zero is not None:
            weight = weight - stored(slot.term.scale) * stored(slot.term.zero)
        if slot.term.offset is not None:
            weight = weight + stored(slot.term.offset)
    token = np.ones(len(tokens), np.int64) if act.mantissa is None else act.mantissa[tokens, slot.group]
    return token[:, None] * weight[None]
