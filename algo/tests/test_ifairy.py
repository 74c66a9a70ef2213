"""iFairy: units by phase, the published layer's numbers, and its real form against complex arithmetic."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.bitplane import decode
from algo.bitplane.activations import Activations
from algo.methods import ifairy

UNITS = np.array([1, 1j, -1, -1j])


def as_real(w: np.ndarray, algebra: str) -> np.ndarray:
    """What a complex matrix does to activations, by applying it to the unit vectors of either part."""
    rows, columns = w.shape
    found = np.empty((2 * rows, 2 * columns))
    for k in range(2 * columns):
        x = np.zeros(columns, complex)
        x[k // 2] = 1j if k % 2 else 1
        y = w @ (x.conj() if algebra == "conjugate" else x)
        found[0::2, k], found[1::2, k] = y.real, y.imag
    return found


def integers_of(matrix, x: np.ndarray, name: str) -> np.ndarray:
    """One term's dot products with integer activations [columns]."""
    (term,) = (term for term in matrix.terms if term.scale == name)
    return decode.digits(matrix, term) @ x


def test_a_published_vector():
    w = np.array([[0.5 + 0.4j, -0.2 + 0.7j, 0.1 - 0.6j, -0.9 + 0.2j, 0.3 + 0.3j, -0.3 - 0.3j]])
    x = np.array([3 - 2j, -1 + 4j, 2 + 1j, 5, -4 + 3j, 1 - 6j]).view(np.float64).astype(np.int64)
    axis, negative = ifairy.units(w)
    assert (axis + 2 * negative).tolist() == [[0, 1, 3, 2, 1, 3]]
    matrix = ifairy.quantize(as_real(w, "conjugate")).matrix
    assert integers_of(matrix, x, "conjugate_real").tolist() == [-2, 2]
    assert integers_of(matrix, x, "conjugate_imag").tolist() == [12, -8]
    act = Activations(values=x[None], bits=8, scale=np.ones(1, np.float32))
    y = decode.outputs(matrix, [act], decode.integer_sums(matrix, [act]))
    np.testing.assert_allclose(y, [[0.7 * -2 + 0.475 * 12, 0.475 * -8 + 0.7 * 2]], rtol=1e-3)
    np.testing.assert_allclose(y, [[4.3, -2.4]], rtol=2e-3)


def test_the_four_borders_belong_to_the_phase_they_begin():
    borders = np.array([1 - 1j, 1 + 1j, -1 + 1j, -1 - 1j, 0])
    axis, negative = ifairy.units(borders)
    assert (axis + 2 * negative).tolist() == [0, 1, 2, 3, 0]


@given(st.integers(0, 2**32 - 1))
def test_units_are_those_nearest_in_phase(seed):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=50) + 1j * rng.normal(size=50)
    axis, negative = ifairy.units(w)
    quarter = np.floor((np.angle(w) + np.pi / 4) / (np.pi / 2)).astype(int) % 4
    np.testing.assert_array_equal(np.where(axis, 1j, 1) * np.where(negative, -1, 1), UNITS[quarter])


@pytest.mark.parametrize("algebra", ["conjugate", "plain"])
@given(st.integers(1, 5), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_a_complex_layer_is_computed_as_its_complex_arithmetic(algebra, rows, columns, seed):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(rows, columns)) + 1j * rng.normal(size=(rows, columns))
    matrix = ifairy.quantize(as_real(w, algebra), config=ifairy.Config(algebra=algebra)).matrix
    axis, negative = ifairy.units(w)
    q = np.where(axis, 1j, 1) * np.where(negative, -1, 1)
    real = np.abs(w.real[~axis]).mean() if np.any(~axis) else 0
    imag = np.abs(w.imag[axis]).mean() if np.any(axis) else 0
    wanted = as_real(real * q.real + 1j * imag * q.imag, algebra)
    np.testing.assert_allclose(decode.dequantize(matrix), wanted, rtol=1e-3)
    x = rng.integers(-127, 128, (3, columns)) + 1j * rng.integers(-127, 128, (3, columns))
    for name, part in (("real", q.real), ("imag", 1j * q.imag)):
        y = (x.conj() if algebra == "conjugate" else x) @ part.T
        for token in range(3):
            flat = x[token].view(np.float64).astype(np.int64)
            found = integers_of(matrix, flat, f"{algebra}_{name}")
            np.testing.assert_array_equal(found[0::2] + 1j * found[1::2], y[token])


def test_both_forms_together_follow_any_real_matrix():
    w = np.random.default_rng(0).normal(size=(64, 130))
    errors = {}
    for algebra in ifairy.ALGEBRAS:
        q = ifairy.quantize(w, config=ifairy.Config(algebra=algebra)).dequantize()
        errors[algebra] = np.sum((w - q) ** 2) / np.sum(w**2)
    # Half of a random matrix is of either form, and what rounding leaves of the other half is 0.36 of it:
    # 1 - E[max(|re|, |im|)]**2 / E[|w|**2], that maximum of two normal parts being 2 / sqrt(pi) on average.
    assert errors["conjugate"] == pytest.approx(errors["plain"], abs=0.05)
    assert 0.55 < errors["conjugate"] < 0.7
    assert errors["both"] == pytest.approx(1 - 2 / np.pi, abs=0.02)


def test_two_bits_a_complex_weight_are_stored():
    result = ifairy.quantize(np.random.default_rng(1).normal(size=(256, 512)))
    entries = 256 * 512
    assert result.published_bits == (2 * entries / 4 + 64) / entries
    # Beyond that: a bit a row and a column, where parts stand, and an exponent; scales are fp16, not float32.
    assert 8 * result.stored_bytes() == 2 * entries / 4 + 256 + 512 + 32 + 16


def test_a_zero_matrix_has_scales_of_zero():
    assert not np.any(ifairy.quantize(np.zeros((4, 6))).dequantize())


def test_odd_last_rows_and_columns_have_no_imaginary_part():
    w = np.random.default_rng(2).normal(size=(5, 7))
    for algebra in ("conjugate", "plain"):
        q = ifairy.quantize(w, config=ifairy.Config(algebra=algebra)).dequantize()
        whole = ifairy.quantize(w[:4, :6], config=ifairy.Config(algebra=algebra)).dequantize()
        np.testing.assert_array_equal(np.sign(q[:4, :6]), np.sign(whole))
        # Where the last row and column cross there is a real part alone; else the larger part is kept.
        assert np.sign(q[4, 6]) == np.sign(w[4, 6])
        larger = np.abs(w[0:4:2, 6]) > np.abs(w[1:4:2, 6])
        assert np.all(np.where(larger, q[0:4:2, 6], q[1:4:2, 6]) != 0)


def test_other_algebras_are_refused():
    message = "algebra must be one of conjugate, plain, both, not 'real'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ifairy.Config(algebra="real")
