"""Scaling of a technology between nodes and supplies, with its honest band.

Area by a table, energy by a polynomial in the supply at each tabled node; between nodes both are interpolated
on logarithmic axes, so that a value between two nodes lies between theirs. Leakage is not scaled: it goes
with thresholds that no node fixes.

Source: Stillmaker and Baas, Integration 58, 2017. Differs in: logarithmic interpolation; both supplies are
the caller's; the band, which is ours.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from math import exp, log
from typing import Any

from cost_models import tables
from cost_models.tech import FACTORS, Tech, times
from cost_models.uncertain import Constant, Interval


def area_factor(old: float, new: float) -> float:
    """Area at a node [nm] over that at another. Raises ValueError for a node outside the table."""
    return _area(new) / _area(old)


def energy_factor(old: float, old_vdd: float, new: float, new_vdd: float) -> float:
    """Switching energy at a node [nm] and supply [V] over that at others.

    Raises ValueError for a node outside the table, or a supply outside the polynomials' range.
    """
    return _energy(new, new_vdd) / _energy(old, old_vdd)


def generations(old: float, new: float) -> float:
    """How many generations lie between two nodes [nm]."""
    return abs(log(old / new)) / log(limit("generation").value)


def band(kind: str, old: float, new: float) -> Interval:
    """How far a scaled ``area`` or ``energy`` may be off, about 1, either way; the wider the farther."""
    wide = limit(f"{kind}_band").value ** (generations(old, new) / 3)
    return Interval(value=1.0, low=1 / wide, high=wide)


def warning(old: float, new: float) -> str:
    """What to say of a scaling over more than a generation; of one within, nothing."""
    count = generations(old, new)
    if count <= 1:
        return ""
    wide = band("energy", old, new).high
    span = f"scaled over {count:.1f} generations, {old:g} to {new:g} nm"
    return f"{span}: energy may be off by a factor of {wide:.1f}"


def scaled(tech: Tech, target: str) -> Tech:
    """A technology at ``NODE`` or ``NODE:VDD``, in nm and V; without a supply it keeps its own.

    Areas and energies move, each with a common factor's band; leakage is left out, and so is whatever else
    depends on it. Raises ValueError for a target that is none, or outside the tables.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:nm)?(?::(\d+(?:\.\d+)?)V?)?", target)
    if found is None:
        raise ValueError(f"node must be NODE or NODE:VDD, such as 22 or 22:0.8, not {target!r}")
    old, new = tech.nanometres, float(found[1])
    vdd = float(found[2]) if found[2] else tech.volts
    head = {"node": f"{new:g} nm", "vdd": f"{vdd:g} V"}
    name = f"{tech.name}@{target}"
    by_kind = {
        "area": _factor(name, "area", area_factor(old, new), old, new, head),
        "energy": _factor(name, "energy", energy_factor(old, tech.volts, new, vdd), old, new, head),
    }
    constants = {}
    for key, constant in tech.constants.items():
        kind = next((k for k, starts in FACTORS.items() if constant.unit.startswith(starts)), "")
        if kind in by_kind:
            constants[key] = times(constant, by_kind[kind], name, head)
        elif kind != "leakage":
            constants[key] = replace(constant, key=f"{name}.{key}")
    said = warning(old, new)
    return replace(
        tech,
        node=head["node"],
        vdd=head["vdd"],
        name=name,
        title=f"{tech.title}, scaled",
        constants=constants,
        base=tech.name,
        warnings=(*tech.warnings, said) if said else tech.warnings,
    )


@cache
def limit(key: str) -> Constant:
    """A bound of the method."""
    return tables.numbers("scaling", tables.shipped("scaling")["limits"])[key]


def _factor(name: str, kind: str, value: float, old: float, new: float, head: dict[str, str]) -> Constant:
    about = band(kind, old, new)
    return Constant(
        key=f"{name}.factors.{kind}",
        value=value,
        low=value * about.low,
        high=value * about.high,
        unit="1",
        node=head["node"],
        vdd=head["vdd"],
        kind="derived",
        source=f"{_table()['source']}; band: {limit(f'{kind}_band').source}",
    )


def _table() -> Mapping[str, Any]:
    table: Mapping[str, Any] = tables.shipped("scaling")["stillmaker"]
    return table


def _area(node: float) -> float:
    return _between(node, _table()["area"])


def _energy(node: float, vdd: float) -> float:
    least, most = limit("vdd_least").value, limit("vdd_most").value
    if not least <= vdd <= most:
        raise ValueError(f"vdd must be from {least:g} to {most:g} V to be scaled, not {vdd!r}")
    return _between(node, [(a * vdd + b) * vdd + c for a, b, c in _table()["energy"]])


def _between(node: float, values: Sequence[float]) -> float:
    """A tabled value at a node, log-log between its neighbours."""
    nodes = _table()["nodes"]
    if not nodes[-1] <= node <= nodes[0]:
        raise ValueError(f"node must be from {nodes[-1]} to {nodes[0]} nm to be scaled, not {node!r}")
    # Nodes fall along the table.
    at = max(1, bisect_left([-n for n in nodes], -node))
    share = log(node / nodes[at - 1]) / log(nodes[at] / nodes[at - 1])
    return exp((1 - share) * log(values[at - 1]) + share * log(values[at]))
