"""STBLLM's storage, filled better: N:M sparse, three zones and a second plane, fitted to the output.

The mask of a block is chosen when its turn comes, from the weights as compensated so far and their curvature;
then every kept weight takes the nearest of its six levels, errors are fed back inside the block, and bits and
scalars take turns against the curvature of the block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.binarize import coded, joint, levels
from algo.binarize.codebook import PRUNED, Codebook, Codes
from algo.binarize.curvature import Curvature
from algo.binarize.joint import JointSettings
from algo.binarize.settings import require_ratio
from algo.binarize.sparse import strongest
from algo.binarize.zone import Floats
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = (
    "planeforge; the stored form is that of Dong et al., STBLLM, arXiv:2408.01803, the feedback that of "
    "Frantar et al., GPTQ, arXiv:2210.17323"
)
FORMATS: tuple[str, ...] = ()  #: the method is its own format


@dataclass(frozen=True, kw_only=True)
class Config(JointSettings):
    """Defaults that store STBLLM's planes with narrower scalars."""

    nm: str = "4:8"  #: kept : of, weights that stay of every so many columns

    def __post_init__(self) -> None:
        super().__post_init__()
        _, of = require_ratio("nm", self.nm)
        if self.group % of:
            raise ValueError(f"group must be a multiple of {of} for nm {self.nm}, not {self.group!r}")


def needs_calibration(config: Config) -> bool:
    """Always: bits and scalars are fitted to the layer's output."""
    return True


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """Prune ``weight`` to N:M and binarize what stays in STBLLM's form, bits and scalars fitted together.

    Parameters: weight, float64 [rows, columns]; calibration, of its inputs.
    Returns: Quantized; published_bits (1 + r) N/M as STBLLM counts, r the share of salient columns.
    Raises: ValueError as `algo.methods.billm_plus.quantize` does.
    Source: `SOURCE`; differs in: as billm+; importance is ``w**2 / U_jj**2`` of the compensated weights (as
    in Frantar and Alistarh, SparseGPT, arXiv:2301.00774); every layer has the same ratio.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    curve = config.curvature("stbllm+", weight.shape[1], calibration)
    kept, of = require_ratio("nm", config.nm)
    form = _ThreeZones(curve, config, kept, of)
    blocks, grid, loss = joint.fit_layer(weight, curve, config, form)
    counts = tuple(int(np.any(block.kinds == levels.SALIENT, axis=0).sum()) for block in blocks)
    return Quantized(
        matrix=coded.sparse_planes(blocks, grid, config.group, kept, of),
        published_bits=kept / of * (1 + sum(counts) / weight.shape[1]),
        salient_columns=counts,
        notes={"loss": loss, "dead_columns": int(curve.dead.sum())},
    )


class _ThreeZones:
    """An N:M mask; of what it keeps, salient columns with a second plane, the rest in three zones."""

    ties: tuple[int, ...] = ()

    def __init__(self, curve: Curvature, config: Config, kept: int, of: int) -> None:
        self.book: Codebook = levels.three_zones()
        self._diagonal, self._config, self._ratio = curve.diagonal, config, (kept, of)

    def kinds(self, block: Floats, here: slice) -> Codes:
        score = (block / self._diagonal[here]) ** 2
        keep = strongest(score, *self._ratio)
        kinds = np.full(block.shape, levels.REST, np.uint8)
        kinds[:, self._config.salient_columns(np.where(keep, score, 0.0))] = levels.SALIENT
        return np.where(keep, kinds, PRUNED).astype(np.uint8)

    def guess(self, block: Floats, kinds: Codes, factors: Floats) -> Floats:
        return levels.guess_three(block, kinds)
