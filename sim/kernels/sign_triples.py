"""Two planes of signs and their XOR, each with scales per group, counted in one pass over the two.

BiLLM's form multiplies, outside its salient columns, signs, second signs and where the two agree: the third
plane is made where the first two are at hand, and is never read. As in `sim.kernels.sign_blocks`; running
XORs of an XOR are the XOR of running XORs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from algo.compiled import kernel
from sim.kernels import vectors
from sim.kernels.bipolar import Differing
from sim.kernels.tree import Counter, weighted
from sim.kernels.vectors import U8x64, U16x32, U32x16, bitcast, load, ones, shuffle, splat, store
from sim.kernels.wide import dot2

ROWS = 64  #: of a block of rows, one a byte

_load16, _load32, _splat8, _words = load(U16x32), load(U32x16), splat(U8x64), bitcast(U16x32)


def unpacked(first: int) -> Any:
    """Eight bytes of both vectors in turn from each quarter of 16, as x86 unpacks them."""
    return shuffle(tuple(16 * q + first + i + side for q in range(4) for i in range(8) for side in (0, 64)))


_unpack_low, _unpack_high = unpacked(0), unpacked(8)


@intrinsic
def counted(typing_context: Any, w: Any, v: Any, at: Any, x: Any, x_at: Any, shape: Any) -> Any:
    """Three U8x64: bits of a token that differ from ``w``, from ``v``, from ``w ^ v``, of 64 rows in a block.

    ``shape`` is a tuple as long as the block's bytes; all of them are running XORs.
    """

    def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        first, second, token = (
            vectors.address(context, builder, made.args[i], arguments[i], arguments[place])
            for i, place in ((0, 2), (1, 2), (3, 4))
        )
        return context.make_tuple(
            builder, made.return_type, _counted(builder, first, second, token, len(shape))
        )

    result = types.UniTuple(U8x64, 3)
    return result(w, v, types.intp, x, types.intp, shape), generate


def _counted(builder: Any, w: Any, v: Any, x: Any, count: int) -> list[Any]:
    def lanes(pointer: Any, i: int) -> Any:
        place = ir.Constant(ir.IntType(64), i * ROWS)
        return vectors.read(builder, builder.gep(pointer, [place]), U8x64.llvm, 1)

    def three(i: int) -> list[Any]:
        token = vectors.spread(builder, builder.load(builder.gep(x, [ir.Constant(ir.IntType(64), i)])), ROWS)
        second = lanes(v, i)
        own = builder.xor(lanes(w, i), token)
        return [own, builder.xor(second, token), builder.xor(own, second)]

    counters = [Counter(builder) for _ in range(3)]
    last: list[Any] = [None] * 3
    for i in range(0, count, 2):
        odd, even = three(i), three(i + 1)
        for counter, before, one, next_one in zip(counters, last, odd, even, strict=True):
            counter.add_running(before, one, next_one)
        last = even
    for counter, left in zip(counters, last, strict=True):
        counter.add(0, left)
    return [weighted(builder, counter.settled(), ones) for counter in counters]


@kernel
def add_triples(w, v, x, values, shape, pairs, sums):  # type: ignore[no-untyped-def]
    """``sums += values * differing`` of every block and of three planes, in 32 bits.

    Parameters: w and v, uint8 [row blocks, 2 * pairs, bytes, 64]; x, uint8 [tokens, 2 * pairs, bytes];
    values, int16 [row blocks, pairs, 3, 64, 2]; shape, a tuple as long as a block's bytes; sums, int32 [row
    blocks, tokens, 64]; all flat.
    """
    width = len(shape)
    tokens = len(x) // (2 * pairs * width)
    zero = _splat8(np.uint8(0))
    for block in range(len(values) // (pairs * 384)):
        for pair in range(pairs):
            at, scale = (block * pairs + pair) * 2 * width * 64, (block * pairs + pair) * 384
            for token in range(tokens):
                x_at = (token * pairs + pair) * 2 * width
                first = counted(w, v, at, x, x_at, shape)
                second = counted(w, v, at + width * 64, x, x_at + width, shape)
                into = (block * tokens + token) * 64
                s0, s1 = _load32(sums, into), _load32(sums, into + 16)
                s2, s3 = _load32(sums, into + 32), _load32(sums, into + 48)
                for i in range(3):
                    low, high = _unpack_low(first[i], second[i]), _unpack_high(first[i], second[i])
                    of = scale + 128 * i
                    s0 = dot2(s0, _words(_unpack_low(low, zero)), _load16(values, of))
                    s1 = dot2(s1, _words(_unpack_high(low, zero)), _load16(values, of + 32))
                    s2 = dot2(s2, _words(_unpack_low(high, zero)), _load16(values, of + 64))
                    s3 = dot2(s3, _words(_unpack_high(high, zero)), _load16(values, of + 96))
                store(sums, into, s0)
                store(sums, into + 16, s1)
                store(sums, into + 32, s2)
                store(sums, into + 48, s3)


def triples(operations: Sequence[Differing]) -> list[tuple[int, int, int]]:
    """Operations of which the third's bits are the XOR of the first two's, each in one triple at most."""
    found: list[tuple[int, int, int]] = []
    plain = [k for k, one in enumerate(operations) if one.mask is None and len(one.bits) > 1]
    for some in combinations(plain, 3):
        taken = {k for three in found for k in three}
        if len({operations[k].columns for k in some}) > 1 or taken & set(some):
            continue
        a, b, c = (operations[k].bits for k in some)
        # The first row tells nearly always.
        if not np.any(a[0] ^ b[0] ^ c[0]) and not np.any(a ^ b ^ c):
            found.append(some)
    return found
