"""Two thin sign matrices: steps that cannot fail, exact cases, a storage bill that is the published one."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from algo.bitplane.decode import integer_weights
from algo.formats.quantized import Calibration, Quantized
from algo.methods import nanoquant


def lost(weight: np.ndarray, result: Quantized) -> float:
    return float(np.sum((weight - result.dequantize()) ** 2) / np.sum(weight**2))


def weights(rows: int, columns: int) -> np.ndarray:
    rng = np.random.default_rng([rows, columns])
    inside = np.diag(1 / np.sqrt(np.arange(1, 65)))
    return rng.standard_normal((rows, 64)) @ inside @ rng.standard_normal((64, columns))


def signs(matrix: object) -> np.ndarray:
    return np.sign(integer_weights(matrix, matrix.streams[0]))


@pytest.mark.parametrize(("rows", "columns", "rank"), [(1, 1, 1), (5, 63, 1), (30, 65, 7), (70, 300, 20)])
def test_the_stored_matrix_is_the_product_the_planes_and_scales_name(
    rows: int, columns: int, rank: int
) -> None:
    weight = weights(rows, columns)
    result = nanoquant.quantize(weight, config=nanoquant.Config(rank=rank))
    assert result.inner is not None
    u, v = signs(result.matrix), signs(result.inner)
    assert u.shape == (rows, rank)
    assert v.shape == (rank, columns)
    left = np.ldexp(
        result.matrix.ints["row_scale"].values[:, 0].astype(float), result.matrix.exponent.values[:, 0]
    )
    right = result.inner.factors["column_scale"].astype(float)
    expected = np.zeros(weight.shape)
    for i, j in itertools.product(range(rows), range(columns)):
        expected[i, j] = left[i] * sum(np.sign(u[i, k]) * v[k, j] for k in range(rank)) * right[j]
    np.testing.assert_allclose(result.dequantize(), expected * np.sign(left)[:, None], atol=1e-12)
    # No row scale could be better but for its rounding.
    best = np.sum(weight * expected, axis=1) / np.sum(expected**2, axis=1)
    np.testing.assert_allclose(np.abs(best), 1, atol=2e-3)


@pytest.mark.parametrize("known", [False, True])
def test_a_product_of_signs_and_scales_is_found_again(known: bool) -> None:
    rng = np.random.default_rng(2)
    u, v = rng.choice([-1.0, 1.0], (60, 3)), rng.choice([-1.0, 1.0], (3, 90))
    weight = rng.uniform(0.5, 2, (60, 1)) * (u @ v) * rng.uniform(0.5, 2, 90)
    given = Calibration.of(rng.standard_normal((99, 90)) * rng.uniform(0.3, 3, 90)) if known else None
    assert lost(weight, nanoquant.quantize(weight, given, nanoquant.Config(rank=3))) < 1e-6


def test_no_round_of_the_refinement_raises_the_error() -> None:
    weight = weights(40, 50)
    product = nanoquant.started(weight, 6)
    first = float(np.sum((weight - product.values()) ** 2))
    errors = nanoquant.refine(weight, product)
    assert np.all(np.diff([first, *errors]) <= 1e-9 * first)
    assert errors[-1] == pytest.approx(np.sum((weight - product.values()) ** 2))


def test_a_pass_flips_a_sign_exactly_where_that_lowers_its_rows_error() -> None:
    rng = np.random.default_rng(4)
    weight, scale = rng.standard_normal((9, 50)), rng.uniform(0.5, 2, 9)
    signs, basis = rng.choice([-1.0, 1.0], (9, 5)), rng.standard_normal((50, 5))

    def off(i: int, row: np.ndarray) -> float:
        return float(np.sum((weight[i] - scale[i] * basis @ row) ** 2))

    expected = signs.copy()
    for i, k in itertools.product(range(9), range(5)):
        other = expected[i].copy()
        other[k] *= -1
        if off(i, other) < off(i, expected[i]):
            expected[i] = other
    found = signs.copy()
    nanoquant._flip(found, scale, basis, weight)
    np.testing.assert_array_equal(found, expected)
    assert np.any(found != signs)


def test_more_bits_and_kinder_spectra_lose_less() -> None:
    weight = weights(200, 220)
    found = [
        lost(weight, nanoquant.quantize(weight, config=nanoquant.Config(bits=b))) for b in (0.55, 0.8, 1.0)
    ]
    assert found[0] > found[1] > found[2]
    # Normal weights have no spectrum to live on: about 0.41, where a sign and a scale a row leave 0.36.
    noise = np.random.default_rng(0).standard_normal((256, 256))
    assert lost(noise, nanoquant.quantize(noise)) == pytest.approx(0.407, abs=0.01)
    assert found[2] < 0.25


def test_strong_channels_are_kept_closer_with_calibration() -> None:
    weight = weights(60, 80)
    x = np.random.default_rng(0).standard_normal((300, 80)) * np.repeat([10.0, 1.0], 40)

    def output_lost(result: Quantized) -> float:
        return float(np.linalg.norm(x @ (weight - result.dequantize()).T) / np.linalg.norm(x @ weight.T))

    config = nanoquant.Config(rank=12)
    known = nanoquant.quantize(weight, Calibration.of(x), config)
    assert output_lost(known) < 0.95 * output_lost(nanoquant.quantize(weight, None, config))
    silent = nanoquant.quantize(weight, Calibration(np.zeros((80, 80)), np.zeros(80)), config)
    np.testing.assert_array_equal(silent.dequantize(), nanoquant.quantize(weight, None, config).dequantize())


def test_ranks_of_the_published_bits() -> None:
    ranks = [nanoquant.Config(bits=bits).rank_of(4096, 4096) for bits in (1.0, 0.8, 0.55)]
    assert ranks == [2032, 1622, 1110]
    assert nanoquant.Config().rank_of(5, 300) == 1
    assert nanoquant.Config(rank=50).rank_of(5, 300) == 5


def test_the_bill_is_the_published_one_but_for_the_grids_exponents_and_whole_words() -> None:
    result = nanoquant.quantize(weights(320, 640), config=nanoquant.Config(rank=64))
    assert result.published_bits == (64 + 16) * 960 / (320 * 640)
    beside = 16 * 320 + 2 * 16  # the rows' exponents; the inner factor's scale and exponent
    assert 8 * result.stored_bytes() == pytest.approx(result.published_bits * 320 * 640 + beside)


def test_rows_of_zeros_stay_zero() -> None:
    weight = weights(30, 65)
    weight[[3, 4]] = 0
    stored = nanoquant.quantize(weight, config=nanoquant.Config(rank=6)).dequantize()
    assert not np.any(stored[[3, 4]])
    assert not np.any(nanoquant.quantize(np.zeros((4, 65))).dequantize())


def test_what_it_cannot_work_with_is_refused() -> None:
    message = "calibration must have 4 columns as the weight has, not 3"
    with pytest.raises(ValueError, match=f"^{message}$"):
        nanoquant.quantize(np.ones((2, 4)), Calibration.of(np.eye(3)))
    for wrong, text in (
        ({"bits": 0}, "bits must be a finite number above 0, not 0"),
        ({"rank": 0}, "rank must be at least 1, not 0"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            nanoquant.Config(**wrong)
