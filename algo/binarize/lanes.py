"""Compiled fits of zones by alternating refinement, 64 rows side by side.

A tile holds one column of 64 rows to a line, so that every inner loop has a constant trip count that LLVM
turns into vectors. The sums that an iteration needs are gathered in one pass while the signs are chosen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from algo.compiled import kernel

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LANES = 64  #: rows worked on side by side
_EPS = 1e-8  #: added to counts where the released code adds it


@kernel
def load(values: Floats, mask: Bools, first: int, tile: Floats, on: Floats) -> None:
    """Rows ``first`` .. of a block into a tile [columns, lanes], 0 off the mask and beyond the last row."""
    rows, columns = values.shape
    used = min(LANES, rows - first)
    tile[:] = 0.0
    on[:] = 0.0
    for lane in range(used):
        for j in range(columns):
            if mask[first + lane, j]:
                tile[j, lane] = values[first + lane, j]
                on[j, lane] = 1.0


@kernel
def _count(on: Floats, count: Floats) -> None:
    """Entries on each lane's mask, 1 where there is none."""
    count[:] = 0.0
    for j in range(len(on)):
        for lane in range(LANES):
            count[lane] += on[j, lane]
    for lane in range(LANES):
        count[lane] = max(count[lane], 1.0)


@kernel
def _stage(tile: Floats, on: Floats, count: Floats, mean: Floats, scale: Floats, sign: Floats) -> None:
    """Mean, scale and signs of ``tile``; what they leave replaces it."""
    columns = len(tile)
    mean[:] = 0.0
    scale[:] = 0.0
    for j in range(columns):
        for lane in range(LANES):
            mean[lane] += tile[j, lane]
    for lane in range(LANES):
        mean[lane] /= count[lane]
    for j in range(columns):
        for lane in range(LANES):
            centred = (tile[j, lane] - mean[lane]) * on[j, lane]
            sign[j, lane] = on[j, lane] if centred >= 0 else -on[j, lane]
            scale[lane] += abs(centred)
            tile[j, lane] = centred
    for lane in range(LANES):
        scale[lane] /= count[lane]
    for j in range(columns):
        for lane in range(LANES):
            tile[j, lane] -= scale[lane] * sign[j, lane]


@kernel
def _refine_one(
    tile: Floats, on: Floats, count: Floats, mean: Floats, scale: Floats, sign: Floats, iterations: int
) -> None:
    """First-order alternation: mean, then scale from the signs before it, then signs."""
    columns = len(tile)
    total, signs, dot = np.zeros(LANES), np.empty(LANES), np.empty(LANES)
    for j in range(columns):
        for lane in range(LANES):
            total[lane] += tile[j, lane]
    for _ in range(iterations):
        signs[:] = 0.0
        dot[:] = 0.0
        for j in range(columns):
            for lane in range(LANES):
                signs[lane] += sign[j, lane]
                dot[lane] += sign[j, lane] * tile[j, lane]
        for lane in range(LANES):
            left = total[lane] - count[lane] * mean[lane] - scale[lane] * signs[lane]
            mean[lane] += left / count[lane]
            scale[lane] = (dot[lane] - mean[lane] * signs[lane]) / (count[lane] + _EPS)
        for j in range(columns):
            for lane in range(LANES):
                sign[j, lane] = on[j, lane] if tile[j, lane] - mean[lane] >= 0 else -on[j, lane]


@kernel
def _refine_two(
    tile: Floats, on: Floats, count: Floats, mean: Floats, scale: Floats, sign: Floats, iterations: int
) -> None:
    """Second-order alternation: mean, both scales, then the nearest of the four levels.

    ``scale`` [2, lanes], ``sign`` [2, columns, lanes].
    """
    columns = len(tile)
    total = np.zeros(LANES)
    one, two, both = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    dot_one, dot_two = np.empty(LANES), np.empty(LANES)
    for j in range(columns):
        for lane in range(LANES):
            total[lane] += tile[j, lane]
    for _ in range(iterations):
        for sums in (one, two, both, dot_one, dot_two):
            sums[:] = 0.0
        for j in range(columns):
            for lane in range(LANES):
                first, second = sign[0, j, lane], sign[1, j, lane]
                one[lane] += first
                two[lane] += second
                both[lane] += first * second
                dot_one[lane] += first * tile[j, lane]
                dot_two[lane] += second * tile[j, lane]
        for lane in range(LANES):
            n = count[lane]
            left = total[lane] - n * mean[lane] - scale[0, lane] * one[lane] - scale[1, lane] * two[lane]
            mean[lane] += left / n
            target = dot_one[lane] - mean[lane] * one[lane] - scale[1, lane] * both[lane]
            scale[0, lane] = target / (n + _EPS)
            target = dot_two[lane] - mean[lane] * two[lane] - scale[0, lane] * both[lane]
            scale[1, lane] = target / (n + _EPS)
        for j in range(columns):
            for lane in range(LANES):
                u, v = scale[0, lane], scale[1, lane]
                target = tile[j, lane] - mean[lane]
                # Candidates in the published order; a later one must be strictly nearer.
                first, second, best = -1.0, -1.0, abs(target + u + v)
                distance = abs(target + u - v)
                nearer = distance < best
                second = 1.0 if nearer else second
                best = distance if nearer else best
                distance = abs(target - u + v)
                nearer = distance < best
                first = 1.0 if nearer else first
                second = -1.0 if nearer else second
                best = distance if nearer else best
                nearer = abs(target - u - v) < best
                first = 1.0 if nearer else first
                second = 1.0 if nearer else second
                sign[0, j, lane] = first * on[j, lane]
                sign[1, j, lane] = second * on[j, lane]


