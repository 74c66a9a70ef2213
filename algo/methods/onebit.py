"""OneBit's sign-value-independent decomposition: a matrix of signs between two vectors of magnitudes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Plane
from algo.formats import grouping
from algo.formats.low_rank import magnitudes
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = "Xu et al., OneBit, arXiv:2402.11295, section 3.2 (SVID)"
FORMATS: tuple[str, ...] = ()  #: the method is its own format

_SCALE_FORMAT = "fp16"
_TERM = Term(planes=("sign",), coefs=(1,), digit=Digit.BIPOLAR, scale="row_scale", col="column_scale")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Nothing to set: one scale a row, one a column."""


def needs_calibration(config: Config) -> bool:
    """Never: the weights say it all."""
    return False


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """``sign(W) * (a b^T)`` with ``a b^T`` the best matrix of rank one for ``|W|``; sign(0) = +1.

    b has root mean square 1 and is rounded to fp16 first; a then is the least-squares answer to it.

    Parameters: weight, float64 [rows, columns]; calibration, not used.
    Returns: Quantized; published_bits ``1 + 16 (rows + columns) / (rows * columns)``.
    Raises: ValueError if the weight is not finite, not of two axes, or its scales do not fit fp16.
    Source: `SOURCE`; differs in: the decomposition alone, which the paper's training starts from; no
    training follows.
    """
    weight = checked_weight(weight)
    rows, columns = weight.shape
    row, column = magnitudes(np.abs(weight))
    ints, exponent = grouping.stored_scalars({"row_scale": row[:, None]}, _SCALE_FORMAT)
    matrix = PackedMatrix(
        rows=rows,
        columns=columns,
        group=columns,
        terms=(_TERM,),
        planes={"sign": Plane(words.pack(weight >= 0))},
        ints=ints,
        exponent=exponent,
        factors={"column_scale": column},
    )
    return Quantized(matrix=matrix, published_bits=1 + 16 * (rows + columns) / (rows * columns))
