"""N:M sparsity before binarization: which entries stay, and the zones of those that do.

Source: Dong et al., STBLLM, arXiv:2408.01803, sections 3.2 to 3.4, in the form its released code computes;
differs in: the mask is really kept. The released flow zeroes pruned entries, then binarizes them with the
rest, so that hardly a zero survives in what it stores.
"""

from __future__ import annotations

import numpy as np

from algo.binarize.partition import best_split, choose_salient, quantiles
from algo.binarize.zone import Bools, Floats

ACTIVATION_POWER = 0.5  #: exponent of the activation norm in the importance (released: ``a``)
#: Quantiles of the kept magnitudes that are tried as the inner threshold: 160 from 0.10 to 0.90.
INNER_QUANTILES = np.linspace(0.1, 0.9, 160)


def importance(weight: Floats, second_moment: Floats) -> Floats:
    """Standardless importance of every entry, [rows, columns].

    ``(|w| / row sum + |w| / column sum) * norm(x_j) ** 0.5``; 0 where a sum is 0.

    Parameters: second_moment, [columns], sums of squares of the input channels.
    """
    size = np.abs(weight)
    share = np.zeros_like(size)
    for axis in (0, 1):
        total = np.broadcast_to(size.sum(axis=axis, keepdims=True), size.shape)
        share += np.divide(size, total, out=np.zeros_like(size), where=total > 0)
    return share * np.sqrt(second_moment) ** ACTIVATION_POWER


def strongest(score: Floats, kept: int, of: int) -> Bools:
    """The ``kept`` largest of every ``of`` columns of a row, boolean; of equals the right ones stay.

    A short last group keeps as many, or all it has.
    """
    rows, columns = score.shape
    groups = -(-columns // of)
    padded = np.full((rows, groups * of), -np.inf)
    padded[:, :columns] = score
    order = np.argsort(padded.reshape(rows, groups, of), axis=2, kind="stable")
    keep = np.zeros((rows, groups, of), np.bool_)
    np.put_along_axis(keep, order[:, :, of - kept :], True, axis=2)
    return keep.reshape(rows, -1)[:, :columns]


def trisect(metric: Floats, salient: Bools, keep: Bools) -> tuple[float, float]:
    """Both thresholds of the kept entries outside the salient columns, the outer twice the inner.

    The outer one may not pass the 0.90 quantile; where no candidate obeys, it is that quantile. Infinity
    where no entry is left to part.
    """
    rest, kept = metric[:, ~salient], keep[:, ~salient]
    found = np.abs(rest[kept])
    if not found.size:
        return float("inf"), float("inf")
    inner = quantiles(found, INNER_QUANTILES)
    top = inner[-1]
    inner = inner[2 * inner <= top]
    if not inner.size:
        return float(top / 2), float(top)
    thresholds = np.stack([inner, 2 * inner], axis=1)
    low, high = thresholds[best_split(rest, thresholds, kept)]
    return float(low), float(high)


def salient_of_kept(metric: Floats, keep: Bools, limit: int) -> Bools:
    """Salient columns by the kept entries alone, boolean [columns]."""
    return choose_salient(np.where(keep, metric, 0.0), limit, keep)
