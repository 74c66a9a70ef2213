"""One constant swept over a range: where the order of several costs flips.

A constant stands at most once in a term, so that a cost is a line in it, ``a + b x``, and two costs cross at
most once: crossings are computed, not looked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isfinite
from typing import Any

from cost_models.ranking import ranking
from cost_models.uncertain import Constant, Cost

#: names of constants that are of several technologies or memories, by what their keys begin with
ALIASES = {"dram_pj_per_bit": "dram."}


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A constant, by key or by a part of one, from ``low`` to ``high``."""

    name: str
    low: float
    high: float

    @classmethod
    def of(cls, text: str) -> Sweep:
        """``NAME=LOW:HIGH``. Raises ValueError for another form, or ends that are no positive range."""
        name, equals, ends = text.partition("=")
        low, colon, high = ends.partition(":")
        try:
            made = cls(name=name.strip(), low=float(low), high=float(high))
        except ValueError:
            made = cls(name="", low=0.0, high=0.0)
        if not (equals and colon and made.name and isfinite(made.high) and 0 < made.low < made.high):
            raise ValueError(f"sweep must be NAME=LOW:HIGH with 0 < LOW < HIGH, not {text!r}")
        return made

    def constant(self, costs: Mapping[str, Cost]) -> Constant:
        """The constant meant, of those that the costs rest on. Raises ValueError naming the choices."""
        used = {c.key: c for cost in costs.values() for c in cost.constants}
        start = ALIASES.get(self.name)
        found = [
            key
            for key in used
            if key == self.name
            or key.endswith(f".{self.name}")
            or (start is not None and key.startswith(start))
        ]
        if len(found) != 1:
            known = ", ".join((*ALIASES, *used))
            which = "one of" if not found else f"one alone, of {', '.join(found)}:"
            raise ValueError(f"sweep must name {which} {known}, not {self.name!r}")
        return used[found[0]]


def line(cost: Cost, key: str) -> tuple[float, float]:
    """``a`` and ``b`` of a cost ``a + b x`` in a constant, all others at their values."""
    values = {c.key: c.value for c in cost.constants}
    at_one = values | {key: 1.0}
    swept = [term for term in cost.terms if any(c.key == key for c in term.constants)]
    slope = sum(term.at(at_one) for term in swept)
    return sum(term.at(values) for term in cost.terms if term not in swept), slope


def crossings(costs: Mapping[str, Cost], sweep: Sweep) -> list[dict[str, Any]]:
    """Values strictly inside the range at which two costs change order, ascending.

    Each has ``at``, ``cheaper_below``, ``cheaper_above``. Raises ValueError for an unknown constant.
    """
    key = sweep.constant(costs).key
    lines = {label: line(cost, key) for label, cost in costs.items()}
    labels = list(lines)
    found = []
    for i, one in enumerate(labels):
        for other in labels[i + 1 :]:
            (a, b), (c, d) = lines[one], lines[other]
            if b == d:
                continue
            at = (c - a) / (b - d)
            if sweep.low < at < sweep.high:
                below, above = (other, one) if b < d else (one, other)
                found.append({"at": at, "cheaper_below": below, "cheaper_above": above})
    return sorted(found, key=lambda crossing: float(crossing["at"]))


def pinned(cost: Cost, key: str, value: float) -> Cost:
    """A cost with one constant known to be ``value``."""
    terms = tuple(
        replace(
            term,
            constants=tuple(
                replace(c, value=value, low=value, high=value) if c.key == key else c for c in term.constants
            ),
        )
        for term in cost.terms
    )
    return replace(cost, terms=terms)


def orders(costs: Mapping[str, Cost], sweep: Sweep) -> list[dict[str, Any]]:
    """The order of the costs, the least first, on each stretch between crossings.

    ``places`` says which of it is certain in the middle of the stretch, by the other constants' ranges.
    """
    key = sweep.constant(costs).key
    lines = {label: line(cost, key) for label, cost in costs.items()}
    inside = sorted({float(crossing["at"]) for crossing in crossings(costs, sweep)})
    ends = [sweep.low, *inside, sweep.high]
    found = []
    for low, high in pairwise(ends):
        middle = (low + high) / 2
        at = {label: a + b * middle for label, (a, b) in lines.items()}
        order = sorted(at, key=lambda label: (at[label], label))
        known = {label: pinned(cost, key, middle) for label, cost in costs.items()}
        places = {place.label: str(place) for place in ranking(known)} if len(known) > 1 else {}
        found.append({"from": low, "to": high, "order": order, "places": places})
    return found


def report(costs: Mapping[str, Cost], sweep: Sweep) -> dict[str, Any]:
    """All of a sweep: the constant, costs at both ends and at its value, crossings, orders between them."""
    constant = sweep.constant(costs)
    lines = {label: line(cost, constant.key) for label, cost in costs.items()}
    ends = {"low": sweep.low, "value": constant.value, "high": sweep.high}
    return {
        "constant": constant.line(),
        "key": constant.key,
        "unit": constant.unit,
        "from": sweep.low,
        "to": sweep.high,
        "totals": {label: {end: a + b * at for end, at in ends.items()} for label, (a, b) in lines.items()},
        "crossings": crossings(costs, sweep),
        "orders": orders(costs, sweep),
    }
