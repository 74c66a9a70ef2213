"""Zones with a scale per row and one per column, without mean: the fits of ARB-RC.

Source: Li et al., ARB-LLM, arXiv:2410.03129, section 3.3 and its appendix, as released; differs in: an entry
of 0 takes sign +1; the epsilon of the denominators is relative to the zone's own magnitudes, so that weights
of any size are fitted alike.
"""

from __future__ import annotations

import numpy as np

from algo.binarize.lanes import nearest_pair
from algo.binarize.zone import Bools, Floats, Indices, Zone

_EPS = 1e-8  #: of the largest denominator


def fit(values: Floats, at: Indices, mask: Bools, order: int, iterations: int) -> Zone:
    """Alternating least squares of ``r_i * c_j * sign`` per stage to ``values`` [rows, c] on ``mask``."""
    wanted = np.where(mask, values, 0.0)
    on = mask.astype(np.float64)
    rows, columns, signs = [], [], []
    left = wanted
    for _ in range(order):
        row, column = _start(left, mask, on)
        sign = left >= 0
        rows.append(row)
        columns.append(column)
        signs.append(sign)
        left = np.where(mask, left - _signed(sign) * np.outer(row, column), 0.0)
    for _ in range(iterations):
        if order == 1:
            _refine(np.abs(wanted), on, rows, columns, 0, 0.0)
        else:
            signs = _both(wanted, on, mask, rows, columns, signs)
    return Zone(at, mask, np.zeros(len(values)), np.stack(rows), np.stack(signs), np.stack(columns))


def _start(left: Floats, mask: Bools, on: Floats) -> tuple[Floats, Floats]:
    """Row means of magnitudes, and each column's mean ratio to them over rows that have one."""
    size = np.abs(left)
    row = size.sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
    filled = row > 0
    ratio = size[filled] / row[filled, None]
    column = ratio.sum(axis=0) / np.maximum(on[filled].sum(axis=0), 1)
    return row, column


def _both(
    wanted: Floats, on: Floats, mask: Bools, rows: list[Floats], columns: list[Floats], signs: list[Bools]
) -> list[Bools]:
    """One round of both stages: each stage's scales against what the other leaves, then the signs."""
    one, two = _signed(signs[0]) * on, _signed(signs[1]) * on
    cross = one * two
    for stage, sign in enumerate((one, two)):
        _refine(sign * wanted, on, rows, columns, stage, cross)
    return list(nearest_pair(wanted, mask, np.stack(rows), np.stack(columns)))


def _refine(
    product: Floats, on: Floats, rows: list[Floats], columns: list[Floats], stage: int, cross: Floats | float
) -> None:
    """Least squares of one stage's row scales, then of its column scales.

    ``product``: signs times the target; ``cross``: product of both stages' signs, 0 where there is one stage.
    """
    column = columns[stage]
    other = 1 - stage
    target = product @ column
    if not isinstance(cross, float):
        target -= rows[other] * (cross @ (columns[other] * column))
    rows[stage] = _ratio(target, on @ column**2)
    row = rows[stage]
    target = row @ product
    if not isinstance(cross, float):
        target -= columns[other] * ((rows[other] * row) @ cross)
    columns[stage] = _ratio(target, row**2 @ on)


def _ratio(target: Floats, weight: Floats) -> Floats:
    largest = weight.max(initial=0.0)
    return target / (weight + _EPS * largest) if largest > 0 else np.zeros_like(target)


def _signed(bits: Bools) -> Floats:
    return np.where(bits, 1.0, -1.0)
