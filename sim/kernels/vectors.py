"""LLVM vectors as values of Numba: integers side by side in one register.

``U32x16`` is the type of sixteen 32-bit lanes; any other is ``Lanes(bits, count)``. ``load(U32x16)`` makes a
function for use in kernels, and so do the others that name a type. Lanes are without sign, as LLVM's are;
what needs one says it. All here is plain LLVM and runs on any CPU; `sim.kernels.wide` has what x86 adds.

Arrays are flat. Offsets count elements of the array, whatever the lanes are, and are not checked.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

_I32 = ir.IntType(32)


class Lanes(types.Type):
    """``count`` integers of ``bits`` bits."""

    def __init__(self, bits: int, count: int) -> None:
        self.bits, self.count = bits, count
        super().__init__(name=f"lanes_{bits}x{count}")

    @property
    def llvm(self) -> ir.VectorType:
        """The LLVM type."""
        return ir.VectorType(ir.IntType(self.bits), self.count)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, kind.llvm)


U64x8, U32x16, U16x32, U8x64 = Lanes(64, 8), Lanes(32, 16), Lanes(16, 32), Lanes(8, 64)

# --- what generators of code share


def constant(kind: ir.VectorType, value: int) -> ir.Constant:
    """The vector whose every lane is ``value``."""
    return ir.Constant(kind, [value] * kind.count)


def declared(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """An LLVM intrinsic that llvmlite does not name."""
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def spread(builder: Any, value: Any, count: int) -> Any:
    """A scalar in every lane."""
    kind = ir.VectorType(value.type, count)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, first, constant(ir.VectorType(_I32, count), 0))


def address(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    """Pointer to an element of a flat array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


def read(builder: Any, pointer: Any, kind: Any, align: int) -> Any:
    """What lies at a pointer, of LLVM type ``kind``."""
    value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    value.align = align
    return value


def _fitted(builder: Any, value: Any, bits: int, signed: bool) -> Any:
    """An integer as one of ``bits`` bits."""
    if value.type.width > bits:
        return builder.trunc(value, ir.IntType(bits))
    if value.type.width < bits:
        return (builder.sext if signed else builder.zext)(value, ir.IntType(bits))
    return value


def _unary(of: Callable[[Any, Any], Any], result: Callable[[Lanes], Any] = lambda kind: kind) -> Any:
    """An intrinsic of one vector; ``of(builder, value)`` writes its code."""

    @intrinsic
    def function(typing_context: Any, value: Any) -> Any:
        if not isinstance(value, Lanes):
            return None

        def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
            return of(builder, arguments[0])

        return result(value)(value), generate

    return function


def _to(kind: Lanes, of: Callable[[Any, Any], Any]) -> Any:
    """An intrinsic that makes a ``kind`` of one vector."""
    return _unary(of, lambda _: kind)


# --- memory


@intrinsic
def element(typing_context: Any, array: Any, offset: Any) -> Any:
    """Element of a flat array; Numba's own indexing first asks whether the index is negative."""

    def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        return builder.load(address(context, builder, made.args[0], *arguments))

    return array.dtype(array, types.intp), generate


