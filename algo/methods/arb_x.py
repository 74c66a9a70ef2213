"""ARB-X: alternating refined binarization whose scales answer for the layer's output.

After ARB the signs are frozen, and offsets and scales are refitted against the calibration activations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.binarize import packing
from algo.binarize.blocks import binarized_layer, output_aware, two_zones
from algo.binarize.curvature import Curvature
from algo.binarize.result import reported
from algo.binarize.settings import AlternatingSettings
from algo.binarize.zone import Block, Floats
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = (
    "Li et al., ARB-LLM, arXiv:2410.03129, section 3.3 (ARB-X), "
    "as released (github.com/ZHITENGLI/ARB-LLM, d57e7f7)"
)
FORMATS: tuple[str, ...] = ()  #: the method is its own format


@dataclass(frozen=True, kw_only=True)
class Config(AlternatingSettings):
    """The released defaults."""


def needs_calibration(config: Config) -> bool:
    """Always: the scales are fitted to the layer's inputs."""
    return True


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """Binarize ``weight`` block by block, scales refitted to the output.

    Parameters: weight, float64 [rows, columns]; calibration, of its inputs.
    Returns: Quantized; published_bits 1 + r (the authors count as BiLLM does); notes "loss", "dead_columns".
    Raises: ValueError as `algo.methods.billm.quantize` does.
    Source: `SOURCE`; differs in: matrix products where the released code
    holds [rows, k, k] tensors; the Gram matrix comes from all calibration tokens; else as ARB.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    if calibration is None:
        raise ValueError("calibration must be given for arb-x, not None")
    curve = config.curvature(weight.shape[1], calibration)
    blocks, loss = fit_blocks(weight, curve, calibration, config)
    return reported(blocks, packing.two_planes(blocks, config.group), loss, curve)


def fit_blocks(
    weight: Floats, curve: Curvature, calibration: Calibration, config: Config
) -> tuple[list[Block], float]:
    """The blocks of ``weight`` before rounding, and the loss of the released log."""

    def one(block: Floats, metric: Floats, here: slice) -> Block:
        gram = calibration.hessian[here, here] / 2
        fit = output_aware(config.iterations, gram)
        return two_zones(block, metric, config.salient_limit, config.cgb, fit, gram)

    return binarized_layer(weight, curve, config, one)
