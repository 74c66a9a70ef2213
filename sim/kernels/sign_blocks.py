"""Signs times signs with scales per group: each block of columns counted in bytes, then multiplied.

Sixty-four rows lie side by side in bytes, a block of up to 128 columns in 16 bytes after each other as
running XORs; carry-save adders leave five words to count (`sim.kernels.tree`). The counts of two blocks, as
pairs of 16 bits, meet their two multipliers in one instruction that adds to 32-bit sums; a bound proves that
these hold them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from algo.bitplane.activations import Activations
from algo.bitplane.matrix import PackedMatrix
from algo.compiled import kernel
from sim.kernels import vectors
from sim.kernels.bipolar import Differing, Signs, signs
from sim.kernels.contract import Sums
from sim.kernels.layout import Layout, layout_of
from sim.kernels.sign_triples import ROWS, add_triples, triples, unpacked
from sim.kernels.tree import Counter, weighted
from sim.kernels.vectors import (
    Lanes,
    U8x64,
    U16x32,
    U32x16,
    U64x8,
    bitcast,
    element,
    load,
    ones,
    sign_extend,
    splat,
    store,
)
from sim.kernels.wide import DIFFER_ON, dot2, logic3

NAME = "sign_blocks"
GOLDEN = "algo.bitplane.decode.integer_sums"

SUM_BYTES = 24 << 20  #: of 32-bit sums that are held at once
NEAR = 64  #: tokens at most whose sums are held at once
# Estimates of nanoseconds, measured at 2.5 GHz with AVX-512BW.
NS_PER_OCTET, NS_PER_PAIR = 1.8, 10.0  #: of 64 rows times 8 columns, and of a pair of blocks beside
NS_PER_CALL, NS_PER_BYTE = 40e3, 0.04  #: of a call, and of a byte of weights read

Int = NDArray[np.int64]

_load8, _load16, _load32, _load64 = load(U8x64), load(U16x32), load(U32x16), load(U64x8)
_splat8, _splat32, _splat64 = splat(U8x64), splat(U32x16), splat(U64x8)
_words, _load_sums, _wide = bitcast(U16x32), load(Lanes(32, 8)), sign_extend(U64x8)


_unpack_low, _unpack_high = unpacked(0), unpacked(8)


def byte_rows() -> NDArray[np.int64]:
    """Row of each byte lane, so that unpacking twice leaves rows in order: int64 [64]."""
    lane = np.arange(ROWS)
    quarter, part, i = lane // 16, lane // 4 % 4, lane % 4
    return 16 * part + 4 * quarter + i


@intrinsic
def counted(typing_context: Any, w: Any, at: Any, mask: Any, x: Any, x_at: Any, shape: Any) -> Any:
    """U8x64: differing bits of 64 rows and a token in a block; ``shape`` is a tuple as long as its bytes."""

    def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        def pointer(array: int, offset: int) -> Any:
            return vectors.address(context, builder, made.args[array], arguments[array], arguments[offset])

        own = None if isinstance(mask, types.NoneType) else pointer(2, 1)
        return _counted(builder, pointer(0, 1), own, pointer(3, 4), len(shape))

    return U8x64(w, types.intp, mask, x, types.intp, shape), generate


def _counted(builder: Any, w: Any, mask: Any | None, x: Any, count: int) -> Any:
    def lanes(pointer: Any, i: int) -> Any:
        place = ir.Constant(ir.IntType(64), i * ROWS)
        return vectors.read(builder, builder.gep(pointer, [place]), U8x64.llvm, 1)

    def token(i: int) -> Any:
        return vectors.spread(builder, builder.load(builder.gep(x, [ir.Constant(ir.IntType(64), i)])), ROWS)

    counter = Counter(builder)
    if mask is not None:
        for i in range(count):
            counter.add(0, logic3(builder, DIFFER_ON, lanes(w, i), token(i), lanes(mask, i)))
    else:
        last = None
        for i in range(0, count, 2):
            odd, even = (builder.xor(lanes(w, j), token(j)) for j in (i, i + 1))
            counter.add_running(last, odd, even)
            last = even
        counter.add(0, last)
    return weighted(builder, counter.settled(), ones)


@kernel
def add_blocks(w, mask, x, values, shape, pairs, sums):  # type: ignore[no-untyped-def]
    """``sums += values * differing`` of every block, in 32 bits.

    Parameters: w, and mask if not None, uint8 [row blocks, 2 * pairs, bytes, 64]; x, uint8 [tokens,
    2 * pairs, bytes]; values, int16 [row blocks, pairs, 64, 2]; shape, a tuple as long as a block's bytes;
    sums, int32 [row blocks, tokens, 64]; all flat.
    """
    width = len(shape)
    tokens = len(x) // (2 * pairs * width)
    zero = _splat8(np.uint8(0))
    for block in range(len(values) // (pairs * 128)):
        for pair in range(pairs):
            at, scale = (block * pairs + pair) * 2 * width * 64, (block * pairs + pair) * 128
            v0, v1 = _load16(values, scale), _load16(values, scale + 32)
            v2, v3 = _load16(values, scale + 64), _load16(values, scale + 96)
            for token in range(tokens):
                x_at = (token * pairs + pair) * 2 * width
                first = counted(w, at, mask, x, x_at, shape)
                second = counted(w, at + width * 64, mask, x, x_at + width, shape)
                low, high = _unpack_low(first, second), _unpack_high(first, second)
                into = (block * tokens + token) * 64
                store(sums, into, dot2(_load32(sums, into), _words(_unpack_low(low, zero)), v0))
                store(sums, into + 16, dot2(_load32(sums, into + 16), _words(_unpack_high(low, zero)), v1))
                store(sums, into + 32, dot2(_load32(sums, into + 32), _words(_unpack_low(high, zero)), v2))
                store(sums, into + 48, dot2(_load32(sums, into + 48), _words(_unpack_high(high, zero)), v3))


@kernel
def take_shares(ones, values, pairs, sums):  # type: ignore[no-untyped-def]
    """``sums += values * ones``, of tokens' ones in pairs of blocks: int32 [tokens, pairs], each two."""
    tokens = len(ones) // pairs
    for block in range(len(values) // (pairs * 128)):
        for token in range(tokens):
            into = (block * tokens + token) * 64
            s0, s1 = _load32(sums, into), _load32(sums, into + 16)
            s2, s3 = _load32(sums, into + 32), _load32(sums, into + 48)
            for pair in range(pairs):
                both = _words(_splat32(element(ones, token * pairs + pair)))
                scale = (block * pairs + pair) * 128
                s0, s1 = dot2(s0, both, _load16(values, scale)), dot2(s1, both, _load16(values, scale + 32))
                s2, s3 = (
                    dot2(s2, both, _load16(values, scale + 64)),
                    dot2(s3, both, _load16(values, scale + 96)),
                )
            store(sums, into, s0)
            store(sums, into + 16, s1)
            store(sums, into + 32, s2)
            store(sums, into + 48, s3)


@kernel
def finish(sums, constant, factor, rows, fresh, last, out):  # type: ignore[no-untyped-def]
    """``out += constant - factor * sums``: int64 [tokens, rows], flat, of int32 [row blocks, tokens, 64].

    If fresh, ``out`` is taken as 0; last is room for int64 [8].
    """
    tokens, times = len(out) // rows, _splat64(factor)
    for token in range(tokens):
        for row in range(0, rows, 8):
            eight = _load_sums(sums, (row // 64 * tokens + token) * 64 + row % 64)
            made = _load64(constant, row) - times * _wide(eight)
            at = token * rows + row
            if row + 8 <= rows:
                store(out, at, made if fresh else _load64(out, at) + made)
            else:
                store(last, 0, made)
                for i in range(rows - row):
                    out[at + i] = last[i] if fresh else out[at + i] + last[i]


@dataclass(frozen=True, eq=False)
class Operation:
    """A plane laid out: see `add_blocks`."""

    w: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None
    layout: int
    values: NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Triple:
    """Two planes laid out, whose XOR counts too: see `add_triples`."""

    w: NDArray[np.uint8]
    v: NDArray[np.uint8]
    layout: int
    values: NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Laid:
    """What a stream's sums are made of."""

    operations: tuple[Operation, ...]
    triples: tuple[Triple, ...]
    shares: tuple[NDArray[np.int16] | None, ...]  #: as an operation's values; None where they are 0
    constant: Int


@dataclass(frozen=True, eq=False)
class BlockSigns:
    """A stream of planes with scales per group."""

    matrix: PackedMatrix
    stream: str | None
    layouts: tuple[Layout, ...]
    planes: tuple[int, ...]  #: layout of every plane that meets a token, masks too
    made: tuple[int, ...]  #: of these, those that are made of two others and not read
    triples: tuple[tuple[int, int, int], ...]  #: operations taken together
    factor: int

    def cost(self, bits: int, tokens: int, mantissas: bool) -> float | None:
        """See `sim.kernels.contract.Prepared`."""
        if bits != 1 or mantissas:
            return None
        blocks = -(-self.matrix.rows // ROWS)
        sizes = [(self.layouts[i].pairs, 2 * self.layouts[i].width) for i in self.planes]
        octets = sum(pairs * width for pairs, width in sizes)
        read = octets - sum(2 * self.layouts[i].pairs * self.layouts[i].width for i in self.made)
        one = octets * NS_PER_OCTET + sum(pairs for pairs, _ in sizes) * NS_PER_PAIR
        return NS_PER_CALL + blocks * (read * ROWS * NS_PER_BYTE + tokens * one)

    @cached_property
    def laid(self) -> Laid:
        """Planes in the order they are read."""
        found = signs(self.matrix, self.stream)
        values, shares = _halved(found, self.factor)
        padded = np.zeros(-(-self.matrix.rows // 8) * 8, np.int64)
        padded[: self.matrix.rows] = found.constant
        together = {k for three in self.triples for k in three}
        return Laid(
            operations=tuple(
                _operation(op, self.layouts[op.columns], v)
                for k, (op, v) in enumerate(zip(found.operations, values, strict=True))
                if k not in together
            ),
            triples=tuple(
                _triple([found.operations[k] for k in three], self.layouts, [values[k] for k in three])
                for three in self.triples
            ),
            shares=tuple(
                _multipliers(v, layout) if np.any(v) else None
                for v, layout in zip(shares, self.layouts, strict=True)
            ),
            constant=padded,
        )

    def add(self, act: Activations, out: Sums) -> None:
        """See `sim.kernels.contract.Prepared`."""
        self._take(act, out, False)

    def put(self, act: Activations, out: Sums) -> None:
        """See `sim.kernels.contract.Writes`."""
        self._take(act, out, True)

    def _take(self, act: Activations, out: Sums, fresh: bool) -> None:
        padded = -(-self.matrix.rows // ROWS) * ROWS
        step = max(1, min(NEAR, SUM_BYTES // (4 * padded)))
        for first in range(0, len(out), step):
            here = slice(first, first + step)
            self._add(act.values[here], padded, out[here], fresh)

    def _add(self, values: Int, padded: int, out: Sums, fresh: bool) -> None:
        sums = np.zeros(padded * len(values), np.int32)
        x = [layout.tokens(values) for layout in self.layouts]
        for op in self.laid.operations:
            layout, dealt = self.layouts[op.layout], x[op.layout]
            chosen = dealt.running if op.mask is None else dealt.plain
            add_blocks(op.w, op.mask, chosen, op.values, (0,) * layout.width, layout.pairs, sums)
        for three in self.laid.triples:
            layout, dealt = self.layouts[three.layout], x[three.layout]
            shape = (0,) * layout.width
            add_triples(three.w, three.v, dealt.running, three.values, shape, layout.pairs, sums)
        for layout, dealt, share in zip(self.layouts, x, self.laid.shares, strict=True):
            if share is not None:
                take_shares(dealt.ones, share, layout.pairs, sums)
        last = np.empty(8, np.int64)
        finish(sums, self.laid.constant, self.factor, self.matrix.rows, fresh, last, out.reshape(-1))


def prepare(matrix: PackedMatrix, stream: str | None) -> BlockSigns | None:
    """See `sim.kernels.contract`; suits multipliers of 16 bits whose sums fit 32."""
    found = signs(matrix, stream)
    # Twice a mantissa is what signs bring: halved, 16 bits hold it.
    whole = (*(op.values for op in found.operations), *found.shares)
    factor = 2 if all(np.all(part % 2 == 0) for part in whole) else 1
    values, shares = _halved(found, factor)
    if not _holds([*values, *shares], matrix):
        return None
    together = tuple(triples(found.operations))
    return BlockSigns(
        matrix=matrix,
        stream=stream,
        layouts=tuple(layout_of(matrix, columns) for columns in found.columns),
        planes=tuple(op.columns for op in found.operations for _ in range(1 if op.mask is None else 2)),
        made=tuple(found.operations[three[0]].columns for three in together),
        triples=together,
        factor=factor,
    )


def _halved(found: Signs, factor: int) -> tuple[list[Int], list[Int]]:
    """Multipliers of operations and of shares, which are taken off."""
    return [op.values // factor for op in found.operations], [-share // factor for share in found.shares]


def _holds(values: list[Int], matrix: PackedMatrix) -> bool:
    """Whether every multiplier fits 16 bits, and sums of all of them times their counts 32."""
    if any(v.size and not -(2**15) <= v.min() <= v.max() < 2**15 for v in values):
        return False
    sizes = np.bincount(matrix.group_of, minlength=matrix.groups)
    reach = sum((np.abs(v) * sizes).sum(axis=1) for v in values)
    return bool(np.max(reach, initial=0) < 2**31)


def _operation(op: Differing, layout: Layout, values: Int) -> Operation:
    return Operation(
        w=_laid_out(op.bits, layout, len(values), op.mask is None),
        mask=None if op.mask is None else _laid_out(op.mask, layout, len(values), False),
        layout=op.columns,
        values=_multipliers(values, layout),
    )


def _triple(three: list[Differing], layouts: tuple[Layout, ...], values: list[Int]) -> Triple:
    at = three[0].columns
    layout = layouts[at]
    dealt = [_multipliers(v, layout).reshape(-1, layout.pairs, 1, 128) for v in values]
    return Triple(
        w=_laid_out(three[0].bits, layout, len(values[0]), True),
        v=_laid_out(three[1].bits, layout, len(values[0]), True),
        layout=at,
        values=np.concatenate(dealt, axis=2).reshape(-1),
    )


def _laid_out(plane: NDArray[np.uint64], layout: Layout, rows: int, running: bool) -> NDArray[np.uint8]:
    octets = layout.rows(plane, rows)
    if running:
        np.bitwise_xor.accumulate(octets, axis=2, out=octets)
    whole = np.zeros((-(-len(octets) // ROWS) * ROWS, *octets.shape[1:]), np.uint8)
    whole[: len(octets)] = octets
    by_block = whole.reshape(-1, ROWS, *octets.shape[1:])[:, byte_rows()]
    return np.ascontiguousarray(by_block.transpose(0, 2, 3, 1)).reshape(-1)


def _multipliers(values: Int, layout: Layout) -> NDArray[np.int16]:
    """int16 [row blocks, pairs, 64, 2], flat, of values [rows, groups]."""
    rows = len(values)
    whole = np.zeros((-(-rows // ROWS) * ROWS, 2 * layout.pairs), np.int16)
    whole[:rows, : len(layout.groups)] = values[:, layout.groups]
    by_block = whole.reshape(-1, ROWS, layout.pairs, 2).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(by_block).reshape(-1)
