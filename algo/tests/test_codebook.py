"""Codes and amounts of a codebook against slow loops, least squares and single changes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.binarize import codebook, joint, levels
from algo.binarize.codebook import PRUNED, Codebook
from algo.bitplane.scales import Grid

Array = np.ndarray


def curvature_of(k: int, seed: int) -> tuple[Array, Array]:
    """An upper triangular factor, and the block's curvature by its definition."""
    rng = np.random.default_rng([k, seed])
    x = rng.standard_normal((3 * k + 2, k)) @ (np.eye(k) + 0.5 * rng.standard_normal((k, k)))
    factor = np.linalg.cholesky(np.linalg.inv(x.T @ x)).T
    return np.ascontiguousarray(factor), np.linalg.inv(factor.T @ factor)


class Problem:
    """A block, its curvature, a codebook of two kinds (of 4 and 3 codes, 3 amounts), and pruned entries."""

    def __init__(self, rows: int, k: int, seed: int = 0) -> None:
        rng = np.random.default_rng([rows, k, seed])
        self.block = rng.standard_normal((rows, k))
        self.factor, self.curvature = curvature_of(k, seed)
        coefs = np.rint(2 * rng.standard_normal((2, 4, 3))) / 2
        coefs[1, 3] = 1e6  # no code of the second kind
        self.book = Codebook(coefs, np.array([4, 3]))
        self.kinds = rng.choice(np.array([0, 0, 1, PRUNED], np.uint8), (rows, k))
        self.amounts = rng.standard_normal((rows, 3))
        self.columns = rng.random((3, k)) + 0.5
        counts = self.book.counts[np.where(self.kinds == PRUNED, 0, self.kinds)]
        drawn = (rng.random((rows, k)) * counts).astype(np.uint8)
        self.codes = np.where(self.kinds == PRUNED, 0, drawn).astype(np.uint8)

    @property
    def tables(self) -> tuple[Array, ...]:
        return self.kinds, self.book.coefs, self.book.counts, self.amounts, self.columns

    @property
    def state(self) -> tuple[Codebook, Array, Array, Array, Array]:
        return self.book, self.kinds, self.codes, self.amounts, self.columns

    def level(self, i: int, j: int, code: int) -> float:
        """The level of a code at an entry, term by term."""
        kind = self.kinds[i, j]
        if kind == PRUNED:
            return 0.0
        return sum(
            float(self.book.coefs[kind, code, p] * self.amounts[i, p] * self.columns[p, j]) for p in range(3)
        )

    def values(self, codes: Array) -> Array:
        out = np.zeros(self.block.shape)
        for i, j in product(*map(range, out.shape)):
            out[i, j] = self.level(i, j, codes[i, j])
        return out

    def nearest(self, i: int, j: int, target: float) -> int:
        """The first of the nearest codes; 0 where pruned."""
        kind = self.kinds[i, j]
        if kind == PRUNED:
            return 0
        distances = [abs(target - self.level(i, j, code)) for code in range(self.book.counts[kind])]
        return distances.index(min(distances))

    def loss(self, values: Array) -> Array:
        rest = self.block - values
        return np.array([row @ self.curvature @ row for row in rest])


SHAPES = [(1, 1), (3, 17), (65, 9), (129, 2)]
every_shape = pytest.mark.parametrize(("rows", "k"), SHAPES)


def test_the_curvature_of_a_block_is_the_inverse_of_its_factors_square() -> None:
    factor, wanted = curvature_of(23, 1)
    np.testing.assert_allclose(codebook.block_curvature(factor), wanted, rtol=1e-9, atol=1e-9)


@every_shape
def test_values_are_the_levels_of_the_codes_and_pruned_entries_are_zero(rows: int, k: int) -> None:
    problem = Problem(rows, k)
    found = codebook.values_of(*problem.state)
    np.testing.assert_allclose(found, problem.values(problem.codes), atol=1e-12)
    assert not np.any(found[problem.kinds == PRUNED])
    np.testing.assert_allclose(
        codebook.losses(problem.block, found, problem.curvature), problem.loss(found), rtol=1e-9
    )


@every_shape
def test_feedback_is_a_slow_loop_of_nearest_levels_and_pushed_errors(rows: int, k: int) -> None:
    problem = Problem(rows, k, 1)
    wanted = np.zeros((rows, k), np.uint8)
    for i in range(rows):
        left = problem.block[i].copy()
        for j in range(k):
            wanted[i, j] = problem.nearest(i, j, left[j])
            error = (left[j] - problem.level(i, j, wanted[i, j])) / problem.factor[j, j]
            left[j + 1 :] -= error * problem.factor[j, j + 1 :]
    kept = problem.block.copy()
    np.testing.assert_array_equal(codebook.feed(problem.block, problem.factor, *problem.tables), wanted)
    np.testing.assert_array_equal(problem.block, kept)


