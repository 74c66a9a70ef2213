"""Signs times signs with one scale a row: XOR, carry-save adders and a popcount for sixteen words.

Thirty-two rows lie side by side in 32-bit lanes of two vectors, and words of 32 columns follow each other as
running XORs (`sim.kernels.tree`): a word costs an XOR, half a carry and its share of the adders above.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.activations import Activations
from algo.bitplane.matrix import PackedMatrix
from algo.compiled import kernel
from sim.kernels import vectors
from sim.kernels.bipolar import Differing, group_counts, packed, positive, signs
from sim.kernels.contract import Sums
from sim.kernels.planes import add_shared
from sim.kernels.tree import Counter
from sim.kernels.vectors import (
    Lanes,
    U8x64,
    U32x16,
    U64x8,
    bitcast,
    count_ones,
    element,
    high_half,
    load,
    low_half,
    prefetch,
    splat,
    store,
    zero_extend,
)
from sim.kernels.wide import DIFFER_ON, dot4, full_adder, logic3

NAME = "signs"
GOLDEN = "algo.bitplane.decode.integer_sums"

ROWS = 32  #: of a block, in two vectors
WORDS = 16  #: of 32 columns, of one step
PART = 8  #: steps, 16 KiB of weights, counted before the next token; at most 31, whose counts a byte holds
TOKENS = 1024  #: packed at once
NEAR = 64  #: tokens multiplied before the next block of rows: their sums stay in the cache
# Estimates of nanoseconds, measured at 2.5 GHz with AVX-512BW.
NS_PER_STEP, NS_PER_TILE = 36.0, 50.0  #: of a step of 32 rows, and of their sums beside
MASKED = 1.6  #: steps that a step with a mask takes
NS_PER_CALL, NS_PER_BYTE = 20e3, 0.04  #: of a call, and of a byte of weights read

_load32, _splat32 = load(U32x16), splat(U32x16)
_load64 = load(U64x8)
_bytes, _splat8, _wide = bitcast(U8x64), splat(U8x64), zero_extend(Lanes(64, 8))


@intrinsic
def step(typing_context: Any, w: Any, at: Any, mask: Any, x: Any, x_at: Any, state: Any) -> Any:
    """Count 16 words of 32 rows against those of a token.

    ``(w, at, mask, x, x_at, state)``, mask None or laid out as w, gives for each of the two vectors of rows
    four words of state and the sixteens. State: of running words the last XOR, with a mask the ones; then the
    twos, fours and eights.
    """

    def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        def pointer(array: int, offset: int) -> Any:
            return vectors.address(context, builder, made.args[array], arguments[array], arguments[offset])

        held = cgutils.unpack_tuple(builder, arguments[5], 10)
        own = None if isinstance(mask, types.NoneType) else pointer(2, 1)
        out = _counted(builder, pointer(0, 1), own, pointer(3, 4), [held[:4], held[5:9]])
        return context.make_tuple(builder, made.return_type, out)

    return state(w, types.intp, mask, x, types.intp, state), generate


def _counted(builder: Any, w: Any, mask: Any | None, x: Any, held: list[list[Any]]) -> list[Any]:
    def lanes(pointer: Any, i: int, half: int) -> Any:
        place = ir.Constant(ir.IntType(64), i * ROWS + half * 16)
        return vectors.read(builder, builder.gep(pointer, [place]), U32x16.llvm, 4)

    def token(i: int) -> Any:
        return vectors.spread(builder, builder.load(builder.gep(x, [ir.Constant(ir.IntType(64), i)])), 16)

    halves = [(half, Counter(builder, state[1:])) for half, state in enumerate(held)]
    last = [state[0] for state in held]
    for i in range(0, WORDS, 2):
        first, second = token(i), token(i + 1)
        for half, counter in halves:
            if mask is None:
                odd, even = builder.xor(lanes(w, i, half), first), builder.xor(lanes(w, i + 1, half), second)
                counter.add_running(last[half], odd, even)
                last[half] = even
                continue
            differ = [
                logic3(builder, DIFFER_ON, lanes(w, j, half), x_j, lanes(mask, j, half))
                for j, x_j in ((i, first), (i + 1, second))
            ]
            last[half], carry = full_adder(builder, last[half], *differ)
            counter.add(1, carry)
    return [
        word
        for half, counter in halves
        for word in (last[half], *(counter.levels[level][0] for level in range(1, 5)))
    ]


@kernel
def total_of(ones, twos, fours, eights, sixteens):  # type: ignore[no-untyped-def]
    """Ones in each 32-bit lane of four words of state, and of bytes that count sixteens."""
    one = _splat8(np.uint8(1))
    rest = count_ones(_bytes(eights))
    rest = rest + rest + count_ones(_bytes(fours))
    rest = rest + rest + count_ones(_bytes(twos))
    rest = rest + rest + count_ones(_bytes(ones))
    return dot4(vectors.shift_left(dot4(_splat32(np.uint32(0)), sixteens, one), 4), rest, one)


@kernel
def add_eight(out, at, values, constant, row, differing, fresh):  # type: ignore[no-untyped-def]
    """``out += constant - values * differing`` of eight rows; if fresh, ``out`` is taken as 0."""
    made = _load64(constant, row) - _load64(values, row) * _wide(differing)
    if not fresh:
        made += _load64(out, at)
    store(out, at, made)


@kernel
def add_rows(w, mask, x, values, constant, steps, part, rows, fresh, sums, last, out):  # type: ignore[no-untyped-def]
    """``out += constant - values * differing`` of blocks of 32 rows and all tokens.

    Parameters: w, and mask if not None, uint32 [blocks, 16 * steps, 32]; x, uint32 [tokens, 16 * steps],
    both flat; values and constant, int64 of each row; part, steps taken before the next token, at most
    `PART`; sums and last, room for uint32 [64, 32] and int64 [32]; out, int64 [tokens, rows], flat, taken as
    0 if fresh.
    """
    zero = _splat32(np.uint32(0))
    tokens = len(out) // rows
    for near in range(0, tokens, NEAR):
        for block in range(-(-rows // 32)):
            row = block * 32
            whole = row + 32 <= rows
            alone = fresh or not whole  # what is written to ``last`` is written anew
            for first in range(0, steps, part):
                end = min(first + part, steps)
                for token in range(near, min(near + NEAR, tokens)):
                    at, sum_at = token * rows + row, (token - near) * 32
                    if end == steps:
                        # Rows of ``out`` lie far apart, and a tile is too short to wait for one.
                        for line in range(0, 32, 8):
                            prefetch(out, at + line)
                    state = (zero, zero, zero, zero, zero, zero, zero, zero, zero, zero)
                    sixteens0, sixteens1 = _bytes(zero), _bytes(zero)
                    for i in range(first, end):
                        state = step(w, (block * steps + i) * 512, mask, x, (token * steps + i) * 16, state)
                        sixteens0 += count_ones(_bytes(state[4]))
                        sixteens1 += count_ones(_bytes(state[9]))
                    left = total_of(state[0], state[1], state[2], state[3], sixteens0)
                    right = total_of(state[5], state[6], state[7], state[8], sixteens1)
                    if first > 0:
                        left, right = left + _load32(sums, sum_at), right + _load32(sums, sum_at + 16)
                    if end < steps:
                        store(sums, sum_at, left)
                        store(sums, sum_at + 16, right)
                        continue
                    into, place = (out, at) if whole else (last, 0)
                    add_eight(into, place, values, constant, row, low_half(left), alone)
                    add_eight(into, place + 8, values, constant, row + 8, high_half(left), alone)
                    add_eight(into, place + 16, values, constant, row + 16, low_half(right), alone)
                    add_eight(into, place + 24, values, constant, row + 24, high_half(right), alone)
                    if not whole:
                        for i in range(rows - row):
                            out[at + i] = last[i] if fresh else out[at + i] + last[i]


@kernel
def lay_out(values, tokens, masks, running, out):  # type: ignore[no-untyped-def]
    """Bits of activations of -1 and +1 on columns, 32 to a word, as they are or as running XORs.

    Parameters: values, int64 [tokens, columns]; masks, uint32 [words], the columns; out, uint32 [tokens,
    words]; all flat.
    """
    width, count = len(masks), len(values) // tokens
    for token in range(tokens):
        last = np.uint32(0)
        for word in range(width):
            bits = positive(values, token * count, 32 * word, count) & element(masks, word)
            last = bits ^ last if running else bits
            out[token * width + word] = last


@dataclass(frozen=True, eq=False)
class Operation:
    """A plane laid out: see `add_rows`."""

    w: NDArray[np.uint32]
    mask: NDArray[np.uint32] | None
    columns: int
    values: NDArray[np.int64]
    constant: NDArray[np.int64]
    part: int


@dataclass(frozen=True, eq=False)
class Laid:
    """What a stream's sums are made of."""

    operations: tuple[Operation, ...]
    columns: tuple[words.Words, ...]
    masks: tuple[NDArray[np.uint32], ...]  #: the same as words of 32, padded to whole steps
    shares: tuple[NDArray[np.int64] | None, ...]  #: [groups, rows]; None where they are 0


