"""One bit a weight about its group's mean: the mean, plus or minus the mean distance from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Plane
from algo.bitplane.rows import by_blocks
from algo.formats import grouping
from algo.formats.grouped import GroupConfig
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = (
    "XNOR-Net: Rastegari et al., arXiv:1603.05279, section 3.1, with the mean taken off first, as the "
    "low-bit quantizer of Shang et al., PB-LLM, arXiv:2310.00034"
)
FORMATS: tuple[str, ...] = ()  #: the method is its own format

_SCALE_FORMAT = "fp16"
_TERM = Term(planes=("sign",), coefs=(1,), digit=Digit.BIPOLAR, scale="scale", offset="mean")


@dataclass(frozen=True, kw_only=True)
class Config(GroupConfig):
    """How many columns share a scale and a mean."""


def needs_calibration(config: Config) -> bool:
    """Never: the weights say it all."""
    return False


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """``mu + a * sign(w - mu)``, ``mu = mean w`` and ``a = mean |w - mu|`` over each (row, group).

    A weight equal to its mean takes sign +1.

    Parameters: weight, float64 [rows, columns]; calibration, not used.
    Returns: Quantized; published_bits 1, which counts no scalar.
    Raises: ValueError if the weight is not finite, not of two axes, or a scalar does not fit fp16.
    Source: `SOURCE`; differs in: scalars per row and column group, where the papers have one per row; they
    are rounded to fp16 and to the row's grid after the signs are taken.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    matrix = by_blocks(weight, lambda part: _rows(part, config.group))
    return Quantized(matrix=matrix, published_bits=1.0)


def _rows(weight: NDArray[np.float64], group: int) -> PackedMatrix:
    rows, columns = weight.shape
    mean = grouping.means(weight, group)
    centred = weight - grouping.spread(mean, columns, group)
    scale = grouping.means(np.abs(centred), group)
    ints, exponent = grouping.stored_scalars({"scale": scale, "mean": mean}, _SCALE_FORMAT)
    return PackedMatrix(
        rows=rows,
        columns=columns,
        group=min(group, columns),
        terms=(_TERM,),
        planes={"sign": Plane(words.pack(centred >= 0))},
        ints=ints,
        exponent=exponent,
    )
