"""Large matrices a block of rows at a time, so that no temporary outgrows the layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.planes import Plane

ENTRIES = 1 << 20  #: of a block, about: temporaries of 8 bytes an entry stay at 8 MiB


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Rows in blocks of an even count, so that no pair of rows is parted."""
    step = max(2, ENTRIES // columns // 2 * 2)
    return (slice(at, min(at + step, rows)) for at in range(0, rows, step))


def split(matrix: PackedMatrix) -> Iterator[tuple[slice, PackedMatrix]]:
    """Blocks of a matrix's rows, each a matrix of its own with its planes whole."""
    dense = {name: (matrix.dense(name), plane.role) for name, plane in matrix.planes.items()}
    for here in blocks(matrix.rows, matrix.columns):

        def part(ints: Ints, here: slice = here) -> Ints:
            return ints if len(ints.values) == 1 else Ints(ints.values[here], ints.bits, ints.signed)

        yield (
            here,
            replace(
                matrix,
                rows=here.stop - here.start,
                planes={n: Plane(w if len(w) == 1 else w[here], role) for n, (w, role) in dense.items()},
                ints={name: part(ints) for name, ints in matrix.ints.items()},
                exponent=part(matrix.exponent),
                row=None if matrix.row is None else matrix.row[here],
            ),
        )


def stacked(parts: Sequence[PackedMatrix]) -> PackedMatrix:
    """Matrices of the same terms, columns and kinds of arrays, one above the other; every plane whole.

    Raises ValueError if they differ in more than their rows.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    for other in parts[1:]:
        if _kind(other) != _kind(first):
            raise ValueError("parts must have the same terms, columns, groups and rotation, and have not")

    def joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        # What the first part's rows share is that of all.
        shared = first.rows > 1 and len(arrays[0]) == 1
        return arrays[0] if shared else np.concatenate(arrays)

    def ints(found: Sequence[Ints]) -> Ints:
        if any(part.coding is not None for part in found):
            raise ValueError("parts must hold their integers as they are, and have codes for them")
        return Ints(joined([i.values for i in found]), found[0].bits, found[0].signed)

    return PackedMatrix(
        rows=sum(part.rows for part in parts),
        columns=first.columns,
        group=first.group,
        terms=first.terms,
        planes={
            name: Plane(joined([part.dense(name) for part in parts]), plane.role)
            for name, plane in first.planes.items()
        },
        ints={name: ints([part.ints[name] for part in parts]) for name in first.ints},
        exponent=ints([part.exponent for part in parts]),
        row=None
        if first.row is None
        else np.concatenate([part.row for part in parts if part.row is not None]),
        factors=first.factors,
        rotate=first.rotate,
    )


def _kind(matrix: PackedMatrix) -> tuple[object, ...]:
    return matrix.terms, matrix.columns, matrix.group, matrix.rotate


def by_blocks(
    weight: NDArray[np.float64], quantize: Callable[[NDArray[np.float64]], PackedMatrix]
) -> PackedMatrix:
    """A matrix whose rows are quantized each by themselves, block after block.

    Parameters: weight, float64 [rows, columns]; quantize, of a block of its rows.
    """
    return stacked([quantize(weight[here]) for here in blocks(*weight.shape)])
