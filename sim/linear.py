"""A packed layer inside a torch model, computed by any engine.

A layer held as a product of two is computed in two steps. The inner matrix reads the layer's activations at
``act_bits``; its float32 outputs are quantized anew, symmetric, one scale per token, to `INNER_BITS`, the
widest the engines take (or ``act_bits`` where that were more), and the outer matrix reads those integers.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from algo.bitplane.activation_formats import ActFormat, entering
from algo.bitplane.activations import Activations
from algo.bitplane.decode import dequantize
from algo.bitplane.matrix import PackedMatrix
from algo.formats.stages import Stages, by_layer
from sim.kernels.contract import unchanging
from sim.kernels.conversions import Outputs, quantized

INNER_BITS = 16  #: of what stands between the two factors of a product

Sums = Callable[[Sequence[Activations]], NDArray[np.int64]]
Engine = Callable[[Sequence[Activations]], NDArray[np.float32]]  #: float32 [tokens, rows] of each stream's


def _converted(matrix: PackedMatrix, sums: Sums) -> Engine:
    conversion = Outputs(matrix)
    return lambda activations: conversion.of(activations, sums(activations))


def _integer(matrix: PackedMatrix) -> Engine:
    from sim.integer import Prepared

    return _converted(matrix, Prepared.of(matrix).integer_sums)


def _numba(matrix: PackedMatrix) -> Engine:
    from sim.numba_engine import Lowered

    return Lowered.of(matrix).outputs


def _torch(matrix: PackedMatrix) -> Engine:
    from sim import judge

    return _converted(matrix, lambda activations: judge.integer_sums(matrix, activations))


PREPARE: Mapping[str, Callable[[PackedMatrix], Engine]] = {
    "integer": _integer,
    "numba": _numba,
    "torch": _torch,
}
ENGINES = ("float", *PREPARE)


class LastRead:
    """The activations quantized last, so that layers which read the same tensor share its integers."""

    def __init__(self) -> None:
        self._of: Callable[[], torch.Tensor | None] = lambda: None
        self._key: tuple[object, ...] = ()
        self._found: Activations | None = None

    def quantized(
        self, x: torch.Tensor, bits: int, factor: NDArray[np.floating] | None, matrix: PackedMatrix
    ) -> Activations:
        """`sim.kernels.conversions.quantized` of activations [..., columns], float, that ``matrix`` reads."""
        known = factor is None and not x.is_inference()  # an inference tensor does not count its changes
        key = (x._version, bits, matrix.rotate) if known else ()
        if known and self._found is not None and self._of() is x and self._key == key:
            return self._found
        flat = np.asarray(entering(matrix, x.detach().reshape(-1, x.shape[-1]).float().numpy()), np.float32)
        found = quantized(np.ascontiguousarray(flat), bits, factor)
        if known:
            self._of, self._key, self._found = weakref.ref(x), key, found
            unchanging.add(found)
        return found


class PlaneLinear(torch.nn.Module):
    """A linear layer of packed weights.

    With an integer engine every token's activations are quantized to ``act_bits``, or by the format ``act``
    where one is given, the sums are exact, and the one conversion follows; with ``float`` the dequantized
    weights meet the activations as they are. What a rotated matrix reads is rotated before it is quantized.
    """

    bias: torch.Tensor | None
    weight: torch.Tensor

    def __init__(
        self,
        matrix: PackedMatrix,
        engine: str,
        act_bits: int = 8,
        bias: torch.Tensor | None = None,
        last: LastRead | None = None,
        act: ActFormat | None = None,
    ) -> None:
        super().__init__()
        if engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
        matrix = matrix if act is None else act.regrouped(matrix)
        self.matrix, self.engine, self.act_bits, self.act = matrix, engine, act_bits, act
        self.in_features, self.out_features = matrix.columns, matrix.rows
        self.register_buffer("bias", bias)
        self._outputs = None if engine == "float" else PREPARE[engine](matrix)
        self._last = LastRead() if last is None else last
        self._factors = [None if name is None else matrix.factors[name] for name in matrix.streams]
        weight = torch.from_numpy(dequantize(matrix).astype(np.float32)) if engine == "float" else None
        self.register_buffer("weight", weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [..., rows] of activations [..., columns]."""
        if self._outputs is None:
            return torch.nn.functional.linear(x, self.weight, self.bias)
        y = torch.from_numpy(self._outputs(self._streams(x)))
        y = y.reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    def _streams(self, x: torch.Tensor) -> list[Activations]:
        if self.act is None:
            return [self._last.quantized(x, self.act_bits, f, self.matrix) for f in self._factors]
        return self.act.streams(self.matrix, x.detach().reshape(-1, x.shape[-1]).float().numpy())


class ProductLinear(torch.nn.Module):
    """A linear layer whose weight is the product of two packed matrices; see this module's head."""

    def __init__(
        self,
        stages: Stages,
        engine: str,
        act_bits: int = 8,
        bias: torch.Tensor | None = None,
        last: LastRead | None = None,
        act: ActFormat | None = None,
    ) -> None:
        super().__init__()
        if stages.inner is None:
            raise ValueError("stages must hold an inner factor, not the outer alone")
        self.out_features, self.in_features = stages.shape
        self.inner = PlaneLinear(stages.inner, engine, act_bits, last=last, act=act)
        self.outer = PlaneLinear(stages.outer, engine, max(act_bits, INNER_BITS), bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [..., rows] of activations [..., columns]."""
        y: torch.Tensor = self.outer(self.inner(x))
        return y


def swap(
    model: Any,
    matrices: Mapping[str, PackedMatrix],
    engine: str,
    act_bits: int = 8,
    act: ActFormat | None = None,
) -> Any:
    """A copy of a torch model whose named linear layers compute with packed weights.

    Matrices are named as `algo.formats.stages` says: of a product, both. Activations have ``act_bits``, or
    the format ``act``.

    Raises ValueError if a name is no linear layer of the model, or a matrix has another shape.
    """
    swapped, last = copy.deepcopy(model), LastRead()
    for name, stages in by_layer(matrices).items():
        parent_name, _, child = name.rpartition(".")
        found = dict(swapped.named_modules()).get(name)
        if not isinstance(found, torch.nn.Linear):
            raise ValueError(f"layer must be a linear layer of the model, not {name!r}")
        if found.weight.shape != stages.shape:
            wanted, given = list(found.weight.shape), list(stages.shape)
            raise ValueError(f"matrix {name} must have shape {wanted}, not {given}")
        bias = None if found.bias is None else found.bias.detach()
        setattr(swapped.get_submodule(parent_name), child, _packed(stages, engine, act_bits, bias, last, act))
    return swapped


def _packed(
    stages: Stages,
    engine: str,
    act_bits: int,
    bias: torch.Tensor | None,
    last: LastRead,
    act: ActFormat | None,
) -> torch.nn.Module:
    made = PlaneLinear if stages.inner is None else ProductLinear
    of = stages.outer if stages.inner is None else stages
    return made(of, engine, act_bits, bias, last, act)  # type: ignore[arg-type]
