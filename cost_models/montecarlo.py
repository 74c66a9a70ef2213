"""Bands by sampling: every constant drawn once a draw, and the same for all costs that use it.

A constant has a triangular density on a logarithmic axis, from its low to its high end with its value on
top; noise and fit are drawn for each cost alone, evenly. Unlike the corners of `uncertain` a band of samples
does not take everything at its worst at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

import numpy as np
from numpy.typing import NDArray

from cost_models.uncertain import Constant, Cost, Interval, everywhere

#: share of the draws that a band holds
SHARE = 0.9


def draws(costs: Sequence[Cost], count: int = 10_000, seed: int = 0) -> NDArray[np.float64]:
    """Totals of costs, float64 [costs, count]. Raises ValueError for no draws, or costs of several units."""
    return _drawn(costs, count, seed, frozenset())


def band(cost: Cost, count: int = 10_000, seed: int = 0) -> Interval:
    """The middle `SHARE` of a cost's draws, about its own total."""
    return _middle(cost.total, draws([cost], count, seed)[0])


def ratio(a: Cost, b: Cost, count: int = 10_000, seed: int = 0) -> Interval:
    """The middle `SHARE` of ``a / b``; what every term of both has cancels to the last bit.

    Raises ValueError for costs of two units, or when ``b`` is 0.
    """
    if not b.total > 0:
        raise ValueError(f"b must be positive, not {b.total!r}")
    over, under = _drawn([a, b], count, seed, frozenset(everywhere((a, b))))
    return _middle(a.total / b.total, over / under)


def _drawn(costs: Sequence[Cost], count: int, seed: int, still: frozenset[str]) -> NDArray[np.float64]:
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count!r}")
    units = {cost.unit for cost in costs}
    if len(units) > 1:
        raise ValueError(f"costs must be of one unit, not of {', '.join(sorted(units))}")
    rng = np.random.default_rng(seed)
    constants = {constant.key: constant for cost in costs for constant in cost.constants}
    values = {key: _sampled(constants[key], count, rng, key in still) for key in sorted(constants)}
    return np.array([_totals(cost, values, count, rng) for cost in costs])


def _sampled(constant: Constant, count: int, rng: np.random.Generator, still: bool) -> NDArray[np.float64]:
    if still or constant.low == constant.high:
        return np.full(count, constant.value)
    ends = [log(end) for end in (constant.low, constant.value, constant.high)]
    return np.exp(rng.triangular(ends[0], ends[1], ends[2], count))


def _totals(
    cost: Cost, values: Mapping[str, NDArray[np.float64]], count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    total = np.zeros(count)
    for term in cost.terms:
        product = np.full(count, term.quantity)
        for constant in term.constants:
            product = product * values[constant.key]
        total += product
    for share in (cost.fit, cost.noise):
        if share:
            total = total * (1 + rng.uniform(-share, share, count))
    return total


def _middle(value: float, found: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(found, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return Interval(value=value, low=float(low), high=float(high))
