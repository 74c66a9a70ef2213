"""Compiled loops of the byte kernels: activations into quads, codes into bytes, tiles into sums.

Arrays are flat. Columns lie group by group, each group padded to whole quads; activations are 0 there.
What ends a tile is inlined: a call counts references to its arrays, and each count waits for pending stores.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from algo.compiled import kernel
from sim.kernels.dots_scale import scale, scale_sums
from sim.kernels.dots_tile import BLOCKS, PANEL, ROWS, packed_tile, tile
from sim.kernels.landing import Target, land
from sim.kernels.vectors import (
    Lanes,
    U8x64,
    U64x8,
    bitcast,
    element,
    load,
    shift_right,
    splat,
    store,
    total,
    truncate,
)

I64x4, I8x4 = Lanes(64, 4), Lanes(8, 4)
load_i64x4, load_u8x64, load_u64x8 = load(I64x4), load(U8x64), load(U64x8)
splat_i64x4, splat_u8x64, splat_u64x8 = splat(I64x4), splat(U8x64), splat(U64x8)
as_words, as_bytes, as_i8x4 = bitcast(Lanes(16, 32)), bitcast(U8x64), bitcast(I8x4)
splat_i32x1, splat_i64x1 = splat(Lanes(32, 1)), splat(Lanes(64, 1))
low_bytes = truncate(I8x4)
packed1, packed2, packed4, packed8 = tile(1), packed_tile(2), packed_tile(4), packed_tile(8)

TOKENS = 8  #: tokens of a tile; one that is not full costs as much
add_tile = tile(TOKENS)
NEAR = 1 << 19  #: bytes of codes that tokens go over together: what leaves room in a second cache of 1 MiB


class Columns(NamedTuple):
    """How the columns of a matrix lie in quads."""

    width: int  #: columns of the matrix
    first: NDArray[np.int64]  #: [segments], first column of each run that is summed in 32 bits
    last: NDArray[np.int64]  #: [segments], the column after its last
    quads: NDArray[np.int64]  #: [segments + 1], its first quad
    group: NDArray[np.int64]  #: [segments], the group whose multipliers it has


class Laid(NamedTuple):
    """A code matrix as it is multiplied."""

    codes: NDArray[np.uint8]  #: [panels, vectors, BLOCKS, 16 rows, 4 columns]
    folds: int  #: a byte holds the codes of ``2**folds`` quads
    step: int  #: what codes that share a byte are still to be multiplied by; others have been
    zero: int
    multipliers: NDArray[np.int32]  #: [panels, groups, ROWS]
    rest: NDArray[np.int32]  #: the same of the sum of the activations; empty: none


class Block(NamedTuple):
    """Activations of some tokens, or one run of their bits."""

    x: NDArray[np.int8]  #: tiles [quads, tokens of the tile, 4], one after the other
    sums: NDArray[np.int64]  #: [tokens, segments], of the activations
    mantissas: NDArray[np.int64]  #: [tokens, groups]; empty: none
    tokens: int


@kernel
def take_activations(
    values: NDArray[np.int64],
    tokens: int,
    columns: Columns,
    shift: int,
    keep: int,
    x: NDArray[np.int8],
    sums: NDArray[np.int64],
) -> None:
    """Bits ``(value >> shift) & keep`` of ``values``, int64 [tokens, columns], as `Block` wants them."""
    starts, firsts, lasts, segments = columns.quads, columns.first, columns.last, len(columns.group)
    quads, width = element(starts, segments), columns.width
    mask = splat_i64x4(keep)
    for token in range(tokens):
        tile = token & ~7
        of = 1 if tokens == 1 else TOKENS
        for s in range(segments):
            to = (tile * quads + element(starts, s) * of + token - tile) * 4
            end = (tile * quads + element(starts, s + 1) * of + token - tile) * 4
            at, last = token * width + element(firsts, s), token * width + element(lasts, s)
            added = splat_i64x4(0)
            while shift == 0 and at + 4 <= last:
                four = load_i64x4(values, at) & mask
                added = added + four
                store(x, to, low_bytes(four))
                at, to = at + 4, to + 4 * of
            rest = 0
            while to < end:
                quad = 0
                for place in range(4):
                    if at < last:
                        value = (element(values, at) >> shift) & keep
                        quad |= (value & 255) << (8 * place)
                        rest += value
                        at += 1
                store(x, to, as_i8x4(splat_i32x1(quad)))
                to += 4 * of
            store(sums, token * segments + s, splat_i64x1(total(added) + rest))


@kernel
def multiply_one(
    laid: Laid,
    columns: Columns,
    block: Block,
    rows: int,
    acc: NDArray[np.int32],
    wide: NDArray[np.int64],
    target: Target,
) -> None:
    """Bring one code matrix's sums of one token to ``target``; codes are read as they are stored.

    Scratch: acc, int32 [ROWS]; wide, int64 [2 * ROWS], zeros, of which the second half stays so.
    """
    segments = len(columns.group)
    quads, groups = columns.quads[segments], columns.group[segments - 1] + 1
    codes, folds, x, sums = laid.codes, laid.folds, block.x, block.sums
    starts, group, multipliers, rest = columns.quads, columns.group, laid.multipliers, laid.rest
    mantissas, scaled = block.mantissas, len(block.mantissas) > 0
    # In `wide` lie sums that are done and, from `onto` on, those of one group that a mantissa is to multiply.
    onto = ROWS if scaled else 0
    token = block.tokens - 1  # 0, and to Numba no literal: one version of what is called
    for panel in range((rows + ROWS - 1) // ROWS):
        for i in range(0, ROWS, 8):
            store(wide, i, splat_u64x8(0))
        for s in range(segments):
            begin, end = element(starts, s), element(starts, s + 1)
            at, count = ((panel * quads + begin) * PANEL) >> folds, (end - begin) >> folds
            place = (panel * groups + element(group, s)) * ROWS
            if folds == 0:
                store(acc, 0, splat_i32x1(-laid.zero * element(sums, s)))
                packed1(codes, at, x, begin * 4, count, acc, multipliers, place, wide, onto)
            elif folds == 3:
                packed8(codes, at, x, begin * 4, count, acc)
            elif folds == 2:
                packed4(codes, at, x, begin * 4, count, acc)
            else:
                packed2(codes, at, x, begin * 4, count, acc)
            if folds:
                scale(multipliers, place, sums, s, segments, laid.zero, laid.step, acc, 1, wide, onto)
            if len(rest):
                scale_sums(rest, place, sums, s, segments, 0, 1, acc, 1, wide, onto)
            if scaled:
                take_scaled(wide, onto, element(mantissas, element(group, s)), token)
        land(target, wide, token, rows, panel * ROWS, token)


@kernel
def multiply(
    laid: Laid,
    columns: Columns,
    block: Block,
    rows: int,
    scratch: NDArray[np.uint8],
    begins: NDArray[np.int32],
    wide: NDArray[np.int64],
    target: Target,
) -> None:
    """Bring one code matrix's sums to ``target``.

    Scratch: `NEAR` bytes or a panel; begins, int32 [TOKENS], zeros; wide, int64 [2 * TOKENS * ROWS].
    """
    segments = len(columns.group)
    quads, groups = columns.quads[segments], columns.group[segments - 1] + 1
    x, sums, tokens = block.x, block.sums, block.tokens
    starts, group, multipliers, rest = columns.quads, columns.group, laid.multipliers, laid.rest
    mantissas, scaled = block.mantissas, len(block.mantissas) > 0
    onto = TOKENS * ROWS if scaled else 0
    panels, size = (rows + ROWS - 1) // ROWS, quads * PANEL
    together = max(1, NEAR // size)
    codes = scratch if laid.folds else laid.codes
    for lead in range(0, panels, together):
        last = min(panels, lead + together)
        for panel in range(lead, last if laid.folds else lead):
            at, to = (panel * size) >> laid.folds, (panel - lead) * size
            _expand(laid.codes, at, quads >> laid.folds, laid.folds, laid.step, scratch, to)
        for first in range(0, tokens, TOKENS):
            count = min(TOKENS, tokens - first)
            for panel in range(lead, last):
                at = (panel - lead if laid.folds else panel) * size
                for i in range(0, TOKENS * ROWS + onto, 8):  # a tile adds to all its tokens, there or not
                    store(wide, i, splat_u64x8(0))
                for s in range(segments):
                    begin, end = element(starts, s), element(starts, s + 1)
                    x_at, of = (first * quads + begin * TOKENS) * 4, first * segments + s
                    for token in range(count):
                        start = -laid.zero * element(sums, of + token * segments)
                        store(begins, token, splat_i32x1(start))
                    place, here = (panel * groups + element(group, s)) * ROWS, at + begin * PANEL
                    run = end - begin
                    add_tile(codes, here, x, x_at, run, begins, multipliers, place, wide, onto)
                    if len(rest):
                        scale_sums(rest, place, sums, of, segments, 0, 1, begins, count, wide, onto)
                    for token in range(count if scaled else 0):
                        mantissa = element(mantissas, (first + token) * groups + element(group, s))
                        take_scaled(wide, onto + token * ROWS, mantissa, token * ROWS)
                for token in range(count):
                    land(target, wide, token * ROWS, rows, panel * ROWS, first + token)


@kernel(inline="always")
def take_scaled(wide: NDArray[np.int64], at: int, mantissa: int, to: int) -> None:
    """Move a token's sums of a group, times its mantissa, within ``wide``."""
    for i in range(0, ROWS, 8):
        store(wide, to + i, load_u64x8(wide, to + i) + load_u64x8(wide, at + i) * splat_u64x8(mantissa))
        store(wide, at + i, splat_u64x8(0))


@kernel
def _expand(codes: Any, at: int, vectors: int, folds: int, step: int, out: Any, start: int) -> None:
    """Codes of a panel times their step, a byte each."""
    fields, bits = 1 << folds, 8 >> folds
    mask = splat_u8x64((1 << bits) - 1)
    for vector in range(vectors):
        for block in range(BLOCKS):
            packed = as_words(load_u8x64(codes, at + vector * PANEL + block * 64))
            to = start + vector * fields * PANEL + block * 64
            for _ in range(fields):
                code = as_bytes(packed) & mask
                store(out, to, code + code if step == 2 else code)
                if bits == 1:
                    packed = shift_right(packed, 1)
                elif bits == 2:
                    packed = shift_right(packed, 2)
                else:
                    packed = shift_right(packed, 4)
                to += PANEL
