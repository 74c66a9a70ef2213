"""Vector operations that x86 has instructions for, each with the same meaning on a CPU that has not.

Where the instruction exists LLVM's intrinsic of it is called; elsewhere plain LLVM code computes the same.
Which is decided when a kernel is compiled, from `sim.kernels.cpu`.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.extending import intrinsic

from sim.kernels import cpu
from sim.kernels.vectors import Lanes, U8x64, U16x32, U32x16, constant, declared

_I32 = ir.IntType(32)
SUM, MAJORITY = 0x96, 0xE8  #: truth tables of a full adder's two outputs
#: ``a ? ~c : b``: the carry of two words into a running sum, of which b, a and c are the successive values.
CARRY = 0x5C
DIFFER_ON = 0x28  #: ``(a ^ b) & c``


def logic3(builder: Any, table: int, a: Any, b: Any, c: Any) -> Any:
    """Code of any function of three bits in every lane; its truth table's bit ``4a + 2b + c`` is the value.

    LLVM itself finds the one instruction for some functions only, hence the intrinsic.
    """
    kind = a.type
    if kind.count * kind.element.width == 512 and cpu.has("avx512f"):
        eight = ir.VectorType(ir.IntType(64), 8)
        function = declared(builder, "llvm.x86.avx512.pternlog.q.512", eight, [eight] * 3 + [_I32])
        words = [builder.bitcast(operand, eight) for operand in (a, b, c)]
        return builder.bitcast(builder.call(function, [*words, ir.Constant(_I32, table)]), kind)
    where_a, where_not = (_logic2(builder, part, b, c) for part in (table >> 4, table & 15))
    return builder.or_(builder.and_(a, where_a), builder.and_(builder.not_(a), where_not))


def _logic2(builder: Any, table: int, b: Any, c: Any) -> Any:
    where_b, where_not = (_logic1(builder, part, c) for part in (table >> 2, table & 3))
    return builder.or_(builder.and_(b, where_b), builder.and_(builder.not_(b), where_not))


def _logic1(builder: Any, table: int, c: Any) -> Any:
    return (constant(c.type, 0), builder.not_(c), c, constant(c.type, -1))[table]


def logic(table: int) -> Any:
    """``(a, b, c)``: `logic3` as a function for kernels."""

    @intrinsic
    def function(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
        if not isinstance(a, Lanes) or not a == b == c:
            return None

        def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
            return logic3(builder, table, *arguments)

        return a(a, b, c), generate

    return function


#: ``(a, b, c)`` of a carry-save adder: ``a + b + c = sum3 + 2 majority``, bit by bit.
sum3, majority = logic(SUM), logic(MAJORITY)


@intrinsic
def dot4(typing_context: Any, acc: Any, unsigned: Any, signed: Any) -> Any:
    """U32x16: ``acc`` plus four products each, U8x64 unsigned times U8x64 signed, wrapping (vpdpbusd)."""
    if (acc, unsigned, signed) != (U32x16, U8x64, U8x64):
        return None

    def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        return _dot4(builder, *arguments)

    return U32x16(U32x16, U8x64, U8x64), generate


def _dot4(builder: Any, acc: Any, unsigned: Any, signed: Any) -> Any:
    wide = U32x16.llvm
    if cpu.has("avx512vnni"):
        # Operands are bytes since LLVM 22, and were words of four before.
        taken = U8x64.llvm if llvm.llvm_version_info[0] >= 22 else wide
        function = declared(builder, "llvm.x86.avx512.vpdpbusd.512", wide, [wide, taken, taken])
        return builder.call(function, [acc, *(builder.bitcast(v, taken) for v in (unsigned, signed))])
    for place in range(4):
        every = ir.Constant(ir.VectorType(_I32, 16), list(range(place, 64, 4)))
        left = builder.zext(builder.shuffle_vector(unsigned, unsigned, every), wide)
        right = builder.sext(builder.shuffle_vector(signed, signed, every), wide)
        acc = builder.add(acc, builder.mul(left, right))
    return acc


@intrinsic
def dot2(typing_context: Any, acc: Any, left: Any, right: Any) -> Any:
    """U32x16: ``acc`` plus two products each, U16x32 signed times U16x32 signed, wrapping (vpdpwssd)."""
    if (acc, left, right) != (U32x16, U16x32, U16x32):
        return None

    def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        return _dot2(builder, *arguments)

    return U32x16(U32x16, U16x32, U16x32), generate


def _dot2(builder: Any, acc: Any, left: Any, right: Any) -> Any:
    wide, half = U32x16.llvm, U16x32.llvm
    if cpu.has("avx512vnni"):
        taken = half if llvm.llvm_version_info[0] >= 22 else wide
        function = declared(builder, "llvm.x86.avx512.vpdpwssd.512", wide, [wide, taken, taken])
        return builder.call(function, [acc, *(builder.bitcast(v, taken) for v in (left, right))])
    if cpu.has("avx512bw"):
        function = declared(builder, "llvm.x86.avx512.pmaddw.d.512", wide, [half, half])
        return builder.add(acc, builder.call(function, [left, right]))
    for place in range(2):
        every = ir.Constant(ir.VectorType(_I32, 16), list(range(place, 32, 2)))
        parts = (builder.sext(builder.shuffle_vector(v, v, every), wide) for v in (left, right))
        acc = builder.add(acc, builder.mul(*parts))
    return acc


@intrinsic
def lookup_bytes(typing_context: Any, table: Any, index: Any) -> Any:
    """U8x64: of every 16 bytes of ``table`` the one the index's low 4 bits say, 0 if bit 7 is 1 (vpshufb)."""
    if (table, index) != (U8x64, U8x64):
        return None

    def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        kind = U8x64.llvm
        if cpu.has("avx512bw"):
            function = declared(builder, "llvm.x86.avx512.pshuf.b.512", kind, [kind, kind])
            return builder.call(function, arguments)
        low = builder.and_(arguments[1], constant(kind, 15))
        block = ir.Constant(kind, [lane & 48 for lane in range(64)])
        found = _picked(builder, arguments[0], builder.or_(low, block))
        negative = builder.icmp_signed("<", arguments[1], constant(kind, 0))
        return builder.select(negative, constant(kind, 0), found)

    return U8x64(U8x64, U8x64), generate


