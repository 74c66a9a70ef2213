"""Inner loops of the byte kernels, written as LLVM code: unsigned codes times signed activations.

A *panel* is `ROWS` rows of codes. For every four columns (a *quad*) it holds `BLOCKS` vectors of 64 bytes,
each with the quad of 16 rows side by side; activations lie as quads of a few tokens. A vector of codes times
a quad in every lane is one ``vpdpbusd`` where the CPU has it: 64 products onto 16 sums of 32 bits, which wrap
only where a sum does. Elsewhere the bytes are widened to 16 bits, multiplied and added in pairs
(``vpmaddwd``, which LLVM finds in the plain code here), with fewer sums held in registers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sim.kernels import cpu
from sim.kernels.vectors import address, constant, declared, read, spread

BLOCKS = 3  #: vectors of 16 rows in a panel
ROWS = 16 * BLOCKS  #: rows of a panel
PANEL = 64 * BLOCKS  #: bytes of a panel's quad
AHEAD = 4096  #: bytes from a load to the fetch beside it; measured on a Cascade Lake: flat from 1024

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_WIDE = ir.VectorType(_I64, 8)
_SUMS, _BYTES = ir.VectorType(_I32, 16), ir.VectorType(ir.IntType(8), 64)
_PAIRS, _WORDS = ir.VectorType(_I32, 32), ir.VectorType(_I32, 64)


def fast() -> bool:
    """Whether the CPU multiplies bytes and adds in one instruction."""
    return cpu.has("avx512vnni", "avx512bw")


class _Fused:
    """vpdpbusd."""

    sums = _SUMS

    def codes(self, builder: Any, vector: Any) -> Any:
        return vector

    def quad(self, builder: Any, scalar: Any) -> Any:
        return builder.bitcast(spread(builder, scalar, 16), _BYTES)

    def onto(self, builder: Any, acc: Any, codes: Any, quad: Any) -> Any:
        # Operands are bytes since LLVM 22, and were words of four before.
        taken = _BYTES if llvm.llvm_version_info[0] >= 22 else _SUMS
        function = declared(builder, "llvm.x86.avx512.vpdpbusd.512", _SUMS, [_SUMS, taken, taken])
        return builder.call(function, [acc, *(builder.bitcast(v, taken) for v in (codes, quad))])

    def start(self, builder: Any, scalar: Any) -> Any:
        return spread(builder, scalar, 16)

    def finish(self, builder: Any, acc: Any) -> Any:
        return acc


class _Widened:
    """The same sums by products of 16 bits, two lanes to a row until the end."""

    sums = _PAIRS

    def codes(self, builder: Any, vector: Any) -> Any:
        return builder.zext(vector, _WORDS)

    def quad(self, builder: Any, scalar: Any) -> Any:
        four = builder.bitcast(scalar, ir.VectorType(ir.IntType(8), 4))
        wide = builder.bitcast(builder.sext(four, ir.VectorType(ir.IntType(16), 4)), _I64)
        every = builder.bitcast(spread(builder, wide, 16), ir.VectorType(ir.IntType(16), 64))
        return builder.sext(every, _WORDS)

    def onto(self, builder: Any, acc: Any, codes: Any, quad: Any) -> Any:
        return builder.add(acc, _paired(builder, builder.mul(codes, quad)))

    def start(self, builder: Any, scalar: Any) -> Any:
        places = ir.Constant(ir.VectorType(_I32, 32), [0, 1] * 16)
        none = ir.Constant(_SUMS, [0] * 16)
        whole = builder.shuffle_vector(spread(builder, scalar, 16), none, places)
        return builder.and_(whole, ir.Constant(_PAIRS, [-1, 0] * 16))

    def finish(self, builder: Any, acc: Any) -> Any:
        return _paired(builder, acc)


def _paired(builder: Any, vector: Any) -> Any:
    """Sums of neighbouring lanes."""
    half = vector.type.count // 2
    places = ir.VectorType(_I32, half)
    even, odd = (
        builder.shuffle_vector(vector, vector, ir.Constant(places, [2 * i + side for i in range(half)]))
        for side in (0, 1)
    )
    return builder.add(even, odd)


def looped(
    builder: Any, count: Any, starts: list[Any], body: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """Code that runs ``body(index, values)`` ``count`` times, at least once; the last values."""
    before, inside, after = builder.block, *(builder.append_basic_block(name) for name in ("quads", "done"))
    builder.branch(inside)
    builder.position_at_end(inside)
    index = builder.phi(_I64)
    index.add_incoming(ir.Constant(_I64, 0), before)
    values = [builder.phi(start.type) for start in starts]
    for value, start in zip(values, starts, strict=True):
        value.add_incoming(start, before)
    made = body(index, values)
    following = builder.add(index, ir.Constant(_I64, 1))
    index.add_incoming(following, builder.block)
    for value, new in zip(values, made, strict=True):
        value.add_incoming(new, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), inside, after)
    builder.position_at_end(after)
    return made


def _at(builder: Any, base: Any, index: Any, step: int, offset: int, kind: Any, align: int) -> Any:
    """What lies ``index * step + offset`` bytes on."""
    place = builder.add(builder.mul(index, ir.Constant(_I64, step)), ir.Constant(_I64, offset))
    return read(builder, builder.gep(base, [place]), kind, align)


def halves(builder: Any, lanes: Any) -> tuple[Any, Any]:
    """Even and odd lanes of 32 bits, sign-extended by shifts that a multiplication absorbs (``vpmuldq``).

    A row block's 16 lanes hold its rows 0, 8, 1, 9, ..: these are rows 0 to 7 and rows 8 to 15.
    """
    whole, places = builder.bitcast(lanes, _WIDE), constant(_WIDE, 32)
    return builder.ashr(builder.shl(whole, places), places), builder.ashr(whole, places)


def add_onto(builder: Any, wide: Any, index: Any, block: int, products: list[Any]) -> None:
    """Add to token ``index``'s 64-bit sums of a row block."""
    for half, one in enumerate(products):
        place = builder.add(
            builder.mul(index, ir.Constant(_I64, ROWS)), ir.Constant(_I64, 16 * block + 8 * half)
        )
        pointer = builder.bitcast(builder.gep(wide, [place]), _WIDE.as_pointer())
        known = builder.load(pointer)
        known.align = 8
        builder.store(builder.add(known, one), pointer).align = 8


