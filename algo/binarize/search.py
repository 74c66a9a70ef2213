"""How a column block is parted before it is binarized: which columns are salient, where the rest breaks.

Each search screens all candidates by a fast kernel, then lets the plain definition decide between those the
kernel cannot tell apart. Its choice is the plain definition's, the first of equal candidates.

Source: Huang et al., BiLLM, arXiv:2402.04291, sections 3.2 and 3.3 (structural search, optimal splitting),
as in the released code; differs in: candidates stop where the block's columns do, so short blocks work.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from algo.binarize.residual import Bools, Floats, squared_error

#: Quantiles of the magnitudes that are tried as break-point: 0.10, 0.11, .. 0.90.
BREAK_QUANTILES = np.linspace(0.1, 0.9, 81)

# Kernels sum in float64: two candidates further apart than this are told apart by them for certain.
_CLOSE = 1e-9  #: of the smallest error
_NOISE = 1e-12  #: of the sum of squares, what a difference of large sums may lose


def ranking(metric: Floats) -> NDArray[np.int64]:
    """Columns of ``metric`` [rows, columns] by sum of magnitudes, largest first; of equals the left."""
    return np.argsort(-np.abs(metric).sum(axis=0), kind="stable")


def salient_error(metric: Floats, salient: Bools) -> float:
    """Squared error of both column sets, each binarized at order 2; the definition of the salient search."""
    mask = np.broadcast_to(salient, metric.shape)
    return squared_error(metric, mask, 2) + squared_error(metric, ~mask, 2)


def choose_salient(metric: Floats, limit: int) -> Bools:
    """Salient columns of a block, boolean [columns].

    The ``c`` first columns of `ranking` with the smallest `salient_error`, ``c`` from 1 to ``limit`` and
    below the number of columns; a block of one column is all salient.
    """
    from algo.binarize.kernels import salient_errors

    columns = metric.shape[1]
    order = ranking(metric)

    def first(count: int) -> Bools:
        chosen = np.zeros(columns, np.bool_)
        chosen[order[:count]] = True
        return chosen

    candidates = min(limit, columns - 1)
    if candidates < 1:
        return first(1)
    screened = salient_errors(np.ascontiguousarray(metric[:, order].T), candidates)
    best = _decide(screened, metric, lambda at: salient_error(metric, first(at + 1)))
    return first(best + 1)


def break_points(metric: Floats, salient: Bools) -> Floats:
    """Thresholds tried for a block: quantiles of all magnitudes, those of salient columns counted as 0."""
    return np.quantile(np.where(salient, 0.0, np.abs(metric)), BREAK_QUANTILES)


def split_error(metric: Floats, threshold: float) -> float:
    """Squared error of the entries at or above the threshold and those below, each binarized at order 1.

    The definition of the break-point search; the salient columns, whose error no threshold changes, are not
    part of ``metric``.
    """
    high = np.abs(metric) >= threshold
    return squared_error(metric, high, 1) + squared_error(metric, ~high, 1)


def choose_break_point(metric: Floats, salient: Bools) -> float:
    """Threshold of a block, shared by its rows: the one of `break_points` with the smallest `split_error`.

    Infinity where all columns are salient and nothing is left to split.
    """
    from algo.binarize.kernels import split_errors

    if np.all(salient):
        return float("inf")
    rest = metric[:, ~salient]
    thresholds = break_points(metric, salient)
    screened = split_errors(np.sort(rest, axis=1), thresholds)
    return float(thresholds[_decide(screened, rest, lambda at: split_error(rest, thresholds[at]))])


def _decide(screened: Floats, metric: Floats, exact: Callable[[int], float]) -> int:
    """First index of the smallest exact error, asked only of candidates within the kernels' reach of it."""
    margin = _CLOSE * screened.min() + _NOISE * float(np.sum(metric**2))
    close = np.flatnonzero(screened <= screened.min() + margin)
    if len(close) == 1:
        return int(close[0])
    return int(close[np.argmin([exact(int(at)) for at in close])])
