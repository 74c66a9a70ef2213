"""Bits from curvature, held against the paper's vectors, its equal-loss property and brute force."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.allocation import baq

C = [1, 0.25, 4, 16, 0.0625, 1]  # geometric mean 1

losses = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=5)


def test_closed_form_at_three_bits_makes_every_loss_equal() -> None:
    bits = baq.closed_form(C, 3)
    assert bits.tolist() == [3, 2, 4, 5, 1, 3]
    lost = np.array(C) * 4.0**-bits
    assert lost.tolist() == [0.015625] * 6
    assert lost.sum() == 0.09375
    uniform = sum(c * 4.0**-3 for c in C)
    assert uniform == pytest.approx(0.348633, abs=5e-7)
    assert baq.gain(C) == pytest.approx(uniform / lost.sum(), rel=1e-12) == pytest.approx(3.71875, rel=1e-12)


def test_levels_are_those_of_the_public_implementation() -> None:
    levels = baq.levels(C, 3)
    assert levels.tolist() == [8, 4, 16, 33, 2, 8]
    # The rule in its own letters, on losses at another scale: mu = GM / AM * mean is the geometric mean.
    measured = np.array(C) * 7.5
    mu = math.prod(measured) ** (1 / 6)
    plain = [round(max(1, (loss / mu * 2 ** (1.95 * 3)) ** (1 / 1.95))) for loss in measured]
    assert baq.levels(measured, 3).tolist() == plain == levels.tolist()


def test_planes_are_whole_where_entropy_is_not() -> None:
    assert baq.plane_bits([8, 4, 16, 33, 2, 8]).tolist() == [3, 2, 4, 6, 1, 3]
    assert baq.plane_bits([1, 3, 64, 65]).tolist() == [0, 2, 6, 7]
    assert baq.entropy_bits([33, 3, 1]).round(2).tolist() == [5.04, 1.58, 0.0]


def test_greedy_with_18_planes_is_the_closed_form() -> None:
    assert baq.greedy_planes(C, 18).tolist() == [3, 2, 4, 5, 1, 3]


@given(c=losses, average=st.floats(0, 8), data=st.data())
def test_closed_form_spends_its_mean_and_loses_equally_per_size(c: list[float], average: float, data) -> None:
    n = data.draw(st.lists(st.floats(0.5, 100), min_size=len(c), max_size=len(c)))
    bits = baq.closed_form(c, average, n)
    assert np.all(bits >= 0)
    assert np.dot(bits, n) == pytest.approx(average * sum(n), abs=1e-9)
    lost = np.array(c) / n * 4.0**-bits
    level = lost[bits > 0]
    if level.size:
        assert np.ptp(level) <= 1e-12 * level.max()
        # What has no bits lies under the water already: none of it would lose less with some.
        assert np.all(lost[bits == 0] <= level.max() * (1 + 1e-12))


def test_reverse_water_filling_drops_more_than_one_round() -> None:
    # The first round takes bits from the third component only, whose absence then sinks the second.
    bits = baq.closed_form([1024, 1, 4.0**-9], 1 / 3)
    assert bits.tolist() == [1, 0, 0]
    assert baq.closed_form([1, 0, 1], 2).tolist() == [3, 0, 3]


@given(c=losses, budget=st.integers(0, 9))
def test_greedy_planes_lose_no_more_than_any_other_whole_planes(c: list[float], budget: int) -> None:
    found = baq.greedy_planes(c, budget)
    assert found.sum() == budget

    def lost(planes) -> float:
        return math.fsum(loss * 4.0**-p for loss, p in zip(c, planes, strict=True))

    others = (p for p in itertools.product(range(budget + 1), repeat=len(c)) if sum(p) <= budget)
    assert lost(found.tolist()) <= min(map(lost, others)) * (1 + 1e-12)


@given(
    c=st.lists(st.floats(1e-2, 1e2), min_size=1, max_size=3),
    budget=st.integers(0, 20),
    data=st.data(),
)
def test_greedy_planes_of_unequal_sizes_miss_at_most_the_first_plane_passed_over(
    c: list[float], budget: int, data
) -> None:
    n = data.draw(st.lists(st.integers(1, 5), min_size=len(c), max_size=len(c)))
    found = baq.greedy_planes(c, budget, n).tolist()
    assert np.dot(found, n) <= budget

    def lost(planes) -> float:
        return math.fsum(loss * 4.0**-p for loss, p in zip(c, planes, strict=True))

    ranges = [range(budget // size + 1) for size in n]
    best = min(lost(p) for p in itertools.product(*ranges) if np.dot(p, n) <= budget)
    # The first plane passed over is the dearest in saving per size of those not taken.
    saved = [0.75 * loss * 4.0**-p for loss, p in zip(c, found, strict=True)]
    first = max(range(len(c)), key=lambda i: saved[i] / n[i])
    assert lost(found) - best <= saved[first] + 1e-12


menus = st.lists(
    st.lists(st.tuples(st.integers(1, 12), st.floats(0, 10)), min_size=1, max_size=4), min_size=1, max_size=4
)


@given(menu=menus, extra=st.integers(0, 30))
def test_greedy_options_are_the_best_for_what_they_spend_or_within_one_step(menu, extra: int) -> None:
    losses = [[loss for _, loss in row] for row in menu]
    sizes = [[size for size, _ in row] for row in menu]
    budget = sum(map(min, sizes)) + extra
    chosen = baq.greedy_options(losses, sizes, budget)

    def total(table, picks):
        return sum(row[at] for row, at in zip(table, picks, strict=True))

    assert total(sizes, chosen) <= budget
    everything = list(itertools.product(*(range(len(row)) for row in menu)))
    best = min(total(losses, p) for p in everything if total(sizes, p) <= budget)
    steps = [max(row) - min(row) for row in losses]
    assert total(losses, chosen) - best <= max(steps) + 1e-9
    if extra >= 12 * len(menu):
        assert total(losses, chosen) == pytest.approx(best, abs=1e-12)


def test_greedy_options_skip_what_lies_above_the_hull() -> None:
    # Option 1 lies above the line from 0 to 2 and option 3 saves nothing.
    assert baq.greedy_options([[8, 7, 0, 0.5]], [[1, 2, 3, 4]], 2) == [0]
    assert baq.greedy_options([[8, 7, 0, 0.5]], [[1, 2, 3, 4]], 9) == [2]
    # 3 a unit for layer 0, 5 for layer 1: with room for one step it goes to layer 1.
    assert baq.greedy_options([[6, 0], [10, 0]], [[1, 3], [1, 3]], 4) == [0, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: baq.closed_form([1, -1], 2),
            "losses must be a list of finite numbers of at least 0, not [1,",
        ),
        (lambda: baq.closed_form([], 2), "losses must be a list of finite numbers of at least 0, not []"),
        (lambda: baq.closed_form([0, 0], 2), "losses must hold at least one number above 0"),
        (lambda: baq.closed_form([1], -1), "average_bits must be a finite number of at least 0, not -1"),
        (lambda: baq.closed_form([1, 2], 2, [1, 0]), "sizes must be 2 finite numbers above 0, not [1, 0]"),
        (lambda: baq.closed_form([1, 2], 2, [1]), "sizes must be 2 finite numbers above 0, not [1]"),
        (lambda: baq.gain([1, 0]), "losses must be above 0, and one is 0"),
        (lambda: baq.levels([1, 0], 3), "losses must be above 0, and one is 0"),
        (lambda: baq.levels([1], 3, 0), "theta must be above 0, not 0"),
        (lambda: baq.plane_bits([0]), "level_counts must be integers of at least 1, not [0]"),
        (lambda: baq.entropy_bits([1.5]), "level_counts must be integers of at least 1, not [1.5]"),
        (lambda: baq.greedy_planes([1], -1), "budget must be at least 0, not -1"),
        (lambda: baq.greedy_options([[1, 0]], [[4, 8]], 3), "budget must be at least 4, not 3"),
    ],
)
def test_numbers_out_of_range_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        call()


def test_a_component_that_loses_nothing_gets_no_plane() -> None:
    assert baq.greedy_planes([0, 1], 3).tolist() == [0, 3]
    assert baq.greedy_planes([0, 0], 3).tolist() == [0, 0]
