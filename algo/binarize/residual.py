"""Masked residual binarization: rows as a mean plus scaled signs, each stage fitted to what the last left.

Source: Huang et al., BiLLM, arXiv:2402.04291, sections 3.2 and 3.3, as its released code has it (the paper
prints the stages without their means); differs in: an entry equal to its mean takes sign +1, where the code
leaves 0, a third level that no plane can store.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Residual:
    """``offset + sum_s scales[s] * sign_s`` on the mask, 0 off it."""

    mask: Bools  #: [rows, columns]
    offset: Floats  #: [rows], the sum of all stages' means
    scales: Floats  #: [order, rows]
    signs: Bools  #: [order, rows, columns], True = +1; without meaning off the mask

    def values(self) -> Floats:
        """The real matrix, [rows, columns]."""
        total = np.broadcast_to(self.offset[:, None], self.mask.shape)
        for scale, sign in zip(self.scales, self.signs, strict=True):
            total = total + np.where(sign, scale[:, None], -scale[:, None])
        return np.where(self.mask, total, 0.0)


def binarize(values: Floats, mask: Bools, order: int) -> Residual:
    """Fit ``order`` stages to each row of ``values`` on ``mask``, both [rows, columns].

    A stage takes the mean of what is left as ``mu``, the mean of ``|left - mu|`` as its scale and the sign of
    ``left - mu``. Rows without a masked entry have offset and scales 0.
    """
    count = np.maximum(mask.sum(axis=1), 1)
    left = np.where(mask, values, 0.0)
    offset = np.zeros(len(values))
    scales, signs = np.empty((order, len(values))), np.empty((order, *values.shape), np.bool_)
    for stage in range(order):
        mean = left.sum(axis=1) / count
        centred = np.where(mask, left - mean[:, None], 0.0)
        scale = np.abs(centred).sum(axis=1) / count
        sign = centred >= 0
        offset += mean
        scales[stage], signs[stage] = scale, sign
        left = np.where(mask, centred - np.where(sign, scale[:, None], -scale[:, None]), 0.0)
    return Residual(mask, offset, scales, signs)


def squared_error(values: Floats, mask: Bools, order: int) -> float:
    """Sum over the mask of ``(values - binarize(values, mask, order))**2``."""
    fitted = binarize(values, mask, order).values()
    return float(np.sum(np.where(mask, values - fitted, 0.0) ** 2))
