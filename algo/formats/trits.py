"""Sums of one to three planes of trits with free scales, and two whose scales are tied three to one.

Tied, ``3 s T1 + s T2`` is ``s c`` with an integer c from -4 to 4: one of four planes, half the adders.

Source: Xiao et al., PTQTP, arXiv:2509.16989, section 3 (two planes; the others follow from it).
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from algo.compiled import kernel

MOST = 3  #: planes
TIED = 4  #: the largest integer of a tied pair: 3 + 1
_RIDGE = 1e-6  #: of the system's trace, added to its diagonal: equal planes make it singular
_STILL = 1e-4  #: change of the scales, relative to themselves, at which they stand
#: first scales of a tied pair, as shares of the one that reaches the largest weight
_STARTS = np.array([1.0, 0.8, 0.65, 0.5, 0.35])

Floats = NDArray[np.float64]


@lru_cache
def codes(planes: int) -> Floats:
    """Trits of every code, float64 [3 ** planes, planes]: fewer set ones first, the first taken of equals."""
    every = itertools.product((1.0, 0.0, -1.0), repeat=planes)
    return np.array(sorted(every, key=lambda code: sum(map(abs, code))))


@kernel
def fit(weight: Floats, group: int, rounds: int, table: Floats) -> Floats:
    """Best scales of each (row, group) of all rounds, float64 [planes, rows, groups].

    Parameters: weight, float64 [rows, columns]; table, of `codes`. All planes begin as sign(w); scales by
    ridge regression and nearest codes take turns.
    """
    rows, columns = weight.shape
    count = table.shape[1]
    best: Floats = np.zeros((count, rows, -(-columns // group)))
    for r in range(rows):
        for g in range(best.shape[2]):
            part = weight[r, g * group : min((g + 1) * group, columns)]
            gram = np.full((count, count), float(len(part)))
            toward = np.full(count, np.sum(np.abs(part)))
            scales, least = np.zeros(count), np.inf
            for _ in range(rounds):
                before = scales
                scales = _solved(gram, toward)
                error = _recode(part, scales, table, gram, toward)
                if error < least:
                    least, best[:, r, g] = error, scales
                if np.sum((scales - before) ** 2) <= _STILL**2 * np.sum(scales**2):
                    break
    return best


@kernel
def _solved(gram: Floats, toward: Floats) -> Floats:
    """Scales by least squares under a small ridge: Gaussian elimination of a positive definite system."""
    count = len(toward)
    rows, found = gram.copy(), toward.copy()
    ridge = _RIDGE * max(np.trace(gram), 1.0)
    for k in range(count):
        rows[k, k] += ridge
    for k in range(count):
        for below in range(k + 1, count):
            share = rows[below, k] / rows[k, k]
            for other in range(k, count):
                rows[below, other] -= share * rows[k, other]
            found[below] -= share * found[k]
    for back in range(count):
        k = count - 1 - back
        for other in range(k + 1, count):
            found[k] -= rows[k, other] * found[other]
        found[k] /= rows[k, k]
    return found


@kernel
def _recode(part: Floats, scales: Floats, table: Floats, gram: Floats, toward: Floats) -> float:
    """Squared error of the nearest codes, whose products go to ``gram`` and ``toward``."""
    gram[:] = 0.0
    toward[:] = 0.0
    error = 0.0
    for w in part:
        code = table[_nearest(w, scales, table)]
        off = w
        for k in range(len(code)):
            off -= scales[k] * code[k]
            toward[k] += code[k] * w
            for other in range(len(code)):
                gram[k, other] += code[k] * code[other]
        error += off * off
    return error


@kernel
def _nearest(w: float, scales: Floats, table: Floats) -> int:
    best, at = np.inf, 0
    for code in range(len(table)):
        off = w
        for k in range(len(scales)):
            off -= scales[k] * table[code, k]
        if off * off < best:
            best, at = off * off, code
    return at


@kernel
def nearest(weight: Floats, scales: Floats, group: int, table: Floats) -> NDArray[np.int8]:
    """Trits int8 [planes, rows, columns] nearest to ``weight`` under scales [planes, rows, groups]."""
    rows, columns = weight.shape
    trits = np.empty((table.shape[1], rows, columns), np.int8)
    for r in range(rows):
        for c in range(columns):
            code = _nearest(weight[r, c], scales[:, r, c // group].copy(), table)
            for k in range(table.shape[1]):
                trits[k, r, c] = int(table[code, k])
    return trits


@kernel
def fit_tied(weight: Floats, group: int, rounds: int) -> Floats:
    """Scale of the integers -4 .. 4 with the least squared error found, float64 [rows, groups].

    From each of a few first scales, nearest integers and the scale that suits them best take turns.
    """
    rows, columns = weight.shape
    best = np.zeros((rows, -(-columns // group)))
    for r in range(rows):
        for g in range(best.shape[1]):
            part = weight[r, g * group : min((g + 1) * group, columns)]
            least, reach = np.inf, np.max(np.abs(part)) / TIED
            for start in _STARTS:
                scale = start * reach
                for _ in range(rounds):
                    if scale <= 0.0:
                        break
                    whole = np.clip(np.rint(part / scale), -TIED, TIED)
                    error = np.sum((part - scale * whole) ** 2)
                    if error < least:
                        least, best[r, g] = error, scale
                    before, scale = scale, np.sum(whole * part) / max(np.sum(whole * whole), 1.0)
                    if abs(scale - before) <= _STILL * scale:
                        break
    return best
