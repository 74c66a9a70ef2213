"""Formats of a study by energy: places that are certain, and where a constant would change them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from planeforge import study_table
from planeforge.study_rows import Row

if TYPE_CHECKING:
    from cost_models.uncertain import Cost
    from planeforge.study_config import Study


def energies(rows: Sequence[Row], study: Study) -> dict[str, Cost]:
    """Energy a token of every sound row [pJ], by label."""
    table = study.table
    sound = [row for row in rows if row.error is None]
    return {row.label: study_table.result(row, study.array, table.tech, table.dram).energy for row in sound}


def check(text: str, study: Study) -> None:
    """Raises ValueError for a sweep that cannot be made, before a model is loaded."""
    from dataclasses import fields

    from cost_models import energy
    from cost_models.sweep import Sweep
    from hw.spec import Activity

    if text:
        once = Activity(**{field.name: 1 for field in fields(Activity)})
        priced = energy.energy(once, study.array, study.table.tech, study.table.dram)
        Sweep.of(text).constant({"energy": priced})


def found(rows: Sequence[Row], study: Study, text: str) -> dict[str, Any]:
    """``energy_places`` of the formats, and ``sweep`` if one is asked."""
    from cost_models import sweep
    from cost_models.ranking import ranking

    costs = energies(rows, study)
    places = ranking(costs) if len(costs) > 1 else ()
    result: dict[str, Any] = {
        "energy_places": [
            {
                "format": place.label,
                "energy_pj_per_token": place.value,
                "low": costs[place.label].low,
                "high": costs[place.label].high,
                "place": str(place),
                "no_order_with": ", ".join(place.ties) or "-",
            }
            for place in places
        ]
    }
    return result | ({"sweep": sweep.report(costs, sweep.Sweep.of(text))} if text else {})