def test_without_correlation_feedback_takes_the_nearest_level_of_every_entry() -> None:
    problem = Problem(70, 11, 2)
    found = codebook.feed(problem.block, np.eye(11), *problem.tables)
    wanted = [[problem.nearest(i, j, problem.block[i, j]) for j in range(11)] for i in range(70)]
    np.testing.assert_array_equal(found, wanted)


def test_of_equal_levels_the_first_is_taken() -> None:
    book = Codebook(np.array([[[1.0], [-1.0], [1.0], [-1.0]]]), np.array([4]))
    kinds, ones = np.zeros((1, 2), np.uint8), np.ones((1, 2))
    tables = (kinds, book.coefs, book.counts, np.ones((1, 1)), ones)
    assert codebook.feed(np.array([[0.0, -0.5]]), np.eye(2), *tables).tolist() == [[0, 1]]


@pytest.mark.parametrize("passes", [0, 1, 3])
@every_shape
def test_descent_is_a_slow_loop_over_entries(rows: int, k: int, passes: int) -> None:
    problem = Problem(rows, k, 3)
    wanted = problem.codes.copy()
    for i in range(rows):
        now = problem.values(wanted)[i]
        for _, j in product(range(passes), range(k)):
            # The best real value of entry j, all others as they are.
            pull = problem.curvature[j] @ (problem.block[i] - now)
            wanted[i, j] = problem.nearest(i, j, now[j] + pull / problem.curvature[j, j])
            now[j] = problem.level(i, j, wanted[i, j])
    codes, values = problem.codes.copy(), codebook.values_of(*problem.state)
    codebook.descend(problem.block, values, codes, problem.curvature, *problem.tables, passes)
    np.testing.assert_array_equal(codes, wanted)
    np.testing.assert_allclose(values, problem.values(wanted), atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 70), k=st.integers(1, 12), seed=st.integers(0, 999))
def test_descent_never_raises_a_rows_loss_and_ends_where_no_single_code_lowers_it(
    rows: int, k: int, seed: int
) -> None:
    problem = Problem(rows, k, seed)
    codes, values = problem.codes.copy(), codebook.values_of(*problem.state)
    before = problem.loss(values)
    for _ in range(40):
        last = codes.copy()
        codebook.descend(problem.block, values, codes, problem.curvature, *problem.tables, 1)
        after = problem.loss(values)
        noise = 1e-10 * (1 + before)
        assert np.all(after <= before + noise)
        before = after
        if np.array_equal(codes, last):
            break
    np.testing.assert_array_equal(codes, last)
    for j, code in product(range(k), range(4)):
        allowed = problem.kinds[:, j] != PRUNED
        allowed &= code < problem.book.counts[np.where(allowed, problem.kinds[:, j], 0)]
        changed = values.copy()
        changed[:, j] = [problem.level(i, j, code) if allowed[i] else values[i, j] for i in range(rows)]
        assert np.all(problem.loss(changed) >= before - 1e-10 * (1 + before))


@pytest.mark.parametrize(("rows", "k"), [(3, 17), (66, 23)])
def test_refitted_amounts_are_the_least_squares_solution_of_every_row(rows: int, k: int) -> None:
    problem = Problem(rows, k, 4)
    amounts = codebook.refit(problem.block, problem.curvature, *problem.state)
    root = np.linalg.cholesky(problem.curvature).T  # |root e|^2 is the objective of an error e
    for i in range(rows):
        design = np.zeros((k, 3))
        for j, p in product(range(k), range(3)):
            if problem.kinds[i, j] != PRUNED:
                coef = problem.book.coefs[problem.kinds[i, j], problem.codes[i, j], p]
                design[j, p] = coef * problem.columns[p, j]
        wanted, _, rank, _ = np.linalg.lstsq(root @ design, root @ problem.block[i], rcond=1e-7)
        fitted, best = design @ amounts[i], design @ wanted
        scale = 1e-5 * np.abs(problem.block[i]).max()
        np.testing.assert_allclose(fitted, best, atol=scale)
        if rank == 3:
            np.testing.assert_allclose(amounts[i], wanted, rtol=1e-4, atol=1e-4)


