"""Names of what is stored of a layer: one matrix, or two where it is held as a product.

The outer factor has the layer's name, the inner one that name and `INNER`; either is an ordinary matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import decode, storage
from algo.bitplane.matrix import PackedMatrix
from algo.formats.quantized import Quantized

INNER = "@inner"  #: behind a layer's name: the factor that meets the activations first


@dataclass(frozen=True, kw_only=True, eq=False)
class Stages:
    """A layer's matrix, or the two whose product it is."""

    outer: PackedMatrix
    inner: PackedMatrix | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the layer's weight."""
        return self.outer.rows, self.outer.columns if self.inner is None else self.inner.columns

    def dequantize(self) -> NDArray[np.float64]:
        """The real matrix that the stored planes stand for, float64 [rows, columns]."""
        outer = decode.dequantize(self.outer)
        return outer if self.inner is None else outer @ decode.dequantize(self.inner)


def named(name: str, quantized: Quantized) -> dict[str, PackedMatrix]:
    """What is stored of the layer ``name``, in the order the activations pass through."""
    inner = {} if quantized.inner is None else {name + INNER: quantized.inner}
    return {**inner, name: quantized.matrix}


def breakdown(stages: Sequence[PackedMatrix]) -> dict[str, float]:
    """Stored bits by role, of all stages of a layer, for each weight of their product."""
    weights = stages[-1].rows * stages[0].columns
    bits: dict[str, float] = {}
    for stage in stages:
        for role, share in storage.breakdown(stage).items():
            bits[role] = bits.get(role, 0.0) + share * (stage.rows * stage.columns / weights)
    return bits


def by_layer(matrices: Mapping[str, PackedMatrix]) -> dict[str, Stages]:
    """Stored matrices put together by layer.

    Raises ValueError if an inner factor has no outer one, or they do not fit each other.
    """
    found = {}
    for name in matrices:
        if name.endswith(INNER) and name.removesuffix(INNER) not in matrices:
            raise ValueError(f"matrix {name} must have its outer factor {name.removesuffix(INNER)}")
    for name, outer in matrices.items():
        if name.endswith(INNER):
            continue
        inner = matrices.get(name + INNER)
        if inner is not None and inner.rows != outer.columns:
            raise ValueError(f"matrix {name}{INNER} must have {outer.columns} rows, not {inner.rows}")
        found[name] = Stages(outer=outer, inner=inner)
    return found


def stored_bits(matrices: Mapping[str, PackedMatrix]) -> float:
    """Honest bits per weight of layers together; the weights of a product are those of its product."""
    total = sum(sum(storage.stored_bytes(matrix).values()) for matrix in matrices.values())
    return 8 * total / sum(rows * columns for rows, columns in (s.shape for s in by_layer(matrices).values()))
