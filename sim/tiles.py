"""A tile's work on whichever PE: each kind of schedule where it applies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.activations import Activations
from algo.bitplane.matrix import PackedMatrix
from hw.pe.complex import Complex
from hw.pe.twoplane import TwoPlane
from hw.spec import PeSpec, Shape
from sim import gaussian, pairs, schedule

Int = NDArray[np.int64]
Work = schedule.Work | pairs.Work | gaussian.Work


def work(
    matrix: PackedMatrix, activations: Sequence[Activations], spec: PeSpec, tokens: Int, rows: Int
) -> Work:
    """Beats of the outputs ``tokens`` x ``rows`` (indices) on a PE; errors as either schedule's."""
    if isinstance(spec, TwoPlane):
        return pairs.work(matrix, activations, spec, tokens, rows)
    if isinstance(spec, Complex):
        return gaussian.work(matrix, activations, spec, tokens, rows)
    return schedule.work(matrix, activations, spec, tokens, rows)


def assemble(done: Work, items: Int) -> Int:
    """Integer sums [streams, tokens, rows] of a tile's items; errors as either schedule's."""
    if isinstance(done, gaussian.Work):
        return gaussian.assemble(done, items)
    return pairs.assemble(done, items) if isinstance(done, pairs.Work) else schedule.assemble(done, items)


def shape(matrix: PackedMatrix, act_bits: int, tokens: int, spec: PeSpec) -> Shape:
    """The matrix product as ``spec`` counts it."""
    if isinstance(spec, Complex):
        return gaussian.shape(matrix, act_bits, tokens)
    made = pairs if isinstance(spec, TwoPlane) else schedule
    return made.shape(matrix, act_bits, tokens)


def check(matrix: PackedMatrix, activations: Sequence[Activations], spec: PeSpec) -> None:
    """Refuse a PE that cannot compute the product.

    Raises ValueError with what it lacks.
    """
    if isinstance(spec, TwoPlane):
        one = np.zeros(1, np.int64)
        pairs.work(matrix, activations, spec, one, one)
    else:
        schedule.check_pe(matrix, activations, spec)
