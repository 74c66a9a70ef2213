"""Searches of the column and zone partition of one block, every candidate fitted anew.

``p`` is the metric matrix [rows, k]; ``keep`` says which entries exist at all (all, but for N:M methods).
The first minimiser wins everywhere.

Source: BiLLM, ARB-LLM (arXiv:2410.03129) and STBLLM (arXiv:2408.01803), released code.
"""

from __future__ import annotations

import math

import numpy as np

from algo.tests.reference.primitives import Array, Mask, rb

QUANTILES = np.linspace(0.1, 0.9, 81)  #: candidates of break points
TRISECTION_QUANTILES = np.linspace(0.1, 0.9, 160)  #: candidates of STBLLM's inner threshold


def columns_mask(columns: list[int], keep: Mask) -> Mask:
    """Kept entries of the given columns."""
    mask = np.zeros(keep.shape, np.bool_)
    mask[:, columns] = True
    return mask & keep


def salient_columns(p: Array, limit: int, keep: Mask) -> list[int]:
    """Indices of the salient columns, ascending; order 2 on both sides, as released."""
    k = p.shape[1]
    if k == 1:
        return [0]
    totals = [float(np.abs(p[keep[:, j], j]).sum()) for j in range(k)]
    ranked = sorted(range(k), key=lambda j: -totals[j])  # stable: ties go left first
    best, chosen = math.inf, ranked[:1]
    for count in range(1, min(limit, k - 1) + 1):
        inside = columns_mask(ranked[:count], keep)
        outside = columns_mask(ranked[count:], keep)
        rest = np.where(keep, p - rb(p, inside, 2) - rb(p, outside, 2), 0.0)
        error = float((rest**2).sum())
        if error < best:
            best, chosen = error, ranked[:count]
    return sorted(chosen)


def break_point(p: Array, salient: list[int], base: Array | None = None, gram: Array | None = None) -> float:
    """Threshold on |P| between the two zones of the other columns; infinity if there are none.

    With ``gram`` (ARB-X) the error of a residual R = P - base - zones is trace(R G R^T). Without, it is the
    squared error, to which the salient columns add a constant: they are left out.
    """
    outside = columns_mask([j for j in range(p.shape[1]) if j not in salient], np.ones(p.shape, np.bool_))
    if not outside.any():
        return math.inf
    magnitude = np.abs(p)
    best, found = math.inf, math.inf
    for t in np.quantile(np.where(outside, magnitude, 0.0).ravel(), QUANTILES):
        high = outside & (magnitude >= t)
        low = outside & (magnitude < t)
        zones = rb(p, high, 1) + rb(p, low, 1)
        if gram is None:
            error = float(((p - zones)[outside] ** 2).sum())
        else:
            assert base is not None
            rest = p - base - zones
            error = float(np.trace(rest @ gram @ rest.T))
        if error < best:
            best, found = error, float(t)
    return found


def salient_threshold(p: Array, salient: list[int]) -> float:
    """Threshold of the column-group bitmap inside the salient columns; infinity if all of P is 0 there."""
    inside = columns_mask(salient, np.ones(p.shape, np.bool_))
    magnitude = np.abs(p)
    population = magnitude[inside & (magnitude != 0)]
    if population.size == 0:
        return math.inf
    best, found = math.inf, math.inf
    for t in np.quantile(population, QUANTILES):
        high = inside & (magnitude >= t)
        low = inside & (magnitude < t)
        rest = p - rb(p, high, 2) - rb(p, low, 2)
        error = float((rest[inside] ** 2).sum())  # outside it is P whatever the threshold
        if error < best:
            best, found = error, float(t)
    return found


def trisection(p: Array, salient: list[int], keep: Mask) -> tuple[float, float]:
    """STBLLM's thresholds (t1, 2 t1) of three zones; infinities if no kept entry is left."""
    outside = columns_mask([j for j in range(p.shape[1]) if j not in salient], keep)
    if not outside.any():
        return math.inf, math.inf
    magnitude = np.abs(p)
    candidates = np.quantile(magnitude[outside], TRISECTION_QUANTILES)
    last = float(candidates[-1])
    best, found = math.inf, last / 2
    for inner in candidates:
        if 2 * inner > last:
            continue
        zones = sum(rb(p, mask, 1) for mask in three_zones(magnitude, outside, float(inner)))
        error = float(((p - zones)[outside] ** 2).sum())
        if error < best:
            best, found = error, float(inner)
    return found, 2 * found


def three_zones(magnitude: Array, outside: Mask, inner: float) -> tuple[Mask, Mask, Mask]:
    """Entries below ``inner``, from there below twice as much, and from there on."""
    below, beyond = magnitude < inner, magnitude >= 2 * inner
    return outside & below, outside & ~below & ~beyond, outside & beyond
