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