def _write(builder: Any, sums: Any, token: int, block: int, value: Any) -> None:
    pointer = builder.gep(sums, [ir.Constant(_I64, 16 * (BLOCKS * token + block))])
    builder.store(value, builder.bitcast(pointer, _SUMS.as_pointer())).align = 4


def _function(write: Callable[[Any, Any, Any, Any, Any], None]) -> Any:
    """``(codes, at, x, at, count, sums)`` as an intrinsic; offsets in bytes, sums int32 [tokens, ROWS]."""

    @intrinsic
    def function(
        typing_context: Any, codes: Any, codes_at: Any, x: Any, x_at: Any, count: Any, sums: Any
    ) -> Any:
        def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
            codes, codes_at, x, x_at, count, sums = arguments
            write(
                builder,
                address(context, builder, made.args[0], codes, codes_at),
                address(context, builder, made.args[2], x, x_at),
                count,
                address(context, builder, made.args[5], sums, ir.Constant(_I64, 0)),
            )
            return context.get_dummy_value()

        return types.void(codes, types.intp, x, types.intp, types.intp, sums), generate

    return function


def tile(tokens: int) -> Any:
    """``(codes, at, x, at, count, starts, multipliers, at, wide, at)`` as an intrinsic.

    Sums of a panel for ``tokens`` tokens, times the multipliers of the panel's rows, are added to ``wide``,
    int64 [tokens, ROWS]. Count is quads; x holds [quads, tokens] of them; a token's sums start from what
    ``starts``, int32, holds.
    """
    way: Any = _Fused() if fast() else _Widened()
    # 24 sums, 3 codes and a quad fill the 32 registers of AVX-512; without it a sum takes four of 16.
    blocks, width = (BLOCKS, tokens) if fast() else (1, min(tokens, 2))
    places = list(product(range(width), range(blocks)))

    def part(builder: Any, codes: Any, x: Any, count: Any, starts: Any, by: Any, wide: Any) -> None:
        def body(index: Any, acc: list[Any]) -> list[Any]:
            if tokens == 1:
                _ahead(builder, codes, index)
            stored = [_at(builder, codes, index, PANEL, 64 * b, _BYTES, 1) for b in range(blocks)]
            rows = [way.codes(builder, vector) for vector in stored]
            scalars = [_at(builder, x, index, 4 * tokens, 4 * t, _I32, 1) for t in range(width)]
            quads = [way.quad(builder, scalar) for scalar in scalars]
            pairs = zip(places, acc, strict=True)
            return [way.onto(builder, one, rows[b], quads[t]) for (t, b), one in pairs]

        given = [builder.load(builder.gep(starts, [ir.Constant(_I64, t)])) for t in range(width)]
        done = looped(builder, count, [way.start(builder, given[t]) for t, _ in places], body)
        stored = [
            read(builder, builder.gep(by, [ir.Constant(_I64, 16 * b)]), _SUMS, 4) for b in range(blocks)
        ]
        factors = [halves(builder, lanes) for lanes in stored]
        for (t, b), acc in zip(places, done, strict=True):
            pairs = zip(halves(builder, way.finish(builder, acc)), factors[b], strict=True)
            products = [builder.mul(lanes, factor) for lanes, factor in pairs]
            add_onto(builder, wide, ir.Constant(_I64, t), b, products)

    def write(builder: Any, codes: Any, x: Any, count: Any, starts: Any, by: Any, wide: Any) -> None:
        def body(index: Any, _: list[Any]) -> list[Any]:
            columns = ir.Constant(_I64, tokens // width)
            row, column = builder.udiv(index, columns), builder.urem(index, columns)
            of_wide = builder.add(_times(builder, column, width * ROWS), _times(builder, row, 16 * blocks))
            codes_here = builder.gep(codes, [_times(builder, row, 64 * blocks)])
            x_here = builder.gep(x, [_times(builder, column, 4 * width)])
            starts_here = builder.gep(starts, [_times(builder, column, width)])
            by_here = builder.gep(by, [_times(builder, row, 16 * blocks)])
            part(builder, codes_here, x_here, count, starts_here, by_here, builder.gep(wide, [of_wide]))
            return []

        parts = BLOCKS // blocks * (tokens // width)
        if parts == 1:
            part(builder, codes, x, count, starts, by, wide)
        else:
            looped(builder, ir.Constant(_I64, parts), [], body)

    @intrinsic
    def function(
        typing_context: Any,
        codes: Any,
        codes_at: Any,
        x: Any,
        x_at: Any,
        count: Any,
        starts: Any,
        multipliers: Any,
        at: Any,
        wide: Any,
        wide_at: Any,
    ) -> Any:
        def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
            zero = ir.Constant(_I64, 0)

            def pointer(array: int, offset: Any) -> Any:
                return address(context, builder, made.args[array], arguments[array], offset)

            read_from = pointer(0, arguments[1]), pointer(2, arguments[3])
            by, wide = pointer(6, arguments[7]), pointer(8, arguments[9])
            write(builder, *read_from, arguments[4], pointer(5, zero), by, wide)
            return context.get_dummy_value()

        offset = types.intp
        given = (codes, offset, x, offset, offset, starts, multipliers, offset, wide, offset)
        return types.void(*given), generate

    return function


def _times(builder: Any, index: Any, step: int) -> Any:
    return builder.mul(index, ir.Constant(_I64, step))


def packed_tile(fields: int) -> Any:
    """Sums of a panel of codes of ``8 // fields`` bits for one token; count is vectors of codes.

    A byte holds the codes of ``fields`` quads. A field is cut out where it stands and multiplied there, its
    sums moved down at the end: they are exact multiples, and no larger than those of a whole byte.
    """
    bits = 8 // fields
    way: Any = _Fused() if fast() else _Widened()
    # Fields with sums of their own, as the registers allow; others are moved down onto them first.
    blocks, kept = (BLOCKS, min(fields, 4)) if fast() else (1, 1)

    def write(builder: Any, codes: Any, x: Any, count: Any, sums: Any) -> None:
        for block in range(0, BLOCKS, blocks):

            def body(index: Any, acc: list[Any], block: int = block) -> list[Any]:
                acc = list(acc)
                _ahead(builder, codes, index)
                stored = [
                    _at(builder, codes, index, PANEL, 64 * (block + b), _BYTES, 1) for b in range(blocks)
                ]
                for field in range(fields):
                    quad = way.quad(builder, _at(builder, x, index, 4 * fields, 4 * field, _I32, 1))
                    place = field % kept
                    mask = constant(_BYTES, ((1 << bits) - 1) << (bits * place))
                    for b, vector in enumerate(stored):
                        cut = builder.and_(_down(builder, vector, bits * (field - place)), mask)
                        one = b * kept + place
                        acc[one] = way.onto(builder, acc[one], way.codes(builder, cut), quad)
                return acc

            done = looped(builder, count, [constant(way.sums, 0)] * (blocks * kept), body)
            for b in range(blocks):
                total = way.finish(builder, done[b * kept])
                for place in range(1, kept):
                    low = builder.ashr(
                        way.finish(builder, done[b * kept + place]), constant(_SUMS, bits * place)
                    )
                    total = builder.add(total, low)
                _write(builder, sums, 0, block + b, total)

    return _function(write)


def _ahead(builder: Any, codes: Any, index: Any) -> None:
    """Fetch what is read a little later: with one token the codes come from memory, and once."""
    bytes_ = ir.IntType(8).as_pointer()
    function = declared(builder, "llvm.prefetch.p0", ir.VoidType(), [bytes_, _I32, _I32, _I32])
    read_once = [ir.Constant(_I32, value) for value in (0, 3, 1)]  # to read, to the nearest cache, data
    for block in range(BLOCKS):
        place = builder.mul(index, ir.Constant(_I64, PANEL))
        place = builder.add(place, ir.Constant(_I64, 64 * block + AHEAD))
        builder.call(function, [builder.gep(codes, [place]), *read_once])


def _down(builder: Any, vector: Any, places: int) -> Any:
    """Bits of every byte moved down; what comes in from the byte above is masked off by the caller."""
    if not places:
        return vector
    kind = ir.VectorType(ir.IntType(16), 32)
    moved = builder.lshr(builder.bitcast(vector, kind), constant(kind, places))
    return builder.bitcast(moved, _BYTES)
