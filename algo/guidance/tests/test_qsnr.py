"""Predicted noise against the paper's crossovers, and against noise that is measured on random values."""

import re

import numpy as np
import pytest

from algo.guidance.qsnr import (
    ELEMENTS,
    EXACT,
    POWER_OF_TWO,
    Floating,
    Integers,
    crest_factors,
    crossover,
    measured,
)


@pytest.mark.parametrize(
    ("pair", "overhead", "block", "published"),
    [
        (("int8", "e4m3"), POWER_OF_TWO, None, 7.55),
        (("int6", "e2m3"), POWER_OF_TWO, None, 1.96),
        (("int4", "e2m1"), POWER_OF_TWO, None, 2.04),
        (("int4", "e2m1"), EXACT, 16, 2.39),
    ],
)
def test_integers_and_floats_cross_where_the_paper_says(pair, overhead, block, published):
    one, other = (ELEMENTS[name] for name in pair)
    at = crossover(one, other, overhead, block)
    assert at == pytest.approx(published, abs=0.1)
    assert one.qsnr(at - 0.1, overhead, block) > other.qsnr(at - 0.1, overhead, block)
    assert one.qsnr(at + 0.1, overhead, block) < other.qsnr(at + 0.1, overhead, block)


@pytest.mark.parametrize(("name", "ceiling"), [("e4m3", 31.86), ("e2m3", 31.86), ("e2m1", 19.82)])
def test_floats_have_a_ceiling_that_their_mantissa_sets(name, ceiling):
    assert float(ELEMENTS[name].qsnr(1e-3, EXACT, None)) == pytest.approx(ceiling, abs=0.01)


def test_one_more_bit_of_integer_is_six_decibels():
    assert float(Integers(bits=9).qsnr(3, 1) - Integers(bits=8).qsnr(3, 1)) == pytest.approx(6.0206, abs=1e-4)


@pytest.mark.parametrize("block", [32, 64])
def test_the_integers_prediction_is_what_a_uniform_step_loses(block):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2000, block))
    peak = np.abs(values).max(axis=1, keepdims=True)
    step = 2 * peak / 2**8
    found = measured(values, np.rint(values / step) * step)
    crest = float(np.sqrt(np.mean(peak**2)))  # blocks of power 1 on average, whose peaks are codes
    assert found == pytest.approx(float(ELEMENTS["int8"].qsnr(crest, EXACT, block)), abs=0.1)


def test_the_floats_prediction_is_what_a_float_loses():
    values = np.random.default_rng(1).normal(size=1 << 16)
    scale = 10.0 / 448  # a crest factor of 10
    exponent = np.maximum(np.floor(np.log2(np.abs(values) / scale)), 1 - 7)
    step = scale * 2.0 ** (exponent - 3)
    found = measured(values, np.rint(values / step) * step)
    assert found == pytest.approx(float(ELEMENTS["e4m3"].qsnr(10.0, EXACT, None)), abs=0.4)


def test_crest_factors_are_of_every_block_that_is_not_all_zero():
    values = np.zeros((2, 5))
    values[0, :2] = 3, 4
    values[1, 4] = 7
    np.testing.assert_allclose(crest_factors(values, 2), [4 / np.sqrt(12.5), 1.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: crest_factors([[np.nan]], 2),
            "values must be finite and of one or two axes, not of shape (1, 1)",
        ),
        (lambda: crest_factors([[1.0]], 1), "block must be at least 2, not 1"),
        (lambda: measured([1.0], [1.0, 2.0]), "quantized must have shape [1], not [2]"),
        (lambda: measured([0.0], [0.0]), "values must hold something beyond 0"),
        (
            lambda: crossover(Integers(bits=8), Integers(bits=4), 1.0),
            "elements must cross between crest factors 1 and 100, not Integers(bits=8), Integers(bits=4)",
        ),
    ],
)
def test_what_cannot_be_predicted_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


def test_a_tensor_kept_whole_has_no_noise():
    assert measured([1.0, 2.0], [1.0, 2.0]) == float("inf")
    assert Floating(mantissa=3, bias=7, largest=448.0) == ELEMENTS["e4m3"]
