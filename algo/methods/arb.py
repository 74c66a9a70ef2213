"""ARB-LLM without calibration data in the fit: alternating refined binarization of BiLLM's zones.

Mean, scales and signs take turns, so that each is the best answer to the others. Stored as BiLLM is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.binarize import packing
from algo.binarize.blocks import binarized_layer, refined, two_zones
from algo.binarize.curvature import Curvature
from algo.binarize.result import reported
from algo.binarize.settings import AlternatingSettings
from algo.binarize.zone import Block, Floats
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = (
    "Li et al., ARB-LLM, arXiv:2410.03129, section 3.2, as released (github.com/ZHITENGLI/ARB-LLM, d57e7f7)"
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
    """Binarize ``weight`` block by block, every zone refined by alternation.

    Parameters: weight, float64 [rows, columns]; calibration, of its inputs.
    Returns: Quantized; published_bits 1 + r (the authors count as BiLLM does); notes "loss", "dead_columns".
    Raises: ValueError as `algo.methods.billm.quantize` does.
    Source: `SOURCE`; differs in: entries equal to their mean take +1; scalars are
    stored as half sums and half differences in fp16; short blocks work; float64.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    curve = config.curvature(weight.shape[1], calibration)
    blocks, loss = fit_blocks(weight, curve, config)
    return reported(blocks, packing.two_planes(blocks, config.group), loss, curve)


def fit_blocks(weight: Floats, curve: Curvature, config: Config) -> tuple[list[Block], float]:
    """The blocks of ``weight`` before rounding, and the loss of the released log."""
    fit = refined(config.iterations)

    def one(block: Floats, metric: Floats, here: slice) -> Block:
        return two_zones(block, metric, config.salient_limit, config.cgb, fit)

    return binarized_layer(weight, curve, config, one)
