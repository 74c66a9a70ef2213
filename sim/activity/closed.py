"""Toggles of operands and lane products over all outputs, without visiting any output.

A product bit of row ``m`` and token ``n`` in lane ``b`` is 1 where row and token are each in one of a few
states, so over all outputs it is 1 as often as the two sides' counts multiply to; the same holds for being 1
before a step and after it, and a toggle is ``before + after - 2 both``. Counts per lane of either side are
therefore enough: (rows + tokens) x beats instead of rows x tokens x beats. For unmasked signs this is
``sum_b a_b (N - c_b) + (M - a_b) c_b`` with the operands' own toggles ``a``, ``c``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.words import Words
from hw.beats import W_BIPOLAR, X_BIPOLAR
from hw.spec import ArraySpec
from sim.activity import columns
from sim.activity.columns import Columns, States
from sim.activity.program import Program, transitions

Int = NDArray[np.int64]
Flags = NDArray[np.uint8]
Tables = Callable[[], Iterable[tuple[slice, Words]]]  #: blocks of a side, made anew each time

PIECE = 4096  #: beats whose counts are held at once
AT_ONCE = 1 << 17  #: entries of the temporaries in which counts meet


@dataclass(kw_only=True, eq=False)
class Steps:
    """Toggles by beat, int64 [beats]: those of the step that leads to it, over all outputs."""

    w: Int
    x: Int
    mask: Int
    product: Int

    @classmethod
    def none(cls, beats: int) -> Steps:
        return cls(**{name: np.zeros(beats, np.int64) for name in ("w", "x", "mask", "product")})


@dataclass(frozen=True, kw_only=True, eq=False)
class Ends:
    """First and last beat's operands of every row or token: uint64 [2, n, words]."""

    word: Words
    mask: Words


def count(program: Program, rows: Tables, tokens: Tables, height: int, batch: int) -> Steps:
    """Toggles within outputs: of every step but the one to an output's first beat.

    Parameters: rows, tokens, make tables of all rows and tokens; height, batch, how many there are.
    """
    total = Steps.none(len(program.w))
    for first in range(1, len(program.w), PIECE):
        _piece(program, rows, tokens, height, batch, slice(first, first + PIECE), total)
    return total


def _piece(
    program: Program, rows: Tables, tokens: Tables, height: int, batch: int, at: slice, total: Steps
) -> None:
    masks = bool(np.any(program.flags & W_BIPOLAR))
    after = np.arange(len(program.w))[at]
    row_states, row_index = _states((program.w, program.mask), after, masks)
    token_states, token_index = _states((program.x, program.x), after, False)
    by_row = columns.count((table for _, table in rows()), height, row_states)
    by_token = columns.count((table for _, table in tokens()), batch, token_states)
    total.w[at] += by_row.word_toggles[row_index] * batch
    total.mask[at] += by_row.mask_toggles[row_index] * batch
    total.x[at] += by_token.word_toggles[token_index] * height
    flags = program.flags[after - 1], program.flags[after]
    total.product[at] += products(by_row, row_states, row_index, by_token, token_states, token_index, flags)


def _states(keys: tuple[Int, Int], after: Int, masks: bool) -> tuple[States, Int]:
    """Distinct states and steps of a side, and the step to each beat of ``after``."""
    used = np.arange(after[0] - 1, after[-1] + 1)
    distinct, state = np.unique(np.stack(keys)[:, used], axis=1, return_inverse=True)
    state = state.reshape(-1)
    (before,), (behind,), index = transitions([state[:-1]], [state[1:]])
    made = States(word=distinct[0], mask=distinct[1], before=before, after=behind, masks=masks)
    return made, index


