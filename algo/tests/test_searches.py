"""The partition searches choose what their plain definitions choose; the curvature is what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import cholesky, inv

from algo.binarize import search
from algo.binarize.curvature import curvature, flat
from algo.binarize.kernels import salient_errors, split_errors
from algo.binarize.residual import binarize, squared_error

KINDS = ("normal", "squared", "heavy", "integers", "constant", "zeros", "dead columns", "spike", "tall spike")


def metric_of(kind: str, rows: int, columns: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, rows, columns])
    normal = rng.standard_normal((rows, columns))
    middle = np.arange(rows * columns).reshape(rows, columns) == rows * columns // 2
    dead = normal * (rng.random(columns) < 0.5)
    return {
        "normal": normal,
        "squared": normal**2,
        "heavy": normal**5,
        "integers": np.rint(normal),
        "constant": np.full((rows, columns), 0.3),
        "zeros": np.zeros((rows, columns)),
        "dead columns": dead**2,
        "spike": np.where(middle, 1e4, normal),
        # So tall that the kernels' margin spans many candidates, which only the definition tells apart.
        "tall spike": np.where(middle, 1e9, normal),
    }[kind]


def plain_salient(metric: np.ndarray, limit: int) -> list[float]:
    order = search.ranking(metric)
    return [
        search.salient_error(metric, np.isin(np.arange(metric.shape[1]), order[:count]))
        for count in range(1, min(limit, metric.shape[1] - 1) + 1)
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (3, 17), (64, 40), (70, 130), (129, 64)])
def test_salient_search_chooses_what_its_definition_chooses(kind: str, rows: int, columns: int) -> None:
    metric = metric_of(kind, rows, columns, 0)
    chosen = search.choose_salient(metric, 49)
    errors = plain_salient(metric, 49)
    count = int(np.argmin(errors)) + 1
    assert np.flatnonzero(chosen).tolist() == sorted(search.ranking(metric)[:count].tolist())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (3, 17), (64, 40), (70, 130), (129, 64)])
def test_break_point_search_chooses_what_its_definition_chooses(kind: str, rows: int, columns: int) -> None:
    metric = metric_of(kind, rows, columns, 1)
    salient = np.arange(columns) % 5 == 0
    thresholds = search.break_points(metric, salient)
    errors = [search.split_error(metric[:, ~salient], float(t)) for t in thresholds]
    assert search.choose_break_point(metric, salient) == thresholds[int(np.argmin(errors))]


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS), rows=st.integers(1, 70), columns=st.integers(2, 90), seed=st.integers(0, 999)
)
def test_kernels_compute_the_definitions_errors(kind: str, rows: int, columns: int, seed: int) -> None:
    metric = metric_of(kind, rows, columns, seed)
    noise = 1e-13 * np.sum(metric**2)  # what sums of another order may lose
    ordered = np.ascontiguousarray(metric[:, search.ranking(metric)].T)
    np.testing.assert_allclose(
        salient_errors(ordered, min(9, columns - 1)), plain_salient(metric, 9), rtol=1e-10, atol=noise
    )
    thresholds = search.break_points(metric, np.zeros(columns, np.bool_))
    np.testing.assert_allclose(
        split_errors(np.sort(metric, axis=1), thresholds),
        [search.split_error(metric, float(t)) for t in thresholds],
        rtol=1e-10,
        atol=noise,
    )


def test_of_equal_candidates_the_first_is_chosen() -> None:
    zeros = np.zeros((3, 60))
    assert search.choose_salient(zeros, 49).tolist() == [True] + [False] * 59
    # Any threshold above 1 and up to 4 parts these rows without error; the quantile 0.49 is the first such.
    metric = np.tile(np.repeat([0.0, 1.0, 4.0, 9.0], 5), (2, 1))
    first = np.quantile(metric, search.BREAK_QUANTILES[39])
    assert 1 < first < 4
    assert search.choose_break_point(metric, np.zeros(20, np.bool_)) == first


def test_a_block_of_one_column_is_all_salient_and_has_nothing_to_split() -> None:
    assert search.choose_salient(np.ones((4, 1)), 49).tolist() == [True]
    assert search.choose_break_point(np.ones((4, 1)), np.array([True])) == float("inf")


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 6), columns=st.integers(1, 70), seed=st.integers(0, 999), order=st.integers(1, 3))
def test_a_stage_more_never_raises_the_error_and_masks_are_kept(
    rows: int, columns: int, seed: int, order: int
) -> None:
    rng = np.random.default_rng(seed)
    values, mask = rng.standard_normal((rows, columns)), rng.random((rows, columns)) < 0.5
    fitted = binarize(values, mask, order).values()
    assert not np.any(fitted[~mask])
    coarser = squared_error(values, mask, order)
    assert squared_error(values, mask, order + 1) <= coarser * (1 + 1e-12) + 1e-25
    assert coarser == pytest.approx(float(np.sum((values - fitted)[mask] ** 2)))


def test_rows_without_a_masked_entry_have_no_scalars() -> None:
    fit = binarize(np.ones((2, 3)), np.array([[False] * 3, [True] * 3]), 2)
    assert fit.offset.tolist() == [0, 1]
    assert fit.scales.tolist() == [[0, 0], [0, 0]]
    np.testing.assert_array_equal(fit.values(), [[0, 0, 0], [1, 1, 1]])


def test_curvature_factors_the_inverse_of_the_damped_hessian() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 65)) * np.exp(rng.standard_normal(65))
    x[:, 9] = 0
    hessian = x.T @ x
    result = curvature(hessian, 65, 0.01)
    live = hessian.copy()
    live[9, 9] = 1
    live += 0.01 * np.trace(live) / 65 * np.eye(65)
    np.testing.assert_allclose(result.factor, cholesky(inv(live)), rtol=1e-9, atol=1e-12)
    assert np.flatnonzero(result.dead).tolist() == [9]
    assert hessian[9, 9] == 0  # the caller's array stays as it was


def test_flat_curvature_weighs_all_columns_alike() -> None:
    np.testing.assert_array_equal(flat(3).factor, np.eye(3))
    assert not flat(3).dead.any()
