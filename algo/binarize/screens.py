"""Compiled screens of the partition searches; `algo.binarize.partition` holds their definitions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from algo.binarize.lanes import LANES
from algo.compiled import kernel

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@kernel
def _masked_stage(left: Floats, on: Floats, start: int, stop: int) -> None:
    """Take one stage's fit off the entries where ``on`` is 1; the others are and stay 0."""
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


@kernel
def kept_salient_errors(ordered: Floats, keep: Bools, limit: int) -> Floats:
    """`vector_screens.salient_errors` over the entries of ``keep``; ``ordered`` is 0 off it.

    Parameters: ordered, float64 [columns, rows], columns in order of salience; keep, boolean, likewise.
    """
    columns, rows = ordered.shape
    errors = np.zeros(limit)
    tile, on, left = np.empty((columns, LANES)), np.zeros((columns, LANES)), np.empty((columns, LANES))
    for first in range(0, rows, LANES):
        used = min(LANES, rows - first)
        tile[:] = 0.0
        on[:] = 0.0
        for j in range(columns):
            for lane in range(used):
                tile[j, lane] = ordered[j, first + lane]
                on[j, lane] = 1.0 if keep[j, first + lane] else 0.0
        for count in range(1, limit + 1):
            left[:] = tile
            for _ in range(2):
                _masked_stage(left, on, 0, count)
                _masked_stage(left, on, count, columns)
            errors[count - 1] += np.sum(left * left)
    return errors


@kernel
def _first_at_least(row: Floats, value: float, near: int) -> int:
    """Index of the first entry of the ascending ``row`` that is not below ``value``, sought from ``near``."""
    while near > 0 and row[near - 1] >= value:
        near -= 1
    while near < len(row) and row[near] < value:
        near += 1
    return near


@kernel
def _first_above(row: Floats, value: float, near: int) -> int:
    """Index of the first entry of the ascending ``row`` that is above ``value``, sought from ``near``."""
    while near > 0 and row[near - 1] > value:
        near -= 1
    while near < len(row) and row[near] <= value:
        near += 1
    return near


@kernel
def _zone_error(
    sums: Floats, squares: Floats, row: Floats, a: int, b: int, c: int, d: int, near: int
) -> tuple[float, int]:
    """Squared error of binarizing ``row[a:b]`` and ``row[c:d]`` of an ascending row as one zone, b <= c.

    ``near``: where the zone's mean may lie; returned is the error, and where it lay.
    """
    n = (b - a) + (d - c)
    if n == 0:
        return 0.0, near
    mean = (sums[b] - sums[a] + sums[d] - sums[c]) / n
    p = _first_above(row, mean, near)
    left, right = min(max(p, a), b), min(max(p, c), d)
    above = sums[b] - sums[left] - mean * (b - left) + sums[d] - sums[right] - mean * (d - right)
    scale = 2 * above / n
    return squares[b] - squares[a] + squares[d] - squares[c] - n * (mean * mean + scale * scale), p


@kernel
def split_errors(ascending: Floats, counts: NDArray[np.int64], thresholds: Floats) -> Floats:
    """Squared error of parting each row by magnitude at one or more thresholds, order 1 in every zone.

    A zone of n entries binarized about its mean mu at scale a leaves ``sum w**2 - n * (mu**2 + a**2)``, and
    ``n * a`` is twice what lies above the mean: in a sorted row all of it is a difference of prefix sums.
    From one candidate to the next the places in the row move little, so they are sought where they last were.

    Parameters: ascending, float64 [rows, columns], each row sorted; counts, int64 [rows], entries of each row
    that count, its first; thresholds, float64 [candidates, zones - 1], >= 0, rising within a candidate.
    Returns: float64 [candidates].
    """
    rows, columns = ascending.shape
    candidates, parts = thresholds.shape
    errors = np.zeros(candidates)
    sums, squares = np.zeros(columns + 1), np.zeros(columns + 1)
    low, high, middle = np.zeros(parts, np.int64), np.zeros(parts, np.int64), np.zeros(parts + 1, np.int64)
    for r in range(rows):
        n = counts[r]
        row = ascending[r, :n]
        for j in range(n):
            sums[j + 1] = sums[j] + row[j]
            squares[j + 1] = squares[j] + row[j] * row[j]
        centre = _first_at_least(row, 0.0, 0)
        low[:] = centre
        high[:] = centre
        middle[:] = centre
        for c in range(candidates):
            # Each zone is what lies around row[a:b], the zones inside it, up to the next threshold.
            a = b = centre
            for part in range(parts):
                threshold = thresholds[c, part]
                high[part] = max(_first_at_least(row, threshold, high[part]), b)
                low[part] = min(_first_above(row, -threshold, low[part]), a)
                error, middle[part] = _zone_error(
                    sums, squares, row, low[part], a, b, high[part], middle[part]
                )
                errors[c] += error
                a, b = low[part], high[part]
            error, middle[parts] = _zone_error(sums, squares, row, 0, a, b, n, middle[parts])
            errors[c] += error
    return errors


@kernel
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
