"""Exact integer sums by float64 matrix products: the fast path for whole models.

A float64 product of integers is exact while no sum of magnitudes reaches 2**53. Where the bound is larger,
the weights are split into a high and a low part whose products stay below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.activations import Activations
from algo.bitplane.decode import check_fit, integer_weights
from algo.bitplane.matrix import PackedMatrix

EXACT = 2.0**53  #: float64 holds every integer below this
LOW_BITS = 24  #: width of the low part of a split weight

Int = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A matrix as integers to multiply by, float64 [columns, rows] per stream; made once."""

    matrix: PackedMatrix
    weights: tuple[Floats, ...]

    @classmethod
    def of(cls, matrix: PackedMatrix) -> Prepared:
        """Decode a matrix; 32-bit mantissas times digits of few planes stay far below 2**53."""
        weights = tuple(integer_weights(matrix, name).T.astype(np.float64) for name in matrix.streams)
        return cls(matrix=matrix, weights=weights)

    def integer_sums(self, activations: Sequence[Activations]) -> Int:
        """``S``, int64 [streams, tokens, rows].

        Raises ValueError if an activation does not fit the matrix or a sum could leave int64.
        """
        check_fit(self.matrix, activations)
        pairs = zip(self.weights, activations, strict=True)
        return np.stack([_product(self._scaled(act), weights) for weights, act in pairs])

    def _scaled(self, act: Activations) -> Floats:
        values = act.values
        if act.mantissa is not None:
            values = values * act.mantissa[:, self.matrix.group_of]
        return values.astype(np.float64)


def integer_sums(matrix: PackedMatrix, activations: Sequence[Activations]) -> Int:
    """``S``, int64 [streams, tokens, rows], of a matrix used once."""
    return Prepared.of(matrix).integer_sums(activations)


def _product(values: Floats, weights: Floats) -> Int:
    """``values @ weights``, exact."""
    if _bound(values, weights) < EXACT:
        return (values @ weights).astype(np.int64)
    high = np.floor(np.ldexp(weights, -LOW_BITS))
    low = weights - np.ldexp(high, LOW_BITS)
    if max(_bound(values, high), _bound(values, low)) < EXACT:
        return ((values @ high).astype(np.int64) << LOW_BITS) + (values @ low).astype(np.int64)
    return np.asarray(values.astype(np.int64) @ weights.astype(np.int64))


def _bound(values: Floats, weights: Floats) -> float:
    """No partial sum of the product, in any order, is larger in magnitude."""
    largest = float(np.abs(values).max(initial=0.0))
    return largest * float(np.abs(weights).sum(axis=0).max(initial=0.0))
