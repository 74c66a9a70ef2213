"""From a layer to its binarized blocks: metric, partition, the fit of every zone, compensation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from algo.binarize import aware, lanes, row_column
from algo.binarize.compensation import compensate
from algo.binarize.curvature import Curvature
from algo.binarize.partition import choose_break_point, choose_salient, choose_salient_split
from algo.binarize.settings import BlockSettings
from algo.binarize.sparse import salient_of_kept, trisect
from algo.binarize.zone import Block, Bools, Floats, Indices, Zone

#: Fit one zone: the block's values on some of its columns, those columns, the mask on them, sign planes.
ZoneFit = Callable[[Floats, Indices, Bools, int], Zone]


BASE_ITERATIONS = 15  #: of the fit that stands in for the salient columns in ARB-X's search


def metric_of(block: Floats, diagonal: Floats, settings: BlockSettings) -> Floats:
    """What the searches look at, [rows, k]."""
    return (block / diagonal) ** 2 if settings.metric == "hessian" else block


def refined(iterations: int) -> ZoneFit:
    """Residual binarization, refined by alternation; no iteration is BiLLM's own fit."""

    def fit(values: Floats, at: Indices, mask: Bools, order: int) -> Zone:
        return Zone(at, mask, *lanes.alternate(values, mask, order, iterations))

    return fit


def row_and_column(iterations: int) -> ZoneFit:
    """Row and column scales without mean."""

    def fit(values: Floats, at: Indices, mask: Bools, order: int) -> Zone:
        return row_column.fit(values, at, mask, order, iterations)

    return fit


def output_aware(iterations: int, gram: Floats) -> ZoneFit:
    """Alternation, then scales refitted to the output; ``gram`` [k, k] of the block's activations."""
    first = refined(iterations)

    def fit(values: Floats, at: Indices, mask: Bools, order: int) -> Zone:
        return aware.refit(first(values, at, mask, order), values, gram[np.ix_(at, at)], iterations)

    return fit


def binarized_layer(
    weight: Floats,
    curve: Curvature,
    settings: BlockSettings,
    one: Callable[[Floats, Floats, slice], Block],
) -> tuple[list[Block], float]:
    """Blocks of a layer and the loss of the released log; ``one`` takes a block, its metric, its columns."""
    diagonal = curve.diagonal

    def fit(block: Floats, here: slice) -> Block:
        return one(block, metric_of(block, diagonal[here], settings), here)

    return compensate(weight, curve, settings.group, settings.compensation, fit)


def two_zones(
    block: Floats, metric: Floats, salient_limit: int, bitmap: bool, fit: ZoneFit, gram: Floats | None = None
) -> Block:
    """A block as BiLLM and ARB part it: salient columns, and the rest split once by magnitude.

    As released, all errors of the searches are those of the metric's own binarization, not of the weights'.

    Parameters: bitmap, split the salient columns too; gram, [k, k], weighs the error of the break-point
    search, None: all alike.
    """
    salient = choose_salient(metric, salient_limit)
    inside, outside = np.flatnonzero(salient), np.flatnonzero(~salient)
    split = choose_salient_split(metric, salient) if bitmap else -np.inf
    if gram is None:
        threshold = choose_break_point(metric, salient)
    else:
        base = np.zeros_like(metric)
        base[:, inside] = _base(metric[:, inside], split)
        threshold = aware.choose_break_point(metric, salient, base, gram)

    def zone(at: Indices, mask: Bools, order: int) -> Zone:
        return fit(np.take(block, at, axis=1), at, mask, order)

    high_salient = np.abs(metric[:, inside]) >= split
    high = np.abs(metric[:, outside]) >= threshold
    return Block(
        salient=salient,
        high=zone(inside, high_salient, 2),
        low=zone(inside, ~high_salient, 2) if bitmap else None,
        zones=(zone(outside, high, 1), zone(outside, ~high, 1)),
    )


def _base(metric: Floats, split: float) -> Floats:
    """What the data-aware break-point search takes for the salient columns: the metric after alternation."""
    values, high = np.ascontiguousarray(metric), np.abs(metric) >= split
    total = np.zeros_like(values)
    for mask in (high, ~high):
        if np.any(mask):
            fitted = lanes.alternate(values, mask, 2, BASE_ITERATIONS)
            total += Zone(np.arange(values.shape[1]), mask, *fitted).values()
    return total


def three_zones(block: Floats, metric: Floats, keep: Bools, salient_limit: int, fit: ZoneFit) -> Block:
    """A block as STBLLM parts what an N:M mask has left of it."""
    salient = salient_of_kept(metric, keep, salient_limit)
    inside, outside = np.flatnonzero(salient), np.flatnonzero(~salient)
    inner, outer = trisect(metric, salient, keep)
    size, kept = np.abs(metric[:, outside]), keep[:, outside]

    def zone(at: Indices, mask: Bools, order: int) -> Zone:
        return fit(np.take(block, at, axis=1), at, mask, order)

    return Block(
        salient=salient,
        high=zone(inside, keep[:, inside], 2),
        low=None,
        zones=(
            zone(outside, kept & (size >= outer), 1),
            zone(outside, kept & (size >= inner) & (size < outer), 1),
            zone(outside, kept & (size < inner), 1),
        ),
        keep=keep,
    )
