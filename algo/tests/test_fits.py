"""Fits of zones against plain rows, the curvature against its definition, compensation worked by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import cholesky, inv

from algo.binarize import aware, lanes, row_column
from algo.binarize.compensation import compensate
from algo.binarize.curvature import Curvature, curvature, flat
from algo.binarize.residual import binarized, squared_error
from algo.binarize.zone import Zone
from algo.tests.reference.arb import first_order, second_order
from algo.tests.reference.arb_rc import arb_rc
from algo.tests.reference.arb_x import arb_x
from algo.tests.reference.primitives import rb

Array = np.ndarray


def data(rows: int, columns: int, seed: int = 0) -> tuple[Array, Array]:
    """Values, and a mask of about half of them with an empty row and a row of one entry."""
    rng = np.random.default_rng([rows, columns, seed])
    values, mask = rng.standard_t(4, (rows, columns)) + 0.2, rng.random((rows, columns)) < 0.5
    if rows > 2:
        mask[1] = False
        mask[2] = np.arange(columns) == columns // 2
    return values, mask


@pytest.mark.parametrize("iterations", [0, 1, 15])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 40), (65, 19), (130, 7)])
def test_alternation_gives_each_row_what_the_reference_gives_it(
    rows: int, columns: int, order: int, iterations: int
) -> None:
    values, mask = data(rows, columns)
    offset, scales, signs = lanes.alternate(values, mask, order, iterations)
    for i in range(rows):
        on = mask[i]
        if not on.any():
            assert offset[i] == 0
            assert not scales[:, i].any()
            continue
        if order == 1:
            mean, one, sign = first_order(values[i, on], iterations)
            wanted, planes = [mean, one], [sign]
        else:
            mean, one, two, sign, second = second_order(values[i, on], iterations)
            wanted, planes = [mean, one, two], [sign, second]
        # Few entries leave scales of nothing but rounding and epsilon, whose signs say nothing.
        np.testing.assert_allclose([offset[i], *scales[:, i]], wanted, rtol=1e-7, atol=1e-6)
        for stage, plane in enumerate(planes):
            if scales[stage, i] > 1e-6 and on.sum() > 4:
                np.testing.assert_array_equal(signs[stage, i, on], plane > 0)
    assert signs[:, ~mask].all()


@pytest.mark.parametrize("order", [1, 2])
def test_no_iteration_is_residual_binarization(order: int) -> None:
    values, mask = data(67, 33, 1)
    zone = Zone(np.arange(33), mask, *lanes.alternate(values, mask, order, 0))
    np.testing.assert_allclose(zone.values(), binarized(values, mask, order), atol=1e-14)
    assert lanes.residual_error(values, mask, order) == pytest.approx(
        squared_error(values, mask, order), rel=1e-12
    )


@pytest.mark.parametrize("order", [1, 2])
def test_alternation_never_raises_the_error(order: int) -> None:
    values, mask = data(20, 50, 2)
    errors = []
    for iterations in range(12):
        zone = Zone(np.arange(50), mask, *lanes.alternate(values, mask, order, iterations))
        errors.append(float(np.sum((values - zone.values())[mask] ** 2)))
    assert all(after <= before * (1 + 1e-7) for before, after in pairwise(errors))
    assert errors[-1] < 0.98 * errors[0]


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 6), columns=st.integers(1, 70), seed=st.integers(0, 999), order=st.integers(1, 3))
def test_a_stage_more_never_raises_the_error_and_masks_are_kept(
    rows: int, columns: int, seed: int, order: int
) -> None:
    values, mask = data(rows, columns, seed)
    fitted = binarized(values, mask, order)
    np.testing.assert_allclose(fitted, rb(values, mask, order), atol=1e-13)
    assert not np.any(fitted[~mask])
    coarser = squared_error(values, mask, order)
    assert squared_error(values, mask, order + 1) <= coarser * (1 + 1e-12) + 1e-25
    assert coarser == pytest.approx(float(np.sum((values - fitted)[mask] ** 2)))


def test_rows_without_a_masked_entry_have_no_scalars() -> None:
    mask = np.array([[False] * 3, [True] * 3])
    offset, scales, signs = lanes.alternate(np.ones((2, 3)), mask, 2, 15)
    np.testing.assert_allclose(offset, [0, 1])
    np.testing.assert_allclose(scales, [[0, 0], [0, 0]], atol=1e-15)
    np.testing.assert_allclose(Zone(np.arange(3), mask, offset, scales, signs).values(), mask)
    np.testing.assert_array_equal(binarized(np.ones((2, 3)), mask, 2), mask)


def test_a_zone_is_its_offset_and_scaled_signs_on_its_mask() -> None:
    zone = Zone(
        at=np.array([4, 7]),
        mask=np.array([[True, True], [True, False]]),
        offset=np.array([10.0, 20.0]),
        scales=np.array([[1.0, 2.0], [0.5, 0.25]]),
        signs=np.array([[[True, False], [False, True]], [[True, True], [False, True]]]),
    )
    assert zone.order == 2
    np.testing.assert_array_equal(zone.values(), [[11.5, 9.5], [17.75, 0]])
    scaled = replace(zone, columns=np.array([[1.0, 3.0], [2.0, 4.0]]))
    np.testing.assert_array_equal(scaled.values(), [[12, 9], [17.5, 0]])


@pytest.mark.parametrize("iterations", [0, 1, 15])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("rows", "columns"), [(1, 6), (14, 37)])
def test_row_and_column_scales_are_the_references(
    rows: int, columns: int, order: int, iterations: int
) -> None:
    values, mask = data(rows, columns, 3)
    values = values * 2.0**12  # beside which the reference's absolute epsilon is lost
    zone = row_column.fit(values, np.arange(columns), mask, order, iterations)
    assert not zone.offset.any()
    wanted = arb_rc(values, mask, order, iterations)
    np.testing.assert_allclose(zone.values(), wanted, atol=1e-5 * np.abs(values).max())
    assert not zone.values()[~mask].any()


@pytest.mark.parametrize("order", [1, 2])
def test_row_and_column_scales_follow_the_size_of_the_weights_exactly(order: int) -> None:
    values, mask = data(9, 25, 4)
    large = row_column.fit(values, np.arange(25), mask, order, 15).values()
    small = row_column.fit(values * 2.0**-40, np.arange(25), mask, order, 15).values()
    np.testing.assert_array_equal(small * 2.0**40, large)


def test_row_and_column_scales_find_a_matrix_they_can_hold() -> None:
    rng = np.random.default_rng(5)
    values = np.outer(rng.random(7) + 0.5, rng.random(11) + 0.5) * rng.choice([-1.0, 1.0], (7, 11))
    fitted = row_column.fit(values, np.arange(11), np.ones((7, 11), np.bool_), 1, 15)
    np.testing.assert_allclose(fitted.values(), values, rtol=1e-6)
    empty = row_column.fit(values, np.arange(11), np.zeros((7, 11), np.bool_), 2, 15)
    assert not empty.values().any()
    assert np.all(np.isfinite(empty.scales))


def gram_of(columns: int, tokens: int = 0) -> Array:
    rng = np.random.default_rng(columns)
    x = rng.standard_normal((tokens or 3 * columns, columns)) @ rng.standard_normal((columns, columns))
    return x.T @ x


@pytest.mark.parametrize("iterations", [0, 1, 15])
@pytest.mark.parametrize("order", [1, 2])
def test_data_aware_scales_are_the_references(order: int, iterations: int) -> None:
    values, mask = data(8, 31, 6)
    mask[0] = True
    zone = Zone(np.arange(31), mask, *lanes.alternate(values, mask, order, iterations))
    fitted = aware.refit(zone, values, gram_of(31), iterations)
    wanted = arb_x(values, mask, order, iterations, gram_of(31))
    np.testing.assert_allclose(fitted.values(), wanted, atol=2e-7 * np.abs(values).max())
    np.testing.assert_array_equal(fitted.signs, zone.signs)


@pytest.mark.parametrize("tokens", [0, 5])
@pytest.mark.parametrize("order", [1, 2])
def test_data_aware_scales_never_raise_the_output_error(order: int, tokens: int) -> None:
    values, mask = data(12, 40, 7)
    gram = gram_of(40, tokens)
    zone = Zone(np.arange(40), mask, *lanes.alternate(values, mask, order, 15))

    def loss(fitted: Zone) -> Array:
        rest = np.where(mask, values - fitted.values(), 0.0)
        return np.einsum("ij,jk,ik->i", rest, gram, rest)

    losses = [loss(aware.refit(zone, values, gram, iterations)) for iterations in range(9)]
    noise = 1e-8 * losses[0].max()
    assert all(np.all(after <= before + noise) for before, after in pairwise(losses))
    assert losses[-1].sum() < 0.97 * losses[0].sum()


def test_scales_without_a_say_stay_as_they_are() -> None:
    values, mask = data(5, 9, 8)
    zone = Zone(np.arange(9), mask, *lanes.alternate(values, mask, 2, 3))
    same = aware.refit(zone, values, np.zeros((9, 9)), 4)
    np.testing.assert_array_equal(same.values(), zone.values())


@pytest.mark.parametrize("tokens", [300, 20])
def test_curvature_factors_the_inverse_of_the_damped_hessian(tokens: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((tokens, 65)) * np.exp(rng.standard_normal(65))
    x[:, 9] = 0
    hessian = x.T @ x
    result = curvature(hessian, 65, 0.01)
    live = hessian.copy()
    live[9, 9] = 1
    live += 0.01 * np.trace(live) / 65 * np.eye(65)
    factor = result.square(slice(65))
    assert not np.tril(result.root, -1).any()
    assert not np.tril(factor, -1).any()
    np.testing.assert_allclose(factor, cholesky(inv(live)), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(factor.T @ factor @ live, np.eye(65), atol=1e-9)
    np.testing.assert_allclose(result.square(slice(13, 40)), factor[13:40, 13:40], rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(result.diagonal, np.diagonal(factor), rtol=1e-14)
    assert np.flatnonzero(result.dead).tolist() == [9]
    assert hessian[9, 9] == 0  # the caller's array stays as it was


@pytest.mark.parametrize(("least", "times"), [(-0.05, 10), (-0.5, 100)])
def test_damping_grows_until_the_hessian_is_positive_definite(least: float, times: int) -> None:
    rng = np.random.default_rng(1)
    basis, _ = np.linalg.qr(rng.standard_normal((12, 12)))
    hessian = basis @ np.diag(np.linspace(least, 2 - least, 12)) @ basis.T
    hessian = (hessian + hessian.T) / 2
    result = curvature(hessian, 12, 0.01)
    damped = hessian + 0.01 * times * np.trace(hessian) / 12 * np.eye(12)
    np.testing.assert_allclose(result.square(slice(12)), cholesky(inv(damped)), rtol=1e-8, atol=1e-10)


def test_flat_curvature_weighs_all_columns_alike() -> None:
    np.testing.assert_array_equal(flat(3).square(slice(3)), np.eye(3))
    assert not flat(3).dead.any()


@pytest.mark.parametrize(
    ("hessian", "message"),
    [
        (np.eye(5), "hessian must have shape [4, 4], not [5, 5]"),
        (np.ones(4), "hessian must have shape [4, 4], not [4]"),
        (np.full((4, 4), np.nan), "hessian must be finite, not NaN or infinity"),
        (np.diag([1.0, 1, 1, np.inf]), "hessian must be finite, not NaN or infinity"),
        (
            np.ones((4, 4)) - 3 * np.eye(4),
            "hessian must be positive definite at damping 1, not indefinite: is it a sum of x x^T?",
        ),
    ],
)
def test_a_hessian_that_is_none_is_refused(hessian: Array, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        curvature(hessian, 4, 0.01)


def _spread_hessian(columns: int, smallest: float) -> Array:
    """Eigenvalues from 1 down to ``smallest`` in a random basis."""
    basis, _ = np.linalg.qr(np.random.default_rng(4).standard_normal((columns, columns)))
    return (basis * np.geomspace(1, smallest, columns)) @ basis.T


def test_a_wide_layer_is_compensated_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    hessian = _spread_hessian(61, 1e-3)
    weight = np.random.default_rng(5).standard_normal((7, 61))
    double = curvature(hessian, 61, 0.01)
    monkeypatch.setattr("algo.binarize.curvature.SINGLE_FROM", 61)
    single = curvature(hessian, 61, 0.01)
    assert (double.root.dtype, single.root.dtype) == (np.float64, np.float32)
    assert single.diagonal.dtype == single.square(slice(3, 9)).dtype == np.float64
    blocks = []
    for curve in (double, single):
        fits, _ = compensate(weight, curve, 20, "exact", lambda block, _: Rounded(block))
        blocks.append(np.concatenate([fit.block for fit in fits], axis=1))
    assert not np.array_equal(*blocks)
    np.testing.assert_allclose(blocks[1], blocks[0], atol=1e-5)


def test_a_wide_layer_that_single_precision_cannot_factor_is_factored_in_double(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("algo.binarize.curvature.SINGLE_FROM", 8)
    hessian = _spread_hessian(40, 1e-11)
    curve = curvature(hessian, 40, 1e-12)
    assert curve.root.dtype == np.float64
    damped = hessian + 1e-12 * np.diagonal(hessian).mean() * np.eye(40)
    np.testing.assert_allclose(curve.root @ curve.root.T, damped, atol=1e-15)


class Rounded:
    """The nearest integers, as a fit."""

    def __init__(self, block: Array) -> None:
        self.block = block.copy()

    def values(self) -> Array:
        return np.rint(self.block)


@pytest.mark.parametrize(("mode", "third"), [("diag", 2.475), ("exact", 2.975), ("none", 3.0)])
def test_errors_are_pushed_on_as_worked_by_hand(mode: str, third: float) -> None:
    curve = Curvature(inv([[2.0, 4.0, 1.0], [0, 1, 1], [0, 0, 5]]), np.zeros(3, np.bool_))
    weight = np.array([[0.25, 2.4, 3.0]])
    fits, loss = compensate(weight, curve, 2, mode, lambda block, _: Rounded(block))
    # Errors 0.25 and 0.4: by the diagonal [0.125, 0.4], solved [0.125, -0.1]; both times the row [1, 1].
    assert [fit.block.tolist() for fit in fits] == [[[0.25, 2.4]], [[pytest.approx(third)]]]
    assert loss == pytest.approx(0.5 * (0.125**2 + 0.4**2 + ((third - np.rint(third)) / 5) ** 2))
    assert weight.tolist() == [[0.25, 2.4, 3.0]]


def test_dead_columns_are_zero_before_the_first_block_and_blocks_tell_their_columns() -> None:
    curve = Curvature(np.eye(5), np.array([False, True, False, False, True]))
    seen = []

    def fit(block: Array, here: slice) -> Rounded:
        seen.append((here.start, here.stop, block.tolist()))
        return Rounded(block)

    compensate(np.full((1, 5), 3.0), curve, 3, "diag", fit)
    assert seen == [(0, 3, [[3, 0, 3]]), (3, 5, [[3, 0]])]


def test_exact_compensation_is_the_best_answer_of_the_later_columns() -> None:
    rng = np.random.default_rng(9)
    x = rng.standard_normal((90, 30)) @ rng.standard_normal((30, 30))
    hessian = x.T @ x
    damped = hessian + 0.01 * np.trace(hessian) / 30 * np.eye(30)
    weight = 3 * rng.standard_normal((4, 30))
    fits, _ = compensate(weight, curvature(hessian, 30, 0.01), 11, "exact", lambda block, _: Rounded(block))
    left = np.concatenate([fit.block for fit in fits], axis=1)
    done = left[:, :11] - np.rint(left[:, :11])
    # Of (w - q) H (w - q)^T with the first 11 columns fixed, the minimum over all the others.
    best = weight[:, 11:] + np.linalg.solve(damped[11:, 11:], damped[11:, :11] @ done.T).T
    np.testing.assert_allclose(left[:, 11:22], best[:, :11], rtol=1e-8, atol=1e-8)


def test_many_columns_are_updated_in_strips_as_in_one() -> None:
    rng = np.random.default_rng(10)
    columns = 2100
    factor = np.triu(rng.standard_normal((columns, columns)) * 0.01) + np.eye(columns)
    weight = rng.standard_normal((1, columns))
    fits, _ = compensate(
        weight,
        Curvature(inv(factor), np.zeros(columns, np.bool_)),
        40,
        "diag",
        lambda block, _: Rounded(block),
    )
    left = weight.copy()
    for start in range(0, columns, 40):
        here = slice(start, start + 40)
        error = (left[:, here] - np.rint(left[:, here])) / np.diagonal(factor)[here]
        left[:, here.stop :] -= error @ factor[here, here.stop :]
    np.testing.assert_allclose(np.concatenate([fit.block for fit in fits], axis=1), left, atol=1e-9)