@intrinsic
def lookup_words(typing_context: Any, low: Any, index: Any, high: Any) -> Any:
    """U16x32: of the 64 lanes of ``low`` and ``high`` the one that the index's low 6 bits say (vpermi2w)."""
    if (low, index, high) != (U16x32, U16x32, U16x32):
        return None

    def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        kind = U16x32.llvm
        if cpu.has("avx512bw"):
            function = declared(builder, "llvm.x86.avx512.vpermi2var.hi.512", kind, [kind] * 3)
            return builder.call(function, arguments)
        place = builder.and_(arguments[1], constant(kind, 31))
        first, second = (_picked(builder, arguments[side], place) for side in (0, 2))
        upper = builder.icmp_unsigned("!=", builder.and_(arguments[1], constant(kind, 32)), constant(kind, 0))
        return builder.select(upper, second, first)

    return U16x32(U16x32, U16x32, U16x32), generate


def _picked(builder: Any, table: Any, index: Any) -> Any:
    """Lane by lane: no plain LLVM shuffle takes an index that is not known when it is compiled."""
    found = ir.Constant(table.type, ir.Undefined)
    for lane in range(table.type.count):
        at = ir.Constant(_I32, lane)
        place = builder.zext(builder.extract_element(index, at), _I32)
        found = builder.insert_element(found, builder.extract_element(table, place), at)
    return found


def full_adder(builder: Any, a: Any, b: Any, c: Any) -> tuple[Any, Any]:
    """Code of sum and carry of three vectors, bit by bit."""
    return logic3(builder, SUM, a, b, c), logic3(builder, MAJORITY, a, b, c)
