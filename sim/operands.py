"""The beats of one item: a slot's weights, activations and masks in the words and codes that a PE reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.activations import Activations
from algo.bitplane.matrix import PackedMatrix, Term
from hw.beats import FIELDS, FIRST, LAST, NEG, SHIFT
from hw.spec import PeSpec, Segment, Step

Int = NDArray[np.int64]
Bits = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Slot:
    """What one item of every output is: a term's digits, or its activations alone, in one group."""

    term: Term
    group: int
    digits: bool  #: True: digits times activations; False: the sum of the activations on the mask


def item(
    matrix: PackedMatrix, slot: Slot, act: Activations, one: Segment, spec: PeSpec, tokens: Int, rows: Int
) -> tuple[tuple[words.Words, words.Words, words.Words], NDArray[np.uint8]]:
    """Operands of one item of every output, and its beats' flags.

    Parameters: one, what the slot is as a dot product; tokens and rows, int64 [blocks, served together]
    Returns w, x and mask, uint64 [token blocks, row blocks, beats, words of each], and flags [beats].
    """
    here = slice(slot.group * matrix.group, slot.group * matrix.group + one.columns)
    mask = words.unpack(matrix.words_of(slot.term.mask)[rows.ravel()], matrix.columns)[:, here]
    steps = spec.steps(one)
    count = 1 + max(p for step in steps for p in step.w)
    weights = _weights(matrix, slot, spec.w_code(one), count, rows.ravel(), here, mask)
    if "mask" not in spec.words():
        weights = [plane & mask for plane in weights] if spec.w_code(one) is None else weights
    if spec.kept != (1, 1):
        weights, mask = _gathered(weights, mask, *spec.kept)
    count = 1 + max(p for step in steps for p in step.x)
    acts = _activations(act, spec.x_code(one), count, tokens.ravel(), here)
    columns: tuple[list[words.Words], ...] = ([], [], [])
    flags: list[int] = []
    for step in steps:
        operands = _words(step, weights, acts, mask, spec)
        for column, operand in zip(columns, operands, strict=True):
            column.append(operand)
        flags += _step_flags(step, operands[0].shape[2], _kinds(step, one, spec))
    flags[0] |= FIRST
    flags[-1] |= LAST
    w, x, masks = (np.concatenate(column, axis=2) for column in columns)
    return (w, x, masks), np.array(flags, np.uint8)


def _weights(
    matrix: PackedMatrix,
    slot: Slot,
    code: Mapping[int, int] | None,
    count: int,
    rows: Int,
    here: slice,
    mask: Bits,
) -> list[Bits]:
    """Weight planes as the PE reads them, each bool [rows, columns]; off the mask, codes are those of 0."""
    if not slot.digits:
        return [np.ones_like(mask)] if code is None else _coded("digits", mask.astype(np.int64), code, count)
    term = slot.term
    planes = [words.unpack(matrix.words_of(text)[rows], matrix.columns)[:, here] for text in term.planes]
    if code is None:
        return planes
    digits = np.zeros(mask.shape, np.int64)
    for coef, plane in zip(term.coefs, planes, strict=True):
        digits += coef * term.digit.of(plane)
    return _coded("digits", np.where(mask, digits, 0) if 0 in code else digits, code, count)


def _activations(
    act: Activations, code: Mapping[int, int] | None, count: int, tokens: Int, here: slice
) -> list[Bits]:
    """Activation planes as the PE reads them, each bool [tokens, columns]."""
    if code is not None:
        return _coded("activations", act.values[tokens][:, here].astype(np.int64), code, count)
    columns = act.values.shape[1]
    return [words.unpack(plane[tokens], columns)[:, here] for plane in act.planes()]


def check_codes(matrix: PackedMatrix, slot: Slot, act: Activations, one: Segment, spec: PeSpec) -> None:
    """Refuse a digit or an activation that occurs in a slot and has no code in the PE. Raises ValueError."""
    here = slice(slot.group * matrix.group, slot.group * matrix.group + one.columns)
    code = spec.w_code(one)
    if code is not None and _lacks(code, one.w_range):
        mask = words.unpack(matrix.words_of(slot.term.mask), matrix.columns)[:, here]
        _weights(matrix, slot, code, 0, np.arange(matrix.rows), here, mask)
    code = spec.x_code(one)
    if code is not None and _lacks(code, one.x_range):
        _coded("activations", act.values[:, here], code, 0)


def _lacks(code: Mapping[int, int], reach: tuple[int, int]) -> bool:
    return any(value not in code for value in range(reach[0], reach[1] + 1))


