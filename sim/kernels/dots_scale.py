"""What follows sums of one token, written as LLVM code: they times their multipliers onto 64-bit sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sim.kernels.dots_tile import BLOCKS, ROWS, add_onto, halves, looped
from sim.kernels.vectors import address, read, spread

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_SUMS = ir.VectorType(_I32, 16)


def _function(product: Callable[[Any, Any, Any, Any, Any], Any]) -> Any:
    """``(multipliers, at, sums, at, stride, zero, step, acc, tokens, wide, at)`` as an intrinsic.

    ``product(builder, lanes, step, zero, sum)`` gives what the multipliers meet: sixteen lanes of 32 bits.
    """

    @intrinsic
    def function(
        typing_context: Any,
        multipliers: Any,
        at: Any,
        sums: Any,
        sums_at: Any,
        stride: Any,
        zero: Any,
        step: Any,
        acc: Any,
        tokens: Any,
        wide: Any,
        wide_at: Any,
    ) -> Any:
        def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
            multipliers, at, sums, sums_at, stride, zero, step, acc, tokens, wide, wide_at = arguments
            by = address(context, builder, made.args[0], multipliers, at)
            of = address(context, builder, made.args[2], sums, sums_at)
            lanes = address(context, builder, made.args[7], acc, ir.Constant(_I64, 0))
            onto = address(context, builder, made.args[9], wide, wide_at)
            factors = [
                halves(builder, read(builder, builder.gep(by, [ir.Constant(_I64, 16 * b)]), _SUMS, 4))
                for b in range(BLOCKS)
            ]
            places = spread(builder, builder.trunc(builder.sub(step, ir.Constant(_I64, 1)), _I32), 16)

            def body(index: Any, _: list[Any]) -> list[Any]:
                total = builder.load(builder.gep(of, [builder.mul(index, stride)]))
                taken = spread(builder, builder.trunc(builder.mul(total, zero), _I32), 16)
                for block, pair in enumerate(factors):
                    start = builder.add(
                        builder.mul(index, ir.Constant(_I64, ROWS)), ir.Constant(_I64, 16 * block)
                    )
                    found = read(builder, builder.gep(lanes, [start]), _SUMS, 4)
                    met = product(builder, found, places, taken, total)
                    products = [builder.mul(a, b) for a, b in zip(halves(builder, met), pair, strict=True)]
                    add_onto(builder, onto, index, block, products)
                return []

            looped(builder, tokens, [], body)
            return context.get_dummy_value()

        given = (multipliers, types.intp, sums, *[types.intp] * 4, acc, types.intp, wide, types.intp)
        return types.void(*given), generate

    return function


#: Adds ``multiplier * (step * acc - zero * sum)`` per token and row to ``wide``, int64 [tokens, ROWS].
scale = _function(lambda builder, lanes, places, taken, total: builder.sub(builder.shl(lanes, places), taken))
#: Adds ``multiplier * sum`` per token and row: what zero points and offsets leave.
scale_sums = _function(
    lambda builder, lanes, places, taken, total: spread(builder, builder.trunc(total, _I32), 16)
)
