"""Where a tile's sums of 64 bits go: onto a layer's integer sums, or at once through its one conversion.

Written as LLVM code: what lies beyond the matrix's rows is masked off, so no tile has a loop for its rest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from sim.kernels.dots_tile import ROWS
from sim.kernels.vectors import U64x8, address, declared, read, spread

LANES = 8
_I32, _I64 = ir.IntType(32), ir.IntType(64)
_WORDS = U64x8.llvm
_DOUBLES, _FLOATS = ir.VectorType(ir.DoubleType(), LANES), ir.VectorType(ir.FloatType(), LANES)


class Sums(NamedTuple):
    """Integer sums that several runs of bits or code matrices may add to."""

    out: NDArray[np.int64]  #: [tokens, rows], flat
    place: int  #: places that these sums are shifted by: that of the bits that were multiplied
    fresh: bool  #: nothing stands there yet: sums are written


class Outputs(NamedTuple):
    """Outputs that are all of these sums: `algo.bitplane.decode.outputs`, with nothing stored in between."""

    out: NDArray[np.float32]  #: [tokens, rows], flat
    factor: NDArray[np.float64]  #: of every row, and of the padding of the last panel
    scale: NDArray[np.float64]  #: [tokens]


Target = Sums | Outputs


@intrinsic
def land(
    typing_context: Any, target: Any, wide: Any, at: Any, rows: Any, row: Any, token: Any
) -> tuple[Any, Any]:
    """Bring a token's sums of a panel, ``wide[at:]``, to rows from ``row`` on; padding is left out."""
    kinds = dict(zip(target.fields, target.types, strict=True))
    put = _put_outputs if target.instance_class is Outputs else _put_sums

    def generate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        target, wide, at, rows, row, token = arguments
        given = dict(zip(kinds, cgutils.unpack_tuple(builder, target), strict=True))

        def place(name: str, offset: Any) -> Any:
            return address(context, builder, kinds[name], given[name], offset)

        to = builder.add(builder.mul(token, rows), row)
        left = spread(builder, builder.sub(rows, row), LANES)
        for i in range(0, ROWS, LANES):
            past = ir.Constant(_I64, i)
            pointer = address(context, builder, made.args[1], wide, builder.add(at, past))
            sums = read(builder, pointer, _WORDS, 8)
            there = builder.icmp_signed("<", ir.Constant(_WORDS, list(range(i, i + LANES))), left)
            here = builder.add(row, past)
            put(builder, sums, place("out", builder.add(to, past)), there, given, place, here, token)
        return context.get_dummy_value()

    index = types.intp
    return types.void(target, wide, index, index, index, index), generate


def _put_sums(
    builder: Any, sums: Any, pointer: Any, there: Any, given: Any, place: Any, row: Any, token: Any
) -> None:
    zero = ir.Constant(_WORDS, [0] * LANES)
    sums = builder.shl(sums, spread(builder, given["place"], LANES))
    fresh = builder.icmp_unsigned("!=", given["fresh"], ir.Constant(given["fresh"].type, 0))
    known = builder.and_(there, spread(builder, builder.not_(fresh), LANES))
    pointer = builder.bitcast(pointer, _WORDS.as_pointer())
    kinds = [pointer.type, _I32, known.type, _WORDS]
    load = declared(builder, f"llvm.masked.load.v{LANES}i64.p0", _WORDS, kinds)
    before = builder.call(load, [pointer, ir.Constant(_I32, 8), known, zero])
    _store(builder, "i64", builder.add(before, sums), pointer, 8, there)


def _put_outputs(
    builder: Any, sums: Any, pointer: Any, there: Any, given: Any, place: Any, row: Any, token: Any
) -> None:
    """``float32(float64(sum) * factor * scale)``."""
    scale = spread(builder, builder.load(place("scale", token)), LANES)
    factor = read(builder, place("factor", row), _DOUBLES, 8)
    y = builder.fmul(builder.fmul(builder.sitofp(sums, _DOUBLES), factor), scale)
    # A definition that starts from 0.0 never ends in -0.0.
    y = builder.fadd(y, ir.Constant(_DOUBLES, [0.0] * LANES))
    _store(builder, "f32", builder.fptrunc(y, _FLOATS), pointer, 4, there)


def _store(builder: Any, kind: str, values: Any, pointer: Any, align: int, where: Any) -> None:
    pointer = builder.bitcast(pointer, values.type.as_pointer())
    given = [values.type, pointer.type, _I32, where.type]
    function = declared(builder, f"llvm.masked.store.v{LANES}{kind}.p0", ir.VoidType(), given)
    builder.call(function, [values, pointer, ir.Constant(_I32, align), where])
