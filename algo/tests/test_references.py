"""The references of the binarization methods, held to what can be worked by hand or proven."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from algo.tests import billm_reference
from algo.tests.reference import arb, arb_rc, arb_x, blocks, cases, nm, partition, primitives
from algo.tests.reference.primitives import Array, Mask

METHODS = ("billm", "arb", "arb-x", "arb-rc", "stbllm")


def everywhere(a: Array) -> Mask:
    return np.ones(a.shape, np.bool_)


def squared(a: Array) -> float:
    return float((a**2).sum())


def test_residual_stages_are_those_worked_by_hand() -> None:
    # Mean 2, scale 1, the ties are +1: left are -1, -1, 1, -1 of mean -1/2 and scale 3/4. Off the mask: 0.
    a = np.array([[0.0, 2.0, 4.0, 2.0, 99.0]])
    mask = np.array([[True, True, True, True, False]])
    np.testing.assert_array_equal(primitives.rb(a, mask, 1), [[1, 3, 3, 3, 0]])
    np.testing.assert_allclose(primitives.rb(a, mask, 2), [[-0.25, 1.75, 3.25, 1.75, 0]])
    # Mean 4, scale 2: left are -1, 1, -1, 1 of mean 0 and scale 1.
    b = np.array([[1.0, 3.0, 5.0, 7.0]])
    np.testing.assert_array_equal(primitives.rb(b, everywhere(b), 1), [[2, 2, 6, 6]])
    np.testing.assert_array_equal(primitives.rb(b, everywhere(b), 2), b)


def test_a_tie_is_plus_one_and_an_empty_row_is_zero() -> None:
    a = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 7.0, 7.0]])
    mask = np.array([[True] * 3, [False] * 3, [True] * 3])
    np.testing.assert_allclose(primitives.rb(a, mask, 1), [[4 / 3, 8 / 3, 8 / 3], [0] * 3, [7] * 3])
    np.testing.assert_array_equal(primitives.sign(np.array([-2.0, 0.0, -0.0, 3.0])), [-1, 1, 1, 1])


def test_nearest_codes_take_the_lower_index_of_equals() -> None:
    target = np.array([-4.0, -1.5, 0.9, 2.5, 0.0, 2.0, -2.0])
    first, second = primitives.nearest_codes(target, 2.0, 1.0)  # -3, -1, 1, 3
    np.testing.assert_array_equal(first, [-1, -1, 1, 1, -1, 1, -1])
    np.testing.assert_array_equal(second, [-1, 1, -1, 1, 1, -1, -1])
    first, second = primitives.nearest_codes(np.array([0.5]), 0.0, 0.0)  # all four the same
    assert (first, second) == (-1, -1)


def test_a_first_order_iteration_is_the_one_worked_by_hand() -> None:
    entries = np.array([0.0, 1.0, 2.0, 9.0])
    # Mean 3, scale 3, signs ---+: Q = 0 0 0 6, whose error 6 / 4 goes to the mean.
    mean, scale, signs = arb.first_order(entries, 1)
    assert mean == 4.5
    assert scale == pytest.approx((4.5 + 3.5 + 2.5 + 4.5) / 4, rel=1e-8)
    np.testing.assert_array_equal(signs, [-1, -1, -1, 1])
    # Signs of sum -2 at scale 3.75 stand against a sum of 12: the mean is (12 + 7.5) / 4.
    mean, scale, signs = arb.first_order(entries, 2)
    assert mean == pytest.approx((12 + 7.5) / 4, rel=1e-8)
    np.testing.assert_array_equal(signs, [-1, -1, -1, 1])


@pytest.mark.parametrize("count", [1, 2, 7, 61])
def test_the_first_order_error_falls_by_theorem_one(count: int) -> None:
    """ARB-LLM, theorem 1: with the signs an iteration was fitted to, the error is a closed form."""
    entries = np.random.default_rng(count).standard_t(3, count) + 0.3
    mean_start, scale_start, signs = arb.first_order(entries, 0)
    start = squared(entries - mean_start - scale_start * signs)
    before = start
    for iteration in range(1, 12):
        mean, scale, new = arb.first_order(entries, iteration)
        fitted = squared(entries - mean - scale * signs)
        predicted = start - count * (scale**2 - scale_start**2 - (mean - mean_start) ** 2)
        assert fitted == pytest.approx(predicted, rel=1e-6, abs=1e-7 * count)
        after = squared(entries - mean - scale * new)
        assert after <= fitted + 1e-12 <= before + 2e-7 * count
        before, signs = after, new


@pytest.mark.parametrize("order", [1, 2])
def test_alternation_never_raises_the_error_above_residual_binarization(order: int) -> None:
    rng = np.random.default_rng(3)
    a, mask = rng.standard_t(3, (9, 53)), rng.random((9, 53)) < 0.6
    errors = [squared((a - arb.arb(a, mask, order, t))[mask]) for t in range(16)]
    assert errors[0] == pytest.approx(squared((a - primitives.rb(a, mask, order))[mask]), rel=1e-12)
    assert all(after <= before * (1 + 1e-7) for before, after in pairwise(errors))
    assert errors[-1] < 0.97 * errors[0]
    assert not arb.arb(a, mask, order, 15)[~mask].any()


def test_a_second_order_iteration_is_the_one_worked_by_hand() -> None:
    entries = np.array([0.0, 1.0, 2.0, 9.0])
    # Stages: mean 3, scale 3, ---+; rest 0 1 2 3, mean 1.5, scale 1, --++. Q = .5 .5 2.5 8.5, error sum 0.
    mean, one, two, first, second = arb.second_order(entries, 0)
    assert (mean, one, two) == (4.5, 3, 1)
    # Rest -4.5 -3.5 -2.5 4.5; less the second plane -3.5 -2.5 -3.5 3.5: scale 13 / 4. The second: 1 / 1 = 1.
    mean, one, two, first, second = arb.second_order(entries, 1)
    assert mean == 4.5
    assert one == pytest.approx(3.25)
    assert two == pytest.approx((1.25 + 0.25 + 0.75 + 1.25) / 4)
    np.testing.assert_array_equal(first, [-1, -1, -1, 1])
    np.testing.assert_array_equal(second, [-1, -1, 1, 1])


def test_row_and_column_scales_find_a_matrix_that_they_can_hold() -> None:
    rng = np.random.default_rng(4)
    a = np.outer(rng.random(7) + 0.5, rng.random(11) + 0.5) * rng.choice([-1, 1], (7, 11))
    fitted = arb_rc.arb_rc(a, everywhere(a), 1, 15)
    np.testing.assert_allclose(fitted, a, rtol=1e-6)


def test_row_and_column_scales_start_as_worked_by_hand() -> None:
    a = np.array([[1.0, -3.0, 50.0], [0.0, 0.0, 50.0], [4.0, 4.0, 50.0]])
    mask = np.array([[True, True, False]] * 3)
    r, c, b = arb_rc.initial(a, mask)
    np.testing.assert_array_equal(r, [2, 0, 4])
    np.testing.assert_array_equal(c, [(0.5 + 1) / 2, (1.5 + 1) / 2, 0])  # the row of zeros has no say
    np.testing.assert_array_equal(b[:, :2], [[1, -1], [1, 1], [1, 1]])
    r, c, _ = arb_rc.refit(a, mask, (r, c, b))
    row = np.array([(0.75 + 3.75) / (0.75**2 + 1.25**2), 0, 8 / (0.75**2 + 1.25**2)])
    np.testing.assert_allclose(r, [row[0], 0, 4 * 2 / (0.75**2 + 1.25**2)], rtol=1e-7)
    np.testing.assert_allclose(c[0], (row[0] * 1 + row[2] * 4) / (row[0] ** 2 + row[2] ** 2), rtol=1e-7)


@pytest.mark.parametrize("order", [1, 2])
def test_refits_of_row_and_column_scales_never_raise_the_error(order: int) -> None:
    rng = np.random.default_rng(5)
    a, mask = rng.standard_t(3, (9, 37)), rng.random((9, 37)) < 0.5
    mask[2] = False
    a[4] = 0
    errors = [squared((a - arb_rc.arb_rc(a, mask, order, t))[mask]) for t in range(16)]
    assert all(after <= before * (1 + 1e-7) for before, after in pairwise(errors))
    assert errors[-1] < 0.98 * errors[0]
    fitted = arb_rc.arb_rc(a, mask, order, 15)
    assert not fitted[~mask].any()
    assert not fitted[4].any()


@pytest.mark.parametrize("count", [1, 6, 40])
@pytest.mark.parametrize("order", [1, 2])
def test_an_aware_step_never_raises_the_loss_on_calibration_data(order: int, count: int) -> None:
    rng = np.random.default_rng(count)
    a = rng.standard_t(3, count)
    x = rng.standard_normal((50, count)) @ (np.eye(count) + rng.standard_normal((count, count)))
    gram = x.T @ x

    def loss(values: Array) -> float:
        return squared(x @ (a - values))

    if order == 1:
        mean, scale, signs = arb.first_order(a, 15)
        losses = [loss(mean + scale * signs)]
        for _ in range(15):
            mean, scale = arb_x.aware_first(a, gram, scale, signs)
            losses.append(loss(mean + scale * signs))
    else:
        mean, one, two, *pair = arb.second_order(a, 15)
        losses = [loss(mean + one * pair[0] + two * pair[1])]
        for _ in range(15):
            mean, one, two = arb_x.aware_second(a, gram, (one, two), (pair[0], pair[1]))
            losses.append(loss(mean + one * pair[0] + two * pair[1]))
    slack = 1e-9 * squared(x @ a)
    assert all(after <= before + slack for before, after in pairwise(losses))
    assert losses[-1] < 0.98 * losses[0] or count == 1
    assert losses[-1] == pytest.approx(loss(arb_x.arb_x_row(a, gram, order, 15)), abs=slack)


def test_an_aware_coefficient_is_the_one_worked_by_hand() -> None:
    gram = np.array([[2.0, 1.0], [1.0, 3.0]])
    # (1, -1) G = (1, -2): with (4, 5) it makes -6, with itself 3.
    assert arb_x.coefficient(np.array([1.0, -1.0]), np.array([4.0, 5.0]), gram) == pytest.approx(-2)


def test_under_a_multiple_of_the_identity_an_aware_fit_is_least_squares_for_the_same_signs() -> None:
    a = np.random.default_rng(6).standard_normal((5, 31))
    mask = np.random.default_rng(7).random((5, 31)) < 0.7
    fitted = arb_x.arb_x(a, mask, 2, 60, 3 * np.eye(31))
    for i in range(5):
        entries = a[i, mask[i]]
        *_, one, two = arb.second_order(entries, 60)
        design = np.stack([np.ones(len(entries)), one, two], axis=1)
        best = design @ np.linalg.lstsq(design, entries, rcond=None)[0]
        np.testing.assert_allclose(fitted[i, mask[i]], best, atol=1e-6)


def test_importance_and_kept_entries_are_those_worked_by_hand() -> None:
    weight = np.array([[1.0, -3.0, 0.0], [1.0, 1.0, 0.0]])
    expected = [[(1 / 4 + 1 / 2) * 2, (3 / 4 + 3 / 4) * 3, 0], [(1 / 2 + 1 / 2) * 2, (1 / 2 + 1 / 4) * 3, 0]]
    np.testing.assert_allclose(nm.importance(weight, np.array([4.0, 9.0, 1.0])), expected)
    scores = np.array([[5, 1, 4, 4, 4, 9, 0, 4, 2, 1, 3.0]])
    kept = nm.keep_mask(scores, 4, 8)[0]
    # Of the four 4s two stay, the later ones; the tail of three keeps all three.
    np.testing.assert_array_equal(np.nonzero(kept)[0], [0, 4, 5, 7, 8, 9, 10])
    np.testing.assert_array_equal(np.nonzero(nm.keep_mask(scores, 2, 8)[0])[0], [0, 5, 8, 10])


def test_a_block_of_one_column_is_salient_whole() -> None:
    p = np.array([[1.0], [-2.0]])
    assert partition.salient_columns(p, 49, everywhere(p)) == [0]
    assert partition.break_point(p, [0]) == np.inf
    assert partition.trisection(p, [0], everywhere(p)) == (np.inf, np.inf)


def test_columns_of_equal_weight_rank_from_the_left() -> None:
    p = np.array([[1.0, 8.0, 1.0, 1.0], [1.0, 9.5, 1.0, 1.0], [1.0, 7.0, 1.0, 1.0]])
    assert partition.salient_columns(p, 1, everywhere(p)) == [1]
    p[:, 1] = 1
    assert partition.salient_columns(p, 3, everywhere(p)) == [0]


def test_a_break_point_parts_two_heaps() -> None:
    # Any threshold above 1 and up to 9 leaves no error. The sixth of ten values lies at 5/9 = 0.5556, so the
    # first such candidate is the quantile 0.56.
    p = np.array([[1.0] * 6 + [9.0] * 4])
    found = partition.break_point(p, [])
    assert found == pytest.approx(np.quantile(p, 0.56))
    assert 1 < found <= 9
    assert partition.salient_threshold(np.zeros((2, 3)), [1]) == np.inf
    assert 1 < partition.salient_threshold(p, list(range(10))) <= 9


def test_an_entry_at_a_threshold_belongs_above_it() -> None:
    # Of 401 entries every candidate quantile is an entry itself, and only 8 parts off the ones.
    p = np.array([[1.0] * 200 + [8.0] * 100 + [9.0] * 101])
    assert partition.break_point(p, []) == 8
    assert partition.salient_threshold(p, list(range(401))) == 8
    magnitude = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])
    below, middle, beyond = partition.three_zones(magnitude, np.array([[True] * 4 + [False]]), 2.0)
    np.testing.assert_array_equal(below[0], [1, 0, 0, 0, 0])
    np.testing.assert_array_equal(middle[0], [0, 1, 1, 0, 0])
    np.testing.assert_array_equal(beyond[0], [0, 0, 0, 1, 0])


def test_a_block_parts_its_entries_at_the_thresholds_it_reports() -> None:
    p = np.array([[1000.0] + [1.0] * 199 + [8.0] * 100 + [9.0] * 101])
    found = blocks.two_zone_block(p, p, np.eye(401), method="billm", cgb=False, limit=1, iterations=15)
    assert found.salient == [0]
    assert found.thresholds == {"break": 8}
    np.testing.assert_allclose(found.values, p, atol=0.01)  # an eight among the ones would be far off
    thresholds: dict[str, float] = {}
    p[0, 0] = 1
    high, low = blocks.salient_groups(p, list(range(401)), True, thresholds)
    assert thresholds == {"salient": 8}
    assert (high[1], low[1]) == (2, 2)
    np.testing.assert_array_equal(high[0], p >= 8)
    np.testing.assert_array_equal(low[0], p < 8)


def test_a_block_of_arb_x_sees_the_gram_matrix_of_its_own_columns() -> None:
    weight, hessian, _ = cases.ragged()
    weight, hessian = weight[:5, :90], hessian[:90, :90]
    options = {"metric": "magnitude", "compensation": "none", "block": 50, "limit": 5}
    found = blocks.quantize(weight, hessian, method="arb-x", **options)
    for span, one in zip((slice(0, 50), slice(50, 90)), found, strict=True):
        part, gram = weight[:, span], hessian[span, span] / 2
        inside = partition.columns_mask(one.salient, everywhere(part))
        high = np.abs(part) >= one.thresholds["break"]
        groups = ((inside, 2), (~inside & high, 1), (~inside & ~high, 1))
        parts = [arb_x.arb_x(part, mask, order, 15, gram) for mask, order in groups]
        np.testing.assert_allclose(one.values, sum(parts), rtol=1e-12)
        base = arb.arb(part, inside, 2, 15)
        assert one.thresholds["break"] == partition.break_point(part, one.salient, base, gram)


def test_a_break_point_under_a_gram_matrix_lowers_the_error_of_the_output() -> None:
    rng = np.random.default_rng(8)
    p, none = rng.standard_t(3, (6, 30)), np.zeros((6, 30))
    x = rng.standard_normal((40, 30)) * np.where(np.arange(30) < 10, 9, 0.1)
    plain, aware = partition.break_point(p, []), partition.break_point(p, [], none, x.T @ x)
    assert plain == partition.break_point(p, [], none, np.eye(30))

    def rest(t: float) -> Array:
        return p - primitives.rb(p, np.abs(p) >= t, 1) - primitives.rb(p, np.abs(p) < t, 1)

    assert squared(rest(plain)) < squared(rest(aware))
    assert squared(x @ rest(aware).T) < squared(x @ rest(plain).T)


def test_a_trisection_without_a_candidate_takes_half_of_the_last_quantile() -> None:
    p = np.array([[1.0, 1.0, 1.1, 1.0, 1.2, 1.0, 1.0, 1.0, 1.0]])
    inner, outer = partition.trisection(p, [], everywhere(p))
    assert outer == 2 * inner == pytest.approx(np.quantile(p, 0.9))
    # A zone holds two levels without an error: here three zones must part three magnitudes of both signs.
    p = np.array([[1.0, -1.0, 3.0, -3.0, 9.0, -9.0] * 10])
    inner, outer = partition.trisection(p, [], everywhere(p))
    assert 1 < inner <= 3 < outer <= 9


@pytest.mark.parametrize("compensation", ["diag", "exact", "none"])
@pytest.mark.parametrize("metric", ["hessian", "magnitude"])
def test_billm_equals_the_older_reference_in_plain_loops(metric: str, compensation: str) -> None:
    weight, hessian, _ = cases.ragged()
    weight, hessian = weight[:4, :83], hessian[:83, :83]
    options = {"metric": metric, "compensation": compensation, "block": 50, "limit": 9}
    older, _ = billm_reference.billm(weight, hessian, **options)
    ours = blocks.quantize(weight, hessian, method="billm", **options)
    assert [b.salient for b in ours] == [b.salient for b in older]
    for mine, theirs in zip(ours, older, strict=True):
        assert mine.thresholds["break"] == pytest.approx(theirs.threshold, rel=1e-9)
    np.testing.assert_allclose(
        blocks.dense(ours), np.concatenate([b.values for b in older], axis=1), atol=1e-12
    )


@pytest.mark.parametrize("name", ["coldev", "ragged", "degenerate"])
def test_every_method_quantizes_a_case_and_leaves_out_what_it_must(name: str) -> None:
    weight, hessian, _ = cases.ALL[name]()
    for method in METHODS:
        found = blocks.quantize(weight, hessian, method=method)
        values = blocks.dense(found)
        assert values.shape == weight.shape
        assert np.isfinite(values).all()
        assert not values[~weight.any(axis=1)].any()
        assert blocks.output_error(weight, values, hessian) < 1
        for one in found:
            k = one.values.shape[1]
            assert one.salient == sorted(set(one.salient))
            assert 1 <= len(one.salient) <= min(49, k - 1)


def levels(values: Array) -> int:
    return max(len(set(np.round(row, 9))) for row in values)


@pytest.mark.parametrize(("method", "plain", "bitmap"), [("billm", 8, 12), ("arb", 8, 12), ("arb-x", 8, 12)])
def test_a_bitmap_adds_a_second_order_group(method: str, plain: int, bitmap: int) -> None:
    weight, hessian, _ = cases.gauss()
    counts, errors = [], []
    for cgb in (False, True):
        (first, *_) = blocks.quantize(weight[:, :128], hessian[:128, :128], method=method, cgb=cgb)
        counts.append(levels(first.values))
        errors.append(squared(weight[:, :128] - first.values))
    assert counts == [plain, bitmap]
    assert errors[1] < errors[0]


@pytest.mark.parametrize(("name", "keep"), [("gauss", 4), ("heavy", 5), ("coldev", 6), ("ragged", 4)])
def test_a_fixed_keep_mask_holds_and_beats_the_released_flow(name: str, keep: int) -> None:
    """STBLLM as released prunes first and then binarizes the zeros too: no N:M pattern is left."""
    weight, hessian, _ = cases.ALL[name]()
    kept = nm.keep_mask(nm.importance(weight, np.sqrt(np.diagonal(hessian) / 2)), keep, 8)
    ours = blocks.dense(blocks.quantize(weight, hessian, method="stbllm", nm=(keep, 8)))
    released = blocks.dense(blocks.quantize(weight * kept, hessian, method="stbllm", nm=(8, 8)))
    np.testing.assert_array_equal(ours != 0, kept)
    assert np.mean(released == 0) <= 0.002
    whole = weight.shape[1] // 8 * 8
    zeros = (released[:, :whole] == 0).reshape(len(weight), -1, 8).sum(axis=2)
    assert zeros.max() < 8 - keep
    assert blocks.output_error(weight, ours, hessian) < blocks.output_error(weight, released, hessian)


def test_the_factor_is_that_of_the_damped_inverse_and_dead_channels_hold_nothing() -> None:
    weight, hessian, _ = cases.degenerate()
    w, u = blocks.prepare(weight, hessian, 0.01)
    damped = np.linalg.inv(u.T @ u)
    dead = np.diagonal(hessian) == 0
    assert sorted(np.nonzero(dead)[0]) == [20, 150]
    assert not w[:, dead].any()
    np.testing.assert_array_equal(u, np.triu(u))
    lift = 0.01 * (np.trace(hessian) + 2) / 200
    np.testing.assert_allclose(damped, hessian + np.diag(dead.astype(float)) + lift * np.eye(200), atol=1e-6)
    np.testing.assert_allclose(w[:, ~dead], weight[:, ~dead], atol=0)


def test_pushed_on_errors_are_those_worked_by_hand() -> None:
    u = np.array([[2.0, 4.0, 1.0], [0, 1, 1], [0, 0, 5]])
    for mode, third in (("diag", 2.475), ("exact", 2.975), ("none", 3.0)):
        w = np.array([[9.0, 9.0, 3.0]])
        blocks.push(w, np.array([[0.25, 0.4]]), u, slice(0, 2), mode)
        np.testing.assert_allclose(w, [[9, 9, third]])