@intrinsic
def prefetch(typing_context: Any, array: Any, offset: Any) -> Any:
    """Bring the line of an element near, to be written soon; the element need not exist."""

    def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        place = builder.bitcast(
            address(context, builder, made.args[0], *arguments), ir.IntType(8).as_pointer()
        )
        function = declared(builder, "llvm.prefetch.p0", ir.VoidType(), [place.type, _I32, _I32, _I32])
        # For writing, to be kept in all caches, of data.
        builder.call(function, [place, *(ir.Constant(_I32, value) for value in (1, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


def load(kind: Lanes) -> Any:
    """``(array, offset)``: lanes from an array."""

    @intrinsic
    def function(typing_context: Any, array: Any, offset: Any) -> Any:
        def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
            pointer = address(context, builder, made.args[0], *arguments)
            return read(builder, pointer, kind.llvm, array.dtype.bitwidth // 8)

        return kind(array, types.intp), generate

    return function


@intrinsic
def store(typing_context: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write lanes to an array."""

    def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        pointer = address(context, builder, made.args[0], *arguments[:2])
        written = builder.store(arguments[2], builder.bitcast(pointer, arguments[2].type.as_pointer()))
        written.align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


def splat(kind: Lanes) -> Any:
    """``(integer)``: the integer in every lane; high bits that a lane cannot hold are dropped."""

    @intrinsic
    def function(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
            signed = made.args[0].signed
            return spread(builder, _fitted(builder, arguments[0], kind.bits, signed), kind.count)

        return kind(value), generate

    return function


# --- arithmetic: + - * & | ^ on vectors of one type, ~ of one


def _binary(symbol: Any, method: str) -> None:
    class Template(AbstractTemplate):
        def generic(self, arguments: Any, keywords: Any) -> Any:
            left, right = arguments
            return signature(left, left, right) if isinstance(left, Lanes) and left == right else None

    infer_global(symbol)(Template)

    @lower_builtin(symbol, Lanes, Lanes)
    def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        return getattr(builder, method)(*arguments)


for _symbols, _method in (
    ((operator.add, operator.iadd), "add"),
    ((operator.sub, operator.isub), "sub"),
    ((operator.mul, operator.imul), "mul"),
    ((operator.and_, operator.iand), "and_"),
    ((operator.or_, operator.ior), "or_"),
    ((operator.xor, operator.ixor), "xor"),
):
    for _symbol in _symbols:
        _binary(_symbol, _method)


@infer_global(operator.invert)
class _Invert(AbstractTemplate):
    def generic(self, arguments: Any, keywords: Any) -> Any:
        return signature(arguments[0], arguments[0]) if isinstance(arguments[0], Lanes) else None


@lower_builtin(operator.invert, Lanes)
def _generate_invert(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
    return builder.not_(arguments[0])


def _shift(method: str) -> Any:
    @intrinsic(prefer_literal=True)
    def function(typing_context: Any, value: Any, places: Any) -> Any:
        if not (isinstance(value, Lanes) and isinstance(places, types.IntegerLiteral)):
            return None

        def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
            return getattr(builder, method)(arguments[0], constant(value.llvm, places.literal_value))

        return value(value, places), generate

    return function


shift_left, shift_right = _shift("shl"), _shift("lshr")  #: ``(vector, literal)``; zeros come in
shift_signed = _shift("ashr")  #: ``(vector, literal)`` to the right; copies of the sign come in


def ones(builder: Any, value: Any) -> Any:
    """Code that counts the ones of a scalar or of each lane."""
    kind = value.type
    suffix = f"v{kind.count}i{kind.element.width}" if isinstance(kind, ir.VectorType) else f"i{kind.width}"
    return builder.call(declared(builder, f"llvm.ctpop.{suffix}", kind, [kind]), [value])


count_ones = _unary(ones)  #: ``(vector)``: ones in each lane


@intrinsic
def popcount(typing_context: Any, word: Any) -> Any:
    """Ones in a uint64; Numba has none of its own."""

    def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        return ones(builder, arguments[0])

    return types.int64(types.uint64), generate


def _reduced(builder: Any, value: Any) -> Any:
    kind = value.type
    name = f"llvm.vector.reduce.add.v{kind.count}i{kind.element.width}"
    return builder.call(declared(builder, name, kind.element, [kind]), [value])


#: ``(vector)``: sum of the lanes, a signed integer as wide as one, wrapping
total = _unary(_reduced, lambda kind: types.Integer.from_bitwidth(kind.bits, signed=True))

# --- shapes


def bitcast(kind: Lanes) -> Any:
    """``(vector)``: the same bits as lanes of ``kind``; the first lane holds the lowest bits."""
    return _to(kind, lambda builder, value: builder.bitcast(value, kind.llvm))


def zero_extend(kind: Lanes) -> Any:
    """``(vector)``: each lane, taken as unsigned, in a wider one."""
    return _to(kind, lambda builder, value: builder.zext(value, kind.llvm))


def sign_extend(kind: Lanes) -> Any:
    """``(vector)``: each lane, taken as two's complement, in a wider one."""
    return _to(kind, lambda builder, value: builder.sext(value, kind.llvm))


def truncate(kind: Lanes) -> Any:
    """``(vector)``: the low bits of each lane."""
    return _to(kind, lambda builder, value: builder.trunc(value, kind.llvm))


def _shuffled(builder: Any, left: Any, right: Any, order: list[int]) -> Any:
    places = ir.Constant(ir.VectorType(_I32, len(order)), order)
    return builder.shuffle_vector(left, right, places)


def _half(which: int) -> Any:
    def of(builder: Any, value: Any) -> Any:
        size = value.type.count // 2
        return _shuffled(builder, value, value, list(range(which * size, (which + 1) * size)))

    return _unary(of, lambda kind: Lanes(kind.bits, kind.count // 2))


low_half, high_half = _half(0), _half(1)  #: ``(vector)``: the first, the last half of the lanes


def _pairwise(order: Callable[[int], list[int]], growth: int) -> Any:
    @intrinsic
    def function(typing_context: Any, left: Any, right: Any) -> Any:
        if not isinstance(left, Lanes) or left != right:
            return None

        def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
            return _shuffled(builder, arguments[0], arguments[1], order(left.count))

        return Lanes(left.bits, left.count * growth)(left, right), generate

    return function


concatenate = _pairwise(lambda n: list(range(2 * n)), 2)  #: lanes of the first, then of the second
#: First lanes of both in turn: ``a0 b0 a1 b1 ..``; and last lanes.
interleave_low = _pairwise(lambda n: [i // 2 + (i % 2) * n for i in range(n)], 1)
interleave_high = _pairwise(lambda n: [n // 2 + i // 2 + (i % 2) * n for i in range(n)], 1)


def shuffle(order: tuple[int, ...]) -> Any:
    """``(a, b)``: lanes of ``a`` (0 to count - 1) and ``b`` (from count on) in a fixed order."""

    @intrinsic
    def function(typing_context: Any, left: Any, right: Any) -> Any:
        if not isinstance(left, Lanes) or left != right:
            return None

        def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
            return _shuffled(builder, arguments[0], arguments[1], list(order))

        return Lanes(left.bits, len(order))(left, right), generate

    return function


# --- masks: an integer with a bit for each lane, lane 0 the lowest


def _choices(builder: Any, mask: Any, count: int) -> Any:
    return builder.bitcast(_fitted(builder, mask, count, False), ir.VectorType(ir.IntType(1), count))


@intrinsic
def add_where(typing_context: Any, value: Any, mask: Any, addend: Any) -> Any:
    """``value + addend`` in the lanes whose bit of ``mask`` is 1, ``value`` in the others."""
    if not isinstance(value, Lanes) or value != addend:
        return None

    def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        given, bits, more = arguments
        return builder.select(_choices(builder, bits, value.count), builder.add(given, more), given)

    return value(value, mask, addend), generate


def bits_as_lanes(kind: Lanes) -> Any:
    """``(integer)``: lane i is 1 where bit i is, else 0."""

    @intrinsic
    def function(typing_context: Any, mask: Any) -> Any:
        def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
            return builder.zext(_choices(builder, arguments[0], kind.count), kind.llvm)

        return kind(mask), generate

    return function


def _against_zero(method: str, symbol: str) -> Any:
    def of(builder: Any, value: Any) -> Any:
        chosen = getattr(builder, method)(symbol, value, constant(value.type, 0))
        return builder.bitcast(chosen, ir.IntType(value.type.count))

    return _unary(of, lambda kind: types.Integer.from_bitwidth(kind.count, signed=False))


#: ``(vector)``: the mask of the lanes that are not 0, or are negative, an unsigned integer of ``count`` bits
nonzero, negative = _against_zero("icmp_unsigned", "!="), _against_zero("icmp_signed", "<")
