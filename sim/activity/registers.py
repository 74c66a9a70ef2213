"""Toggles of the registers behind the lanes: a beat's dot product, and the accumulator.

Both need every output's every beat, so this is the one count that costs as much as the product itself: rows
lie side by side, and a block of them runs through all beats of a token before the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.words import Words
from algo.compiled import kernel
from hw.beats import FIRST, NEG, SHIFT, W_BIPOLAR, X_BIPOLAR
from hw.spec import ArraySpec, require_int, signed_bits
from sim.activity.program import Program
from sim.kernels import popcount

Int = NDArray[np.int64]
Tables = Callable[[], Iterable[tuple[slice, Words]]]

ROWS = 512  #: rows side by side: their registers and operands of a beat stay in the first cache
DOT, ACCUMULATOR = 0, 1  #: registers, first axis of what is kept of them


@dataclass(frozen=True, kw_only=True, eq=False)
class Registers:
    """Toggles by beat, int64 [beats], of the registers' step to that beat's value, over all outputs."""

    dot: Int
    accumulator: Int


def count(
    program: Program,
    rows: Tables,
    tokens: Tables,
    array: ArraySpec,
    row_at: Int | None = None,
    token_at: Int | None = None,
) -> Registers:
    """Toggles on an array that walks tiles of rows and, for each, tiles of tokens; registers begin at 0.

    Parameters: rows, tokens, make tables of all rows and tokens; row_at, token_at, indexes of those that
    make up the product (ascending; None: all). Raises ValueError for an accumulator beyond 64 bits.
    """
    require_int("acc_width", array.pe.acc_width, 1, 64)
    toggles = np.zeros((2, len(program.w)), np.int64)
    state = np.zeros((2, array.columns, array.rows), np.int64)  # by PE, after its latest output
    row = 0
    for here, table in rows():
        chosen = table if row_at is None else table[_within(row_at, here)]
        for first in range(0, len(chosen), ROWS):
            block = np.ascontiguousarray(chosen[first : first + ROWS].transpose(1, 2, 0))
            _block(program, block, row, tokens, token_at, array, state, toggles)
            row += block.shape[2]
    return Registers(dot=toggles[DOT], accumulator=toggles[ACCUMULATOR])


def _within(at: Int, here: slice) -> Int:
    found: Int = at[(at >= here.start) & (at < here.stop)] - here.start
    return found


def _block(
    program: Program,
    block: Words,
    row: int,
    tokens: Tables,
    token_at: Int | None,
    array: ArraySpec,
    state: Int,
    toggles: Int,
) -> None:
    """All tokens on a block of rows, uint64 [keys, words, rows], whose first is the product's ``row``."""
    kept = np.zeros((2, array.columns, block.shape[2]), np.int64)
    entered = np.zeros_like(kept)
    token = 0
    beats = (program.w, program.mask, program.x, program.flags, _uniform(program, block))
    widths = np.array([signed_bits(-program.lanes, program.lanes), array.pe.acc_width])
    for here, table in tokens():
        chosen = table if token_at is None else table[_within(token_at, here)]
        _run(block, chosen, *beats, widths, token, kept, entered, toggles)
        token += len(chosen)
    for column in range(min(array.columns, token)):
        _enter(entered[:, column], kept[:, column], row, widths, state[:, column], toggles)


def _uniform(program: Program, block: Words) -> NDArray[np.bool_]:
    """[beats]: every row's mask is every column of the chunk, and the counts need not look at it."""
    if None not in program.texts:
        return np.zeros(len(program.w), np.bool_)
    whole = program.texts.index(None) * program.chunks
    return np.asarray((program.mask >= whole) & (program.mask < whole + program.chunks))


@kernel
def _ones(width: int) -> np.int64:
    """``width`` ones, of at most 64."""
    return np.int64(-1) if width >= 64 else np.int64((1 << width) - 1)


