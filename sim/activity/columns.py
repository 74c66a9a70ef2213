"""Ones per bit column of many rows of words: what the closed forms of toggles are made of.

A vertical counter (Harley and Seal; Warren, "Hacker's Delight", 2nd ed., 5-1): carry-save adders keep bit
``l`` of every column's count in level ``l``, so that a row costs five bit operations a word and no count is
spread out before the last row. Differs in: levels are not merged into blocks, so any number of rows will do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.words import Words
from algo.compiled import kernel
from sim.kernels import popcount

Int = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class States:
    """What to count on one side of a product: states it is in and steps between them.

    A state is a word under a mask, a step goes from one state to another. A side without masks of its own
    names its words twice.
    """

    word: Int  #: [states] key of the word
    mask: Int  #: [states] key of the mask
    before: Int  #: [steps] state
    after: Int  #: [steps] state
    masks: bool  #: whether counts of the masks themselves are wanted


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """Counts over all rows of a side, int64 [..., lanes]; a "one" is a bit of a word under its mask."""

    rows: int
    ones: Int  #: [states, lanes]
    masks: Int  #: [states, lanes]: of the mask; zeros where not wanted, like all counts of masks
    one_one: Int  #: [steps, lanes]: one before and one after
    one_mask: Int  #: [steps, lanes]: one before, on the mask after
    mask_one: Int
    mask_mask: Int
    word_toggles: Int  #: [steps]: bits of the bare word that change
    mask_toggles: Int  #: [steps]


def count(tables: Iterable[Words], rows: int, states: States) -> Columns:
    """Count over tables uint64 [some rows, keys, words], ``rows`` in all."""
    levels = max(1, int(rows).bit_length())
    toggles = np.zeros((2, len(states.before)), np.int64)
    kinds = (len(states.word), len(states.before))
    counter: tuple[Words, Words] | None = None
    seen, width = 0, 1
    for table in tables:
        if counter is None:
            width = table.shape[2]
            n = ((2 * kinds[0] + 4 * kinds[1]) if states.masks else sum(kinds)) * width
            counter = np.zeros((levels, n), np.uint64), np.zeros((levels, n), np.uint64)
        keys = (states.word, states.mask, states.before, states.after)
        _count(table, *keys, states.masks, *counter, seen, toggles)
        seen += len(table)
    lanes = 64 * width
    found = np.zeros((0, 64), np.int64) if counter is None else _spread(*counter, seen)
    found = found.reshape(-1, lanes)
    sizes = [kinds[0]] * (1 + states.masks) + [kinds[1]] * (4 if states.masks else 1)
    parts = np.split(found, np.cumsum(sizes)[:-1]) if counter is not None else []
    if not parts:
        parts = [np.zeros((size, lanes), np.int64) for size in sizes]
    if not states.masks:
        none_of_state, none_of_step = np.zeros_like(parts[0]), np.zeros_like(parts[1])
        parts = [parts[0], none_of_state, parts[1], none_of_step, none_of_step, none_of_step]
    names = ("ones", "masks", "one_one", "one_mask", "mask_one", "mask_mask")
    return Columns(
        rows=seen,
        **dict(zip(names, parts, strict=True)),
        word_toggles=toggles[0],
        mask_toggles=toggles[1],
    )


@kernel
def _add(vector: Words, ones: Words, waiting: Words, row: int) -> None:
    """Add a row of words to the counter; ``vector`` is used up. Every second one of a level carries on."""
    level = 0
    while (row >> level) & 1:
        kept, first = ones[level], waiting[level]
        for i in range(len(vector)):
            half = kept[i] ^ first[i]
            carry = (kept[i] & first[i]) | (half & vector[i])
            kept[i] = half ^ vector[i]
            vector[i] = carry
        level += 1
    waiting[level, :] = vector


@kernel
def _spread(ones: Words, waiting: Words, rows: int) -> Int:
    """Counts int64 [words, 64] of a counter that saw ``rows`` rows."""
    levels, n = ones.shape
    counts = np.zeros((n, 64), np.int64)
    for level in range(levels):
        waits = np.uint64((rows >> level) & 1)
        for i in range(n):
            for bit in range(64):
                at = np.uint64(bit)
                found = ((ones[level, i] >> at) & np.uint64(1)) + waits * (
                    (waiting[level, i] >> at) & np.uint64(1)
                )
                counts[i, bit] += np.int64(found) << level
    return counts


@kernel
def _count(
    table: Words,
    word: Int,
    mask: Int,
    before: Int,
    after: Int,
    masks: bool,
    ones: Words,
    waiting: Words,
    seen: int,
    toggles: Int,
) -> None:
    rows, _, width = table.shape
    states, steps = len(word), len(before)
    vector = np.empty(ones.shape[1], np.uint64)
    here, on = np.empty((states, width), np.uint64), np.empty((states, width), np.uint64)
    for row in range(rows):
        for s in range(states):
            for w in range(width):
                on[s, w] = table[row, mask[s], w]
                here[s, w] = table[row, word[s], w] & on[s, w]
        at = 0
        for s in range(states):
            for w in range(width):
                vector[at] = here[s, w]
                at += 1
        if masks:
            for s in range(states):
                for w in range(width):
                    vector[at] = on[s, w]
                    at += 1
        for step in range(steps):
            b, a = before[step], after[step]
            for w in range(width):
                vector[at] = here[b, w] & here[a, w]
                at += 1
                toggles[0, step] += popcount(table[row, word[b], w] ^ table[row, word[a], w])
                toggles[1, step] += popcount(on[b, w] ^ on[a, w])
        if masks:
            for step in range(steps):
                b, a = before[step], after[step]
                for w in range(width):
                    kind = at + step * width + w
                    size = steps * width
                    vector[kind] = here[b, w] & on[a, w]
                    vector[kind + size] = on[b, w] & here[a, w]
                    vector[kind + 2 * size] = on[b, w] & on[a, w]
        _add(vector, ones, waiting, seen + row)
