"""The partition searches choose what their plain definitions choose, and keep what an N:M mask must keep."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.binarize import aware, partition, sparse
from algo.binarize.screens import kept_salient_errors, split_errors, split_residual
from algo.binarize.vector_screens import salient_errors, zone_errors
from algo.tests.reference import nm
from algo.tests.reference import partition as reference
from algo.tests.reference.primitives import rb

Array = np.ndarray
KINDS = ("normal", "squared", "heavy", "integers", "constant", "zeros", "dead columns", "spike", "tall spike")
SHAPES = [(1, 2), (3, 17), (64, 40), (70, 130), (129, 64)]

every_kind = pytest.mark.parametrize("kind", KINDS)
every_shape = pytest.mark.parametrize(("rows", "columns"), SHAPES)


def metric_of(kind: str, rows: int, columns: int, seed: int) -> Array:
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
        # So tall that the screens' margin spans many candidates, which only the definition tells apart.
        "tall spike": np.where(middle, 1e9, normal),
    }[kind]


def keep_of(rows: int, columns: int, seed: int) -> Array:
    """About half of the entries, with an empty row and an empty column where there is room."""
    keep = np.random.default_rng([seed, rows, columns, 1]).random((rows, columns)) < 0.5
    if rows > 2:
        keep[1] = False
    if columns > 2:
        keep[:, 1] = False
    return keep


def first(metric: Array, count: int) -> Array:
    return np.isin(np.arange(metric.shape[1]), partition.ranking(metric)[:count])


def plain_salient(metric: Array, limit: int, keep: Array | None = None) -> list[float]:
    """`salient_error` of 1, 2, .. columns."""
    candidates = range(1, min(limit, metric.shape[1] - 1) + 1)
    return [partition.salient_error(metric, first(metric, count), keep) for count in candidates]


@every_kind
@every_shape
def test_salient_search_chooses_what_its_definition_chooses(kind: str, rows: int, columns: int) -> None:
    metric = metric_of(kind, rows, columns, 0)
    count = int(np.argmin(plain_salient(metric, 49))) + 1
    np.testing.assert_array_equal(partition.choose_salient(metric, 49), first(metric, count))


@every_kind
@every_shape
def test_salient_search_of_kept_entries_chooses_what_its_definition_chooses(
    kind: str, rows: int, columns: int
) -> None:
    keep = keep_of(rows, columns, 2)
    metric = np.where(keep, metric_of(kind, rows, columns, 2), 0.0)
    count = int(np.argmin(plain_salient(metric, 20, keep))) + 1
    np.testing.assert_array_equal(sparse.salient_of_kept(metric, keep, 20), first(metric, count))
    # Entries that are not kept have no say, whatever they are.
    other = np.where(keep, metric, 1e6)
    np.testing.assert_array_equal(sparse.salient_of_kept(other, keep, 20), first(metric, count))


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 20),
    columns=st.integers(2, 90),
    seed=st.integers(0, 999),
    lift=st.sampled_from([0.0, 1.0, 50.0, 1e4]),
    power=st.integers(-300, 300),
)
def test_screening_never_changes_the_choice(
    kind: str, rows: int, columns: int, seed: int, lift: float, power: int
) -> None:
    # A lift makes all errors small beside the sums they are differences of.
    metric = np.ldexp(metric_of(kind, rows, columns, seed) + lift, power)
    count = int(np.argmin(plain_salient(metric, 12))) + 1
    np.testing.assert_array_equal(partition.choose_salient(metric, 12), first(metric, count))
    salient = np.arange(columns) % 5 == 0
    thresholds = partition.break_points(metric, salient)
    rest = metric[:, ~salient]
    errors = [partition.split_error(rest, np.array([t])) for t in thresholds]
    assert partition.choose_break_point(metric, salient) == thresholds[int(np.argmin(errors))]
    kept = np.ones(rest.shape, np.bool_)
    assert partition.best_split(rest, thresholds[::20, None], kept) == int(np.argmin(errors[::20]))


@every_kind
@every_shape
def test_break_point_search_chooses_what_its_definition_chooses(kind: str, rows: int, columns: int) -> None:
    metric = metric_of(kind, rows, columns, 1)
    salient = np.arange(columns) % 5 == 0
    thresholds = partition.break_points(metric, salient)
    errors = [partition.split_error(metric[:, ~salient], np.array([t])) for t in thresholds]
    assert partition.choose_break_point(metric, salient) == thresholds[int(np.argmin(errors))]


@every_kind
@pytest.mark.parametrize(("rows", "columns"), [(1, 4), (9, 33)])
def test_data_aware_break_point_is_the_first_of_least_output_error(
    kind: str, rows: int, columns: int
) -> None:
    metric = metric_of(kind, rows, columns, 4)
    salient = np.arange(columns) % 4 == 1
    base = np.where(salient, 0.9 * metric, 0.0)
    gram = np.cov(np.random.default_rng(5).standard_normal((columns, 3 * columns)))
    chosen = aware.choose_break_point(metric, salient, base, gram)
    outside = np.broadcast_to(~salient, metric.shape)

    def error(threshold: float) -> float:
        high, low = outside & (np.abs(metric) >= threshold), outside & (np.abs(metric) < threshold)
        rest = metric - base - rb(metric, high, 1) - rb(metric, low, 1)
        return float(np.trace(rest @ gram @ rest.T))

    candidates = np.quantile(np.where(salient, 0.0, np.abs(metric)), np.linspace(0.1, 0.9, 81))
    errors = np.array([error(t) for t in candidates])
    assert np.min(np.abs(candidates - chosen)) <= 1e-12 * np.abs(metric).max()
    assert error(chosen) <= errors.min() * (1 + 1e-9) + 1e-9 * np.sum(metric**2)


def test_what_a_split_leaves_is_the_definitions_residual() -> None:
    metric = metric_of("normal", 7, 61, 6)
    for threshold in (0.0, 0.3, 1.2, 99.0):
        high = np.abs(metric) >= threshold
        wanted = metric - rb(metric, high, 1) - rb(metric, ~high, 1)
        np.testing.assert_allclose(split_residual(metric, threshold), wanted, atol=1e-14)


def thresholds_of(metric: Array, parts: int) -> Array:
    rising = np.quantile(np.abs(metric), np.linspace(0.05, 0.95, 13))
    return np.stack([rising * (1 + part) for part in range(parts)], axis=1)


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 70),
    columns=st.integers(2, 90),
    seed=st.integers(0, 999),
    parts=st.integers(1, 2),
    pruned=st.booleans(),
)
def test_screens_compute_the_definitions_errors(
    kind: str, rows: int, columns: int, seed: int, parts: int, pruned: bool
) -> None:
    metric = metric_of(kind, rows, columns, seed)
    keep = keep_of(rows, columns, seed) if pruned else np.ones((rows, columns), np.bool_)
    metric = np.where(keep, metric, 0.0)
    noise = 1e-13 * np.sum(metric**2)  # what sums of another order may lose
    order, limit = partition.ranking(metric), min(9, columns - 1)
    wanted = plain_salient(metric, 9, keep)
    found = kept_salient_errors(
        np.ascontiguousarray(metric.T[order]), np.ascontiguousarray(keep.T[order]), limit
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=noise)
    if not pruned:
        found = salient_errors(metric, order, limit)
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=noise)

    thresholds = thresholds_of(metric, parts)
    wanted = [partition.split_error(metric, t, keep) for t in thresholds]
    ascending = np.sort(np.where(keep, metric, np.inf), axis=1)
    found = split_errors(ascending, keep.sum(axis=1), thresholds)
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=noise)


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 70),
    columns=st.integers(2, 90),
    seed=st.integers(0, 999),
)
def test_the_screen_of_one_threshold_computes_the_definitions_errors(
    kind: str, rows: int, columns: int, seed: int
) -> None:
    metric = metric_of(kind, rows, columns, seed)
    some = np.sort(np.random.default_rng(seed).permutation(columns)[: 1 + seed % columns])
    thresholds = np.append(thresholds_of(metric, 1)[:, 0], [0.0, 2 * np.abs(metric).max()])
    wanted = [partition.split_error(metric[:, some], np.array([t])) for t in thresholds]
    found = zone_errors(metric, some, thresholds)
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-13 * np.sum(metric**2))


@pytest.mark.parametrize("parts", [1, 2])
def test_the_error_of_a_split_is_that_of_its_zones(parts: int) -> None:
    metric, keep = metric_of("heavy", 5, 43, 7), keep_of(5, 43, 7)
    size = np.abs(metric)
    for limits in thresholds_of(metric, parts):
        edges = [0.0, *limits, np.inf]
        zones = [keep & (size >= low) & (size < high) for low, high in pairwise(edges)]
        wanted = sum(float(np.sum((metric - rb(metric, zone, 1))[zone] ** 2)) for zone in zones)
        assert partition.split_error(metric, limits, keep) == pytest.approx(wanted, rel=1e-12)


def test_the_error_of_salient_columns_is_that_of_both_column_sets() -> None:
    metric, keep = metric_of("normal", 5, 43, 8), keep_of(5, 43, 8)
    salient = first(metric, 6)
    for kept in (None, keep):
        on = np.ones_like(keep) if kept is None else kept
        inside, outside = on & salient, on & ~salient
        rest = np.where(on, metric - rb(metric, inside, 2) - rb(metric, outside, 2), 0.0)
        wanted = float(np.sum(rest**2))
        assert partition.salient_error(metric, salient, kept) == pytest.approx(wanted, rel=1e-12)


def test_of_equal_candidates_the_first_is_chosen() -> None:
    zeros = np.zeros((3, 60))
    assert partition.choose_salient(zeros, 49).tolist() == [True] + [False] * 59
    # Any threshold above 1 and up to 4 parts these rows without error; the quantile 0.49 is the first such.
    metric = np.tile(np.repeat([0.0, 1.0, 4.0, 9.0], 5), (2, 1))
    wanted = np.quantile(metric, partition.BREAK_QUANTILES[39])
    assert 1 < wanted < 4
    assert partition.choose_break_point(metric, np.zeros(20, np.bool_)) == wanted


def test_a_block_of_one_column_is_all_salient_and_has_nothing_to_split() -> None:
    assert partition.choose_salient(np.ones((4, 1)), 49).tolist() == [True]
    every = np.array([True])
    assert partition.choose_break_point(np.ones((4, 1)), every) == float("inf")
    assert aware.choose_break_point(np.ones((4, 1)), every, np.ones((4, 1)), np.eye(1)) == float("inf")
    assert sparse.trisect(np.ones((4, 1)), every, np.ones((4, 1), np.bool_)) == (np.inf, np.inf)


def test_columns_are_ranked_by_their_sums_of_magnitudes_the_left_of_equals_first() -> None:
    metric = np.array([[1.0, -3.0, 0.0, 2.0], [1.0, 0.0, -3.0, 2.0]])
    assert partition.ranking(metric).tolist() == [3, 1, 2, 0]


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 9),
    columns=st.integers(1, 90),
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=20),
)
def test_quantiles_are_those_of_numpy(kind: str, rows: int, columns: int, shares: list[float]) -> None:
    values = metric_of(kind, rows, columns, 9)
    span = float(np.ptp(values))
    found = partition.quantiles(values, np.array(shares))
    np.testing.assert_allclose(found, np.quantile(values, shares), rtol=1e-13, atol=1e-13 * span)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "zeros"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (6, 20), (9, 71)])
def test_the_split_of_salient_columns_is_the_first_of_least_error(kind: str, rows: int, columns: int) -> None:
    metric = metric_of(kind, rows, columns, 10)
    salient = np.arange(columns) % 3 != 1
    inside = metric[:, salient]
    size = np.abs(inside)
    candidates = np.quantile(size[size > 0], np.linspace(0.1, 0.9, 81))

    def error(threshold: float) -> float:
        high = size >= threshold
        return float(np.sum((inside - rb(inside, high, 2) - rb(inside, ~high, 2)) ** 2))

    errors = np.array([error(t) for t in candidates])
    chosen = partition.choose_salient_split(metric, salient)
    slack = 1e-9 * errors.min() + 1e-12 * float(np.sum(inside**2))
    assert np.min(np.abs(candidates - chosen)) <= 1e-12 * size.max()
    assert error(chosen) <= errors.min() + slack
    # None before it is as good.
    assert np.all(errors[candidates < chosen * (1 - 1e-12)] >= error(chosen) - slack)


def test_salient_columns_of_zeros_are_not_split() -> None:
    salient = np.array([True, True, False])
    assert partition.choose_salient_split(np.array([[0.0, 0.0, 5.0]]), salient) == float("inf")


@every_kind
@pytest.mark.parametrize(("rows", "columns"), [(1, 8), (5, 33), (66, 20)])
def test_trisection_chooses_what_its_definition_chooses(kind: str, rows: int, columns: int) -> None:
    metric, keep = metric_of(kind, rows, columns, 11), keep_of(rows, columns, 11)
    salient = np.arange(columns) % 7 == 3
    inner, outer = sparse.trisect(metric, salient, keep)
    inside = keep[:, ~salient]
    found = np.abs(metric[:, ~salient][inside])
    if not found.size:
        assert (inner, outer) == (np.inf, np.inf)
        return
    assert outer == 2 * inner
    tried = partition.quantiles(found, np.linspace(0.1, 0.9, 160))
    tried = tried[2 * tried <= tried[-1]]
    if not tried.size:
        assert outer == partition.quantiles(found, np.array([0.9]))[0]
        return
    errors = [partition.split_error(metric[:, ~salient], np.array([t, 2 * t]), inside) for t in tried]
    assert inner == tried[int(np.argmin(errors))]


def test_trisection_agrees_with_the_reference() -> None:
    for seed in range(4):
        metric, keep = metric_of("heavy", 5, 61, seed), keep_of(5, 61, seed)
        salient = first(metric, 4)
        wanted = reference.trisection(metric, np.flatnonzero(salient).tolist(), keep)
        assert sparse.trisect(metric, salient, keep) == pytest.approx(wanted, rel=1e-12)


def test_thresholds_that_may_not_pass_the_upper_quantile_fall_back_to_it() -> None:
    metric, keep = np.ones((2, 9)), np.ones((2, 9), np.bool_)
    assert sparse.trisect(metric, np.zeros(9, np.bool_), keep) == (0.5, 1.0)
    assert sparse.trisect(metric, np.zeros(9, np.bool_), ~keep) == (np.inf, np.inf)


def test_importance_is_the_shares_worked_by_hand() -> None:
    weight = np.array([[1.0, -3.0, 0.0], [1.0, 1.0, 0.0]])
    found = sparse.importance(weight, np.array([16.0, 1.0, 9.0]))
    # Row shares 1/4, 3/4 and 1/2, 1/2; column shares 1/2, 3/4 and 1/2, 1/4; norms 4, 1, 3 to the half.
    np.testing.assert_allclose(found, [[2 * 0.75, 1.5, 0], [2 * 1.0, 0.75, 0]], rtol=1e-15)
    np.testing.assert_array_equal(sparse.importance(np.zeros((2, 3)), np.ones(3)), np.zeros((2, 3)))


@pytest.mark.parametrize("kind", ["normal", "heavy", "integers", "zeros", "dead columns"])
def test_importance_and_mask_are_the_references(kind: str) -> None:
    weight = metric_of(kind, 6, 43, 12)
    moment = np.random.default_rng(13).random(43) * 100
    found = sparse.importance(weight, moment)
    np.testing.assert_allclose(found, nm.importance(weight, np.sqrt(moment)), rtol=1e-12)
    for kept, of in ((4, 8), (1, 4), (3, 5), (7, 7), (2, 64)):
        np.testing.assert_array_equal(sparse.strongest(found, kept, of), nm.keep_mask(found, kept, of))


def test_the_strongest_of_a_group_stay_and_of_equals_the_right_ones() -> None:
    score = np.array([[5.0, 1.0, 4.0, 9.0, 2.0, 2.0, 2.0, 2.0, 7.0, 8.0]])
    assert np.flatnonzero(sparse.strongest(score, 2, 4)).tolist() == [0, 3, 6, 7, 8, 9]
    assert np.flatnonzero(sparse.strongest(score, 1, 4)).tolist() == [3, 7, 9]
    assert sparse.strongest(score, 4, 4).all()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 70),
    of=st.integers(1, 64),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_exactly_so_many_of_every_group_are_the_strongest(
    rows: int, columns: int, of: int, seed: int, data: st.DataObject
) -> None:
    kept = data.draw(st.integers(1, of))
    score = np.rint(4 * np.random.default_rng(seed).random((rows, columns)))
    keep = sparse.strongest(score, kept, of)
    for start in range(0, columns, of):
        part, on = score[:, start : start + of], keep[:, start : start + of]
        assert np.all(on.sum(axis=1) == min(kept, part.shape[1]))
        weakest = np.where(on, part, np.inf).min(axis=1)
        assert np.all(np.where(on, -np.inf, part).max(axis=1) <= weakest)


def test_the_plain_definition_decides_between_candidates_that_a_screen_cannot_tell_apart() -> None:
    asked: list[int] = []

    def exact(errors: list[float]) -> Callable[[int], float]:
        def ask(at: int) -> float:
            asked.append(at)
            return errors[at]

        return ask

    metric = np.ones((1, 1))
    screened = np.array([5.0, 1.0 + 1e-13, 1.0, 3.0])
    assert partition.decide(screened, metric, exact([0.0, 1.0, 2.0, 0.0])) == 1
    assert asked == [1, 2]
    assert partition.decide(screened, metric, exact([0.0, 2.0, 1.0, 0.0])) == 2
    asked.clear()
    assert partition.decide(np.array([2.0, 1.0]), metric, exact([0.0, 0.0])) == 1
    assert asked == []
