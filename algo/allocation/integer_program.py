"""One option a layer, least loss in all, under any number of linear budgets: an integer program.

Source: Hubara et al., AdaQuant, arXiv:2006.10518, and Yao et al., HAWQ-V3, arXiv:2011.10680
(budgets of size, operations and latency); differs in: losses are not floored.
Solver: HiGHS through scipy.optimize.milp.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Table = Sequence[Sequence[float]]  #: a number by layer and option; layers may differ in their options
Floats = NDArray[np.float64]

#: HiGHS stops within 1e-6 of the optimum whatever the relative gap; the objective is scaled to this spread.
_SPREAD = 1e4
_REPAIRS = 100  #: choices over a budget, let through by the solver's tolerance, that are ruled out one by one


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The chosen option of each layer, and what they come to."""

    choices: tuple[int, ...]
    loss: float
    costs: Mapping[str, float]  #: by budget


def allocate(losses: Table, costs: Mapping[str, Table], budgets: Mapping[str, float]) -> Allocation:
    """Choose one option a layer: least summed loss with every summed cost within its budget.

    Exact to 1e-9 of the span between the best and the worst sum of losses. Budgets are kept exactly, not to
    the solver's tolerance. Deterministic; among equal optima the solver chooses.

    Parameters: losses[l][o], loss of option o in layer l; costs, by name (bits, bytes, cycles, ...), tables
    of the losses' shape; budgets, the largest sum of each named cost; a cost without a budget is only summed.
    Raises: ValueError if the tables do not fit each other or hold numbers that are not finite, a budget has
    no cost, or the budgets cannot be met: then the message names the smallest value of one that can.
    """
    _check(losses, costs, budgets)
    for name, limit in budgets.items():
        least = sum(min(row) for row in costs[name])
        if least > limit:
            raise ValueError(f"budget {name} must be at least {least:.15g}, not {limit!r}")
    chosen = _solve(losses, costs, budgets)
    if chosen is None:
        raise ValueError(_conflict(costs, budgets))
    return Allocation(
        choices=chosen,
        loss=_total(losses, chosen),
        costs={name: _total(table, chosen) for name, table in costs.items()},
    )


def _conflict(costs: Mapping[str, Table], budgets: Mapping[str, float]) -> str:
    """Why budgets that can each be met cannot be met together, by the first that gives way to the others."""
    for name, limit in budgets.items():
        others = {other: value for other, value in budgets.items() if other != name}
        chosen = _solve(costs[name], costs, others)
        if chosen is not None:
            held = " and ".join(f"{other} {value!r}" for other, value in others.items())
            least = _total(costs[name], chosen)
            return f"budget {name} must be at least {least:.15g} beside {held}, not {limit!r}"
    return f"budgets must be larger: no two of {', '.join(budgets)} can be met beside the rest"


def _solve(losses: Table, costs: Mapping[str, Table], budgets: Mapping[str, float]) -> tuple[int, ...] | None:
    """The best choice, or None if the budgets cannot be met."""
    refused: list[tuple[int, ...]] = []
    while len(refused) < _REPAIRS:
        chosen = _solve_within_tolerance(losses, costs, budgets, refused)
        if chosen is None or all(_total(costs[name], chosen) <= limit for name, limit in budgets.items()):
            return chosen
        refused.append(chosen)
    raise RuntimeError(f"{_REPAIRS} choices exceed a budget by less than the solver sees: use a coarser unit")


def _solve_within_tolerance(
    losses: Table,
    costs: Mapping[str, Table],
    budgets: Mapping[str, float],
    refused: Sequence[tuple[int, ...]],
) -> tuple[int, ...] | None:
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    counts = [len(row) for row in losses]
    owner = np.repeat(np.arange(len(counts)), counts)
    variables = len(owner)
    one_each = csr_array((np.ones(variables), (owner, np.arange(variables))), shape=(len(counts), variables))
    constraints = [LinearConstraint(one_each, 1, 1)]
    for name, limit in budgets.items():
        table, room = _above_least(costs[name])
        scale = table.max() or 1.0
        constraints.append(LinearConstraint(table[None] / scale, -np.inf, (limit - room) / scale))
    first = np.cumsum([0, *counts[:-1]])
    for choices in refused:
        row = np.zeros((1, variables))
        row[0, first + choices] = 1
        constraints.append(LinearConstraint(row, -np.inf, len(counts) - 1))
    objective, _ = _above_least(losses)
    with _kept_off_stdout():
        found = milp(
            objective * (_SPREAD / (objective.max() or 1.0)),
            constraints=constraints,
            integrality=np.ones(variables),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": 0.0},
        )
    if found.status == 2:  # infeasible
        return None
    if not found.success:
        raise RuntimeError(f"the integer program was not solved: {found.message}")
    return tuple(int(np.argmax(part)) for part in np.split(found.x, first[1:]))


@contextmanager
def _kept_off_stdout() -> Iterator[None]:
    """What C code prints goes to standard error.

    HiGHS 1.12 prints a line of its own now and then, told to be silent or not (jump-dev/HiGHS.jl, issue 312);
    standard output may be a caller's JSON.
    """
    libc = ctypes.CDLL(None)
    sys.stdout.flush()
    libc.fflush(None)
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        libc.fflush(None)
        os.dup2(stdout, 1)
        os.close(stdout)


def _above_least(table: Table) -> tuple[Floats, float]:
    """All numbers less their layer's smallest, in one row, and the sum of the smallest.

    Every layer pays its smallest, whatever is chosen: without it the solver's tolerances look at differences.
    """
    least = [min(row) for row in table]
    row = np.array([value - low for values, low in zip(table, least, strict=True) for value in values])
    return row, math.fsum(least)


def _total(table: Table, chosen: Sequence[int]) -> float:
    picked = [row[at] for row, at in zip(table, chosen, strict=True)]
    # Integers stay integers: bits and cycles are counted, not measured.
    return sum(picked) if all(isinstance(value, int) for value in picked) else math.fsum(picked)


def _check(losses: Table, costs: Mapping[str, Table], budgets: Mapping[str, float]) -> None:
    shape = [len(row) for row in losses]
    if not shape or not all(shape):
        raise ValueError(f"losses must hold a layer, and each an option, not {shape} options")
    for name, table in {"losses": losses, **costs}.items():
        if [len(row) for row in table] != shape:
            raise ValueError(f"{name} must hold {shape} options by layer, not {[len(row) for row in table]}")
        if not all(math.isfinite(value) for row in table for value in row):
            raise ValueError(f"{name} must be finite, not NaN or infinity")
    for name, value in budgets.items():
        if name not in costs:
            raise ValueError(f"budget must be one of {', '.join(costs)}, not {name!r}")
        if not math.isfinite(value):
            raise ValueError(f"budget {name} must be finite, not {value!r}")
