"""Signs about a mean, on vectors worked by hand and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from algo.bitplane.storage import bits_per_weight
from algo.methods import xnor


def slow(weight: np.ndarray, group: int) -> np.ndarray:
    out = np.zeros(weight.shape)
    for i, row in enumerate(weight):
        for start in range(0, len(row), group):
            part = [float(w) for w in row[start : start + group]]
            mean = sum(part) / len(part)
            scale = sum(abs(w - mean) for w in part) / len(part)
            for j, w in enumerate(part):
                out[i, start + j] = mean + scale if w >= mean else mean - scale
    return out


def test_a_worked_vector() -> None:
    # groups (1, 2, 6): mean 3, scale 2; (-1, -3): mean -2, scale 1
    stored = xnor.quantize(np.array([[1.0, 2, 6, -1, -3]]), config=xnor.Config(group=3)).dequantize()
    np.testing.assert_array_equal(stored, [[1, 1, 5, -1, -3]])


def test_a_weight_equal_to_its_mean_counts_as_plus() -> None:
    stored = xnor.quantize(np.array([[0.0, 3.0, -3.0]])).dequantize()
    np.testing.assert_array_equal(stored, [[2, 2, -2]])


@pytest.mark.parametrize(("columns", "group"), [(1, 128), (63, 64), (65, 64), (300, 128), (300, 77)])
def test_plain_loops_say_the_same_up_to_the_rounding_of_the_scalars(columns: int, group: int) -> None:
    weight = np.random.default_rng(columns).standard_normal((5, columns)) + 0.3
    stored = xnor.quantize(weight, config=xnor.Config(group=group)).dequantize()
    np.testing.assert_allclose(stored, slow(weight, group), atol=4e-3, rtol=0)


def test_two_scalars_a_group_are_a_quarter_bit() -> None:
    result = xnor.quantize(np.random.default_rng(0).standard_normal((64, 4096)))
    assert result.published_bits == 1
    assert bits_per_weight(result.matrix) == 1 + 2 * 16 / 128 + 16 / 4096  # the row's exponent
