"""LLM-FP4 against plain loops, by the figures of worked channels, and through the engines in fractions."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.bitplane.decode import dequantize
from algo.formats.quantized import Calibration
from algo.formats.shifted_bias import E2M1, SHARES, RealBias, ShiftedActivations, fitted, searched
from algo.methods import llm_fp4, rtn
from algo.methods.llm_fp4 import Config
from sim import judge
from sim.engines import ENGINES


def values_of(exponent: int, mantissa: int, bias: float) -> list[float]:
    """Every magnitude of the float, rising, from its codes: subnormals, then binades."""
    found = []
    for e in range(2**exponent):
        for m in range(2**mantissa):
            share = m / 2**mantissa
            found.append(2.0 ** (1 - bias) * share if e == 0 else 2.0 ** (e - bias) * (1 + share))
    return found


def nearest_of(value: float, magnitudes: list[float]) -> float:
    return math.copysign(min(magnitudes, key=lambda v: abs(v - abs(value))), value)


def skewed() -> tuple[np.ndarray, np.ndarray]:
    """256 channels of sizes 2^-4 .. 2^2 that meet weights smaller where they are larger, by the root."""
    rng = np.random.default_rng(0)
    sizes = 2 ** rng.uniform(-4, 2, 256)
    return rng.standard_normal((1024, 256)) * sizes, rng.standard_normal((64, 256)) / np.sqrt(sizes)


def small(columns: int = 70) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(columns)
    return rng.standard_normal((5, columns)), rng.standard_normal((90, columns)) * 2 ** rng.uniform(
        -3, 3, columns
    )


def lost_output(weight: np.ndarray, stored: np.ndarray, x: np.ndarray) -> float:
    return float(np.sum((x @ (weight - stored).T) ** 2) / np.sum((x @ weight.T) ** 2))


def unshifted(columns: int, bias: float) -> ShiftedActivations:
    return ShiftedActivations(element=E2M1, bias=bias, shift=np.zeros(columns, np.int64))


@pytest.mark.parametrize(("exponent", "mantissa"), [(2, 1), (1, 2), (3, 0), (2, 3), (3, 2)])
def test_at_its_bias_a_range_is_the_largest_value(exponent: int, mantissa: int) -> None:
    element = RealBias(exponent, mantissa)
    for peak in (0.37, 3.0, 1e-5, 1e5):
        bias = float(element.bias(peak))
        wanted = values_of(exponent, mantissa, bias)
        assert wanted[-1] == pytest.approx(peak, rel=1e-13)
        integers = sorted(v for v in element.format.levels()[0] if v >= 0)
        np.testing.assert_allclose(integers * element.unit(bias), wanted, rtol=1e-12)


def test_values_of_a_worked_tensor() -> None:
    assert float(E2M1.bias(0.37)) == pytest.approx(5.019365, abs=5e-7)
    x = np.array([[0.37, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, -0.13]])
    act = unshifted(8, float(E2M1.bias(0.37))).quantize(x)
    np.testing.assert_array_equal(act.values, [[12, 8, 6, 3, 2, 1, 0, -4]])
    assert act.scale[0] == pytest.approx(0.0308333, abs=5e-8)
    assert act.bits == 5


def test_shifts_of_worked_channels() -> None:
    peak = np.array([12, 3, 0.8, 0.05, 100])
    np.testing.assert_allclose(E2M1.bias(peak), [0, 2, 3.907, 7.907, -3.059], atol=5e-4)
    found = fitted(peak, 3)
    np.testing.assert_array_equal(found.shift, [3, 3, 3, 3, 0])
    assert found.bias == pytest.approx(-3.059, abs=5e-4)
    np.testing.assert_array_equal(fitted(peak, 15).shift, [3, 5, 7, 11, 0])
    np.testing.assert_array_equal(fitted(np.array([4.0, 0]), 3).shift, [0, 3])
    assert fitted(np.zeros(2), 3).bias == 0
    np.testing.assert_array_equal(fitted(np.zeros(2), 3).shift, [0, 0])


def test_output_errors_of_skewed_channels_fall_with_shifts_as_known() -> None:
    x, weight = skewed()
    peak = np.abs(x).max(axis=0)
    errors = [lost_output(weight, weight, x)]
    for most in (0, 3, 7):
        off = fitted(peak, most).dequantized(x) - x
        errors.append(float(np.sum((off @ weight.T) ** 2) / np.sum((x @ weight.T) ** 2)))
    assert errors == pytest.approx([0, 0.1322, 0.0225, 0.0177], abs=5e-5)
    own = np.hstack([fitted(peak[j : j + 1], 0).dequantized(x[:, j : j + 1]) for j in range(256)])
    bound = np.sum(((own - x) @ weight.T) ** 2) / np.sum((x @ weight.T) ** 2)
    assert bound == pytest.approx(0.0136, abs=5e-5)


def test_activations_are_the_nearest_values_of_the_biased_float() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((40, 9)) * 2 ** rng.uniform(-6, 4, 9)
    found = fitted(np.abs(x).max(axis=0), 3)
    bias = 1 - 1 - math.log2(float(found.quantize(x).scale[0]))  # as rounded to float32
    wanted = [
        [nearest_of(v, values_of(2, 1, bias + s)) for v, s in zip(token, found.shift, strict=True)]
        for token in x
    ]
    np.testing.assert_allclose(found.dequantized(x), wanted, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("mantissa", [0, 1, 2])
def test_the_search_finds_the_best_bias_of_each_row(mantissa: int) -> None:
    weight = np.random.default_rng(mantissa).standard_normal((4, 65)) * [[1], [30], [0.01], [1e-6]]
    result = llm_fp4.quantize(weight, config=Config(mantissa=mantissa, shift_bits=0))
    stored, exponent = result.dequantize(), 3 - mantissa
    for row, found in zip(weight, stored, strict=True):
        share, power = math.frexp(np.abs(row).max())
        own = 2**exponent - math.log2(share) + math.log2(2 - 2.0**-mantissa) - 1
        tried = []
        for gamma in [*np.linspace(0.01, 1.2, 100), 1.0]:
            magnitudes = values_of(exponent, mantissa, own * gamma - power)
            tried.append(sum((v - nearest_of(v, magnitudes)) ** 2 for v in row))
        # The stored scale has 16 bits.
        assert np.sum((row - found) ** 2) == pytest.approx(min(tried), rel=1e-3)
    assert result.notes["mantissa"] == mantissa
    assert result.notes["loss"] == pytest.approx(np.sum((weight - stored) ** 2), rel=1e-9)


def test_the_search_goes_by_what_the_outputs_lose() -> None:
    weight, x = small()
    known = Calibration.of(x)
    config = Config(mantissa=1, shift_bits=0)
    by_output = llm_fp4.quantize(weight, known, config)
    by_weight = llm_fp4.quantize(weight, None, config)
    assert lost_output(weight, by_output.dequantize(), x) < lost_output(weight, by_weight.dequantize(), x)
    off = weight - by_output.dequantize()
    assert by_output.notes["loss"] == pytest.approx(np.trace(off @ known.hessian @ off.T), rel=1e-9)
    # Not far from the best of all candidates, each row by its whole output error.
    for row, error in zip(weight, np.einsum("ij,jk,ik->i", off, known.hessian, off), strict=True):
        share, power = math.frexp(np.abs(row).max())
        tried = []
        for gamma in SHARES:
            magnitudes = values_of(2, 1, float(E2M1.bias(share)) * gamma - power)
            e = np.array([v - nearest_of(v, magnitudes) for v in row])
            tried.append(e @ known.hessian @ e)
        assert min(tried) * 0.999 <= error <= 1.25 * min(tried)


def test_the_best_float_of_the_matrix_is_taken() -> None:
    rng = np.random.default_rng(5)
    flat, heavy = rng.uniform(-1, 1, (6, 200)), np.exp2(-rng.integers(0, 7, (6, 200)))
    normal = rng.standard_normal((6, 200))
    for weight, wanted in ((flat, 2), (normal, 1), (heavy, 0)):
        losses = {
            m: llm_fp4.quantize(weight, config=Config(mantissa=m, shift_bits=0)).notes["loss"]
            for m in range(3)
        }
        found = llm_fp4.quantize(weight, config=Config(shift_bits=0))
        assert found.notes["mantissa"] == wanted == min(losses, key=lambda m: losses[m])
        assert found.notes["loss"] == losses[wanted]
        assert len(found.matrix.terms[0].coefs) == {0: 8, 1: 5, 2: 4}[wanted]


def test_a_searched_bias_beats_the_one_of_the_largest_weight() -> None:
    weight = np.random.default_rng(1).standard_normal((64, 300))
    plain = rtn.quantize(weight, None, rtn.Config(format="e2m1-row")).dequantize()
    found = llm_fp4.quantize(weight, config=Config(mantissa=1, shift_bits=0)).dequantize()
    assert np.sum((weight - found) ** 2) < 0.95 * np.sum((weight - plain) ** 2)


def test_the_matrix_hands_the_shifts_to_its_activations_and_keeps_codes_of_the_shifted_weight() -> None:
    weight, x = small()
    known, config = Calibration.of(x), Config(mantissa=1)
    result = llm_fp4.quantize(weight, known, config)
    shift = fitted(known.peak, 3).shift
    assert len(set(shift)) == 4
    np.testing.assert_array_equal(result.matrix.factors["shift"], 2.0**shift)
    folded = np.ldexp(weight, -shift)
    same = llm_fp4.quantize(
        folded, Calibration(known.hessian * np.outer(2.0**shift, 2.0**shift), np.ones(70)), config
    )
    np.testing.assert_array_equal(np.ldexp(result.dequantize(), -shift), same.dequantize())


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 130), st.integers(0, 3), st.integers(0, 2), st.integers(0, 2**32 - 1))
def test_engines_compute_the_float_path_exactly(
    columns: int, shift_bits: int, mantissa: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((3, columns))
    x = rng.standard_normal((4, columns)) * 2 ** rng.uniform(-5, 5, columns)
    known = Calibration.of(x)
    matrix = llm_fp4.quantize(weight, known, Config(mantissa=mantissa, shift_bits=shift_bits)).matrix
    how = fitted(known.peak, 2**shift_bits - 1)
    act = how.quantize(x)
    sums = judge.integer_sums(matrix, [act])
    for name, engine in ENGINES.items():
        np.testing.assert_array_equal(engine(matrix, [act]), sums, err_msg=name)
    real_w, real_x = dequantize(matrix), how.dequantized(x)
    for n in range(4):
        for m in range(3):
            total = sum(Fraction(a) * Fraction(b) for a, b in zip(real_w[m], real_x[n], strict=True))
            unit = Fraction(2) ** int(matrix.exponent.values[m, 0]) * Fraction(float(act.scale[n]))
            assert total == int(sums[0, n, m]) * unit


def test_a_searched_bias_of_activations_loses_less_than_that_of_their_largest_value() -> None:
    x = np.random.default_rng(2).standard_t(3, (300, 20))
    peak = float(np.abs(x).max())
    start = unshifted(20, float(E2M1.bias(peak)))

    def lost(found: np.ndarray) -> float:
        return float(np.sum((found - x) ** 2))

    best = searched(start, peak, x, lost)
    tried = [lost(unshifted(20, float(b)).dequantized(x)) for b in E2M1.candidates(peak)]
    assert lost(best.dequantized(x)) == min(tried) < 0.9 * lost(start.dequantized(x))
    assert searched(start, 0.0, x, lost) is start


def test_turns_of_weights_and_activations_lose_less_than_one_of_each_alone() -> None:
    weight, x = small(150)
    known = Calibration.of(x)
    exact = x @ weight.T

    def lost(stored: np.ndarray, seen: np.ndarray) -> float:
        return float(np.sum((seen @ stored.T - exact) ** 2) / np.sum(exact**2))

    alone = lost(llm_fp4.quantize(weight, known).dequantize(), fitted(known.peak, 3).dequantized(x))
    three, one = llm_fp4.jointly(weight, x), llm_fp4.jointly(weight, x, rounds=1)
    stored, seen = three.quantized.dequantize(), three.activations.dequantized(x)
    assert three.output_error == pytest.approx(lost(stored, seen), rel=1e-12)
    assert three.output_error <= one.output_error < alone
    np.testing.assert_array_equal(three.quantized.matrix.factors["shift"], three.activations.factor)
    none = llm_fp4.jointly(weight, x, Config(shift_bits=0))
    assert three.output_error < 0.75 * none.output_error


def test_a_later_turn_is_kept_where_it_loses_less() -> None:
    rng = np.random.default_rng([150, 1])
    weight, x = rng.standard_normal((5, 150)), rng.standard_normal((90, 150)) * 2 ** rng.uniform(-3, 3, 150)
    errors = [llm_fp4.jointly(weight, x, rounds=rounds).output_error for rounds in (1, 2, 3)]
    assert errors[2] <= errors[1] < 0.99 * errors[0]


def test_biases_to_search_grow_with_their_share_and_do_not_depend_on_powers_of_two() -> None:
    found = E2M1.candidates(0.74)
    assert found.shape == (101,)
    assert all(a < b for a, b in pairwise(found[:-1]))
    assert found[-1] == E2M1.bias(0.74)
    np.testing.assert_array_equal(found[:-1], np.linspace(0.01, 1.2, 100) * E2M1.bias(0.74))
    np.testing.assert_allclose(E2M1.candidates(0.37), found + 1, rtol=1e-14)


def test_published_bits_are_a_code_a_scale_a_row_and_the_shifts() -> None:
    weight, x = small()
    assert llm_fp4.quantize(weight, Calibration.of(x)).published_bits == 4 + 32 / 70 + 2 / 5
    assert llm_fp4.quantize(weight, config=Config(shift_bits=0)).published_bits == 4 + 32 / 70


@pytest.mark.parametrize(
    ("given_", "error", "message"),
    [
        ({"mantissa": 3}, ValueError, "mantissa must be at most 2, not 3"),
        ({"mantissa": -1}, ValueError, "mantissa must be at least 0, not -1"),
        ({"mantissa": 1.0}, TypeError, "mantissa must be an integer, not 1.0"),
        ({"shift_bits": 4}, ValueError, "shift_bits must be at most 3, not 4"),
        ({"shift_bits": -1}, ValueError, "shift_bits must be at least 0, not -1"),
        ({"shift_bits": None}, TypeError, "shift_bits must be an integer, not None"),
    ],
)
def test_settings_that_mean_nothing_are_refused(given_: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Config(**given_)


def test_what_cannot_be_calibrated_with_is_refused() -> None:
    weight, x = small()
    assert llm_fp4.needs_calibration(Config())
    assert not llm_fp4.needs_calibration(Config(shift_bits=0))
    message = "calibration must be given for llm-fp4 with shift_bits above 0, not None"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        llm_fp4.quantize(weight)
    with pytest.raises(ValueError, match=r"^calibration must have 70 columns as the weight has, not 3$"):
        llm_fp4.quantize(weight, Calibration.of(np.eye(3)))
    with pytest.raises(ValueError, match=r"^activations must have 70 columns as the weight has, not 69$"):
        llm_fp4.jointly(weight, x[:, :69])
    with pytest.raises(ValueError, match=r"^rounds must be at least 1, not 0$"):
        llm_fp4.jointly(weight, x, rounds=0)
    with pytest.raises(ValueError, match=r"^peak must be finite and at least 0, and is not$"):
        fitted(np.array([1.0, -1]), 3)


def test_what_are_no_activations_is_refused() -> None:
    how = unshifted(3, 0.0)
    with pytest.raises(ValueError, match=r"^activations must have shape \[tokens, 3\], not \[2, 4\]$"):
        how.quantize(np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"^activations must be finite, not NaN or infinity$"):
        how.quantize(np.full((2, 3), np.nan))
