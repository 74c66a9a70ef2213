"""The integer program, held against every combination there is."""

from __future__ import annotations

import ctypes
import itertools
import re

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.allocation import integer_program
from algo.allocation.integer_program import allocate

# AdaQuant's toy: parameters and losses of four layers at 8, 4 and 2 bits.
PARAMETERS = [1000, 4000, 2000, 8000]
LOSSES = [[0, 0.02, 0.3], [0, 0.01, 0.2], [0, 0.05, 0.6], [0, 0.015, 0.9]]
WIDTHS = (8, 4, 2)
BITS = [[n * width for width in WIDTHS] for n in PARAMETERS]


def test_the_toy_of_five_bits_on_average_gives_8_4_8_4() -> None:
    found = allocate(LOSSES, {"bits": BITS}, {"bits": 5 * sum(PARAMETERS)})
    assert [WIDTHS[at] for at in found.choices] == [8, 4, 8, 4]
    assert found.loss == pytest.approx(0.025, rel=1e-12)
    assert found.costs["bits"] / sum(PARAMETERS) == 4.8


def published(bits: float | None = None, operations: float | None = None):
    """A ten-layer fixture with two options and two budgets, at 4 and 8 bits."""
    omega = [[1 / (i + 1) ** 2, 1 / (i + 1) ** 2 / 256] for i in range(10)]
    size = [[1000 * (i + 1) * b for b in (4, 8)] for i in range(10)]
    work = [[2000 * (10 - i) * b * b for b in (4, 8)] for i in range(10)]
    budgets = {"bits": bits, "operations": operations}
    return allocate(
        omega, {"bits": size, "operations": work}, {k: v for k, v in budgets.items() if v is not None}
    )


def test_ten_layers_under_a_size_and_under_an_operations_budget() -> None:
    by_size = published(bits=330_000)
    assert by_size.choices == (1, 1, 1, 1, 1, 1, 0, 0, 0, 0)
    assert by_size.loss == pytest.approx(0.0642045801, abs=5e-11)
    assert by_size.costs["bits"] == 304_000
    by_work = published(operations=4_400_000)
    assert by_work.choices == (1, 1, 1, 0, 0, 0, 0, 0, 0, 0)
    assert by_work.loss == pytest.approx(0.1939734603, abs=5e-11)


@st.composite
def problems(draw):
    counts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    loss = st.floats(0, 1e6, allow_subnormal=False)
    cost = st.integers(0, 10**9)
    losses = [draw(st.lists(loss, min_size=n, max_size=n)) for n in counts]
    costs = {
        name: [draw(st.lists(cost, min_size=n, max_size=n)) for n in counts] for name in ("bits", "cycles")
    }
    shares = {name: draw(st.floats(0, 1)) for name in costs}
    budgets = {
        name: int(sum(map(min, t)) + shares[name] * (sum(map(max, t)) - sum(map(min, t))))
        for name, t in costs.items()
    }
    return losses, costs, budgets


def total(table, picks):
    return sum(row[at] for row, at in zip(table, picks, strict=True))


@given(problem=problems())
@settings(max_examples=60, deadline=None)
def test_two_budgets_are_kept_exactly_and_no_combination_loses_less(problem) -> None:
    losses, costs, budgets = problem
    every = list(itertools.product(*(range(len(row)) for row in losses)))
    feasible = [p for p in every if all(total(costs[name], p) <= budgets[name] for name in costs)]
    if not feasible:
        least = min(total(costs["bits"], p) for p in every if total(costs["cycles"], p) <= budgets["cycles"])
        message = (
            f"budget bits must be at least {least} beside cycles {budgets['cycles']}, not {budgets['bits']}"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            allocate(losses, costs, budgets)
        return
    found = allocate(losses, costs, budgets)
    assert all(found.costs[name] == total(costs[name], found.choices) <= budgets[name] for name in costs)
    assert found.loss == pytest.approx(total(losses, found.choices), rel=1e-12)
    best, worst = (f(total(losses, p) for p in every) for f in (min, max))
    assert found.loss <= min(total(losses, p) for p in feasible) + 1e-9 * (worst - best)


def test_a_budget_one_short_is_not_let_through_by_the_solvers_tolerance() -> None:
    size = 10**12
    found = allocate([[1, 0], [1, 0]], {"bits": [[0, size], [0, size]]}, {"bits": 2 * size - 1})
    assert found.costs["bits"] == size
    assert allocate([[1, 0]], {"bits": [[0, size]]}, {"bits": size}).choices == (1,)


def test_small_differences_of_loss_decide() -> None:
    # The gap at which the solver stops by default would not see these.
    bits = [[1, 2]] * 3
    losses = [[100.0, 0], [1.0 + 1e-4, 1.0], [1.0 + 2e-4, 1.0]]
    assert allocate(losses, {"bits": bits}, {"bits": 5}).choices == (1, 0, 1)


def least_loss(losses, costs, budget: int) -> float:
    """By dynamic programming over every whole sum of costs."""
    best = np.full(budget + 1, np.inf)
    best[0] = 0
    for row, prices in zip(losses, costs, strict=True):
        following = np.full(budget + 1, np.inf)
        for loss, price in zip(row, prices, strict=True):
            if price <= budget:
                kept = best[: budget + 1 - price] + loss
                following[price:] = np.minimum(following[price:], kept)
        best = following
    return float(best.min())


@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e9])
@pytest.mark.parametrize("seed", [7, 8])  # where the solver stops early if losses are not scaled up
def test_forty_layers_whose_losses_almost_mirror_their_costs(seed: int, unit: float) -> None:
    rng = np.random.default_rng(seed)
    costs = rng.integers(1, 60, (40, 4)).tolist()
    losses = [[unit * (60 - cost + float(rng.random())) for cost in row] for row in costs]
    budget = sum(sum(row) for row in costs) // 4
    found = allocate(losses, {"bits": costs}, {"bits": budget})
    assert found.costs["bits"] <= budget
    assert found.loss == pytest.approx(least_loss(losses, costs, budget), rel=1e-9)


