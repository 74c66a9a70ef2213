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


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A matrix as integers to multiply by, int64 [columns, rows] per stream; made once."""

    matrix: PackedMatrix
    weights: tuple[Int, ...]

    @classmethod
    def of(cls, matrix: PackedMatrix) -> Prepared:
        """Decode a matrix."""
        weights = tuple(np.ascontiguousarray(integer_weights(matrix, name).T) for name in matrix.streams)
        return cls(matrix=matrix, weights=weights)

    def integer_sums(self, activations: Sequence[Activations]) -> Int:
        """``S``, int64 [streams, tokens, rows].

        Raises ValueError if an activation does not fit the matrix or a sum could leave int64.
        """
        check_fit(self.matrix, activations)
        pairs = zip(self.weights, activations, strict=True)
        return np.stack([_product(self._scaled(act), weights) for weights, act in pairs])

    def _scaled(self, act: Activations) -> Int:
        if act.mantissa is None:
            return act.values
        return act.values * act.mantissa[:, self.matrix.group_of]


def integer_sums(matrix: PackedMatrix, activations: Sequence[Activations]) -> Int:
    """``S``, int64 [streams, tokens, rows], of a matrix used once."""
    return Prepared.of(matrix).integer_sums(activations)


def _product(values: Int, weights: Int) -> Int:
    """``values @ weights``, exact; integers become floats only where they stay integers."""
    if _bound(values, weights) < EXACT:
        return _by_float(values, weights)
    high = weights >> LOW_BITS
    low = weights - (high << LOW_BITS)
    if max(_bound(values, high), _bound(values, low)) < EXACT:
        return (_by_float(values, high) << LOW_BITS) + _by_float(values, low)
    return np.asarray(values @ weights)


def _by_float(values: Int, weights: Int) -> Int:
    return (values.astype(np.float64) @ weights.astype(np.float64)).astype(np.int64)


def _bound(values: Int, weights: Int) -> float:
    """No partial sum of the product, in any order, is larger in magnitude (to float64's own rounding)."""
    largest = float(np.abs(values).max(initial=0))
    total = np.abs(weights).sum(axis=0, dtype=np.float64)
    return largest * float(total.max(initial=0.0)) * (1 + 2.0**-40)