@kernel
def alternate(values: Floats, mask: Bools, order: int, iterations: int) -> tuple[Floats, Floats, Bools]:
    """Residual binarization of each row on its mask, then ``iterations`` of alternating refinement.

    Parameters: values, float64 [rows, columns]; mask, boolean, the same shape; order, 1 or 2 sign planes.
    Returns: offset [rows], scales [order, rows], signs boolean [order, rows, columns], True off the mask.
    """
    rows, columns = values.shape
    offset, scales = np.zeros(rows), np.zeros((order, rows))
    signs = np.ones((order, rows, columns), np.bool_)
    tile, on, left = np.empty((columns, LANES)), np.empty((columns, LANES)), np.empty((columns, LANES))
    mean, part, count = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    scale, sign = np.zeros((2, LANES)), np.zeros((2, columns, LANES))
    for start in range(0, rows, LANES):
        load(values, mask, start, tile, on)
        left[:] = tile
        _count(on, count)
        mean[:] = 0.0
        for stage in range(order):
            _stage(left, on, count, part, scale[stage], sign[stage])
            for lane in range(LANES):
                mean[lane] += part[lane]
        if order == 1:
            _refine_one(tile, on, count, mean, scale[0], sign[0], iterations)
        else:
            _refine_two(tile, on, count, mean, scale, sign, iterations)
        for lane in range(min(LANES, rows - start)):
            offset[start + lane] = mean[lane]
            for stage in range(order):
                scales[stage, start + lane] = scale[stage, lane]
                for j in range(columns):
                    signs[stage, start + lane, j] = sign[stage, j, lane] >= 0
    return offset, scales, signs


@kernel
def residual_error(values: Floats, mask: Bools, order: int) -> float:
    """Squared error, over the mask, of residual binarization at ``order`` stages."""
    rows, columns = values.shape
    tile, on = np.empty((columns, LANES)), np.empty((columns, LANES))
    mean, scale, count = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    sign = np.empty((columns, LANES))
    total = 0.0
    for start in range(0, rows, LANES):
        load(values, mask, start, tile, on)
        _count(on, count)
        for _ in range(order):
            _stage(tile, on, count, mean, scale, sign)
        for j in range(columns):
            for lane in range(LANES):
                total += tile[j, lane] * tile[j, lane]
    return total


@kernel
def nearest_pair(wanted: Floats, mask: Bools, rows: Floats, columns: Floats) -> Bools:
    """Signs [2, rows, columns] of the nearest of ``-u-v, -u+v, u-v, u+v``, the first of equals.

    ``u = rows[0, i] * columns[0, j]``, ``v = rows[1, i] * columns[1, j]``; True off the mask.
    """
    signs = np.ones((2, *wanted.shape), np.bool_)
    for i in range(wanted.shape[0]):
        for j in range(wanted.shape[1]):
            if mask[i, j]:
                u, v = rows[0, i] * columns[0, j], rows[1, i] * columns[1, j]
                target = wanted[i, j]
                first, second, best = False, False, abs(target + u + v)
                distance = abs(target + u - v)
                if distance < best:
                    second, best = True, distance
                distance = abs(target - u + v)
                if distance < best:
                    first, second, best = True, False, distance
                if abs(target - u - v) < best:
                    first, second = True, True
                signs[0, i, j], signs[1, i, j] = first, second
    return signs


@kernel
def add_zone(
    out: Floats,
    at: NDArray[np.int64],
    mask: Bools,
    offset: Floats,
    scales: Floats,
    signs: Bools,
    columns: Floats,
) -> None:
    """Add ``offset + sum_s scales[s] * columns[s] * sign_s`` on the mask to the columns ``at`` of ``out``.

    Parameters: out, float64 [rows, block]; at, int64 [c]; mask, boolean [rows, c]; offset, [rows]; scales,
    [order, rows]; signs, boolean [order, rows, c]; columns, [order, c].
    """
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            if mask[i, j]:
                total = offset[i]
                for stage in range(len(scales)):
                    size = scales[stage, i] * columns[stage, j]
                    total += size if signs[stage, i, j] else -size
                out[i, at[j]] += total
