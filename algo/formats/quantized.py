"""What every method takes and what every method returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from algo.bitplane.matrix import PackedMatrix


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantized:
    """A method's result: the stored matrix, and what the method says of itself."""

    matrix: PackedMatrix
    published_bits: float  #: bits per weight by the formula the method's authors print
    salient_columns: tuple[int, ...] = ()  #: count of each column block; empty where a method has none
    notes: Mapping[str, float] = field(default_factory=dict)  #: figures of this run by name, such as "loss"


def checked_weight(weight: ArrayLike) -> NDArray[np.float64]:
    """``weight`` as float64 [rows, columns].

    Raises ValueError if it has not two axes, is empty, or holds NaN or infinity.
    """
    array = np.asarray(weight, np.float64)
    if array.ndim != 2:
        raise ValueError(f"weight must have two axes [rows, columns], not shape {list(array.shape)}")
    if array.size == 0:
        raise ValueError(f"weight must have at least one row and one column, not shape {list(array.shape)}")
    if not np.all(np.isfinite(array)):
        raise ValueError("weight must be finite, not NaN or infinity")
    return array
