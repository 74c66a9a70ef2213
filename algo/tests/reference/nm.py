"""STBLLM's element importance and the N:M keep mask it gives.

Source: STBLLM, arXiv:2408.01803, released code (row and column shares times the root of the activation norm).
"""

from __future__ import annotations

import numpy as np

from algo.tests.reference.primitives import Array, Mask


def share(part: float, whole: float) -> float:
    """part / whole, and 0 of nothing is 0."""
    return part / whole if whole else 0.0


def importance(weight: Array, xnorm: Array) -> Array:
    """(|W| / row sum + |W| / column sum) * sqrt(norm of the channel's activations)."""
    magnitude = np.abs(weight)
    in_row = [float(row.sum()) for row in magnitude]
    in_column = [float(column.sum()) for column in magnitude.T]
    out = np.zeros(weight.shape)
    for i in range(weight.shape[0]):
        for j in range(weight.shape[1]):
            value = float(magnitude[i, j])
            out[i, j] = (share(value, in_row[i]) + share(value, in_column[j])) * float(xnorm[j]) ** 0.5
    return out


def keep_mask(scores: Array, keep: int, of: int) -> Mask:
    """The ``keep`` largest of every ``of`` neighbours in a row; of equals the lower column goes first.

    A last group of r < ``of`` columns keeps min(keep, r).
    """
    mask = np.ones(scores.shape, np.bool_)
    for i, row in enumerate(scores):
        for start in range(0, len(row), of):
            group = range(start, min(start + of, len(row)))
            ascending = sorted((float(row[j]), j) for j in group)
            for _, j in ascending[: max(len(group) - keep, 0)]:
                mask[i, j] = False
    return mask