def test_no_small_change_of_refitted_amounts_lowers_the_loss() -> None:
    problem = Problem(9, 21, 5)
    start = codebook.losses(problem.block, codebook.values_of(*problem.state), problem.curvature)
    problem.amounts = codebook.refit(problem.block, problem.curvature, *problem.state)
    best = codebook.losses(problem.block, codebook.values_of(*problem.state), problem.curvature)
    assert np.all(best < start)
    for p, step in product(range(3), (-1e-2, 1e-2, -1.0, 1.0)):
        moved = problem.amounts.copy()
        moved[:, p] += step
        state = (problem.book, problem.kinds, problem.codes, moved, problem.columns)
        assert np.all(
            codebook.losses(problem.block, codebook.values_of(*state), problem.curvature) >= best - 1e-9
        )


def test_amounts_that_no_entry_uses_stay_where_they_are() -> None:
    problem = Problem(4, 8, 6)
    problem.kinds[:] = PRUNED
    np.testing.assert_array_equal(
        codebook.refit(problem.block, problem.curvature, *problem.state), problem.amounts
    )
    book = levels.three_zones()
    inner = np.full((4, 8), 4, np.uint8)  # all of them in the inner zone, of sign -1
    amounts, ones = np.random.default_rng(0).standard_normal((4, 9)), np.ones((9, 8))
    found = codebook.refit(
        problem.block, problem.curvature, book, np.zeros((4, 8), np.uint8), inner, amounts, ones
    )
    unused = [0, 1, 2, 3, 6, 7, 8]
    np.testing.assert_allclose(found[:, unused], amounts[:, unused], atol=1e-9)
    assert np.all(np.abs(found[:, 5] - amounts[:, 5]) > 1e-6)


def test_refitted_column_factors_are_the_least_squares_solution_over_all_rows() -> None:
    rng = np.random.default_rng(7)
    rows, k = 12, 7
    book, ties = levels.row_column(), np.array(levels.ROW_COLUMN_FACTORS)
    _, curve = curvature_of(k, 7)
    block, amounts = rng.standard_normal((rows, k)), rng.random((rows, 4)) + 0.2
    kinds = np.zeros((rows, k), np.uint8)
    kinds[:, [2, 5]] = levels.SALIENT
    codes = rng.integers(0, 4, (rows, k)).astype(np.uint8)
    factors = rng.random((2, k)) + 0.5
    found = codebook.refit_columns(block, curve, book, kinds, codes, amounts, factors[ties], ties)
    assert found.shape == (2, k)
    root = np.linalg.cholesky(curve).T
    design = np.zeros((rows, k, 2, k))
    for i, j, p in product(range(rows), range(k), range(4)):
        design[i, j, ties[p], j] += book.coefs[kinds[i, j], codes[i, j], p] * amounts[i, p]
    weighed = np.einsum("ab,ibfj->iafj", root, design).reshape(rows * k, 2 * k)
    wanted = np.linalg.lstsq(weighed, (block @ root.T).ravel(), rcond=None)[0].reshape(2, k)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)

    def loss(factors: Array) -> float:
        values = codebook.values_of(book, kinds, codes, amounts, factors[ties])
        return float(codebook.losses(block, values, curve).sum())

    for f, j, step in product(range(2), range(k), (-1e-3, 1e-3)):
        moved = found.copy()
        moved[f, j] += step
        assert loss(moved) > loss(found) - 1e-9
    assert loss(found) < loss(factors)


def test_column_factors_without_a_say_stay_where_they_are() -> None:
    ties, factors = np.array(levels.ROW_COLUMN_FACTORS), np.full((2, 3), 0.75)
    zeros = np.zeros((2, 3), np.uint8)
    found = codebook.refit_columns(
        np.ones((2, 3)), np.eye(3), levels.row_column(), zeros, zeros, np.zeros((2, 4)), factors[ties], ties
    )
    np.testing.assert_array_equal(found, factors)


