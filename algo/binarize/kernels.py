"""Compiled screens of the partition searches; `algo.binarize.search` holds the definitions they stand for."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LANES = 64  #: rows worked on side by side: a constant trip count that LLVM turns into vectors


@njit(cache=True)
def _residual_stage(left: Floats, start: int, stop: int) -> None:
    """Take one stage's fit off columns start..stop of ``left`` [columns, lanes], in place."""
    mean, scale = np.zeros(_LANES), np.zeros(_LANES)
    share = 1.0 / (stop - start)
    for j in range(start, stop):
        for lane in range(_LANES):
            mean[lane] += left[j, lane]
    for lane in range(_LANES):
        mean[lane] *= share
    for j in range(start, stop):
        for lane in range(_LANES):
            left[j, lane] -= mean[lane]
            scale[lane] += abs(left[j, lane])
    for lane in range(_LANES):
        scale[lane] *= share
    for j in range(start, stop):
        for lane in range(_LANES):
            value = left[j, lane]
            left[j, lane] = value - (scale[lane] if value >= 0 else -scale[lane])


@njit(cache=True)
def salient_errors(ordered: Floats, limit: int) -> Floats:
    """Squared error of parting the block after its first 1, 2, .. ``limit`` columns, order 2 on both sides.

    Parameters: ordered, float64 [columns, rows], the block transposed, its columns in order of salience.
    Returns: float64 [limit].
    """
    columns, rows = ordered.shape
    errors = np.zeros(limit)
    tile, left = np.empty((columns, _LANES)), np.empty((columns, _LANES))
    for first in range(0, rows, _LANES):
        used = min(_LANES, rows - first)
        for j in range(columns):
            for lane in range(_LANES):  # lanes beyond the last row: a row of zeros has error 0
                tile[j, lane] = ordered[j, first + lane] if lane < used else 0.0
        for count in range(1, limit + 1):
            for j in range(columns):
                for lane in range(_LANES):
                    left[j, lane] = tile[j, lane]
            for _ in range(2):
                _residual_stage(left, 0, count)
                _residual_stage(left, count, columns)
            total = 0.0
            for j in range(columns):
                for lane in range(_LANES):
                    total += left[j, lane] * left[j, lane]
            errors[count - 1] += total
    return errors


@njit(cache=True)
def _first_at_least(row: Floats, value: float) -> int:
    """Index of the first entry of the ascending ``row`` that is not below ``value``."""
    low, high = 0, len(row)
    while low < high:
        middle = (low + high) >> 1
        if row[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _first_above(row: Floats, value: float) -> int:
    """Index of the first entry of the ascending ``row`` that is above ``value``."""
    low, high = 0, len(row)
    while low < high:
        middle = (low + high) >> 1
        if row[middle] <= value:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def split_errors(ascending: Floats, thresholds: Floats) -> Floats:
    """Squared error of parting each row at ``|w| >= t`` for every ``t``, order 1 on both sides.

    A group of n entries binarized about its mean mu at scale a leaves ``sum w**2 - n * (mu**2 + a**2)``, and
    ``n * a`` is twice what lies above the mean: in a sorted row all of it is a difference of prefix sums.

    Parameters: ascending, float64 [rows, columns], each row sorted; thresholds, float64 [candidates], >= 0.
    Returns: float64 [candidates].
    """
    rows, n = ascending.shape
    errors = np.zeros(len(thresholds))
    sums, squares = np.zeros(n + 1), np.zeros(n + 1)
    for r in range(rows):
        row = ascending[r]
        for j in range(n):
            sums[j + 1] = sums[j] + row[j]
            squares[j + 1] = squares[j] + row[j] * row[j]
        for c in range(len(thresholds)):
            threshold = thresholds[c]
            # The low group is row[a:b], the high group all around it.
            b = _first_at_least(row, threshold)
            a = min(_first_above(row, -threshold), b)
            if b > a:
                mean = (sums[b] - sums[a]) / (b - a)
                p = min(max(_first_above(row, mean), a), b)
                scale = 2 * (sums[b] - sums[p] - mean * (b - p)) / (b - a)
                errors[c] += squares[b] - squares[a] - (b - a) * (mean * mean + scale * scale)
            high = n - (b - a)
            if high > 0:
                mean = (sums[n] - sums[b] + sums[a]) / high
                p = _first_above(row, mean)
                right, left = max(p, b), min(p, a)
                above = sums[n] - sums[right] - mean * (n - right)
                above += sums[a] - sums[left] - mean * (a - left)
                scale = 2 * above / high
                around = squares[n] - squares[b] + squares[a]
                errors[c] += around - high * (mean * mean + scale * scale)
    return errors
