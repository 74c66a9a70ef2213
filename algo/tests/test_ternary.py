"""Absmean ternary weights, on published vectors and on the normal distribution."""

from __future__ import annotations

import numpy as np
import pytest

from algo.bitplane import words
from algo.bitplane.decode import dequantize, digits
from algo.methods import ternary

VECTOR = np.array([[0.9, -0.1, 0.05, -1.2, 0.4, 0.0, -0.55, 0.3]])


def test_codes_of_a_worked_vector() -> None:
    matrix = ternary.quantize(VECTOR).matrix
    assert digits(matrix, matrix.terms[0]).tolist() == [[1, 0, 0, -1, 1, 0, -1, 1]]
    stored = dequantize(matrix)
    np.testing.assert_array_equal(np.unique(stored), [-0.4375, 0, 0.4375])  # mean |w| = 3.5 / 8
    assert np.mean((VECTOR - stored) ** 2) == pytest.approx(0.105098, abs=5e-7)


def test_a_zero_has_neither_bit_set() -> None:
    matrix = ternary.quantize(VECTOR).matrix
    plus, minus = (words.unpack(plane.words, 8) for plane in matrix.planes.values())
    np.testing.assert_array_equal(plus[0], [1, 0, 0, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(minus[0], [0, 0, 0, 1, 0, 0, 1, 0])


def test_half_a_gamma_rounds_to_zero_and_more_to_one() -> None:
    # mean |w| = 1; ties go to the even integer
    weight = np.array([[0.5, -0.5, 0.501, 2.499]])
    matrix = ternary.quantize(weight).matrix
    assert digits(matrix, matrix.terms[0]).tolist() == [[0, 0, 1, 1]]


def test_normal_weights_are_zero_as_often_as_theory_says() -> None:
    weight = np.random.default_rng(0).standard_normal((512, 1024))
    for group in (128, 1024):
        matrix = ternary.quantize(weight, config=ternary.Config(group=group)).matrix
        zero = np.mean(digits(matrix, matrix.terms[0]) == 0)
        # P(|w| < 0.5 sqrt(2/pi)) for a normal w
        assert zero == pytest.approx(0.310, abs=0.003)
    stored = dequantize(matrix)
    decibel = 10 * np.log10(np.sum(weight**2) / np.sum((weight - stored) ** 2))
    assert decibel == pytest.approx(5.80, abs=0.03)


def test_each_group_has_its_own_gamma() -> None:
    weight = np.array([[4.0, -4.0, 0.5, -0.5, 0.25]])
    stored = dequantize(ternary.quantize(weight, config=ternary.Config(group=2)).matrix)
    np.testing.assert_array_equal(stored, weight)


def test_the_lower_median_of_a_worked_vector() -> None:
    matrix = ternary.quantize(VECTOR, config=ternary.Config(rule="absmedian")).matrix
    assert digits(matrix, matrix.terms[0]).tolist() == [[1, 0, 0, -1, 1, 0, -1, 1]]
    stored = dequantize(matrix)
    # of 0 .05 .1 .3 .4 .55 .9 1.2 the fourth
    np.testing.assert_allclose(np.unique(stored), [-0.3, 0, 0.3], rtol=1e-3)
    assert np.mean((VECTOR - stored) ** 2) == pytest.approx(0.156875, abs=5e-5)


def test_medians_of_normal_weights_leave_fewer_zeros_and_more_noise() -> None:
    weight = np.random.default_rng(0).standard_normal((512, 1024))
    matrix = ternary.quantize(weight, config=ternary.Config(rule="absmedian", group=1024)).matrix
    assert np.mean(digits(matrix, matrix.terms[0]) == 0) == pytest.approx(0.2641, abs=0.003)
    noise = np.sum((weight - dequantize(matrix)) ** 2)
    assert 10 * np.log10(np.sum(weight**2) / noise) == pytest.approx(4.98, abs=0.03)


@pytest.mark.parametrize("rule", ternary.RULES)
def test_each_shard_of_rows_has_one_gamma(rule) -> None:
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((10, 300)) * np.repeat([1.0, 5.0, 0.2], [3, 3, 4])[:, None]
    stored = dequantize(ternary.quantize(weight, config=ternary.Config(rule=rule, shards=3)).matrix)
    typical = np.mean if rule == "absmean" else lambda m: np.sort(m.ravel())[(m.size - 1) // 2]
    for first, end in ((0, 3), (3, 6), (6, 10)):
        gamma = typical(np.abs(weight[first:end]))
        levels = np.unique(stored[first:end])
        np.testing.assert_allclose(levels, [-levels[-1], 0, levels[-1]])
        assert levels[-1] == pytest.approx(gamma, rel=1e-3)
        np.testing.assert_array_equal(
            stored[first:end] / levels[-1], np.clip(np.rint(weight[first:end] / levels[-1]), -1, 1)
        )


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"rule": "mode"}, ValueError, r"^rule must be one of absmean, absmedian, not 'mode'$"),
        ({"shards": -1}, ValueError, r"^shards must be at least 0, not -1$"),
        ({"shards": True}, TypeError, r"^shards must be an integer, not True$"),
    ],
)
def test_a_rule_or_number_of_shards_that_is_none_is_refused(settings, error, message) -> None:
    with pytest.raises(error, match=message):
        ternary.Config(**settings)


def test_more_shards_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^shards must be at most 1, the rows of the matrix, not 2$"):
        ternary.quantize(VECTOR, config=ternary.Config(shards=2))
