"""Ternary weights by the absmean rule of BitNet b1.58, applied after training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.build import from_digits
from algo.bitplane.format import Format
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.rows import by_blocks
from algo.formats import catalog, grouping
from algo.formats.grouped import FormatConfig
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = "BitNet b1.58: Ma et al., arXiv:2402.17764, section 2 (absmean)"


def _is_ternary(fmt: Format) -> bool:
    """Digits -1, 0, +1, nothing else."""
    return {int(v) for v in fmt.values()} == {-1, 0, 1} and not fmt.zero


FORMATS = catalog.accepted_by(_is_ternary, first=catalog.TERNARY_G128)


@dataclass(frozen=True, kw_only=True)
class Config(FormatConfig):
    """Which ternary format, and how many columns share a scale."""

    allowed = FORMATS
    format: str = FORMATS[0]


def needs_calibration(config: Config) -> bool:
    """Never: the weights say it all."""
    return False


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """``gamma * clip(rne(w / gamma), -1, 1)`` with ``gamma = mean |w|`` over each (row, group).

    Parameters: weight, float64 [rows, columns]; calibration, not used.
    Raises: ValueError if the weight is not finite, not of two axes, or its scales do not fit their format.
    Source: `SOURCE`; differs in: a gamma per row and column group (the paper: one per tensor), rounded to
    its stored form before the codes are chosen; weights are rounded after training, not trained so; no
    epsilon beside gamma, a group with gamma 0 is all zeros.
    """
    weight = checked_weight(weight)
    fmt = (Config() if config is None else config).chosen()
    matrix = by_blocks(weight, lambda part: _rows(part, fmt))
    return Quantized(matrix=matrix, published_bits=fmt.published_bits)


def _rows(weight: NDArray[np.float64], fmt: Format) -> PackedMatrix:
    gamma = grouping.stored_scale(grouping.means(np.abs(weight), fmt.group), fmt.scale)
    codes = grouping.codes_of(weight, grouping.spread(gamma, weight.shape[1], fmt.group))
    return from_digits(fmt, np.clip(codes, -1, 1), gamma)
