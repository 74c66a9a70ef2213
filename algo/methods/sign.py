"""One bit a weight: its sign, times the group's mean magnitude."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit, Format
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.rows import by_blocks
from algo.formats import catalog, grouping
from algo.formats.grouped import FormatConfig
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = "binary weight network: Rastegari et al., XNOR-Net, arXiv:1603.05279, section 3.1"
FORMATS = catalog.accepted_by(
    lambda fmt: fmt.digit is Digit.BIPOLAR and fmt.coefs == (1,) and not fmt.zero, first=catalog.SIGN_G128
)


@dataclass(frozen=True, kw_only=True)
class Config(FormatConfig):
    """Which one-bit format, and how many columns share a scale."""

    allowed = FORMATS
    format: str = FORMATS[0]


def needs_calibration(config: Config) -> bool:
    """Never: the weights say it all."""
    return False


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """``a * sign(w)`` with ``a = mean |w|`` over each (row, group), the least-squares scale; sign(0) = +1.

    Parameters: weight, float64 [rows, columns]; calibration, not used.
    Raises: ValueError if the weight is not finite, not of two axes, or its scales do not fit their format.
    Source: `SOURCE`; differs in: a scale per row and column group, where the paper has one per filter.
    """
    weight = checked_weight(weight)
    fmt = (Config() if config is None else config).chosen()
    matrix = by_blocks(weight, lambda part: _rows(part, fmt))
    return Quantized(matrix=matrix, published_bits=fmt.published_bits)


def _rows(weight: NDArray[np.float64], fmt: Format) -> PackedMatrix:
    scale = grouping.stored_scale(grouping.means(np.abs(weight), fmt.group), fmt.scale)
    return from_digits(fmt, np.where(weight < 0, -1, 1).astype(np.int64), scale)