@dataclass(frozen=True, eq=False)
class RowSigns:
    """A stream whose every plane has one scale a row."""

    matrix: PackedMatrix
    stream: str | None
    planes: int  #: read in all, masks too
    operations: int
    steps: int  #: of 16 words in a row

    def cost(self, bits: int, tokens: int, mantissas: bool) -> float | None:
        """See `sim.kernels.contract.Prepared`."""
        if bits != 1 or mantissas:
            return None
        blocks = -(-self.matrix.rows // ROWS)
        read = self.planes * blocks * self.steps * ROWS * WORDS * 4
        masked = self.planes - self.operations
        steps = self.steps * (self.operations + masked * (MASKED - 1))
        tile = steps * NS_PER_STEP + self.operations * NS_PER_TILE
        return NS_PER_CALL + read * NS_PER_BYTE + tokens * blocks * tile

    @cached_property
    def laid(self) -> Laid:
        """Planes in the order they are read."""
        found = signs(self.matrix, self.stream)
        nothing = np.zeros(self.matrix.rows, np.int64)
        return Laid(
            operations=tuple(
                _operation(op, nothing if number else found.constant, self.matrix.rows, self.steps)
                for number, op in enumerate(found.operations)
            ),
            columns=found.columns,
            masks=tuple(_padded(c[None], 1, self.steps)[0] for c in found.columns),
            shares=tuple(np.ascontiguousarray(s.T) if np.any(s) else None for s in found.shares),
        )

    def add(self, act: Activations, out: Sums) -> None:
        """See `sim.kernels.contract.Prepared`."""
        self._take(act, out, False)

    def put(self, act: Activations, out: Sums) -> None:
        """See `sim.kernels.contract.Writes`."""
        self._take(act, out, True)

    def _take(self, act: Activations, out: Sums, fresh: bool) -> None:
        for first in range(0, len(out), TOKENS):
            here = slice(first, first + TOKENS)
            self._add(np.ascontiguousarray(act.values[here]), out[here], fresh)

    def _add(self, values: NDArray[np.int64], out: Sums, fresh: bool) -> None:
        room = np.empty(NEAR * ROWS, np.uint32), np.empty(ROWS, np.int64)
        for number, op in enumerate(self.laid.operations):
            x = np.empty(len(values) * self.steps * WORDS, np.uint32)
            lay_out(values.reshape(-1), len(values), self.laid.masks[op.columns], op.mask is None, x)
            fixed = (op.values, op.constant, self.steps, op.part, self.matrix.rows, fresh and number == 0)
            add_rows(op.w, op.mask, x, *fixed, *room, out.reshape(-1))
        for columns, share in zip(self.laid.columns, self.laid.shares, strict=True):
            if share is not None:
                ones = group_counts(packed(values, self.matrix.columns) & columns, self.matrix)
                add_shared(ones, share, out)


def prepare(matrix: PackedMatrix, stream: str | None) -> RowSigns | None:
    """See `sim.kernels.contract`; suits planes with one scale a row."""
    found = signs(matrix, stream).operations
    if any(np.any(op.values != op.values[:, :1]) for op in found) or not found:
        return None
    planes = sum(1 if op.mask is None else 2 for op in found)
    steps = -(-words.word_count(matrix.columns) // (WORDS // 2))
    return RowSigns(matrix=matrix, stream=stream, planes=planes, operations=len(found), steps=steps)


def _operation(op: Differing, constant: NDArray[np.int64], rows: int, steps: int) -> Operation:
    def laid_out(plane: words.Words, running: bool) -> NDArray[np.uint32]:
        whole = _padded(plane, -(-rows // ROWS) * ROWS, steps)
        if running:
            np.bitwise_xor.accumulate(whole, axis=1, out=whole)
        return np.ascontiguousarray(whole.reshape(-1, ROWS, steps * WORDS).transpose(0, 2, 1)).reshape(-1)

    def per_row(values: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.concatenate([values, np.zeros(-len(values) % ROWS, np.int64)])

    # Parts of one length, so that what a block reads of the weights stays in the first-level cache.
    parts = -(-steps // (PART if op.mask is None else PART // 2))
    return Operation(
        w=laid_out(op.bits, op.mask is None),
        mask=None if op.mask is None else laid_out(op.mask, False),
        columns=op.columns,
        values=per_row(op.values[:, 0]),
        constant=per_row(constant),
        part=-(-steps // parts),
    )


def _padded(plane: words.Words, rows: int, steps: int) -> NDArray[np.uint32]:
    """Words of 32 columns, [rows, 16 * steps], zeros where there were none."""
    whole = np.zeros((rows, steps * WORDS), np.uint32)
    whole[: len(plane), : 2 * plane.shape[1]] = np.ascontiguousarray(plane).view(np.uint32)
    return whole
