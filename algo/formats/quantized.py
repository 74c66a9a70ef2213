"""What every method takes and what every method returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from algo.bitplane import decode, storage
from algo.bitplane.matrix import PackedMatrix


@dataclass(frozen=True, eq=False)
class Calibration:
    """What the calibration tokens say of a layer's inputs.

    Raises ValueError if a part is not finite or the parts do not fit each other.
    """

    hessian: NDArray[np.float64]  #: [columns, columns], ``(2 / sequences) * sum x x^T``, undamped
    peak: NDArray[np.float64]  #: [columns], the largest ``|x|`` of each input channel

    def __post_init__(self) -> None:
        columns = len(self.peak)
        if self.peak.shape != (columns,) or self.hessian.shape != (columns, columns):
            wanted, found = f"[{columns}, {columns}]", list(self.hessian.shape)
            raise ValueError(f"hessian must have shape {wanted} as the peaks have it, not {found}")
        if not (np.all(np.isfinite(self.hessian)) and np.all(np.isfinite(self.peak))):
            raise ValueError("hessian and peak must be finite, not NaN or infinity")

    @classmethod
    def of(cls, activations: ArrayLike) -> Calibration:
        """Of activations [tokens, columns], taken as one sequence.

        Raises ValueError if they are not finite, not of two axes, or without a token.
        """
        x = np.asarray(activations, np.float64)
        if x.ndim != 2 or x.size == 0:
            raise ValueError(f"calibration must have shape [tokens, columns], not {list(x.shape)}")
        if not np.all(np.isfinite(x)):
            raise ValueError("calibration must be finite, not NaN or infinity")
        return cls(2 * (x.T @ x), np.maximum(x.max(axis=0), -x.min(axis=0)))

    @property
    def second_moment(self) -> NDArray[np.float64]:
        """Mean over sequences of each channel's sum of squares, [columns]."""
        return np.diagonal(self.hessian) / 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantized:
    """A method's result: what is stored, and what the method says of itself."""

    matrix: PackedMatrix
    #: Of a matrix held as a product of two: the factor that meets the activations first. ``matrix`` then
    #: reads its outputs.
    inner: PackedMatrix | None = None
    published_bits: float  #: bits per weight by the formula the method's authors print
    salient_columns: tuple[int, ...] = ()  #: count of each column block; empty where a method has none
    notes: Mapping[str, float] = field(default_factory=dict)  #: figures of this run by name, such as "loss"

    @property
    def stages(self) -> tuple[PackedMatrix, ...]:
        """What is stored, in the order the activations pass through."""
        return (self.matrix,) if self.inner is None else (self.inner, self.matrix)

    def dequantize(self) -> NDArray[np.float64]:
        """The real matrix that the stored planes stand for, float64 [rows, columns]."""
        outer = decode.dequantize(self.matrix)
        return outer if self.inner is None else outer @ decode.dequantize(self.inner)

    def stored_bytes(self) -> int:
        """Bytes in the file that the decoder needs."""
        return sum(sum(storage.stored_bytes(stage).values()) for stage in self.stages)


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