def _coded(name: str, values: Int, code: Mapping[int, int], count: int) -> list[Bits]:
    """The lowest ``count`` planes of the codes of integers. Raises ValueError if one has no code."""
    low = min(code)
    table = np.full(max(code) - low + 1, -1)
    table[np.fromiter(code, np.int64, len(code)) - low] = list(code.values())
    found = table.take(values - low, mode="clip")
    strays = (found < 0) | (values < low) | (values > max(code))
    if np.any(strays):
        raise ValueError(f"{name} must have codes in the PE, not {int(values[strays].flat[0])}")
    return [(found >> p & 1).astype(np.bool_) for p in range(count)]


def _gathered(planes: list[Bits], mask: Bits, keep: int, of: int) -> tuple[list[Bits], Bits]:
    """Planes and mask of the columns that take lanes, and behind the planes those of `PeSpec.kept`'s codes.

    A block that keeps fewer than ``keep`` of its columns fills up with others, still off the mask. Raises
    ValueError if one keeps more.
    """
    rows, columns = mask.shape

    def in_blocks(plane: Bits) -> Bits:
        return np.pad(plane, ((0, 0), (0, -columns % of))).reshape(rows, -1, of)

    most = int(in_blocks(mask).sum(axis=2).max(initial=0))
    if most > keep:
        raise ValueError(f"mask must keep at most {keep} of every {of} columns, not {most}")
    at = np.sort(np.argsort(~in_blocks(mask), axis=2, kind="stable")[:, :, :keep], axis=2)
    codes = (at - np.arange(keep)).reshape(rows, -1)
    taken = [np.take_along_axis(in_blocks(plane), at, 2).reshape(rows, -1) for plane in (*planes, mask)]
    places = [(codes >> p & 1).astype(np.bool_) for p in range((of - keep).bit_length())]
    return [*taken[:-1], *places], taken[-1]


def _kinds(step: Step, one: Segment, spec: PeSpec) -> int:
    """Flags of a step's beats that tell the kinds of digits, where the PE asks for them."""
    kinds = step.kinds(one)
    return sum(FIELDS[name] for name, bipolar in kinds.items() if bipolar and name in spec.flags())


def _words(
    step: Step, weights: list[Bits], acts: list[Bits], mask: Bits, spec: PeSpec
) -> tuple[words.Words, words.Words, words.Words]:
    """A step's words w, x and mask, uint64 [token blocks, row blocks, beats, words]; zeros in a bubble."""
    tokens, blocks = len(acts[0]) // spec.tokens, len(mask) // spec.rows
    widths = {name: spec.words().get(name, 0) for name in ("w", "x", "mask")}
    if step.bubble:
        w, x, masks = (np.zeros((tokens, blocks, 1, -(-bits // 64)), np.uint64) for bits in widths.values())
        return w, x, masks
    w = _joined([weights[p] for p in step.w], spec.rows, widths["w"], spec.lanes)
    keep, of = spec.kept
    x = _joined([acts[p] for p in step.x], spec.tokens, widths["x"], spec.lanes * of // keep)
    masks = _joined([mask], spec.rows, widths["mask"], spec.lanes)
    grid = (tokens, blocks, w.shape[1])
    return (
        np.broadcast_to(w[None], (*grid, w.shape[2])),
        np.broadcast_to(x[:, None], (*grid, x.shape[2])),
        np.broadcast_to(masks[None], (*grid, masks.shape[2])),
    )


def _joined(planes: list[Bits], together: int, bits: int, lanes: int) -> words.Words:
    """Planes bool [n, columns] as words uint64 [n / together, beats, ceil(bits / 64)].

    In a word the rows (or tokens) it serves stand side by side, in each its planes, in each the lanes.
    """
    n, columns = planes[0].shape
    chunks = -(-columns // lanes)
    if not bits:
        return np.zeros((n // together, chunks, 0), np.uint64)
    stacked = np.zeros((n, len(planes), chunks * lanes), np.bool_)
    for p, plane in enumerate(planes):
        stacked[:, p, :columns] = plane
    split = stacked.reshape(n // together, together, len(planes), chunks, lanes)
    return words.pack(split.transpose(0, 3, 1, 2, 4).reshape(n // together, chunks, -1))


def _step_flags(step: Step, beats: int, kinds: int) -> list[int]:
    """Flags of a step's beats: only the first of them doubles."""
    each = kinds | (NEG if step.neg else 0)
    return [each | (SHIFT if step.shift and beat == 0 else 0) for beat in range(beats)]
