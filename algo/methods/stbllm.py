"""STBLLM: N:M sparse binary weights in three zones of magnitude, with the N:M mask really kept.

The released flow zeroes pruned entries and then gives them a sign and a scale like any other, so what it
stores is dense. Here the mask stands: pruned entries are exactly 0, sign and zone bits exist only for the
others, and the error of pruning is compensated together with that of binarizing. At blocks of 128 that pays
only with ``compensation=exact``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from algo.binarize import packing
from algo.binarize.blocks import binarized_layer, refined, three_zones
from algo.binarize.curvature import Curvature
from algo.binarize.result import reported
from algo.binarize.settings import BlockSettings, require_ratio
from algo.binarize.sparse import importance, strongest
from algo.binarize.zone import Block, Bools, Floats
from algo.formats.grouped import check_choice
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = "Dong et al., STBLLM, arXiv:2408.01803, as released (github.com/pprp/STBLLM)"
FORMATS: tuple[str, ...] = ()  #: the method is its own format

ALLOCATIONS = ("released", "paper", "none")
OUTLIER = 6.0  #: times the mean importance, above which an entry is an outlier (released: ``Hyper_m``)
SPREAD = 2.0  #: weights of a group by which the layers' sparsity may differ (released: ``Lamda``)


@dataclass(frozen=True, kw_only=True)
class Config(BlockSettings):
    """The released defaults."""

    nm: str = "4:8"  #: kept : of, weights that stay of every so many columns
    allocation: str = "released"  #: how a whole model spreads the sparsity: "released", "paper" or "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("allocation", self.allocation, ALLOCATIONS)
        _ = self.ratio

    @property
    def ratio(self) -> tuple[int, int]:
        """Kept weights, and of how many."""
        return require_ratio("nm", self.nm)


def needs_calibration(config: Config) -> bool:
    """Always: the importance of a weight depends on what its input channel carries."""
    return True


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """Prune ``weight`` to N:M, binarize what stays block by block, and pack it.

    Parameters: weight, float64 [rows, columns]; calibration, of its inputs.
    Returns: Quantized; published_bits (1 + r) N/M, r the share of salient columns; notes "loss" and
    "dead_columns".
    Raises: ValueError as `algo.methods.billm.quantize` does.
    Source: `SOURCE`; differs in: the mask is kept, in every search and fit; N counts kept weights, as in the
    paper (the released scripts count dropped ones); importance without the standardization that changes no
    mask; entries equal to their mean take +1; short blocks work; float64.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    if calibration is None:
        raise ValueError("calibration must be given for stbllm, not None")
    curve = config.curvature(weight.shape[1], calibration)
    kept, of = config.ratio
    keep = keep_mask(weight, calibration, curve, config)
    blocks, loss = fit_blocks(weight, keep, curve, config)
    matrix = packing.sparse_planes(blocks, config.group, kept, of)
    return reported(blocks, matrix, loss, curve, kept / of)


def keep_mask(weight: Floats, calibration: Calibration, curve: Curvature, config: Config) -> Bools:
    """Entries that stay, boolean [rows, columns], chosen once from the original weights."""
    live = np.where(curve.dead, 0.0, weight)
    return strongest(importance(live, calibration.second_moment), *config.ratio)


def fit_blocks(weight: Floats, keep: Bools, curve: Curvature, config: Config) -> tuple[list[Block], float]:
    """The blocks of ``weight`` before rounding, and the loss of the released log."""
    fit = refined(0)

    def one(block: Floats, metric: Floats, here: slice) -> Block:
        return three_zones(block, metric, keep[:, here], config.salient_limit, fit)

    return binarized_layer(weight, curve, config, one)


def wants_allocation(config: Config) -> bool:
    """Whether a whole model's decoder blocks get ratios of their own."""
    return config.allocation != "none"


def block_fact(layers: Mapping[str, tuple[Floats, Calibration]], config: Config) -> float:
    """What the allocation knows of a decoder block, from its weights and inputs at full precision.

    "released": share [percent] of all its layers' importances above `OUTLIER` times their mean.
    "paper": Euclidean norm of its weights.
    """
    if config.allocation == "paper":
        return float(np.sqrt(sum(float(np.sum(weight**2)) for weight, _ in layers.values())))
    scores = [importance(weight, known.second_moment) for weight, known in layers.values()]
    size = sum(score.size for score in scores)
    limit = OUTLIER * sum(float(score.sum()) for score in scores) / size
    return 100 * sum(int(np.sum(score > limit)) for score in scores) / size


def allocate(block_facts: Sequence[float], config: Config) -> list[Config]:
    """A configuration per decoder block, its ratio by the block's fact.

    "released": outlier shares stretched over `SPREAD` weights of a group, their mean taken off, rounded half
    to even, 1 read as 2; so many fewer weights are dropped. The target ratio is not quite met, as released.
    "paper": ``N/M = alpha + (1 - alpha) R`` with alpha the block's share of all norms.
    """
    kept, of = config.ratio
    facts = np.asarray(block_facts, np.float64)
    if config.allocation == "paper":
        share = facts / facts.sum() if facts.sum() > 0 else facts
        chosen = np.rint(of * (share + (1 - share) * kept / of))
    else:
        width = facts.max() - facts.min()
        stretched = (facts - facts.min()) / width * SPREAD if width > 0 else np.zeros_like(facts)
        fewer = np.rint(stretched - stretched.mean())
        fewer = np.where(fewer == 1, 2, fewer)
        chosen = kept + fewer
    chosen = np.clip(chosen, 1, of).astype(int)
    return [replace(config, nm=f"{n}:{of}", allocation="none") for n in chosen]
