"""Scales and offsets refitted against the layer's output: the data-aware step of ARB-X.

Signs are frozen; every row of a zone minimizes ``d G d^T`` of its own residual d, G the Gram matrix of the
calibration activations on the zone's columns. With the signs fixed, all sums over entries are constants, two
products with G hold them, and an iteration is arithmetic on one number per row.

Source: Li et al., ARB-LLM, arXiv:2410.03129, section 3.3 (ARB-X), as released; differs in: two matrix
products in place of [rows, k, k] temporaries.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from algo.binarize.partition import break_points
from algo.binarize.screens import split_residual
from algo.binarize.zone import Bools, Floats, Zone

_EPS = 1e-10  #: of the largest denominator of the rows; keeps empty rows finite


def refit(zone: Zone, values: Floats, gram: Floats, iterations: int) -> Zone:
    """The zone with offset and scales alternately at their least-squares values.

    Parameters: values, float64 [rows, c], the block's entries on the zone's columns; gram, [c, c].
    """
    on = zone.mask.astype(np.float64)
    wanted = np.where(zone.mask, values, 0.0)
    parts = [on, *(np.where(sign, 1.0, -1.0) * on for sign in zone.signs)]
    seen = [part @ gram for part in parts]
    target = [np.einsum("ij,ij->i", part, wanted) for part in seen]
    cross = [[np.einsum("ij,ij->i", seen[a], parts[b]) for b in range(len(parts))] for a in range(len(parts))]
    amount = [zone.offset.copy(), *(scale.copy() for scale in zone.scales)]
    for _ in range(iterations):
        for a in range(len(parts)):
            rest = sum(cross[a][b] * amount[b] for b in range(len(parts)) if b != a)
            own = cross[a][a]
            largest = own.max(initial=0.0)
            if largest > 0:
                amount[a] = (target[a] - rest) / (own + _EPS * largest)
    return replace(zone, offset=amount[0], scales=np.stack(amount[1:]))


def choose_break_point(metric: Floats, salient: Bools, base: Floats, gram: Floats) -> float:
    """Threshold of the non-salient entries with the least ``trace(R G R^T)``.

    R is what the metric's own binarization leaves: ``base`` [rows, k] on the salient columns, order 1 in both
    zones. As released, the activations' Gram matrix weighs a residual of the metric, not of the weights.
    """
    if np.all(salient):
        return float("inf")
    candidates = break_points(metric, salient)
    errors = []
    left = metric - base
    rest = np.flatnonzero(~salient)
    inside = np.ascontiguousarray(metric[:, rest])
    for threshold in candidates:
        left[:, rest] = split_residual(inside, threshold)
        # Summed over rows first: one symmetric product instead of one with every row.
        errors.append(float(np.sum(gram * (left.T @ left))))
    return float(candidates[int(np.argmin(errors))])
