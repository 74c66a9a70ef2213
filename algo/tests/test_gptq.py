"""GPTQ against a worked optimum, plain elimination without a factor, and rounding to nearest."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from algo.binarize.curvature import curvature
from algo.formats.quantized import Calibration
from algo.methods import gptq, rtn


def data(rows: int, columns: int, seed: int = 0) -> tuple[np.ndarray, Calibration, np.ndarray]:
    """Weights, calibration of correlated activations, and the activations."""
    rng = np.random.default_rng([rows, columns, seed])
    mix = rng.standard_normal((columns, columns))
    x = rng.standard_normal((4 * columns + 8, columns)) @ mix
    return rng.standard_normal((rows, columns)), Calibration.of(x), x


def damped(hessian: np.ndarray, damping: float) -> np.ndarray:
    return hessian + damping * np.mean(np.diagonal(hessian)) * np.eye(len(hessian))


def eliminated(weight: np.ndarray, hessian: np.ndarray, bits: int, group: int) -> np.ndarray:
    """Row after row, the inverse Hessian reduced by each column, as in Optimal Brain Quantization."""
    top = 2**bits - 1
    out = np.zeros(weight.shape)
    for i in range(len(weight)):
        w, inverse = weight[i].copy(), np.linalg.inv(hessian)
        for j in range(len(w)):
            if j % group == 0:
                part = w[j : j + group]
                low, high = min(0.0, part.min()), max(0.0, part.max())
                scale = float(np.float16((high - low) / top))
                zero = round(-low / scale)
            code = min(max(round(w[j] / scale) + zero, 0), top)
            out[i, j] = scale * (code - zero)
            w[j:] -= (w[j] - out[i, j]) / inverse[j, j] * inverse[j, j:]
            inverse = inverse - np.outer(inverse[:, j], inverse[j]) / inverse[j, j]
    return out


def test_three_weights_reach_the_best_integers_there_are() -> None:
    hessian = np.array([[2, 1, 0.5], [1, 2, 1], [0.5, 1, 2]])
    weight = np.array([[0.55, 0.45, 0.45]])
    factor = curvature(hessian, 3, 0.0).square(slice(3))
    errors, codes = gptq.round_columns(weight.T.copy(), factor, np.ones(1), np.full(1, 8), 15)
    found = codes[:, 0] - 8
    np.testing.assert_array_equal(found, [1, 0, 1])
    off = found - weight[0]
    assert np.sum(errors**2) == pytest.approx(0.7625, rel=1e-12)
    assert off @ hessian @ off == pytest.approx(0.7625, rel=1e-12)
    nearest = np.rint(weight[0]) - weight[0]
    assert nearest @ hessian @ nearest == pytest.approx(1.0125, rel=1e-12)


@pytest.mark.parametrize(
    ("columns", "group"), [(1, 128), (63, 16), (65, 64), (140, 100), (300, 128), (300, 300)]
)
def test_plain_elimination_gives_the_same_matrix(columns: int, group: int) -> None:
    weight, known, _ = data(5, columns)
    result = gptq.quantize(weight, known, gptq.Config(bits=4, group=group))
    expected = eliminated(weight, damped(known.hessian, 0.01), 4, group)
    # The grid of a row rounds a scale by at most 2^-15 of the row's largest, which 15 codes add up.
    np.testing.assert_allclose(result.dequantize(), expected, atol=15 * 2.0**-14, rtol=0)


def test_rows_that_fill_no_last_tile_and_rows_that_do_are_the_same() -> None:
    weight, known, _ = data(67, 65)
    whole = gptq.quantize(weight, known).dequantize()
    apart = [gptq.quantize(weight[i : i + 1], known).dequantize() for i in (0, 63, 64, 66)]
    np.testing.assert_array_equal(whole[[0, 63, 64, 66]], np.concatenate(apart))


def test_the_loss_is_the_output_error_under_the_damped_hessian() -> None:
    weight, known, _ = data(6, 65)
    result = gptq.quantize(weight, known, gptq.Config(bits=3, group=32))
    off = weight - result.dequantize()
    assert result.notes["loss"] == pytest.approx(np.sum(off @ damped(known.hessian, 0.01) * off), rel=1e-9)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_outputs_are_kept_better_than_by_rounding_to_nearest(bits: int) -> None:
    weight, known, x = data(64, 64)

    def lost(stored: np.ndarray) -> float:
        return float(np.sum((x @ (weight - stored).T) ** 2) / np.sum((x @ weight.T) ** 2))

    nearest = lost(rtn.quantize(weight, None, rtn.Config(bits=bits)).dequantize())
    # 4 bits, 64 x 64 and correlated: about half the error of rounding to nearest
    assert lost(gptq.quantize(weight, known, gptq.Config(bits=bits)).dequantize()) < 0.7 * nearest


def test_without_correlation_it_is_rounding_to_nearest() -> None:
    weight = np.random.default_rng(0).standard_normal((5, 200))
    known = Calibration(np.eye(200), np.ones(200))
    np.testing.assert_array_equal(
        gptq.quantize(weight, known).dequantize(), rtn.quantize(weight, None).dequantize()
    )


def test_a_group_that_pushed_errors_widen_beyond_its_rows_grid_starts_the_row_over() -> None:
    # The third column is a thousandth of the first: it makes up for 1000 times the first one's error.
    hessian = np.array([[1e6, 0, 999.9], [0, 1, 0], [999.9, 0, 1]])
    weight = np.array([[0.49, 1.0, 0.5], [1.0, 0.0, 0.5]])
    config = gptq.Config(bits=2, group=2, damping=1e-9)
    result = gptq.quantize(weight, Calibration(hessian, np.ones(3)), config)
    matrix = result.matrix
    # A third, the first group's scale, has a grid up to a half; the first row's 0.5 became 150.
    assert matrix.exponent.values.tolist() == [[-9], [-16]]
    first, second = np.ldexp(matrix.ints["scale"].values[0].astype(float), -9)
    assert first == round(2**9 / 3) / 2**9
    assert 45 < second < 55
    # Codes and errors are those of the grid the row ended with: the loss is exact.
    off = weight - result.dequantize()
    assert result.notes["loss"] == pytest.approx(np.sum(off @ damped(hessian, 1e-9) * off), rel=1e-6)


def test_dead_channels_become_zero() -> None:
    weight, known, _ = data(4, 20)
    hessian = known.hessian.copy()
    hessian[7] = hessian[:, 7] = 0
    result = gptq.quantize(weight, Calibration(hessian, known.peak))
    assert not np.any(result.dequantize()[:, 7])
    assert result.notes["dead_columns"] == 1


def test_storage_is_that_of_the_format() -> None:
    weight, known, _ = data(64, 256)
    for bits in (2, 8):
        result = gptq.quantize(weight, known, gptq.Config(bits=bits))
        assert 8 * result.stored_bytes() / weight.size == bits + (16 + bits) / 128 + 16 / 256
        assert result.published_bits == bits


def test_what_it_cannot_work_with_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^calibration must be given for gptq, not None$"):
        gptq.quantize(np.ones((2, 3)))
    message = re.escape("hessian must have shape [4, 4], not [3, 3]")
    with pytest.raises(ValueError, match=f"^{message}$"):
        gptq.quantize(np.ones((2, 4)), Calibration.of(np.eye(3)))
    with pytest.raises(ValueError, match=r"^damping must be a finite number above 0, not 0$"):
        dataclasses.replace(gptq.Config(), damping=0)
