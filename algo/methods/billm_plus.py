"""BiLLM's storage, filled better: the same planes and scalars, fitted to the layer's output.

A sign plane, a second plane (residual sign on salient columns, zone bit elsewhere) and seven scalars per row
and block are what the released code stores. Two zones with a mean and a scale each are any four levels: here
both bits of a weight are chosen together as the nearest of them, column after column with the error fed back,
and bits and scalars take turns against the curvature of the block. A scalar then needs no more than 8 bits.
Two more settings store less: one mean for both zones, and zones of a fixed size, which a combinatorial code
holds in half a bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.binarize import coded, joint, levels
from algo.binarize.codebook import Codebook, Codes
from algo.binarize.curvature import Curvature
from algo.binarize.joint import JointSettings
from algo.binarize.sparse import strongest
from algo.binarize.zone import Floats
from algo.formats.grouped import check_integer, check_switch
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = (
    "planeforge; the stored form is that of Huang et al., BiLLM, arXiv:2402.04291, the feedback that of "
    "Frantar et al., GPTQ, arXiv:2210.17323"
)
FORMATS: tuple[str, ...] = ()  #: the method is its own format


@dataclass(frozen=True, kw_only=True)
class Config(JointSettings):
    """Defaults that store BiLLM's planes with narrower scalars."""

    shared_mean: bool = False  #: one mean for both zones: a scalar less
    zone_kept: int = 0  #: high entries of every 64 columns, held as a combinatorial code; 0: a bit each

    def __post_init__(self) -> None:
        super().__post_init__()
        check_switch("shared_mean", self.shared_mean)
        check_integer("zone_kept", self.zone_kept, 0)
        if self.zone_kept and (self.group % coded.SEGMENT or self.zone_kept + self.salient > coded.SEGMENT):
            raise ValueError(
                f"zone_kept must be 0, or at most {coded.SEGMENT} less the salient columns with a group that "
                f"is a multiple of {coded.SEGMENT}, not {self.zone_kept!r}"
            )


def needs_calibration(config: Config) -> bool:
    """Always: bits and scalars are fitted to the layer's output."""
    return True


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """Binarize ``weight`` in BiLLM's form, bits and scalars fitted together.

    Parameters: weight, float64 [rows, columns]; calibration, of its inputs.
    Returns: Quantized; published_bits 1 + r as BiLLM counts, r the share of salient columns.
    Raises: ValueError if the weight is not finite or not of two axes, the calibration is missing, has another
    width or no positive definite Hessian.
    Source: `SOURCE`; differs in: the salient columns are a fixed number of each block, those of the largest
    ``sum w**2 / U_jj**2``; zones are free and four levels are fitted by alternation with coordinate descent;
    scalars are mantissas on one grid per row from the start, and errors are compensated with them as stored.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    curve = config.curvature("billm+", weight.shape[1], calibration)
    blocks, grid, loss = joint.fit_layer(weight, curve, config, _TwoZones(curve, config))
    counts = tuple(int(np.sum(block.kinds[0] == levels.SALIENT)) for block in blocks)
    return Quantized(
        matrix=coded.two_planes(blocks, grid, config.group, config.shared_mean, config.zone_kept),
        published_bits=1 + sum(counts) / weight.shape[1],
        salient_columns=counts,
        notes={"loss": loss, "dead_columns": int(curve.dead.sum())},
    )


class _TwoZones:
    """Salient columns with a second sign plane, the rest in two zones."""

    ties: tuple[int, ...] = ()

    def __init__(self, curve: Curvature, config: Config) -> None:
        self.book: Codebook = levels.four_levels(config.shared_mean)
        self._diagonal, self._config = curve.diagonal, config

    def kinds(self, block: Floats, here: slice) -> Codes:
        salient = self._config.salient_columns((block / self._diagonal[here]) ** 2)
        kinds = np.full(block.shape, levels.REST, np.uint8)
        if self._config.zone_kept:
            size = np.where(salient, -np.inf, np.abs(block))
            high = strongest(size, self._config.zone_kept, coded.SEGMENT)
            kinds = np.where(high, levels.HIGH, levels.LOW).astype(np.uint8)
        kinds[:, salient] = levels.SALIENT
        return kinds

    def guess(self, block: Floats, kinds: Codes, factors: Floats) -> Floats:
        return levels.guess_four(block, kinds)