def test_what_the_solver_prints_stays_off_standard_output(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = scipy.optimize.milp

    def noisy(*args, **named):
        ctypes.CDLL(None).puts(b"noise")
        return plain(*args, **named)

    monkeypatch.setattr(scipy.optimize, "milp", noisy)
    print("before")
    assert allocate([[1, 0]], {"bits": [[1, 2]]}, {"bits": 2}).choices == (1,)
    print("after", flush=True)
    shown = capfd.readouterr()
    assert shown.out == "before\nafter\n"
    assert "noise" in shown.err


def test_costs_without_a_budget_are_summed_and_do_not_bind() -> None:
    found = allocate([[1, 0]], {"bits": [[1, 2]], "cycles": [[5, 7]]}, {"bits": 2})
    assert (found.choices, found.costs) == ((1,), {"bits": 2, "cycles": 7})
    assert allocate([[1, 0], [0.5, 2]], {}, {}).choices == (1, 0)


@pytest.mark.parametrize(
    ("losses", "costs", "budgets", "message"),
    [
        (LOSSES, {"bits": BITS}, {"bits": 29_999}, "budget bits must be at least 30000, not 29999"),
        (
            [[1, 0], [1, 0]],
            {"bits": [[1, 3], [1, 3]], "cycles": [[9, 1], [9, 2]]},
            {"bits": 3, "cycles": 10},
            "budget bits must be at least 4 beside cycles 10, not 3",
        ),
        (
            [[0, 0, 0]],
            {"a": [[0, 1, 1]], "b": [[1, 0, 1]], "c": [[1, 1, 0]]},
            {"a": 0, "b": 0, "c": 0},
            "budgets must be larger: no two of a, b, c can be met beside the rest",
        ),
        ([], {}, {}, "losses must hold a layer, and each an option, not [] options"),
        ([[1], []], {}, {}, "losses must hold a layer, and each an option, not [1, 0] options"),
        ([[1]], {"bits": [[1, 2]]}, {}, "bits must hold [1] options by layer, not [2]"),
        ([[float("nan")]], {}, {}, "losses must be finite, not NaN or infinity"),
        ([[1]], {"bits": [[float("inf")]]}, {}, "bits must be finite, not NaN or infinity"),
        ([[1]], {"bits": [[1]]}, {"bytes": 1}, "budget must be one of bits, not 'bytes'"),
        ([[1]], {"bits": [[1]]}, {"bits": float("nan")}, "budget bits must be finite, not nan"),
    ],
)
def test_what_cannot_be_met_or_does_not_fit_is_refused(losses, costs, budgets, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        allocate(losses, costs, budgets)


def test_a_solver_that_gives_up_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_args, **_named):
        return scipy.optimize.OptimizeResult(status=1, success=False, message="time limit", x=None)

    monkeypatch.setattr(scipy.optimize, "milp", fails)
    with pytest.raises(RuntimeError, match=r"^the integer program was not solved: time limit$"):
        allocate([[1, 0]], {"bits": [[1, 2]]}, {"bits": 2})


def test_a_solver_that_keeps_exceeding_a_budget_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer_program, "_solve_within_tolerance", lambda *_: (1,))
    message = r"^100 choices exceed a budget by less than the solver sees: use a coarser unit$"
    with pytest.raises(RuntimeError, match=message):
        allocate([[1, 0]], {"bits": [[1, 2]]}, {"bits": 1})
