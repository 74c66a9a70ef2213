"""What methods take and return."""

from __future__ import annotations

import re

import numpy as np
import pytest

from algo.bitplane.build import from_digits
from algo.bitplane.decode import dequantize
from algo.bitplane.format import Digit, Format
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.storage import bits_per_weight, stored_bytes
from algo.formats import stages
from algo.formats.quantized import Calibration, Quantized, checked_weight

SIGN = Format(name="s", digit=Digit.BIPOLAR, coefs=(1,), group=64, published_bits=1.0, source="test")


def signs(rows: int, columns: int, seed: int = 0) -> PackedMatrix:
    rng = np.random.default_rng(seed)
    groups = -(-columns // 64)
    return from_digits(SIGN, rng.choice([-1, 1], (rows, columns)), rng.uniform(1, 2, (rows, groups)))


def test_calibration_of_activations_is_twice_their_gram_and_their_peaks() -> None:
    x = np.array([[1.0, 2.0], [3.0, -4.0]])
    found = Calibration.of(x)
    np.testing.assert_array_equal(found.hessian, [[20, -20], [-20, 40]])
    np.testing.assert_array_equal(found.peak, [3, 4])
    np.testing.assert_array_equal(found.second_moment, [10, 20])
    assert Calibration.of(x.astype(np.float32)).hessian.dtype == np.float64


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones(2), "calibration must have shape [tokens, columns], not [2]"),
        (np.ones((0, 2)), "calibration must have shape [tokens, columns], not [0, 2]"),
        (np.array([[1, np.nan]]), "calibration must be finite, not NaN or infinity"),
    ],
)
def test_activations_that_are_none_are_refused(x: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Calibration.of(x)


@pytest.mark.parametrize(
    ("hessian", "peak", "message"),
    [
        (np.eye(3), np.ones(2), "hessian must have shape [2, 2] as the peaks have it, not [3, 3]"),
        (np.eye(2), np.array([1, np.inf]), "hessian and peak must be finite, not NaN or infinity"),
        (np.full((2, 2), np.nan), np.ones(2), "hessian and peak must be finite, not NaN or infinity"),
    ],
)
def test_calibration_that_does_not_fit_is_refused(
    hessian: np.ndarray, peak: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Calibration(hessian, peak)


def test_a_weight_is_checked_before_any_method_sees_it() -> None:
    assert checked_weight([[1, 2]]).dtype == np.float64
    with pytest.raises(ValueError, match=r"^weight must have two axes \[rows, columns\], not shape \[2\]$"):
        checked_weight([1, 2])


def test_a_product_stands_for_its_factors_product_and_is_billed_for_both() -> None:
    outer, inner = signs(10, 7), signs(7, 70, seed=1)
    made = Quantized(matrix=outer, inner=inner, published_bits=1.0)
    assert made.stages == (inner, outer)
    np.testing.assert_array_equal(made.dequantize(), dequantize(outer) @ dequantize(inner))
    both = sum(stored_bytes(inner).values()) + sum(stored_bytes(outer).values())
    assert made.stored_bytes() == both
    named = stages.named("a.b", made)
    assert list(named) == ["a.b@inner", "a.b"]
    assert stages.stored_bits(named) == 8 * both / 700
    assert sum(stages.breakdown(made.stages).values()) == pytest.approx(8 * both / 700)
    (together,) = stages.by_layer(named).values()
    assert together.shape == (10, 70)
    np.testing.assert_array_equal(together.dequantize(), made.dequantize())


def test_one_matrix_is_its_own_only_stage() -> None:
    made = Quantized(matrix=signs(4, 70), published_bits=1.0)
    named = stages.named("a", made)
    assert list(named) == ["a"]
    assert stages.stored_bits(named) == bits_per_weight(made.matrix)
    np.testing.assert_array_equal(stages.by_layer(named)["a"].dequantize(), dequantize(made.matrix))


def test_factors_that_do_not_make_a_product_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^matrix a@inner must have its outer factor a$"):
        stages.by_layer({"a@inner": signs(3, 4)})
    with pytest.raises(ValueError, match=r"^matrix a@inner must have 5 rows, not 3$"):
        stages.by_layer({"a@inner": signs(3, 4), "a": signs(6, 5)})
