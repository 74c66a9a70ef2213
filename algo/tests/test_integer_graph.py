"""An integer graph against a model in fractions that shares nothing with it, and against real numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import floor, frexp

import numpy as np
import pytest

from algo.bitplane.decode import dequantize
from algo.dyadic import Dyadic
from algo.integer_graph import INPUT, Graph, Layer, Range, build
from algo.methods import onebit, rtn, ternary


def packed(rows: int, columns: int, seed: int, name: str = "int4-g128"):
    weight = np.random.default_rng(seed).normal(size=(rows, columns)) / columns**0.5
    module = ternary if "ternary" in name else rtn
    return module.quantize(weight, None, module.Config(format=name)).matrix


def residual(name: str = "int4-g128") -> list[Layer]:
    """Two layers with a ReLU, a third that adds what the first gave, and a last one."""
    bias = np.random.default_rng(9).normal(size=37) / 5
    return [
        Layer(name="first", matrix=packed(37, 70, 1, name), bias=bias, relu=True),
        Layer(name="second", matrix=packed(37, 37, 2, name), bias=-bias, relu=True),
        Layer(name="third", matrix=packed(37, 37, 3, name), adds="first", relu=True),
        Layer(name="last", matrix=packed(5, 37, 4, name), adds=""),
    ]


def inputs(tokens: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(tokens, 70))


def nearest(real: Fraction, bits: int) -> Fraction:
    """The factor as its definition says it, in fractions."""
    power = frexp(float(real))[1]
    return (
        Fraction(floor(real / Fraction(2) ** power * 2**bits + Fraction(1, 2)), 2**bits)
        * Fraction(2) ** power
    )


def in_fractions(layers: list[Layer], graph: Graph, x: np.ndarray, bits: int) -> dict[str, list[list[int]]]:
    """Every integer of the graph, from real weights and the scales alone."""
    scale = {name: Fraction(s) for name, s in graph.scales.items()}
    values = {INPUT: [[int(v) for v in row] for row in x]}
    before = INPUT
    for layer in layers:
        reads, wanted = layer.reads or before, graph.ranges[layer.name]
        unit = [Fraction(2) ** int(e) * scale[reads] for e in np.broadcast_to(
            layer.matrix.exponent.values, (layer.matrix.rows, 1))[:, 0]]  # fmt: skip
        real = dequantize(layer.matrix)
        outputs = []
        for token, row in enumerate(values[reads]):
            line = []
            for m, weights in enumerate(real):
                total = sum(Fraction(w) * v for w, v in zip(weights.tolist(), row, strict=True))
                bias = 0 if layer.bias is None else round(Fraction(float(layer.bias[m])) / unit[m])
                total = total * scale[reads] / unit[m] + bias
                assert total.denominator == 1
                found = floor(total * nearest(unit[m] / scale[layer.name], bits) + Fraction(1, 2))
                if layer.adds:
                    other = values[layer.adds][token][m]
                    found += floor(
                        other * nearest(scale[layer.adds] / scale[layer.name], bits) + Fraction(1, 2)
                    )
                line.append(min(max(found, wanted.low), wanted.high))
            outputs.append(line)
        values[layer.name], before = outputs, layer.name
    return values


@pytest.mark.parametrize("name", ["int4-g128", "ternary-g128", "mxint8"])
@pytest.mark.parametrize("bits", [7, 15])
def test_every_integer_is_that_of_a_model_in_fractions(name, bits):
    layers = residual(name)
    graph = build(layers, inputs(), factor_bits=bits)
    x = graph.enter(inputs(3, seed=7))
    expected = in_fractions(layers, graph, x, bits)
    for layer, found in graph.run(x).items():
        np.testing.assert_array_equal(found, expected[layer])


def real_outputs(layers: list[Layer], x: np.ndarray) -> np.ndarray:
    y = x
    kept = {}
    for layer in layers:
        y = y @ dequantize(layer.matrix).T + (0 if layer.bias is None else layer.bias)
        y = y + kept[layer.adds] if layer.adds else y
        y = kept[layer.name] = np.maximum(y, 0) if layer.relu else y
    return y


def test_outputs_come_closer_to_real_ones_with_every_bit():
    layers, x = residual(), inputs()
    wanted = real_outputs(layers, x)
    errors = []
    for bits in (4, 8, 12, 16):
        graph = build(layers, x, bits=bits, factor_bits=24)
        y = graph.run(graph.enter(x))["last"] * graph.scales["last"]
        errors.append(np.linalg.norm(y - wanted) / np.linalg.norm(wanted))
    assert errors[1] < 0.02
    assert all(high > 8 * low for high, low in pairwise(errors))


def test_a_residual_sum_is_taken_before_its_branches_are_rounded_to_activations():
    # A branch of one large and one small output: the sum of both is kept where either alone would be clipped.
    layers, x = residual(), inputs()
    graph = build(layers, x)
    third = graph.nodes[2]
    assert third.added is not None
    assert third.added.real()[0] == pytest.approx(
        Fraction(graph.scales["first"]) / Fraction(graph.scales["third"]), rel=1e-4
    )
    without = build([*layers[:2], replace(layers[2], adds=""), layers[3]], x)
    values = graph.run(graph.enter(x))
    assert not np.array_equal(values["third"], without.run(without.enter(x))["third"])


def test_only_integers_are_held_and_passed_on():
    graph = build(residual(), inputs())
    for node in graph.nodes:
        for array in (node.bias, node.factor.mantissa, node.factor.shift):
            assert array.dtype == np.int64
    for found in graph.run(graph.enter(inputs())).values():
        assert found.dtype == np.int64
    assert graph.ranges["first"] == Range(bits=8, signed=False)
    assert (graph.ranges["first"].low, graph.ranges["first"].high, graph.ranges["first"].planes) == (
        0,
        255,
        9,
    )
    assert (Range().low, Range().high, Range().planes) == (-127, 127, 8)


def test_ties_go_where_the_graph_says():
    layers, x = residual(), inputs(200)
    # A factor of 2**-12 makes ties of sums that end in half of it.
    factor = Dyadic(mantissa=np.ones(37, np.int64), shift=np.full(37, 12))
    runs = [build(layers[:1], x, rounding=rule) for rule in ("half-up", "half-even")]
    runs = [
        replace(graph, nodes=(replace(graph.nodes[0], factor=factor, bias=np.full(37, 2048)),))
        for graph in runs
    ]
    matrix = runs[0].nodes[0].matrix

    def sums(_, x):
        return np.broadcast_to(4096 * np.arange(len(x))[:, None], (len(x), matrix.rows))

    up, even = (graph.run(graph.enter(x), sums)["first"] for graph in runs)
    np.testing.assert_array_equal(up[:, 0], np.arange(1, 201))
    np.testing.assert_array_equal(even[:, 0], 2 * ((np.arange(200) + 1) // 2))
    assert set(np.unique(up - even)) == {0, 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "first"}, "layer first must have a name of its own, not one that is taken"),
        ({"reads": "x"}, "layer a must read one of input, first, not 'x'"),
        ({"adds": "x"}, "layer a must read one of input, first, not 'x'"),
        ({"adds": INPUT}, "layer a must add 5 rows, not those of input"),
        ({"matrix": packed(5, 36, 0)}, "layer a must have 37 columns, not 36"),
        (
            {"matrix": onebit.quantize(np.ones((5, 37))).matrix},
            "layer a must read integers as they are: no column factors, no rotation",
        ),
        (
            {"matrix": rtn.quantize(np.zeros((5, 37))).matrix},
            "calibration must give a a finite value that is not 0, not 0.0",
        ),
        ({"bias": np.full(5, 1e30)}, "shift must be at least 0 and at most 62, not 132"),
    ],
)
def test_layers_that_do_not_fit_are_refused(change, message):
    layer = replace(Layer(name="a", matrix=packed(5, 37, 0)), **change)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build([residual()[0], layer], inputs())


def test_inputs_and_ranges_that_do_not_fit_are_refused():
    graph = build(residual(), inputs())
    for bad, message in (
        (np.full((1, 70), 128), "x must be int64 in [-127, 127], not int64 128"),
        (np.ones((1, 70)), "x must be int64 in [-127, 127], not float64 1.0"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            graph.run(bad)
    with pytest.raises(ValueError, match=r"^bits must be an integer from 2 to 16, not 17$"):
        Range(bits=17)
    assert Dyadic.of(0.5).real() == [Fraction(1, 2)]
