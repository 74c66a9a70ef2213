"""Layers, ReLU and residual sums on integers alone: multiply, add, shift, compare.

Real numbers end at the door: `Graph.enter` rounds what comes in, and every scale is folded into dyadic
factors when the graph is built. A layer's sums are the exact ones that every engine here computes of its
packed matrix; a factor for each row takes them to the next activations' integers. A residual sum brings both
of its branches to one scale before it adds them, as they are: sums need not be rounded to activations first.

Source: Yao et al., HAWQ-V3, arXiv:2011.10680, section 3.1 (integer-only graph, residual sums); differs in:
weights of any packed matrix, not of symmetric integers alone; no batch norm, convolution or pooling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.activations import Activations
from algo.bitplane.decode import check_fit, integer_weights
from algo.bitplane.matrix import PackedMatrix
from algo.dyadic import Dyadic, requantize, scaled

Int = NDArray[np.int64]
Floats = NDArray[np.float64]
Sums = Callable[[PackedMatrix, Int], Int]  #: int64 [tokens, rows] of activations [tokens, columns]

INPUT = "input"  #: what a graph reads, by name


@dataclass(frozen=True, kw_only=True)
class Range:
    """Integers of an activation: symmetric, or from 0 on where a ReLU stands before them."""

    bits: int = 8
    signed: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.bits, int) or isinstance(self.bits, bool) or not 2 <= self.bits <= 16:
            raise ValueError(f"bits must be an integer from 2 to 16, not {self.bits!r}")

    @property
    def high(self) -> int:
        """Largest integer."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def low(self) -> int:
        """Smallest integer; of signed ones minus the largest."""
        return -self.high if self.signed else 0

    @property
    def planes(self) -> int:
        """Bits in two's complement, which the engines take: one more of unsigned integers."""
        return self.bits + (not self.signed)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A linear layer as it is given, real: its output is ``x W^T + bias``, or the positive part of it."""

    name: str
    matrix: PackedMatrix
    bias: Floats | None = None  #: [rows]
    relu: bool = False
    reads: str = ""  #: a layer or sum before it; "": the one before, or the input
    adds: str = ""  #: a layer or sum whose output is added before the ReLU; "": none


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """A layer as it is computed."""

    layer: str
    matrix: PackedMatrix
    reads: str
    adds: str
    bias: Int  #: [rows], in units of the sums
    factor: Dyadic  #: from sums to the output's integers, one a row
    added: Dyadic | None  #: from the other branch's integers to the output's
    range: Range


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """Nodes in the order they are computed, and the scales that integers stand for, for who reads them."""

    nodes: tuple[Node, ...]
    scales: Mapping[str, float]  #: of the input's and each layer's integers
    ranges: Mapping[str, Range]
    rounding: str = "half-up"  #: where ties go, of `algo.dyadic.ROUNDINGS`

    def enter(self, x: Floats) -> Int:
        """Real inputs [tokens, columns] as the integers nearest to them, ties to even; the last real step."""
        wanted = self.ranges[INPUT]
        return np.clip(np.rint(x / self.scales[INPUT]), wanted.low, wanted.high).astype(np.int64)

    def run(self, x: Int, sums: Sums | None = None) -> dict[str, Int]:
        """Integers [tokens, rows] of every node, by layer.

        Parameters: x, int64 [tokens, columns] as `enter` gives them; sums, an engine for the layers' sums
        (int64 of a matrix and activations), None for plain NumPy.
        Raises ValueError if x are no int64 in range.
        """
        wanted = self.ranges[INPUT]
        if x.dtype != np.int64 or (x.size and (x.min() < wanted.low or x.max() > wanted.high)):
            raise ValueError(f"x must be int64 in [{wanted.low}, {wanted.high}], not {x.dtype} {x.max()}")
        compute = self._sums if sums is None else sums
        values = {INPUT: x}
        for node in self.nodes:
            total = compute(node.matrix, values[node.reads]) + node.bias
            if node.added is None:
                found = requantize(total, node.factor, node.range.low, node.range.high, self.rounding)
            else:
                other = scaled(values[node.adds], node.added, self.rounding)
                found = scaled(total, node.factor, self.rounding) + other
                found = np.clip(found, node.range.low, node.range.high)
            values[node.layer] = found
        return {name: found for name, found in values.items() if name != INPUT}

    @staticmethod
    def _sums(matrix: PackedMatrix, x: Int) -> Int:
        return x @ integer_weights(matrix, None).T


def build(
    layers: Sequence[Layer],
    calibration: Floats,
    *,
    bits: int = 8,
    factor_bits: int = 15,
    rounding: str = "half-up",
) -> Graph:
    """An integer graph of linear layers, its scales from what calibration inputs make of them.

    An activation's scale is its largest magnitude over that of its integers. Weights are as they are stored;
    a bias is rounded to a unit of its sums.

    Parameters: layers, each reading one before it; calibration, float64 [tokens, columns]; bits, of every
    activation; factor_bits, of a dyadic factor's mantissa (the RTL's unit takes 15).
    Raises ValueError if a layer reads what is not before it, has another width, several activation streams
    or a rotation, if its outputs on the calibration are all 0, or its sums could leave int64.
    """
    real = {INPUT: np.asarray(calibration, np.float64)}
    ranges = {INPUT: Range(bits=bits)}
    scales = {INPUT: _scale(INPUT, real[INPUT], ranges[INPUT])}
    nodes, before = [], INPUT
    for layer in layers:
        reads = layer.reads or before
        _check(layer, reads, real)
        real[layer.name] = _output(layer, reads, real)
        ranges[layer.name] = Range(bits=bits, signed=not layer.relu)
        scales[layer.name] = _scale(layer.name, real[layer.name], ranges[layer.name])
        nodes.append(_node(layer, reads, scales, ranges, factor_bits))
        before = layer.name
    return Graph(nodes=tuple(nodes), scales=scales, ranges=ranges, rounding=rounding)


def _check(layer: Layer, reads: str, real: Mapping[str, Floats]) -> None:
    if layer.name in real:
        raise ValueError(f"layer {layer.name} must have a name of its own, not one that is taken")
    for name in (reads, *([layer.adds] if layer.adds else [])):
        if name not in real:
            raise ValueError(f"layer {layer.name} must read one of {', '.join(real)}, not {name!r}")
    if real[reads].shape[1] != layer.matrix.columns:
        raise ValueError(
            f"layer {layer.name} must have {real[reads].shape[1]} columns, not {layer.matrix.columns}"
        )
    if layer.adds and real[layer.adds].shape[1] != layer.matrix.rows:
        raise ValueError(f"layer {layer.name} must add {layer.matrix.rows} rows, not those of {layer.adds}")
    if layer.matrix.streams != (None,) or layer.matrix.rotate is not None:
        raise ValueError(f"layer {layer.name} must read integers as they are: no column factors, no rotation")


def _output(layer: Layer, reads: str, real: Mapping[str, Floats]) -> Floats:
    from algo.bitplane.decode import dequantize

    y = real[reads] @ dequantize(layer.matrix).T
    y = y if layer.bias is None else y + layer.bias
    y = y + real[layer.adds] if layer.adds else y
    return np.maximum(y, 0) if layer.relu else y


def _scale(name: str, values: Floats, wanted: Range) -> float:
    peak = float(np.abs(values).max(initial=0))
    if not 0 < peak < np.inf:
        raise ValueError(f"calibration must give {name} a finite value that is not 0, not {peak!r}")
    return peak / wanted.high


def _node(
    layer: Layer, reads: str, scales: Mapping[str, float], ranges: Mapping[str, Range], bits: int
) -> Node:
    matrix = layer.matrix
    unit = np.ldexp(1.0, np.broadcast_to(matrix.exponent.values, (matrix.rows, 1))[:, 0]) * scales[reads]
    unit = unit if matrix.row is None else unit * matrix.row.astype(np.float64)
    factor = Dyadic.of(unit / scales[layer.name], bits)
    bias = np.zeros(matrix.rows) if layer.bias is None else np.rint(layer.bias / unit)
    _check_sums(matrix, ranges[reads])
    return Node(
        layer=layer.name,
        matrix=matrix,
        reads=reads,
        adds=layer.adds,
        bias=bias.astype(np.int64),
        factor=factor,
        added=Dyadic.of(scales[layer.adds] / scales[layer.name], bits) if layer.adds else None,
        range=ranges[layer.name],
    )


def _check_sums(matrix: PackedMatrix, given: Range) -> None:
    """That no sum can leave int64, whatever activations come."""
    widest = np.zeros((1, matrix.columns), np.int64)
    check_fit(matrix, [Activations(values=widest, bits=given.planes, scale=np.ones(1, np.float32))])