def test_levels_of_the_stored_forms_are_as_named() -> None:
    names, four = levels.FOUR_LEVEL_AMOUNTS, levels.four_levels(False)
    amounts = dict(zip(names, (10.0, 1.0, 4.0, 2.0, 100.0, 30.0, 7.0), strict=True))
    row = np.array([amounts[name] for name in names])
    # Means 11 and 9, scales 6 and 2 of the high and the low zone; code 2 * (high) + (sign +).
    assert (four.coefs[levels.REST] @ row).tolist() == [7, 11, 5, 17]
    assert (four.coefs[levels.SALIENT] @ row).tolist() == [63, 123, 77, 137]
    assert (four.coefs[levels.HIGH, :2] @ row).tolist() == [5, 17]
    assert (four.coefs[levels.LOW, :2] @ row).tolist() == [7, 11]
    assert four.counts.tolist() == [4, 4, 2, 2]
    assert (levels.four_levels(True).coefs[levels.REST] @ row).tolist() == [8, 12, 4, 16]
    pair = levels.row_column()
    assert (pair.coefs[levels.REST] @ [5.0, 2.0, 30.0, 7.0]).tolist() == [-2, 2, -5, 5]
    assert (pair.coefs[levels.SALIENT] @ [5.0, 2.0, 30.0, 7.0]).tolist() == [-37, 23, -23, 37]
    three = levels.three_zones()
    row = np.array([10.0, 1, 20, 2, 30, 3, 100, 30, 7])
    assert (three.coefs[levels.REST] @ row).tolist() == [9, 11, 18, 22, 27, 33]
    assert (three.coefs[levels.SALIENT, :4] @ row).tolist() == [63, 123, 77, 137]
    assert three.counts.tolist() == [6, 4]


def test_first_guesses_are_the_best_levels_of_normal_weights() -> None:
    weight = 3 + 2 * np.random.default_rng(8).standard_normal((2, 200000))
    kinds = np.zeros(weight.shape, np.uint8)
    four = levels.four_levels(False).coefs[levels.REST] @ levels.guess_four(weight, kinds).T
    np.testing.assert_allclose(
        (np.sort(four, axis=0) - 3) / 2, [[v] * 2 for v in (-1.51, -0.4528, 0.4528, 1.51)], atol=0.01
    )
    six = levels.three_zones().coefs[levels.REST] @ levels.guess_three(weight, kinds).T
    wanted = [-1.894, -1.0, -0.3177, 0.3177, 1.0, 1.894]
    np.testing.assert_allclose((np.sort(six, axis=0) - 3) / 2, [[v] * 2 for v in wanted], atol=0.015)
    # Each of these levels is the mean of what is nearest to it.
    normal = (weight[0] - 3) / 2
    for found in (four[:, 0], six[:, 0]):
        own = (np.sort(found) - 3) / 2
        near = np.argmin(np.abs(normal[:, None] - own), axis=1)
        means = [normal[near == at].mean() for at in range(len(own))]
        np.testing.assert_allclose(means, own, atol=0.02)


def test_first_guesses_without_an_entry_are_zero() -> None:
    block = np.ones((2, 5))
    salient = np.full((2, 5), levels.SALIENT, np.uint8)
    assert not levels.guess_four(block, salient)[:, :4].any()
    assert not levels.guess_three(block, salient)[:, :6].any()
    assert not levels.guess_row_column(block, salient, np.ones((2, 5)))[:, :2].any()
    assert not levels.guess_row_column(block, np.zeros((2, 5), np.uint8), np.zeros((2, 5))).any()


def test_a_grid_holds_half_as_much_again_as_the_first_guesses_and_clips_beyond() -> None:
    grid = joint.grid_of([np.array([[0.5, -2.0], [0.0, 0.0]]), np.array([[1.0, 0.1], [0.0, 0.0]])], 8)
    assert grid.bits == 8
    assert grid.exponent.tolist() == [-5, 0]  # 3 is 96 steps of 2**-5
    amounts = np.array([[0.04, -2.0], [0.4, 3.6]])
    np.testing.assert_array_equal(joint.stored(grid, amounts), [[1 / 32, -2], [0, 4]])
    np.testing.assert_array_equal(
        joint.stored(grid, np.array([[9.0, -9.0], [500.0, -500.0]])),
        [
            [127 / 32, -127 / 32],
            [127, -127],
        ],
    )


@settings(max_examples=60, deadline=None)
@given(bits=st.integers(4, 16), seed=st.integers(0, 999), power=st.integers(-60, 60))
def test_stored_amounts_are_the_nearest_mantissas(bits: int, seed: int, power: int) -> None:
    amounts = np.ldexp(np.random.default_rng(seed).standard_normal((5, 7)), power)
    grid = Grid.covering(amounts, bits=bits)
    found = joint.stored(grid, amounts)
    step = np.ldexp(1.0, grid.exponent)[:, None]
    assert np.all(np.abs(found - amounts) <= step / 2)
    assert np.all(np.abs(found / step) <= 2 ** (bits - 1) - 1)
    np.testing.assert_array_equal(found / step, np.rint(found / step))
