"""Screens of the partition searches that try every candidate on every entry, sixteen rows at a time.

The candidates of a tile share its sixteen rows in the first-level cache, and a row never leaves its lane, so
nothing but comparisons and sums is left to do; `algo.binarize.partition` holds the definitions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from algo.binarize.vectors import LANES, absolute, at_least, larger, load, splat, store, total, where
from algo.compiled import kernel

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

ROWS = 2 * LANES  #: of a tile; two vectors keep the processor busy while the sums of either come together


@kernel
def _fill(tile: Floats, values: Floats, first: int, columns: Indices) -> float:
    """Some columns of rows ``first`` .. into a flat tile [columns, ROWS]; returns their sum of squares.

    Lanes beyond the last row are 0, which no candidate leaves an error of.
    """
    used = min(ROWS, len(values) - first)
    squares = 0.0
    for j in range(len(columns)):
        for lane in range(ROWS):
            value = values[first + lane, columns[j]] if lane < used else 0.0
            tile[ROWS * j + lane] = value
            squares += value * value
    return squares


@kernel
def _taken_twice(tile: Floats, start: int, stop: int, sum_a, sum_b):  # type: ignore[no-untyped-def]
    """What order 2 takes off the squares of some columns of a tile, given the sums of its rows' entries.

    A stage of mean mu and scale s takes ``n * (mu**2 + s**2)`` off, n the entries of a row. Deviations from a
    mean add up to 0, so ``n * s`` is twice what lies above it; and the second stage's mean follows from how
    many entries lay above the first's. Two passes give all of it.
    """
    n = stop - start
    share, one, two, zero = splat(1.0 / n), splat(1.0), splat(2.0), splat(0.0)
    mean_a, mean_b = sum_a * share, sum_b * share
    over_a, over_b, count_a, count_b = zero, zero, zero, zero
    for j in range(start, stop):
        a, b = load(tile, ROWS * j), load(tile, ROWS * j + LANES)
        up_a, up_b = at_least(a, mean_a), at_least(b, mean_b)
        over_a, over_b = where(up_a, over_a + a, over_a), where(up_b, over_b + b, over_b)
        count_a, count_b = where(up_a, count_a + one, count_a), where(up_b, count_b + one, count_b)
    scale_a = two * share * (over_a - mean_a * count_a)
    scale_b = two * share * (over_b - mean_b * count_b)
    shift_a, shift_b = scale_a * (one - two * share * count_a), scale_b * (one - two * share * count_b)
    high_a, high_b = mean_a + scale_a + shift_a, mean_b + scale_b + shift_b
    low_a, low_b = mean_a - scale_a + shift_a, mean_b - scale_b + shift_b
    last_a, last_b = zero, zero
    for j in range(start, stop):
        a, b = load(tile, ROWS * j), load(tile, ROWS * j + LANES)
        last_a = last_a + absolute(a - where(at_least(a, mean_a), high_a, low_a))
        last_b = last_b + absolute(b - where(at_least(b, mean_b), high_b, low_b))
    last_a, last_b = last_a * share, last_b * share
    one_row = mean_a * mean_a + scale_a * scale_a + shift_a * shift_a + last_a * last_a
    other_row = mean_b * mean_b + scale_b * scale_b + shift_b * shift_b + last_b * last_b
    return n * total(one_row + other_row)


@kernel
def salient_errors(values: Floats, order: Indices, limit: int) -> Floats:
    """Squared error of parting the block after its first 1, 2, .. ``limit`` columns, order 2 on both sides.

    Parameters: values, float64 [rows, columns]; order, int64 [columns], columns in order of salience; limit,
    below the columns. Returns: float64 [limit].
    """
    columns = len(order)
    errors, squares = np.zeros(limit), 0.0
    tile = np.zeros(columns * ROWS)
    for first in range(0, len(values), ROWS):
        squares += _fill(tile, values, first, order)
        whole_a, whole_b, sum_a, sum_b = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
        for j in range(columns):
            whole_a, whole_b = whole_a + load(tile, ROWS * j), whole_b + load(tile, ROWS * j + LANES)
        for count in range(1, limit + 1):
            j = count - 1
            sum_a, sum_b = sum_a + load(tile, ROWS * j), sum_b + load(tile, ROWS * j + LANES)
            errors[j] -= _taken_twice(tile, 0, count, sum_a, sum_b)
            errors[j] -= _taken_twice(tile, count, columns, whole_a - sum_a, whole_b - sum_b)
    for j in range(limit):
        errors[j] += squares
    return errors


@kernel
def _taken_by_zones(tile: Floats, sizes: Floats, threshold: float, whole_a, whole_b):  # type: ignore[no-untyped-def]
    """What order 1 takes off the squares of a tile parted by magnitude; ``whole``, sums of its rows."""
    zero, one, edge = splat(0.0), splat(1.0), splat(threshold)
    high_a, high_b, count_a, count_b = zero, zero, zero, zero
    for j in range(0, len(tile), ROWS):
        up_a, up_b = at_least(load(sizes, j), edge), at_least(load(sizes, j + LANES), edge)
        high_a = where(up_a, high_a + load(tile, j), high_a)
        high_b = where(up_b, high_b + load(tile, j + LANES), high_b)
        count_a, count_b = where(up_a, count_a + one, count_a), where(up_b, count_b + one, count_b)
    all_columns = splat(float(len(tile) // ROWS))
    share_a, rest_share_a = one / larger(count_a, one), one / larger(all_columns - count_a, one)
    share_b, rest_share_b = one / larger(count_b, one), one / larger(all_columns - count_b, one)
    low_a, low_b = whole_a - high_a, whole_b - high_b
    mean_a, mean_b = high_a * share_a, high_b * share_b
    rest_a, rest_b = low_a * rest_share_a, low_b * rest_share_b
    all_a, all_b, inside_a, inside_b = zero, zero, zero, zero
    for j in range(0, len(tile), ROWS):
        up_a, up_b = at_least(load(sizes, j), edge), at_least(load(sizes, j + LANES), edge)
        off_a = absolute(load(tile, j) - where(up_a, mean_a, rest_a))
        off_b = absolute(load(tile, j + LANES) - where(up_b, mean_b, rest_b))
        all_a, all_b = all_a + off_a, all_b + off_b
        inside_a, inside_b = where(up_a, inside_a + off_a, inside_a), where(up_b, inside_b + off_b, inside_b)
    outside_a, outside_b = all_a - inside_a, all_b - inside_b
    taken_a = high_a * mean_a + low_a * rest_a + inside_a * inside_a * share_a
    taken_b = high_b * mean_b + low_b * rest_b + inside_b * inside_b * share_b
    return total(
        taken_a + taken_b + outside_a * outside_a * rest_share_a + outside_b * outside_b * rest_share_b
    )


@kernel
def zone_errors(values: Floats, columns: Indices, thresholds: Floats) -> Floats:
    """Squared error of parting each row by magnitude at a threshold, order 1 on both sides.

    Parameters: values, float64 [rows, columns]; columns, int64, those that count; thresholds, float64
    [candidates]. Returns: float64 [candidates].
    """
    errors, squares = np.zeros(len(thresholds)), 0.0
    tile, sizes = np.zeros(len(columns) * ROWS), np.zeros(len(columns) * ROWS)
    for first in range(0, len(values), ROWS):
        squares += _fill(tile, values, first, columns)
        whole_a, whole_b = splat(0.0), splat(0.0)
        for j in range(len(columns)):
            a, b = load(tile, ROWS * j), load(tile, ROWS * j + LANES)
            whole_a, whole_b = whole_a + a, whole_b + b
            store(sizes, ROWS * j, absolute(a))
            store(sizes, ROWS * j + LANES, absolute(b))
        for c in range(len(thresholds)):
            errors[c] -= _taken_by_zones(tile, sizes, thresholds[c], whole_a, whole_b)
    for c in range(len(thresholds)):
        errors[c] += squares
    return errors
