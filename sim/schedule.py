"""From a packed matrix and activations to a PE's work, and from its items back to integer sums.

Items come in the order token, row, term, group; a term with a zero point or an offset has a second item per
group, the sum of the activations on its mask. Mantissas are multiplied onto items outside the PE.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.activations import Activations
from algo.bitplane.decode import check_fit
from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.words import Words
from hw.beats import Beats
from hw.spec import PeSpec, Segment, Shape, require_power_of_two, signed_bits
from sim import truth
from sim.operands import Slot, check_codes, item

Int = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """Beats of a tile, and what its items are multiplied by."""

    beats: Beats
    spec: PeSpec
    tokens: int
    rows: int
    streams: tuple[int, ...]  #: activation stream of each slot
    segments: tuple[Segment, ...]  #: dot product of each slot
    multipliers: Int  #: [slots, tokens, rows]


def shape(matrix: PackedMatrix, act_bits: int, tokens: int) -> Shape:
    """The matrix product as the compute contract counts it."""
    places = (1,) if act_bits == 1 else (*(1 << i for i in range(act_bits - 1)), -(1 << (act_bits - 1)))
    sizes = np.bincount(matrix.group_of, minlength=matrix.groups).tolist()
    segments = []
    for term in matrix.terms:
        for digits in (True, False) if _has_sum(term) else (True,):
            for size in sorted(set(sizes), reverse=True):
                one = _segment(matrix, term, digits, size, places, act_bits == 1)
                segments.append(replace(one, count=sizes.count(size)))
    return Shape(tokens=tokens, rows=matrix.rows, segments=tuple(segments))


def segment(matrix: PackedMatrix, slot: Slot, act: Activations) -> Segment:
    """The dot product that a slot is."""
    size = min(matrix.group, matrix.columns - slot.group * matrix.group)
    return _segment(matrix, slot.term, slot.digits, size, act.places, act.bipolar)


def _segment(
    matrix: PackedMatrix, term: Term, digits: bool, size: int, places: tuple[int, ...], bipolar: bool
) -> Segment:
    return Segment(
        columns=size,
        weight=_places(term) if digits else (1,),
        activation=places,
        w_bipolar=digits and term.digit is Digit.BIPOLAR,
        x_bipolar=bipolar,
        masked=term.mask is not None,
        kept=truth.kept(matrix, term.mask),
        digits=truth.digits(term) if digits else (),
    )


def work(
    matrix: PackedMatrix, activations: Sequence[Activations], spec: PeSpec, tokens: Int, rows: Int
) -> Work:
    """Beats of the outputs ``tokens`` x ``rows`` (indices) on a PE.

    Raises ValueError if the activations do not fit the matrix, a coefficient is no signed power of two, the
    PE cannot compute a term, or an item may not fit the accumulator.
    """
    check_fit(matrix, activations)
    require_outputs(spec)
    row_blocks, token_blocks = _blocks(rows, spec.rows), _blocks(tokens, spec.tokens)
    parts, flags, streams, multipliers, segments = [], [], [], [], []
    for slot in slots(matrix):
        stream = matrix.streams.index(slot.term.col)
        act = activations[stream]
        check_width(matrix, slot, act, spec)
        one = segment(matrix, slot, act)
        operands, marks = item(matrix, slot, act, one, spec, token_blocks, row_blocks)
        parts.append(operands)
        flags.append(marks)
        segments.append(one)
        streams.append(stream)
        multipliers.append(multiplier(matrix, slot, act, tokens, rows))
    return Work(
        beats=joined(parts, flags, spec),
        spec=spec,
        tokens=len(tokens),
        rows=len(rows),
        streams=tuple(streams),
        segments=tuple(segments),
        multipliers=np.stack(multipliers),
    )


def joined(
    parts: Sequence[tuple[Words, Words, Words]], flags: Sequence[NDArray[np.uint8]], spec: PeSpec
) -> Beats:
    """Beats of a tile, from its items' operands and flags as `item` gives them."""
    w, x, mask = (np.concatenate([part[i] for part in parts], axis=2) for i in range(3))
    widths, total = spec.words(), w.shape[0] * w.shape[1] * w.shape[2]
    return Beats(
        lanes=spec.lanes,
        w=w.reshape(total, -1),
        x=x.reshape(total, -1),
        mask=mask.reshape(total, mask.shape[3]),
        flags=np.tile(np.concatenate(flags), w.shape[0] * w.shape[1]),
        w_bits=widths["w"],
        x_bits=widths["x"],
        mask_bits=widths.get("mask", 0),
    )


def _blocks(rows: Int, together: int) -> Int:
    """Rows or tokens as a beat serves them, [blocks, together]; the last one fills up the last block."""
    padded = np.pad(rows, (0, -len(rows) % together), mode="edge")
    return padded.reshape(-1, together)


def require_outputs(spec: PeSpec) -> None:
    """Refuse a PE whose accumulators are not each an output of the matrix product.

    Raises ValueError.
    """
    if spec.outputs != spec.rows * spec.tokens:
        raise ValueError(
            f"pe must have an accumulator per row and token ({spec.rows} x {spec.tokens}), "
            f"not {spec.outputs}: {spec!r}"
        )


def assemble(done: Work, items: Int) -> Int:
    """Integer sums [streams, tokens, rows] of a tile's items.

    Raises ValueError if there is another number of items than the beats finish.
    """
    spec, slots = done.spec, len(done.streams)
    blocks = -(-done.tokens // spec.tokens), -(-done.rows // spec.rows)
    wanted = blocks[0] * blocks[1] * slots
    if len(items) != wanted:
        raise ValueError(f"items must be {wanted} for the tile, not {len(items)}")
    by_output = items.reshape(*blocks, slots, spec.outputs)
    by_slot = np.empty((slots, blocks[0], spec.tokens, blocks[1], spec.rows), np.int64)
    for output in range(spec.outputs):
        row, token = spec.place(output)
        by_slot[:, :, token, :, row] = np.moveaxis(by_output[..., output], 2, 0)
    whole = by_slot.reshape(slots, blocks[0] * spec.tokens, -1)[:, : done.tokens, : done.rows]
    sums = np.zeros((max(done.streams) + 1, done.tokens, done.rows), np.int64)
    for stream, one, part, multiplier in zip(
        done.streams, done.segments, whole, done.multipliers, strict=True
    ):
        sums[stream] += spec.dot(part, one) * multiplier
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
    """Refuse a PE that cannot compute the product, or whose accumulator may not hold an item of it.

    Raises ValueError with what it lacks, or where the activations do not fit the matrix.
    """
    check_fit(matrix, activations)
    require_outputs(spec)
    for slot in slots(matrix):
        act = activations[matrix.streams.index(slot.term.col)]
        one = segment(matrix, slot, act)
        spec.steps(one)
        check_codes(matrix, slot, act, one, spec)
        check_width(matrix, slot, act, spec)


def multiplier(matrix: PackedMatrix, slot: Slot, act: Activations, tokens: Int, rows: Int) -> Int:
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
