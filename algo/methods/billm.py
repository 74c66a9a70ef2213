"""BiLLM as its released code computes it, with the packed planes that code never writes.

Every weight ends with a sign bit and one second bit: the residual's sign on salient columns, the zone (at or
above the break-point) elsewhere. The published 1 + r bits count neither the zones nor the seven scalars of
each row and block; the storage bill here counts all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.binarize import packing
from algo.binarize.blocks import binarized_layer, refined, two_zones
from algo.binarize.curvature import Curvature
from algo.binarize.result import reported
from algo.binarize.settings import ZonedSettings
from algo.binarize.zone import Block, Floats
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = "Huang et al., BiLLM, arXiv:2402.04291, as released (github.com/Aaronhuang-778/BiLLM, dc137eb)"
FORMATS: tuple[str, ...] = ()  #: the method is its own format


@dataclass(frozen=True, kw_only=True)
class Config(ZonedSettings):
    """The released defaults."""


def needs_calibration(config: Config) -> bool:
    """Unless nothing but the weights is looked at and no error is pushed on."""
    return config.reads_activations


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """Binarize ``weight`` block by block, with compensation, and pack what the blocks hold.

    Parameters: weight, float64 [rows, columns]; calibration, of its inputs.
    Returns: Quantized; published_bits 1 + r, r the share of salient columns; notes "loss" (of the released
    log, before rounding) and "dead_columns".
    Raises: ValueError if the weight is not finite or not of two axes, the calibration is missing where metric
    or compensation ask for it, has another width or no positive definite Hessian, or a scalar does not fit
    fp16.
    Source: `SOURCE`; differs in: the error pushed on is, as released, that against scalars before rounding;
    stored are half sums and half differences of the two zones' scalars, rounded to fp16 and to the row's
    grid, so figures taken on the result include what the released code leaves out; entries equal to their
    mean take +1; short blocks work; float64.
    As released, a dead input channel's weights become 0 and are then binarized with their group.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    curve = config.curvature(weight.shape[1], calibration)
    blocks, loss = fit_blocks(weight, curve, config)
    return reported(blocks, packing.two_planes(blocks, config.group), loss, curve)


def fit_blocks(weight: Floats, curve: Curvature, config: Config) -> tuple[list[Block], float]:
    """The blocks of ``weight`` before rounding, and the loss of the released log."""
    fit = refined(0)

    def one(block: Floats, metric: Floats, here: slice) -> Block:
        return two_zones(block, metric, config.salient_limit, config.cgb, fit)

    return binarized_layer(weight, curve, config, one)
