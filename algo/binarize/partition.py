"""How a column block is parted before it is binarized: salient columns, and zones of magnitude.

Each search screens all candidates by a fast kernel, then lets the plain definition decide between those the
kernel cannot tell apart. Its choice is the plain definition's, the first of equal candidates. With a mask of
kept entries all of it is about those.

Source: Huang et al., BiLLM, arXiv:2402.04291, sections 3.2 and 3.3 (structural search, optimal splitting),
as in the released code; differs in: candidates stop where the block's columns do, so short blocks work.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from algo.binarize.residual import squared_error
from algo.binarize.zone import Bools, Floats

#: Quantiles of the magnitudes that are tried as break-point: 0.10, 0.11, .. 0.90.
BREAK_QUANTILES = np.linspace(0.1, 0.9, 81)

# Kernels sum in float64: two candidates further apart than this are told apart by them for certain.
_CLOSE = 1e-9  #: of the smallest error
_NOISE = 1e-12  #: of the sum of squares, what a difference of large sums may lose


def ranking(metric: Floats) -> NDArray[np.int64]:
    """Columns of ``metric`` [rows, columns] by sum of magnitudes, largest first; of equals the left."""
    return np.argsort(-np.abs(metric).sum(axis=0), kind="stable")


def salient_error(metric: Floats, salient: Bools, keep: Bools | None = None) -> float:
    """Squared error of both column sets, each binarized at order 2; the definition of the salient search."""
    inside = np.broadcast_to(salient, metric.shape)
    outside = ~inside
    if keep is not None:
        inside, outside = inside & keep, outside & keep
    return squared_error(metric, inside, 2) + squared_error(metric, outside, 2)


def choose_salient(metric: Floats, limit: int, keep: Bools | None = None) -> Bools:
    """Salient columns of a block, boolean [columns].

    The ``c`` first columns of `ranking` with the smallest `salient_error`, ``c`` from 1 to ``limit`` and
    below the number of columns; a block of one column is all salient. ``keep``: the metric must be 0 off it.
    """
    from algo.binarize.screens import kept_salient_errors
    from algo.binarize.vector_screens import salient_errors

    columns = metric.shape[1]
    order = ranking(metric)

    def first(count: int) -> Bools:
        chosen = np.zeros(columns, np.bool_)
        chosen[order[:count]] = True
        return chosen

    candidates = min(limit, columns - 1)
    if candidates < 1:
        return first(1)
    if keep is None:
        screened = salient_errors(np.ascontiguousarray(metric), order, candidates)
    else:
        kept = np.ascontiguousarray(keep.T[order])
        screened = kept_salient_errors(np.ascontiguousarray(metric.T[order]), kept, candidates)
    return first(1 + decide(screened, metric, lambda at: salient_error(metric, first(at + 1), keep)))


def break_points(metric: Floats, salient: Bools) -> Floats:
    """Thresholds tried for a block: quantiles of all magnitudes, those of salient columns counted as 0."""
    return quantiles(np.where(salient, 0.0, np.abs(metric)), BREAK_QUANTILES)


def quantiles(values: Floats, shares: Floats) -> Floats:
    """Quantiles of all entries, linear between order statistics; one sort serves all shares."""
    ordered = np.sort(values, axis=None)
    place = shares * (len(ordered) - 1)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def split_error(metric: Floats, thresholds: Floats, keep: Bools | None = None) -> float:
    """Squared error of the zones between rising thresholds, each binarized at order 1.

    The definition of the break-point searches; the salient columns, whose error no threshold changes, are not
    part of ``metric``. A zone holds the magnitudes at or above its threshold and below the next.
    """
    total, place = 0.0, np.searchsorted(thresholds, np.abs(metric), side="right")
    for zone in range(len(thresholds) + 1):
        mask = place == zone
        total += squared_error(metric, mask if keep is None else mask & keep, 1)
    return total


def choose_break_point(metric: Floats, salient: Bools) -> float:
    """Threshold of a block, shared by its rows: the one of `break_points` with the smallest `split_error`.

    Infinity where all columns are salient and nothing is left to split.
    """
    from algo.binarize.vector_screens import zone_errors

    others = np.flatnonzero(~salient)
    if not others.size:
        return float("inf")
    thresholds = break_points(metric, salient)
    screened = zone_errors(np.ascontiguousarray(metric), others, thresholds)
    rest = np.take(metric, others, axis=1)
    return float(thresholds[decide(screened, rest, lambda at: split_error(rest, thresholds[at : at + 1]))])


def best_split(metric: Floats, thresholds: Floats, keep: Bools) -> int:
    """First of the candidates, rows of ``thresholds`` [candidates, zones - 1], with the least error."""
    from algo.binarize.screens import split_errors

    # Entries that are pruned go behind the others, where no kernel counts them.
    ascending, counts = np.sort(np.where(keep, metric, np.inf), axis=1), keep.sum(axis=1)
    screened = split_errors(ascending, counts.astype(np.int64), thresholds)
    return decide(screened, metric, lambda at: split_error(metric, thresholds[at], keep))


def choose_salient_split(metric: Floats, salient: Bools) -> float:
    """Threshold that splits the salient columns by magnitude, for zones of order 2.

    Of 81 quantiles of the magnitudes above 0 the one with the smallest error; infinity if there is none.

    Source: Li et al., ARB-LLM, arXiv:2410.03129, section 3.4 (column-group bitmap), as released.
    """
    from algo.binarize.lanes import residual_error

    inside = np.ascontiguousarray(metric[:, salient])
    magnitudes = np.abs(inside)
    found = magnitudes[magnitudes > 0]
    if not found.size:
        return float("inf")
    candidates = quantiles(found, BREAK_QUANTILES)
    masks = (magnitudes >= threshold for threshold in candidates)
    screened = [residual_error(inside, m, 2) + residual_error(inside, ~m, 2) for m in masks]

    def exact(at: int) -> float:
        high = magnitudes >= candidates[at]
        return squared_error(inside, high, 2) + squared_error(inside, ~high, 2)

    return float(candidates[decide(np.array(screened), inside, exact)])


def decide(screened: Floats, metric: Floats, exact: Callable[[int], float]) -> int:
    """First index of the smallest exact error, asked only of candidates within the kernels' reach of it."""
    margin = _CLOSE * screened.min() + _NOISE * float(np.sum(metric**2))
    close = np.flatnonzero(screened <= screened.min() + margin)
    if len(close) == 1:
        return int(close[0])
    return int(close[np.argmin([exact(int(at)) for at in close])])
