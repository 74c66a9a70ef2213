"""Eight float64 side by side as one value of Numba, in plain LLVM: the registers of the searches' kernels.

A comparison makes a mask, the mask chooses lanes. Arrays are flat and C-ordered; offsets are not checked.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 8
_F64, _I32 = ir.DoubleType(), ir.IntType(32)


class _Kind(types.Type):
    def __init__(self, name: str, element: Any) -> None:
        self.llvm = ir.VectorType(element, LANES)
        super().__init__(name=name)


@register_model(_Kind)
class _KindModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: _Kind) -> None:
        super().__init__(manager, kind, kind.llvm)


FLOATS, MASK = _Kind("float64_x8", _F64), _Kind("mask_x8", ir.IntType(1))


def _function(arguments: tuple[Any, ...], result: Any, code: Callable[..., Any]) -> Any:
    """An intrinsic of fixed types; ``code(builder, ...)`` writes it."""

    def generate(context: Any, builder: Any, made: Any, given: Any) -> Any:
        return code(builder, *given)

    made = signature(result, *arguments)
    # Numba reads how many arguments a function takes off its own signature.
    if len(arguments) == 1:
        return intrinsic(lambda typing_context, a: (made, generate))
    if len(arguments) == 2:
        return intrinsic(lambda typing_context, a, b: (made, generate))
    return intrinsic(lambda typing_context, a, b, c: (made, generate))


def _spread(builder: Any, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(FLOATS.llvm, ir.Undefined), value, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
    return builder.shuffle_vector(first, first, zeros)


def _call(name: str, result: Any) -> Callable[..., Any]:
    def code(builder: Any, *given: Any) -> Any:
        kind = ir.FunctionType(result, [value.type for value in given])
        known = builder.module.globals.get(name)
        return builder.call(known or ir.Function(builder.module, kind, name), given)

    return code


def _sum(builder: Any, value: Any) -> Any:
    add = _call(f"llvm.vector.reduce.fadd.v{LANES}f64", _F64)
    return add(builder, ir.Constant(_F64, -0.0), value)


splat = _function((types.float64,), FLOATS, _spread)  #: one number in every lane
absolute = _function((FLOATS,), FLOATS, _call(f"llvm.fabs.v{LANES}f64", FLOATS.llvm))
total = _function((FLOATS,), types.float64, _sum)  #: the lanes' sum, from the first to the last
#: Mask of the lanes in which the first is not below the second.
at_least = _function((FLOATS, FLOATS), MASK, lambda builder, a, b: builder.fcmp_ordered(">=", a, b))
#: Of two vectors the first's lanes where the mask is set, the second's elsewhere.
where = _function((MASK, FLOATS, FLOATS), FLOATS, lambda builder, m, a, b: builder.select(m, a, b))
_larger = _call(f"llvm.maxnum.v{LANES}f64", FLOATS.llvm)
larger = _function((FLOATS, FLOATS), FLOATS, _larger)  #: lane by lane


def _place(context: Any, builder: Any, made: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(made.args[0])(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), FLOATS.llvm.as_pointer())


@intrinsic
def load(typing_context: Any, array: Any, offset: Any) -> Any:
    """Eight neighbours of a float64 array."""

    def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        value = builder.load(_place(context, builder, made, *arguments))
        value.align = LANES
        return value

    return FLOATS(array, types.intp), generate


@intrinsic
def store(typing_context: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write eight neighbours of a float64 array."""

    def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        written = builder.store(arguments[2], _place(context, builder, made, *arguments[:2]))
        written.align = LANES
        return context.get_dummy_value()

    return types.void(array, types.intp, FLOATS), generate


def _arithmetic(symbol: Any, method: str) -> None:
    class Template(AbstractTemplate):
        def generic(self, arguments: Any, keywords: Any) -> Any:
            return signature(FLOATS, FLOATS, FLOATS) if arguments == (FLOATS, FLOATS) else None

    infer_global(symbol)(Template)

    @lower_builtin(symbol, FLOATS, FLOATS)
    def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        return getattr(builder, method)(*arguments)


for _symbol, _method in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _arithmetic(_symbol, _method)
