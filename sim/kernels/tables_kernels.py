"""Compiled loops of the table kernel: subset sums of activations, and lookups in them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from algo.compiled import kernel
from sim.kernels.dots_kernels import Block, Columns, take_scaled
from sim.kernels.dots_scale import scale, scale_sums
from sim.kernels.dots_tile import ROWS
from sim.kernels.landing import Target, land
from sim.kernels.vectors import (
    U16x32,
    U32x16,
    U64x8,
    element,
    high_half,
    load,
    low_half,
    shift_right,
    sign_extend,
    splat,
    store,
)
from sim.kernels.wide import lookup_words

BOTH = 2 * ROWS  #: rows of one block: two panels, three vectors of 16-bit lanes
TABLE = 160  #: sums of 16 columns: twice 64 of six, and 32 (16 of them read) of four
CHUNK = 15  #: words of 16 columns whose sums, up to 128 a column, fit 16 bits with a sign

load_u16x32, load_u32x16, splat_u16x32 = load(U16x32), load(U32x16), splat(U16x32)
splat_u32x16, splat_u64x8, widened = splat(U32x16), splat(U64x8), sign_extend(U32x16)

#: All ones in the lanes whose number has bit b: row b.
CHOSEN = np.array([-(lane >> b & 1) for b in range(5) for lane in range(32)], np.int16)


class Looked(NamedTuple):
    """A code matrix as indices."""

    indices: NDArray[np.uint16]  #: [blocks, words, bits, BOTH], 16 columns an entry
    bits: int
    step: int
    zero: int
    multipliers: NDArray[np.int32]  #: [2 blocks, groups, ROWS]
    rest: NDArray[np.int32]  #: the same of the sum of the activations; empty: none


@kernel
def make_tables(x: NDArray[np.int8], tables: NDArray[np.int16]) -> None:
    """Sums of every subset of six, six and four of each 16 activations."""
    for word in range(len(x) >> 4):
        at, to = word * 16, word * TABLE
        for part in range(3):
            low = splat_u16x32(0)
            for place in range(5 if part < 2 else 4):
                chosen = load_u16x32(CHOSEN, 32 * place)
                low = low + (chosen & splat_u16x32(element(x, at + 6 * part + place)))
            store(tables, to + 64 * part, low)
            if part < 2:
                store(tables, to + 64 * part + 32, low + splat_u16x32(element(x, at + 6 * part + 5)))


@kernel
def add_lookups(
    looked: Looked,
    columns: Columns,
    block: Block,
    tables: NDArray[np.int16],
    rows: int,
    target: Target,
) -> None:
    """Bring one code matrix's sums of one token to ``target``."""
    segments = len(columns.group)
    words, groups = columns.quads[segments] >> 2, columns.group[segments - 1] + 1
    indices, bits, multipliers, rest = looked.indices, looked.bits, looked.multipliers, looked.rest
    starts, group, sums = columns.quads, columns.group, block.sums
    mantissas, scaled = block.mantissas, len(block.mantissas) > 0
    acc, other = np.empty(ROWS, np.int32), np.empty(ROWS, np.int32)
    # Sums of both panels that are done and, from BOTH on, those that a mantissa is still to multiply.
    wide, onto = np.zeros(2 * BOTH, np.int64), BOTH if scaled else 0
    token = block.tokens - 1  # 0, and to Numba no literal: one version of what is called
    for both in range((rows + BOTH - 1) // BOTH):
        for i in range(0, BOTH, 8):
            store(wide, i, splat_u64x8(0))
        for s in range(segments):
            first, last = element(starts, s) >> 2, element(starts, s + 1) >> 2
            _look(indices, both * words, first, last, bits, tables, acc, other)
            for half in range(2):
                place = ((2 * both + half) * groups + element(group, s)) * ROWS
                found, at = other if half else acc, onto + half * ROWS
                scale(multipliers, place, sums, s, segments, looked.zero, looked.step, found, 1, wide, at)
                if len(rest):
                    scale_sums(rest, place, sums, s, segments, 0, 1, found, 1, wide, at)
                if scaled:
                    take_scaled(wide, at, element(mantissas, element(group, s)), half * ROWS)
        for half in range(2):
            land(target, wide, half * ROWS, rows, both * BOTH + half * ROWS, token)


@kernel
def _look(
    indices: Any, base: int, first: int, last: int, bits: int, tables: Any, acc: Any, other: Any
) -> None:
    """Sums of a run of words for two panels of rows, each a panel's vectors of 32-bit lanes."""
    for i in range(0, ROWS, 16):
        store(acc, i, splat_u32x16(0))
        store(other, i, splat_u32x16(0))
    for bit in range(bits):
        start = first
        while start < last:
            end = min(start + CHUNK, last)
            a, b, c = splat_u16x32(0), splat_u16x32(0), splat_u16x32(0)
            for word in range(start, end):
                at, to = ((base + word) * bits + bit) * BOTH, word * TABLE
                u, v, w = (
                    load_u16x32(indices, at),
                    load_u16x32(indices, at + 32),
                    load_u16x32(indices, at + 64),
                )
                low, high = load_u16x32(tables, to), load_u16x32(tables, to + 32)
                a, b = a + lookup_words(low, u, high), b + lookup_words(low, v, high)
                c = c + lookup_words(low, w, high)
                low, high = load_u16x32(tables, to + 64), load_u16x32(tables, to + 96)
                a = a + lookup_words(low, shift_right(u, 6), high)
                b = b + lookup_words(low, shift_right(v, 6), high)
                c = c + lookup_words(low, shift_right(w, 6), high)
                low = load_u16x32(tables, to + 128)
                a = a + lookup_words(low, shift_right(u, 12), low)
                b = b + lookup_words(low, shift_right(v, 12), low)
                c = c + lookup_words(low, shift_right(w, 12), low)
            place = splat_u32x16(1 << bit)
            _onto(acc, 0, widened(low_half(a)) * place)
            _onto(acc, 16, widened(high_half(a)) * place)
            _onto(acc, 32, widened(low_half(b)) * place)
            _onto(other, 0, widened(high_half(b)) * place)
            _onto(other, 16, widened(low_half(c)) * place)
            _onto(other, 32, widened(high_half(c)) * place)
            start = end


@kernel
def _onto(acc: Any, at: int, lanes: Any) -> None:
    store(acc, at, load_u32x16(acc, at) + lanes)
