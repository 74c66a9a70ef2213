"""An integer graph on the engines that compute layers, and its factors on the RTL's scale unit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.bitplane.activations import Activations
from algo.dyadic import Dyadic, requantize
from algo.integer_graph import build
from algo.tests.test_integer_graph import inputs, residual
from hw.accelerator.requantize import RequantizeSpec
from sim.engines import ENGINES


@pytest.mark.parametrize("name", ENGINES)
def test_every_engines_sums_give_the_same_graph(name):
    graph = build(residual(), inputs())
    planes = {node.reads: graph.ranges[node.reads].planes for node in graph.nodes}
    bits = {id(node.matrix): planes[node.reads] for node in graph.nodes}

    def sums(matrix, x):
        act = Activations(values=x, bits=bits[id(matrix)], scale=np.ones(len(x), np.float32))
        return ENGINES[name](matrix, [act])[0]

    x = graph.enter(inputs(6, seed=1))
    plain, found = graph.run(x), graph.run(x, sums)
    for layer, values in plain.items():
        np.testing.assert_array_equal(found[layer], values)


@given(st.integers(0, 2**32 - 1), st.floats(1e-9, 0.9))
def test_ties_to_even_are_the_scale_units_to_the_bit(seed, real):
    # The unit's mantissa has 16 bits with its sign, its shift 6, its results 8.
    factor = Dyadic.of(real, 15)
    unit = RequantizeSpec()
    rng = np.random.default_rng(seed)
    sums = np.ldexp(rng.normal(size=200), rng.integers(1, 40)).astype(np.int64)
    sums = np.concatenate([sums, np.arange(-20, 21) << max(0, int(factor.shift[0]) - 14) >> 1])
    expected = [unit.golden(int(s), int(factor.mantissa[0]), int(factor.shift[0])) for s in sums]
    found = requantize(sums[None].T, factor, -128, 127, "half-even")[:, 0]
    np.testing.assert_array_equal(found, expected)


def test_half_up_differs_from_the_scale_unit_in_ties_alone():
    factor, unit = Dyadic.of(0.5), RequantizeSpec()
    sums = np.arange(-100, 101)
    found = requantize(sums[:, None], factor, -128, 127)[:, 0]
    units = np.array([unit.golden(int(s), int(factor.mantissa[0]), int(factor.shift[0])) for s in sums])
    # Every fourth sum ends in a half above an even integer.
    np.testing.assert_array_equal(found - units, (sums % 4 == 1).astype(int))


def test_a_graph_with_ties_to_even_drains_what_the_scale_unit_drains():
    graph = build(residual(), inputs(), rounding="half-even")
    x = graph.enter(inputs(5, seed=2))
    values = {"input": x} | graph.run(x)
    node = graph.nodes[3]
    act = Activations(
        values=values[node.reads], bits=graph.ranges[node.reads].planes, scale=np.ones(5, np.float32)
    )
    sums = ENGINES["torch"](node.matrix, [act])[0]
    unit = RequantizeSpec()
    drained = [
        [
            unit.golden(int(s), int(b), int(c))
            for s, b, c in zip(row, node.factor.mantissa, node.factor.shift, strict=True)
        ]
        for row in sums
    ]
    # Symmetric integers leave out the -128 that the unit keeps.
    np.testing.assert_array_equal(values["last"], np.maximum(drained, -127))
