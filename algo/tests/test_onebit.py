"""Signs between two vectors: the vectors against a dense singular value decomposition."""

from __future__ import annotations

import numpy as np
import pytest

from algo.bitplane import words
from algo.bitplane.storage import bits_per_weight
from algo.formats import low_rank
from algo.methods import onebit, sign


def weights(rows: int, columns: int) -> np.ndarray:
    rng = np.random.default_rng([rows, columns])
    return (
        rng.standard_normal((rows, columns))
        * rng.lognormal(0, 0.7, (rows, 1))
        * rng.lognormal(0, 0.7, columns)
    )


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 1), (1, 63), (7, 65), (40, 300)])
def test_signs_times_the_best_low_rank_of_the_magnitudes(rows: int, columns: int) -> None:
    weight = weights(rows, columns)
    u, s, vt = np.linalg.svd(np.abs(weight))
    expected = np.where(weight >= 0, 1, -1) * (s[0] * np.outer(u[:, 0], vt[0]))
    stored = onebit.quantize(weight).dequantize()
    np.testing.assert_allclose(stored, expected, rtol=2e-3, atol=1e-3 * np.abs(weight).max())


def test_magnitudes_of_low_rank_are_kept_to_the_rounding_of_two_fp16() -> None:
    rng = np.random.default_rng(0)
    weight = np.outer(rng.uniform(0.5, 2, 33), rng.uniform(0.5, 2, 65)) * rng.choice([-1, 1], (33, 65))
    np.testing.assert_allclose(onebit.quantize(weight).dequantize(), weight, rtol=2.0**-9)


def test_columns_of_unlike_size_are_told_apart_where_a_row_scale_cannot() -> None:
    weight = weights(64, 300)

    def lost(stored: np.ndarray) -> float:
        return float(np.sum((weight - stored) ** 2) / np.sum(weight**2))

    by_rows = lost(sign.quantize(weight, config=sign.Config(group=300)).dequantize())
    assert lost(onebit.quantize(weight).dequantize()) < 0.75 * by_rows


def test_power_iteration_ends_at_the_leading_vector_even_of_tiny_numbers() -> None:
    matrix = np.abs(weights(20, 50))
    expected = np.abs(np.linalg.svd(matrix)[2][0])
    np.testing.assert_allclose(low_rank.leading(matrix), expected, atol=1e-10)
    np.testing.assert_array_equal(low_rank.leading(2.0**-900 * matrix), low_rank.leading(matrix))
    assert not np.any(low_rank.leading(np.zeros((3, 4))))


def test_zero_rows_and_columns_stay_zero() -> None:
    weight = weights(6, 70)
    weight[2], weight[:, 5] = 0, 0
    stored = onebit.quantize(weight).dequantize()
    assert not np.any(stored[2])
    assert not np.any(stored[:, 5])
    assert np.all(stored[weight != 0] != 0)


def test_a_zero_counts_as_plus() -> None:
    matrix = onebit.quantize(np.array([[1.0, 0.0, -1.0]])).matrix
    np.testing.assert_array_equal(words.unpack(matrix.dense("sign"), 3), [[True, True, False]])


def test_two_vectors_cost_what_the_paper_says_and_a_rows_exponent() -> None:
    result = onebit.quantize(weights(64, 640))
    assert result.published_bits == 1 + 16 / 64 + 16 / 640
    assert bits_per_weight(result.matrix) == pytest.approx(result.published_bits + 16 / 640)
