"""How far stored calibrations are off on designs that their fits have not seen, as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cost_models.calibration import store
from cost_models.calibration.measure import FPGAS

#: quantity, and what its table is of
_TABLES = (
    ("area", "Cell area"),
    ("period", "Clock period, wires ideal"),
    ("lut", "Look-up tables"),
)


def lines() -> list[str]:
    """A table for each quantity: mean and largest error [%] by PE and target, above the goal in bold."""
    contents = {target: store.load(target) for target in store.names()}
    found = [
        "Each fit is judged on designs it has not seen: 40 % of a sweep, drawn at random, and the block of",
        "its largest sizes. Arrays have no fit: their PEs and the registers between them are added up.",
        "Mean and largest error in percent, over all of them; bold is above the goal.",
    ]
    for quantity, title in _TABLES:
        targets = [t for t in contents if (t in FPGAS) == (quantity == "lut")]
        mean, most = store.GOALS[quantity]
        goal = f"mean {100 * mean:g} %" + (f", largest {100 * most:g} %" if most < 1 else "")
        found += ["", f"{title}; goal: {goal}.", "", *_table(quantity, targets, contents)]
    return found


def _table(quantity: str, targets: Iterable[str], contents: Mapping[str, Mapping[str, Any]]) -> list[str]:
    chosen = list(targets)
    keys = dict.fromkeys(
        (group, mapping)
        for target in chosen
        for group, fits in contents[target]["fits"].items()
        for mapping, one in fits.items()
        if quantity in one
    )
    rows = [f"| PE | mapping | {' | '.join(chosen)} |", "|---|---|" + "---|" * len(chosen)]
    for group, mapping in keys:
        cells = [
            _cell(quantity, contents[target]["fits"].get(group, {}).get(mapping, {}).get(quantity))
            for target in chosen
        ]
        rows.append(f"| {group} | {mapping} | {' | '.join(cells)} |")
    arrays = [contents[target]["arrays"] for target in chosen]
    if quantity != "period" and any(arrays):
        rows.append(f"| arrays | best | {' | '.join(_array(one) for one in arrays)} |")
    return rows


def _cell(quantity: str, fit: Mapping[str, Any] | None) -> str:
    if fit is None:
        return ""
    mean, most = store.unseen(fit)
    return " / ".join(
        _figure(value, goal) for value, goal in zip((mean, most), store.GOALS[quantity], strict=True)
    )


def _array(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    goals = store.GOALS["array"]
    return " / ".join(_figure(found[key], goal) for key, goal in zip(("mape", "max"), goals, strict=True))


def _figure(value: float, goal: float) -> str:
    text = f"{100 * value:.1f}"
    return f"**{text}**" if value > goal else text