def products(
    by_row: Columns,
    row_states: States,
    row_steps: Int,
    by_token: Columns,
    token_states: States,
    token_steps: Int,
    flags: tuple[Flags, Flags],
) -> Int:
    """Toggles of both product bits in steps, int64 [n], over every pair of a row and a token counted.

    Parameters: row_steps, token_steps, int64 [n], which step of either side; flags, uint8 [n] each, of the
    beats before and after.
    """
    found = np.zeros(len(row_steps), np.int64)
    size = max(1, AT_ONCE // by_row.ones.shape[1])
    for first in range(0, len(found), size):
        at = slice(first, first + size)
        r, t = row_steps[at], token_steps[at]
        w = _Side(by_row, r, row_states.before[r], row_states.after[r])
        x = _Side(by_token, t, token_states.before[t], token_states.after[t])
        found[at] = _bases(w, x, flags[0][at], flags[1][at]) + _hits(w, x, flags[0][at], flags[1][at])
    return found


class _Side:
    """Counts [n, lanes] of one side in n steps: ones before (b) and after (a), masks (bm, am)."""

    def __init__(self, counted: Columns, steps: Int, before: Int, after: Int) -> None:
        self.rows = counted.rows
        self.b, self.a = counted.ones[before], counted.ones[after]
        self.bm, self.am = counted.masks[before], counted.masks[after]
        self.both, self.one_mask = counted.one_one[steps], counted.one_mask[steps]
        self.mask_one, self.masks = counted.mask_one[steps], counted.mask_mask[steps]


def _bit(flags: Flags, bit: int) -> NDArray[np.bool_]:
    return ((flags & bit) != 0)[:, None]


def _bases(w: _Side, x: _Side, before: Flags, after: Flags) -> Int:
    """``base``: a bipolar digit is never 0, so only its mask counts."""
    wb, wa, xb, xa = (_bit(f, bit) for bit in (W_BIPOLAR, X_BIPOLAR) for f in (before, after))
    one = np.where(wb, w.bm, w.b) * np.where(xb, x.rows, x.b)
    other = np.where(wa, w.am, w.a) * np.where(xa, x.rows, x.a)
    w_both = np.where(wb, np.where(wa, w.masks, w.mask_one), np.where(wa, w.one_mask, w.both))
    x_both = np.where(xb, np.where(xa, x.rows, x.a), np.where(xa, x.b, x.both))
    found: Int = (one + other - 2 * w_both * x_both).sum(axis=1)
    return found


def _hits(w: _Side, x: _Side, before: Flags, after: Flags) -> Int:
    """``hit``: both bits 1, or, if both digits are bipolar, both 0 on the mask."""
    b = _bit(before, W_BIPOLAR) & _bit(before, X_BIPOLAR)
    a = _bit(after, W_BIPOLAR) & _bit(after, X_BIPOLAR)
    one = w.b * x.b + b * (w.bm - w.b) * (x.rows - x.b)
    other = w.a * x.a + a * (w.am - w.a) * (x.rows - x.a)
    both = w.both * x.both
    both += a * (w.one_mask - w.both) * (x.b - x.both)
    both += b * (w.mask_one - w.both) * (x.a - x.both)
    neither = w.masks - w.one_mask - w.mask_one + w.both
    both += (a & b) * neither * (x.rows - x.b - x.a + x.both)
    found: Int = (one + other - 2 * both).sum(axis=1)
    return found


def ends(program: Program, tables: Tables, height: int, word: Int, mask: Int) -> Ends:
    """Operands of the first and last beat of every row or token; ``word``, ``mask``, keys by beat."""
    shape = (2, height, program.words)
    made = Ends(word=np.zeros(shape, np.uint64), mask=np.zeros(shape, np.uint64))
    for here, table in tables():
        for end, beat in ((0, 0), (1, -1)):
            made.word[end, here] = table[:, word[beat]]
            made.mask[end, here] = table[:, mask[beat]]
    return made


def between(program: Program, row_ends: Ends, token_ends: Ends, array: ArraySpec) -> Steps:
    """Toggles of the steps from one output to the next of each PE of an array.

    The array takes tiles of rows one after the other and, for each, all tiles of tokens. A PE that a ragged
    tile leaves idle stands still: its next step starts from the last beat it took.
    """
    rows, columns_ = array.rows, array.columns
    height, batch = row_ends.word.shape[1], token_ends.word.shape[1]
    m, n = np.arange(height), np.arange(batch)
    first = np.arange(min(columns_, batch))
    last = first + (batch - 1 - first) // columns_ * columns_
    total = Steps.none(1)
    _step(program, row_ends, (m, m), token_ends, (n[:-columns_], n[columns_:]), total)
    _step(program, row_ends, (m[:-rows], m[rows:]), token_ends, (last, first), total)
    return total


def _step(
    program: Program,
    row_ends: Ends,
    row_pairs: tuple[Int, Int],
    token_ends: Ends,
    token_pairs: tuple[Int, Int],
    total: Steps,
) -> None:
    """Add the toggles of one kind of step, over every pair of rows with every pair of tokens."""
    heights = len(row_pairs[0]), len(token_pairs[0])
    if not all(heights):
        return
    masks = bool(np.any(program.flags[[0, -1]] & W_BIPOLAR))
    at, step = np.arange(2), np.zeros(1, np.int64)
    states = [
        States(word=2 * at, mask=2 * at + 1, before=at[:1], after=at[1:], masks=wanted)
        for wanted in (masks, False)
    ]
    tables = [
        np.stack([e.word[1, p[0]], e.mask[1, p[0]], e.word[0, p[1]], e.mask[0, p[1]]], axis=1)
        for e, p in ((row_ends, row_pairs), (token_ends, token_pairs))
    ]
    by_row, by_token = (
        columns.count((table,), len(table), state) for table, state in zip(tables, states, strict=True)
    )
    total.w += by_row.word_toggles * heights[1]
    total.mask += by_row.mask_toggles * heights[1]
    total.x += by_token.word_toggles * heights[0]
    flags = program.flags[-1:], program.flags[:1]
    total.product += products(by_row, states[0], step, by_token, states[1], step, flags)
