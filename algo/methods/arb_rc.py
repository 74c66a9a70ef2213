"""ARB-RC: zones with a scale per row and one per column, and no mean.

Four row scalars a block in place of BiLLM's seven; the column factors scale the activations before they are
quantized, so that every zone reads a stream of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.binarize import packing
from algo.binarize.blocks import binarized_layer, row_and_column, two_zones
from algo.binarize.curvature import Curvature
from algo.binarize.result import reported
from algo.binarize.settings import AlternatingSettings
from algo.binarize.zone import Block, Floats
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = (
    "Li et al., ARB-LLM, arXiv:2410.03129, section 3.3 (ARB-RC), "
    "as released (github.com/ZHITENGLI/ARB-LLM, d57e7f7)"
)
FORMATS: tuple[str, ...] = ()  #: the method is its own format


@dataclass(frozen=True, kw_only=True)
class Config(AlternatingSettings):
    """The released defaults."""


def needs_calibration(config: Config) -> bool:
    """Unless nothing but the weights is looked at and no error is pushed on."""
    return config.reads_activations


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """Binarize ``weight`` block by block with row and column scales.

    Parameters: weight, float64 [rows, columns]; calibration, of its inputs.
    Returns: Quantized; published_bits 1 + r (the authors count as BiLLM does); notes "loss", "dead_columns".
    Raises: ValueError as `algo.methods.billm.quantize` does.
    Source: `SOURCE`; differs in: the epsilon of the denominators is relative to
    the largest; column factors are stored in fp16; else as ARB.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    curve = config.curvature(weight.shape[1], calibration)
    blocks, loss = fit_blocks(weight, curve, config)
    return reported(blocks, packing.row_column_planes(blocks, config.group), loss, curve)


def fit_blocks(weight: Floats, curve: Curvature, config: Config) -> tuple[list[Block], float]:
    """The blocks of ``weight`` before rounding, and the loss of the released log."""
    fit = row_and_column(config.iterations)

    def one(block: Floats, metric: Floats, here: slice) -> Block:
        return two_zones(block, metric, config.salient_limit, config.cgb, fit)

    return binarized_layer(weight, curve, config, one)
