"""Where a number comes from: its arithmetic, term by term, and who says each constant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cost_models.uncertain import Constant, Cost, Term

ALL = "all"


def names(costs: Mapping[str, Cost]) -> tuple[str, ...]:
    """What can be explained: costs, their parts, and the constants in them."""
    parts = (term.part for cost in costs.values() for term in cost.terms)
    keys = (constant.key for cost in costs.values() for constant in cost.constants)
    return tuple(dict.fromkeys((*costs, *parts, *keys)))


def explain(costs: Mapping[str, Cost], name: str = ALL) -> list[dict[str, Any]]:
    """The terms of a cost, of a part, or with a constant (its technology may be left out); all for ``all``.

    Each has ``cost``, ``part``, ``arithmetic``, ``value``, ``unit``, ``share`` of its cost, ``sources``.
    Raises ValueError listing what can be explained.
    """
    known = name == ALL or name in names(costs)
    if not (known or any(_called(c, name) for cost in costs.values() for c in cost.constants)):
        raise ValueError(f"explain must be one of {', '.join((ALL, *names(costs)))}, not {name!r}")
    return [
        _line(label, cost, term)
        for label, cost in costs.items()
        for term in cost.terms
        if name in (ALL, label, term.part) or any(_called(c, name) for c in term.constants)
    ]


def text(costs: Mapping[str, Cost], name: str = ALL) -> str:
    """The same to read: sums of products that a reader can check, then every constant with its source."""
    lines: list[str] = []
    shown = explain(costs, name)
    for label, cost in costs.items():
        mine = [line for line in shown if line["cost"] == label]
        if not mine:
            continue
        lines.append(f"{label} = {cost.total:.6g} {cost.unit} [{cost.low:.4g}, {cost.high:.4g}]")
        for layer, found in cost.layers.items():
            lines.append(f"  {layer} alone: [{found.low:.4g}, {found.high:.4g}]")
        lines += [f"  {line['part']}: {line['arithmetic']}  ({line['share']:.1%})" for line in mine]
    lines.append("where")
    lines += [f"  {source}" for source in dict.fromkeys(s for line in shown for s in line["sources"])]
    return "\n".join(lines)


def _called(constant: Constant, name: str) -> bool:
    return constant.key == name or constant.key.endswith(f".{name}")


def _line(label: str, cost: Cost, term: Term) -> dict[str, Any]:
    value = term.at({constant.key: constant.value for constant in term.constants})
    factors = " x ".join(f"{c.key} {c.value:.6g} {c.unit}" for c in term.constants)
    total = cost.total
    return {
        "cost": label,
        "part": term.part,
        "arithmetic": f"{term.quantity:.6g} x {factors} = {value:.6g} {cost.unit}",
        "value": value,
        "unit": cost.unit,
        "share": value / total if total else 0.0,
        "sources": [_provenance(constant) for constant in term.constants],
    }


def _provenance(constant: Constant) -> str:
    return constant.line() + (f"; {constant.note}" if constant.note else "")