@kernel
def _enter(entered: Int, kept: Int, row: int, widths: Int, state: Int, toggles: Int) -> None:
    """The steps into a tile of rows: [registers, rows] of one column, ``state`` by PE of that column."""
    for register in range(2):
        bits = _ones(widths[register])
        for i in range(entered.shape[1]):
            pe = (row + i) % state.shape[1]
            toggles[register, 0] += popcount(np.uint64((state[register, pe] ^ entered[register, i]) & bits))
            state[register, pe] = kept[register, i]


@kernel
def _dots(block: Words, x: Words, w_key: int, m_key: int, flags: int, uniform: bool, out: Int) -> None:
    """Signed dot products of a beat, int64 [rows], before it is negated."""
    out[:] = 0
    w_bipolar, x_bipolar = (flags & W_BIPOLAR) != 0, (flags & X_BIPOLAR) != 0
    for k in range(len(x)):
        word, mask, other = block[w_key, k], block[m_key, k], x[k]
        if w_bipolar and x_bipolar:
            for i in range(len(out)):
                out[i] += 2 * popcount(mask[i] & ~(word[i] ^ other)) - popcount(mask[i])
        elif w_bipolar and uniform:
            ones = popcount(other)
            for i in range(len(out)):
                out[i] += 2 * popcount(word[i] & other) - ones
        elif w_bipolar:
            for i in range(len(out)):
                out[i] += 2 * popcount(mask[i] & word[i] & other) - popcount(mask[i] & other)
        elif x_bipolar:
            for i in range(len(out)):
                out[i] += 2 * popcount(mask[i] & word[i] & other) - popcount(mask[i] & word[i])
        else:
            for i in range(len(out)):
                out[i] += popcount(mask[i] & word[i] & other)


@kernel
def _advance(dots: Int, flags: int, widths: Int, dot: Int, acc: Int) -> tuple[int, int]:
    """Take a beat's dot products into both registers, [rows]; their toggles."""
    of_dot = of_acc = 0
    spare = 64 - widths[1]
    dot_bits, acc_bits = _ones(widths[0]), _ones(widths[1])
    # Shifts and masks: eight products of int64 at once are slow where eight sums are not.
    negative = np.int64(-1 if flags & NEG else 0)
    carried = np.int64(0 if flags & FIRST else -1)
    doubled = np.int64(1 if flags & SHIFT else 0)
    for i in range(len(dots)):
        after = (dots[i] ^ negative) - negative
        of_dot += popcount(np.uint64((after ^ dot[i]) & dot_bits))
        dot[i] = after
        total = ((((acc[i] & carried) << doubled) + after) << spare) >> spare
        of_acc += popcount(np.uint64((total ^ acc[i]) & acc_bits))
        acc[i] = total
    return of_dot, of_acc


@kernel
def _run(
    block: Words,
    x: Words,
    w_keys: Int,
    m_keys: Int,
    x_keys: Int,
    flags: NDArray[np.uint8],
    uniform: NDArray[np.bool_],
    widths: Int,
    token: int,
    kept: Int,
    entered: Int,
    toggles: Int,
) -> None:
    """Tokens ``x``, uint64 [tokens, keys, words], the first of them ``token``, on a block of rows."""
    columns, rows = kept.shape[1], kept.shape[2]
    dots = np.empty(rows, np.int64)
    for n in range(len(x)):
        column = (token + n) % columns
        dot, acc = kept[0, column], kept[1, column]
        for beat in range(len(w_keys)):
            _dots(block, x[n, x_keys[beat]], w_keys[beat], m_keys[beat], flags[beat], uniform[beat], dots)
            of_dot, of_acc = _advance(dots, flags[beat], widths, dot, acc)
            if beat or token + n >= columns:
                toggles[0, beat] += of_dot
                toggles[1, beat] += of_acc
            else:  # the step from the tile of rows before is counted when that is known
                entered[0, column] = dot
                entered[1, column] = acc
