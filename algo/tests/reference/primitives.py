"""Residual binarization and the nearest code of two planes, a row at a time.

A judge: float64, unrounded, after the formulas, with nothing shared with what it judges. A sign of an entry
equal to its mean is +1 (the released code has 0 there, a third level that no plane can store), and a row
without an entry in a mask is 0.

Source: BiLLM, arXiv:2402.04291, section 3 and the released code (every stage subtracts its own mean).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def sign(values: Array) -> Array:
    """-1 below zero, +1 elsewhere."""
    return np.where(values >= 0, 1.0, -1.0)


def by_rows(fit: Callable[[Array], Array], a: Array, mask: Mask) -> Array:
    """``fit`` of the masked entries of every row, put back where they were; 0 off the mask."""
    out = np.zeros(a.shape)
    for i in range(len(a)):
        on = mask[i]
        if on.any():
            out[i, on] = fit(a[i, on])
    return out


def stages(entries: Array, order: int) -> list[tuple[float, float, Array]]:
    """Mean, scale and signs of each stage for one row's entries: every stage fits what is left."""
    rest, found = entries, []
    for _ in range(order):
        mean = rest.sum() / len(rest)
        scale = np.abs(rest - mean).sum() / len(rest)
        signs = sign(rest - mean)
        found.append((mean, scale, signs))
        rest = rest - (mean + scale * signs)
    return found


def rb(a: Array, mask: Mask, order: int) -> Array:
    """RB(A, M, order): the sum of the stages on the mask."""

    def fit(entries: Array) -> Array:
        out = np.zeros(len(entries))
        for mean, scale, signs in stages(entries, order):
            out = out + (mean + scale * signs)
        return out

    return by_rows(fit, a, mask)


def nearest_codes(target: Array, u: Array | float, v: Array | float) -> tuple[Array, Array]:
    """NC(T; u, v): signs (B1, B2) of the first of -u-v, -u+v, +u-v, +u+v that is closest to each target."""
    one, two = np.zeros(target.shape), np.zeros(target.shape)
    best = np.full(target.shape, np.inf)
    for first, second in ((-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)):
        distance = np.abs(target - (first * u + second * v))
        closer = distance < best
        best[closer], one[closer], two[closer] = distance[closer], first, second
    return one, two
