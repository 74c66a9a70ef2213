"""A packed layer inside a torch model, computed by any engine.

A layer held as a product of two is computed in two steps. The inner matrix reads the layer's activations at
``act_bits``; its float32 outputs are quantized anew, symmetric, one scale per token, to `INNER_BITS`, the
widest the engines take (or ``act_bits`` where that were more), and the outer matrix reads those integers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from algo.bitplane.activations import Activations, quantize_activations
from algo.bitplane.decode import dequantize, outputs
from algo.bitplane.matrix import PackedMatrix
from algo.formats.stages import Stages, by_layer

INNER_BITS = 16  #: of what stands between the two factors of a product

Sums = Callable[[Sequence[Activations]], NDArray[np.int64]]


def _integer(matrix: PackedMatrix) -> Sums:
    from sim.integer import Prepared

    return Prepared.of(matrix).integer_sums


def _numba(matrix: PackedMatrix) -> Sums:
    from sim.numba_engine import Lowered

    return Lowered.of(matrix).integer_sums


def _torch(matrix: PackedMatrix) -> Sums:
    from sim import judge

    return lambda activations: judge.integer_sums(matrix, activations)


PREPARE: Mapping[str, Callable[[PackedMatrix], Sums]] = {
    "integer": _integer,
    "numba": _numba,
    "torch": _torch,
}
ENGINES = ("float", *PREPARE)


class PackedLinear(torch.nn.Module):
    """A linear layer of packed weights.

    With an integer engine every token's activations are quantized to ``act_bits``, the sums are exact, and
    the one conversion follows; with ``float`` the dequantized weights meet the activations as they are.
    """

    bias: torch.Tensor | None
    weight: torch.Tensor

    def __init__(
        self, matrix: PackedMatrix, engine: str, act_bits: int = 8, bias: torch.Tensor | None = None
    ) -> None:
        super().__init__()
        if engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
        self.matrix, self.engine, self.act_bits = matrix, engine, act_bits
        self.in_features, self.out_features = matrix.columns, matrix.rows
        self.register_buffer("bias", bias)
        self._sums = None if engine == "float" else PREPARE[engine](matrix)
        weight = torch.from_numpy(dequantize(matrix).astype(np.float32)) if engine == "float" else None
        self.register_buffer("weight", weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [..., rows] of activations [..., columns]."""
        if self._sums is None:
            return torch.nn.functional.linear(x, self.weight, self.bias)
        flat = x.detach().reshape(-1, self.in_features).float().numpy()
        factors = [None if name is None else self.matrix.factors[name] for name in self.matrix.streams]
        streams = [quantize_activations(flat, self.act_bits, factor) for factor in factors]
        y = torch.from_numpy(outputs(self.matrix, streams, self._sums(streams)))
        y = y.reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias


class ProductLinear(torch.nn.Module):
    """A linear layer whose weight is the product of two packed matrices; see this module's head."""

    def __init__(
        self, stages: Stages, engine: str, act_bits: int = 8, bias: torch.Tensor | None = None
    ) -> None:
        super().__init__()
        if stages.inner is None:
            raise ValueError("stages must hold an inner factor, not the outer alone")
        self.out_features, self.in_features = stages.shape
        self.inner = PackedLinear(stages.inner, engine, act_bits)
        self.outer = PackedLinear(stages.outer, engine, max(act_bits, INNER_BITS), bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [..., rows] of activations [..., columns]."""
        y: torch.Tensor = self.outer(self.inner(x))
        return y


def swap(model: Any, matrices: Mapping[str, PackedMatrix], engine: str, act_bits: int = 8) -> Any:
    """A copy of a torch model whose named linear layers compute with packed weights.

    Matrices are named as `algo.formats.stages` says: of a product, both.

    Raises ValueError if a name is no linear layer of the model, or a matrix has another shape.
    """
    swapped = copy.deepcopy(model)
    for name, stages in by_layer(matrices).items():
        parent_name, _, child = name.rpartition(".")
        found = dict(swapped.named_modules()).get(name)
        if not isinstance(found, torch.nn.Linear):
            raise ValueError(f"layer must be a linear layer of the model, not {name!r}")
        if found.weight.shape != stages.shape:
            wanted, given = list(found.weight.shape), list(stages.shape)
            raise ValueError(f"matrix {name} must have shape {wanted}, not {given}")
        bias = None if found.bias is None else found.bias.detach()
        setattr(swapped.get_submodule(parent_name), child, _packed(stages, engine, act_bits, bias))
    return swapped


def _packed(stages: Stages, engine: str, act_bits: int, bias: torch.Tensor | None) -> torch.nn.Module:
    if stages.inner is None:
        return PackedLinear(stages.outer, engine, act_bits, bias)
    return ProductLinear(stages, engine, act_bits, bias)
