"""Where a tile's sums of 64 bits go: onto a layer's integer sums, or at once through its one conversion."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from algo.compiled import kernel
from sim.kernels.dots_tile import ROWS
from sim.kernels.vectors import Lanes, U64x8, address, declared, element, load, read, splat, spread, store

load_u64x8, splat_u64x8, splat_i64x1 = load(U64x8), splat(U64x8), splat(Lanes(64, 1))

LANES = 8
_I32, _I64 = ir.IntType(32), ir.IntType(64)
_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)


class Sums(NamedTuple):
    """Integer sums that several runs of bits or code matrices may add to."""

    out: NDArray[np.int64]  #: [tokens, rows], flat
    factor: int  #: place value of the bits that were multiplied
    fresh: bool  #: nothing stands there yet: sums are written


class Outputs(NamedTuple):
    """Outputs that are all of these sums: `algo.bitplane.decode.outputs`, with nothing stored in between."""

    out: NDArray[np.float32]  #: [tokens, rows], flat
    factor: NDArray[np.float64]  #: of every row, and of the padding of the last panel
    scale: NDArray[np.float64]  #: [tokens]


Target = Sums | Outputs


def land(target: Target, wide: NDArray[np.int64], at: int, rows: int, row: int, token: int) -> None:
    """Bring a token's sums of a panel, ``wide[at:]``, to rows from ``row`` on; padding is left out."""
    raise NotImplementedError("land is for compiled callers")


@overload(land, inline="always")
def _land(target: Any, wide: Any, at: Any, rows: Any, row: Any, token: Any) -> Any:
    if target.instance_class is Outputs:

        def convert(target: Any, wide: Any, at: Any, rows: Any, row: Any, token: Any) -> None:
            scale = element(target.scale, token)
            put_outputs(wide, at, target.factor, row, rows - row, scale, target.out, token * rows + row)

        return convert

    def add(target: Any, wide: Any, at: Any, rows: Any, row: Any, token: Any) -> None:
        put_sums(wide, at, target.factor, target.fresh, rows, row, target.out, token * rows)

    return add


@kernel(inline="always")
def put_sums(wide: Any, at: int, factor: int, fresh: bool, rows: int, row: int, out: Any, to: int) -> None:
    """Add a token's sums to ``out``, or write them if fresh; padding left out."""
    by = splat_u64x8(factor)
    for i in range(0, ROWS, LANES):
        if row + i + LANES <= rows:
            sums = load_u64x8(wide, at + i)
            if factor != 1:
                sums = sums * by
            store(out, to + row + i, sums if fresh else load_u64x8(out, to + row + i) + sums)
        else:
            for k in range(row + i, rows):
                before = 0 if fresh else element(out, to + k)
                store(out, to + k, splat_i64x1(before + element(wide, at + k - row) * factor))


@intrinsic
def put_outputs(
    typing_context: Any, wide: Any, at: Any, factor: Any, row: Any, left: Any, scale: Any, out: Any, to: Any
) -> Any:
    """``float32(float64(sum) * factor * scale)`` of a panel, of which the first ``left`` rows are there."""

    def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        wide, at, factor, row, left, scale, out, to = arguments
        scales, remaining = spread(builder, scale, LANES), spread(builder, left, LANES)
        for i in range(0, ROWS, LANES):
            past = ir.Constant(_I64, i)
            sums = address(context, builder, made.args[0], wide, builder.add(at, past))
            by = address(context, builder, made.args[2], factor, builder.add(row, past))
            y = builder.sitofp(read(builder, sums, U64x8.llvm, 8), _DOUBLES)
            y = builder.fmul(builder.fmul(y, read(builder, by, _DOUBLES, 8)), scales)
            # A definition that starts from 0.0 never ends in -0.0.
            y = builder.fadd(y, ir.Constant(_DOUBLES, [0.0] * LANES))
            place = address(context, builder, made.args[6], out, builder.add(to, past))
            lanes = ir.Constant(U64x8.llvm, list(range(i, i + LANES)))
            there = builder.icmp_signed("<", lanes, remaining)
            _store_where(builder, builder.fptrunc(y, _FLOATS), place, there)
        return context.get_dummy_value()

    index = types.intp
    return types.void(wide, index, factor, index, index, types.float64, out, index), generate


def _store_where(builder: Any, values: Any, place: Any, mask: Any) -> None:
    pointer = builder.bitcast(place, _FLOATS.as_pointer())
    given = [_FLOATS, pointer.type, _I32, mask.type]
    function = declared(builder, f"llvm.masked.store.v{LANES}f32.p0", ir.VoidType(), given)
    builder.call(function, [values, pointer, ir.Constant(_I32, 4), mask])
