"""Masked residual binarization, the plain definition: rows as a mean plus scaled signs, stage by stage.

Source: Huang et al., BiLLM, arXiv:2402.04291, sections 3.2 and 3.3, as its released code has it (the paper
prints the stages without their means); differs in: an entry equal to its mean takes sign +1, where the code
leaves 0, a third level that no plane can store.
"""

from __future__ import annotations

import numpy as np

from algo.binarize.zone import Bools, Floats


def binarized(values: Floats, mask: Bools, order: int) -> Floats:
    """``values`` [rows, columns] as ``order`` stages fitted to each row on ``mask``; 0 off it.

    A stage takes the mean of what is left as ``mu``, the mean of ``|left - mu|`` as its scale and the sign of
    ``left - mu``. Rows without a masked entry are 0. `algo.binarize.lanes` is its fast form.
    """
    count = np.maximum(mask.sum(axis=1, keepdims=True), 1)
    left = np.where(mask, values, 0.0)
    for _ in range(order):
        centred = np.where(mask, left - left.sum(axis=1, keepdims=True) / count, 0.0)
        scale = np.abs(centred).sum(axis=1, keepdims=True) / count
        left = np.where(mask, centred - np.where(centred >= 0, scale, -scale), 0.0)
    return np.where(mask, values, 0.0) - left


def squared_error(values: Floats, mask: Bools, order: int) -> float:
    """Sum over the mask of ``(values - binarized(values, mask, order))**2``."""
    return float(np.sum((np.where(mask, values, 0.0) - binarized(values, mask, order)) ** 2))
