"""Compiled screens of the partition searches; `algo.binarize.partition` holds their definitions."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from algo.binarize.lanes import LANES

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@njit(cache=True)
def _residual_stage(left: Floats, start: int, stop: int) -> None:
    """Take one stage's fit off columns start..stop of ``left`` [columns, lanes], in place."""
    mean, scale = np.zeros(LANES), np.zeros(LANES)
    share = 1.0 / (stop - start)
    for j in range(start, stop):
        for lane in range(LANES):
            mean[lane] += left[j, lane]
    for lane in range(LANES):
        mean[lane] *= share
    for j in range(start, stop):
        for lane in range(LANES):
            left[j, lane] -= mean[lane]
            scale[lane] += abs(left[j, lane])
    for lane in range(LANES):
        scale[lane] *= share
    for j in range(start, stop):
        for lane in range(LANES):
            value = left[j, lane]
            left[j, lane] = value - (scale[lane] if value >= 0 else -scale[lane])


@njit(cache=True)
def _masked_stage(left: Floats, on: Floats, start: int, stop: int) -> None:
    """The same over the entries where ``on`` is 1; the others are and stay 0."""
    mean, scale, count = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
    for j in range(start, stop):
        for lane in range(LANES):
            mean[lane] += left[j, lane]
            count[lane] += on[j, lane]
    for lane in range(LANES):
        count[lane] = max(count[lane], 1.0)
        mean[lane] /= count[lane]
    for j in range(start, stop):
        for lane in range(LANES):
            left[j, lane] = (left[j, lane] - mean[lane]) * on[j, lane]
            scale[lane] += abs(left[j, lane])
    for lane in range(LANES):
        scale[lane] /= count[lane]
    for j in range(start, stop):
        for lane in range(LANES):
            value = left[j, lane]
            left[j, lane] = value - (scale[lane] if value >= 0 else -scale[lane]) * on[j, lane]


@njit(cache=True)
def salient_errors(ordered: Floats, limit: int, keep: Bools | None = None) -> Floats:
    """Squared error of parting the block after its first 1, 2, .. ``limit`` columns, order 2 on both sides.

    Parameters: ordered, float64 [columns, rows], the block transposed, its columns in order of salience, 0
    where pruned; keep, boolean of that shape, entries that are not pruned, None: all.
    Returns: float64 [limit].
    """
    columns, rows = ordered.shape
    errors = np.zeros(limit)
    tile, on, left = np.empty((columns, LANES)), np.zeros((columns, LANES)), np.empty((columns, LANES))
    for first in range(0, rows, LANES):
        used = min(LANES, rows - first)
        for j in range(columns):
            for lane in range(LANES):  # lanes beyond the last row: a row of zeros has error 0
                tile[j, lane] = ordered[j, first + lane] if lane < used else 0.0
            if keep is not None:
                for lane in range(used):
                    on[j, lane] = 1.0 if keep[j, first + lane] else 0.0
        for count in range(1, limit + 1):
            for j in range(columns):
                for lane in range(LANES):
                    left[j, lane] = tile[j, lane]
            for _ in range(2):
                if keep is None:
                    _residual_stage(left, 0, count)
                    _residual_stage(left, count, columns)
                else:
                    _masked_stage(left, on, 0, count)
                    _masked_stage(left, on, count, columns)
            total = 0.0
            for j in range(columns):
                for lane in range(LANES):
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
def _zone_error(row: Floats, sums: Floats, squares: Floats, a: int, b: int, c: int, d: int) -> float:
    """Squared error of binarizing ``row[a:b]`` and ``row[c:d]`` of an ascending row as one zone, b <= c."""
    n = (b - a) + (d - c)
    if n == 0:
        return 0.0
    mean = (sums[b] - sums[a] + sums[d] - sums[c]) / n
    p = _first_above(row, mean)
    left, right = min(max(p, a), b), min(max(p, c), d)
    above = sums[b] - sums[left] - mean * (b - left) + sums[d] - sums[right] - mean * (d - right)
    scale = 2 * above / n
    return squares[b] - squares[a] + squares[d] - squares[c] - n * (mean * mean + scale * scale)


@njit(cache=True)
def split_errors(ascending: Floats, counts: NDArray[np.int64], thresholds: Floats) -> Floats:
    """Squared error of parting each row by magnitude at one or more thresholds, order 1 in every zone.

    A zone of n entries binarized about its mean mu at scale a leaves ``sum w**2 - n * (mu**2 + a**2)``, and
    ``n * a`` is twice what lies above the mean: in a sorted row all of it is a difference of prefix sums.

    Parameters: ascending, float64 [rows, columns], each row sorted; counts, int64 [rows], entries of each row
    that count, its first; thresholds, float64 [candidates, zones - 1], >= 0, rising within a candidate.
    Returns: float64 [candidates].
    """
    rows, columns = ascending.shape
    candidates, parts = thresholds.shape
    errors = np.zeros(candidates)
    sums, squares = np.zeros(columns + 1), np.zeros(columns + 1)
    for r in range(rows):
        n = counts[r]
        row = ascending[r, :n]
        for j in range(n):
            sums[j + 1] = sums[j] + row[j]
            squares[j + 1] = squares[j] + row[j] * row[j]
        for c in range(candidates):
            # Each zone is what lies around row[a:b], the zones inside it, up to the next threshold.
            b = _first_at_least(row, 0.0)
            a = b
            for part in range(parts):
                threshold = thresholds[c, part]
                wide_b = max(_first_at_least(row, threshold), b)
                wide_a = min(_first_above(row, -threshold), a)
                errors[c] += _zone_error(row, sums, squares, wide_a, a, b, wide_b)
                a, b = wide_a, wide_b
            errors[c] += _zone_error(row, sums, squares, 0, a, b, n)
    return errors


@njit(cache=True)
def split_residual(values: Floats, threshold: float) -> Floats:
    """What binarizing each row at order 1, below the threshold and from it on, leaves; [rows, columns]."""
    rows, columns = values.shape
    left = np.empty((rows, columns))
    mean, scale, count = np.empty(2), np.empty(2), np.empty(2)
    for r in range(rows):
        mean[:] = 0.0
        scale[:] = 0.0
        count[:] = 0.0
        for j in range(columns):
            zone = 1 if abs(values[r, j]) >= threshold else 0
            mean[zone] += values[r, j]
            count[zone] += 1.0
        for zone in range(2):
            count[zone] = max(count[zone], 1.0)
            mean[zone] /= count[zone]
        for j in range(columns):
            zone = 1 if abs(values[r, j]) >= threshold else 0
            left[r, j] = values[r, j] - mean[zone]
            scale[zone] += abs(left[r, j])
        for zone in range(2):
            scale[zone] /= count[zone]
        for j in range(columns):
            a = scale[1 if abs(values[r, j]) >= threshold else 0]
            left[r, j] -= a if left[r, j] >= 0 else -a
    return left
