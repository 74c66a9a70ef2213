"""Matrices for an accelerator's test: some rows of a packed one, or a small random one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.activations import Activations
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.planes import Plane

if TYPE_CHECKING:
    from hw.accelerator.commands import Command
    from hw.accelerator.spec import AcceleratorSpec

Int = NDArray[np.int64]

#: Random matrices, as (method, format, bits of an activation): the first that the PE computes is taken.
REHEARSALS = (
    ("rtn", "int4-g128", 4),
    ("rtn", "int4-g128", 8),
    ("billm", None, 8),
    ("ternary", None, 8),
    ("ternary", None, 1),
    ("sign", None, 8),
    ("sign", None, 1),
    ("rtn", "int8-g128", 8),
)


def rows_of(matrix: PackedMatrix, rows: Int) -> PackedMatrix:
    """Some rows of a matrix (indices), every plane whole."""

    def ints(found: Ints) -> Ints:
        return found if len(found.values) == 1 else Ints(found.values[rows], found.bits, found.signed)

    def words(name: str) -> NDArray[np.uint64]:
        dense = matrix.dense(name)
        return dense if len(dense) == 1 else dense[rows]

    return replace(
        matrix,
        rows=len(rows),
        planes={name: Plane(words(name), plane.role) for name, plane in matrix.planes.items()},
        ints={name: ints(found) for name, found in matrix.ints.items()},
        exponent=ints(matrix.exponent),
        row=None if matrix.row is None else matrix.row[rows],
    )


def first_rows(
    matrix: PackedMatrix, spec: AcceleratorSpec, act_bits: int, seed: int = 0
) -> tuple[PackedMatrix, list[Activations]]:
    """The rows of two tiles, the second not full, and as many random activations."""
    from planeforge.simulating import streams

    part = rows_of(matrix, np.arange(min(matrix.rows, 2 * spec.rows - 1)))
    x = np.random.default_rng(seed).normal(size=(spec.columns + 1, matrix.columns))
    return part, streams(part, x, act_bits)


def commands(
    matrix: PackedMatrix, activations: Sequence[Activations], spec: AcceleratorSpec
) -> list[Command]:
    """Packets of a whole product. Raises ValueError if the matrix does not fit the accelerator."""
    from hw.accelerator.planner import Planner
    from planeforge.accelerating import Lowering

    lowering = Lowering(matrix, activations, spec)
    return list(Planner(spec, lowering.parts(), lowering.tokens, matrix.rows).commands())


def rehearsal(spec: AcceleratorSpec, seed: int = 0) -> tuple[PackedMatrix, list[Activations]]:
    """A random matrix that the accelerator computes in a few tiles, none of them full, and activations.

    Raises ValueError if its PE computes none of `REHEARSALS`, with the reason of the last one.
    """
    from planeforge.accelerating import Lowering
    from planeforge.quantizing import quantize
    from planeforge.simulating import streams

    rng = np.random.default_rng(seed)
    columns = 3 * spec.array.pe.lanes + 5
    weight = rng.normal(size=(2 * spec.rows - 1, columns))
    x = rng.normal(size=(spec.columns + 1, columns))
    for method, form, bits in REHEARSALS:
        made = quantize(weight, method, form, calibration=x)
        try:
            activations = streams(made.matrix, x, bits)
            Lowering(made.matrix, activations, spec).parts()
        except ValueError as error:
            reason = error
        else:
            return made.matrix, activations
    raise ValueError(f"accelerator must run a matrix to test it with (--matrix), but {reason}")
