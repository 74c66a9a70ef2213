"""Calibrations on disk: a file of JSON a target, with its fits, their errors and what they were made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

#: where the stored calibrations are
FOLDER = Path(__file__).parents[1] / "data" / "calibration"

#: what a fit must reach on designs that it has not seen: mean and largest relative error
GOALS: Mapping[str, tuple[float, float]] = {
    "area": (0.015, 0.05),
    "array": (0.05, 0.05),
    "period": (0.05, 1.0),
    "lut": (0.05, 0.15),
}
#: judgements of a fit on designs that it has not seen
UNSEEN = ("held_out", "block")


def path(target: str, folder: Path = FOLDER) -> Path:
    """The file of a target."""
    return folder / f"{target}.json"


def names(folder: Path = FOLDER) -> tuple[str, ...]:
    """Targets that have a calibration."""
    return tuple(sorted(file.stem for file in folder.glob("*.json")))


@cache
def load(target: str) -> Mapping[str, Any]:
    """A target's calibration. Raises ValueError naming the targets that have one."""
    if target not in names():
        raise ValueError(f"target must be one of {', '.join(names())}, not {target!r}")
    found: Mapping[str, Any] = json.loads(path(target).read_text(encoding="utf-8"))
    return found


def save(content: Mapping[str, Any], folder: Path = FOLDER) -> Path:
    """Writes a calibration, a point to a line, and returns its file."""
    head = {key: value for key, value in content.items() if key != "points"}
    lines = json.dumps(head, indent=1)[:-2]
    lists = []
    for family, points in content["points"].items():
        rows = ",\n   ".join(json.dumps(point) for point in points)
        lists.append(f"  {json.dumps(family)}: [\n   {rows}\n  ]")
    folder.mkdir(parents=True, exist_ok=True)
    file = path(content["target"], folder)
    file.write_text(lines + ',\n "points": {\n' + ",\n".join(lists) + "\n }\n}\n", encoding="utf-8")
    load.cache_clear()
    return file


def unseen(fit: Mapping[str, Any]) -> tuple[float, float]:
    """Mean and largest relative error of a fit on all designs that it was judged on unseen."""
    judged = [fit["errors"][key] for key in UNSEEN if fit["errors"][key]["n"]]
    count = sum(found["n"] for found in judged)
    mean = sum(found["n"] * found["mape"] for found in judged) / count if count else 0.0
    return mean, max((found["max"] for found in judged), default=0.0)


def misses(quantity: str, fit: Mapping[str, Any]) -> list[str]:
    """Goals that a fit does not reach, in words; a held-out set and the block are each held against them."""
    found = []
    mean, most = GOALS[quantity]
    for key in UNSEEN:
        errors = fit["errors"][key]
        if not errors["n"]:
            continue
        for name, value, goal in (("mean", errors["mape"], mean), ("worst", errors["max"], most)):
            if value > goal:
                found.append(f"{key} {name} {100 * value:.1f} % is above {100 * goal:g} %")
    return found
