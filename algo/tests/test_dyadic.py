"""Dyadic factors: published vectors, both rules of ties against fractions, and what is refused."""

import re
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.dyadic import ROUNDINGS, Dyadic, requantize, scaled


def exact(value: Fraction, rounding: str) -> int:
    """The integer nearest to a fraction."""
    return round(value) if rounding == "half-even" else floor(value + Fraction(1, 2))


@pytest.mark.parametrize(
    ("real", "bits", "pair"),
    [
        (0.0123, 31, (1690499128, 37)),
        (0.0123, 15, (25795, 21)),
        (0.0123, 7, (101, 13)),
        (0.9999999, 15, (16384, 14)),
        (0.5, 15, (16384, 15)),
        (3.0, 4, (12, 2)),
    ],
)
def test_published_factors(real, bits, pair):
    found = Dyadic.of(real, bits)
    assert (int(found.mantissa[0]), int(found.shift[0])) == pair


def test_published_results():
    # The two narrower factors differ from 1/3 by 1/3 of their last bit, which 12345 makes visible once.
    acc = np.array([[12345]])
    for real, results in ((0.0123, (152, 152, 152)), (1 / 3, (4115, 4115, 4099))):
        found = [int(requantize(acc, Dyadic.of(real, b), -(2**15), 2**15)[0, 0]) for b in (31, 15, 7)]
        assert tuple(found) == results
    assert abs(Dyadic.of(0.0123, 7).real()[0] / Fraction(0.0123) - 1) == pytest.approx(2.4e-3, rel=0.03)


@given(st.floats(1e-8, 0.9), st.integers(1, 31))
def test_a_factor_is_within_half_of_its_last_bit(real, bits):
    found = Dyadic.of(real, bits)
    assert (1 << bits) // 2 <= found.mantissa[0] < 1 << bits
    assert abs(found.real()[0] - Fraction(real)) <= Fraction(1, 1 << int(found.shift[0])) / 2


@given(st.sampled_from(ROUNDINGS), st.integers(0, 2**32 - 1), st.integers(6, 15))
def test_results_are_those_of_fractions(rounding, seed, bits):
    rng = np.random.default_rng(seed)
    sums = rng.integers(-(2**20), 2**20, (4, 6)) >> rng.integers(0, 18, (4, 6))
    factor = Dyadic.of(np.ldexp(rng.integers(1, 20, 6).astype(float), -rng.integers(0, 12, 6)), bits)
    expected = [
        [exact(int(s) * f, rounding) for s, f in zip(row, factor.real(), strict=True)] for row in sums
    ]
    np.testing.assert_array_equal(scaled(sums, factor, rounding), expected)
    np.testing.assert_array_equal(requantize(sums, factor, -5, 7, rounding), np.clip(expected, -5, 7))


@pytest.mark.parametrize(("real", "share"), [(0.5, 0.25), (0.25, 0.125), (3 * 2**-7, 2**-8), (0.0123, 0)])
def test_the_rules_differ_where_a_tie_meets_an_even_integer(real, share):
    # Of 2**20 sums in a row, the share that a factor of few bits turns into ties is exact.
    sums = np.arange(2**20)[None]
    up, even = (scaled(sums, Dyadic.of(real, 31), rule) for rule in ROUNDINGS)
    assert np.mean(up != even) == share
    assert set(np.unique(up - even)) <= {0, 1}


def test_a_shift_of_nothing_rounds_nothing():
    factor = Dyadic(mantissa=np.array([3]), shift=np.array([0]))
    for rule in ROUNDINGS:
        np.testing.assert_array_equal(scaled(np.array([[-5, 0, 7]]), factor, rule), [[-15, 0, 21]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Dyadic.of(0.0), "factor must be positive and finite, not 0.0"),
        (lambda: Dyadic.of(float("nan")), "factor must be positive and finite, not nan"),
        (lambda: Dyadic.of(0.5, 32), "bits must be an integer from 1 to 31, not 32"),
        (lambda: Dyadic.of(2.0**-60), "shift must be at least 0 and at most 62, not 74"),
        (lambda: Dyadic.of(2.0**20, 15), "shift must be at least 0 and at most 62, not -6"),
        (
            lambda: Dyadic(mantissa=np.array([1.0]), shift=np.array([0])),
            "mantissa must be int64 of one axis as mantissa is, not float64 [1]",
        ),
        (
            lambda: Dyadic(mantissa=np.array([1]), shift=np.array([0, 1])),
            "shift must be int64 of one axis as mantissa is, not int64 [2]",
        ),
        (lambda: scaled(np.ones((1, 1)), Dyadic.of(0.5)), "sums must be int64, not float64"),
        (
            lambda: scaled(np.ones((1, 1), np.int64), Dyadic.of(0.5), "up"),
            "rounding must be one of half-up, half-even, not 'up'",
        ),
        (
            lambda: scaled(np.array([[2**50]]), Dyadic.of(0.5)),
            "products of sums and mantissas must stay below 2**63, not reach 1.84e+19",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
