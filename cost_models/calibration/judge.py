"""Points to a calibration: every fit of a target, each with its errors on designs that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cost_models import generic_liberty
from cost_models.calibration import fit, paths, predict, store
from cost_models.calibration.designs import Design, designs
from cost_models.calibration.fit import Sample
from cost_models.calibration.measure import FPGAS
from cost_models.calibration.predict import counted, group_of, mappings

_AREA = {name: cell[0] for name, cell in generic_liberty.CELLS.items()}
#: gate equivalents of each counted cell, built from our own library's cells: where an area fit is pulled to
GATES = {
    "gate2": (_AREA["AND2"] + _AREA["XNOR2"]) / 2,
    "full_adder": 2 * _AREA["XOR2"] + _AREA["MAJ3"],
    "half_adder": _AREA["XOR2"] + _AREA["AND2"],
    "adder_bit": 2 * _AREA["XOR2"] + _AREA["MAJ3"],
    "mux2": _AREA["MUX2"],
    "flop": generic_liberty.FLOP_GE + _AREA["MUX2"],  # with its clock enable
}
#: the same in look-up tables of four or six inputs
TABLES = {"gate2": 0.4, "full_adder": 1.5, "half_adder": 1.0, "adder_bit": 1.0, "mux2": 0.6, "flop": 0.02}

Points = Mapping[str, Mapping[str, Mapping[str, Any]]]


def calibrated(
    target: str, points: Points, origin: Mapping[str, Any], families: Sequence[str]
) -> dict[str, Any]:
    """The content of a calibration file.

    Parameters: points, what `measure` found, by mapping and design name; origin, what it was measured with.
    """
    swept = {family: designs(family) for family in families}
    groups: dict[str, list[Design]] = {}
    for sweep in swept.values():
        for design in sweep:
            groups.setdefault(group_of(design.spec), []).append(design)
    quantities = ("lut",) if target in FPGAS else ("area", "period")
    content: dict[str, Any] = {"target": target, **origin, "goals": store.GOALS, "fits": {}, "misses": {}}
    for quantity in quantities:
        usable = {}
        for group, found in groups.items():
            for mapping, measured in points.items():
                kept = [d for d in found if d.name in measured and mapping in mappings(d.spec)]
                if group != "array" and len(kept) > 2:
                    usable[group, mapping] = kept
        for (group, mapping), one in _fitted(quantity, usable, points).items():
            content["fits"].setdefault(group, {}).setdefault(mapping, {})[quantity] = one
    content["kinds"] = {
        quantity: predict.of_kinds(
            one[quantity]["coefficients"] for found in content["fits"].values() for one in found.values()
        )
        for quantity in quantities
        if quantity != "period"
    }
    content["arrays"] = _arrays(content, groups.get("array", []), points.get("default", {}))
    content["misses"] = missed(content)
    content["points"] = {
        family: [
            [mapping, design.name, *_figures(measured[design.name])]
            for design in sweep
            for mapping, measured in points.items()
            if design.name in measured
        ]
        for family, sweep in swept.items()
    }
    return content


def _figures(point: Mapping[str, Any]) -> list[Any]:
    keys = ("area", "flops", "period_s") if "area" in point else ("lut", "flop", "carry", "dsp", "bram")
    return [point[key] for key in keys]


Key = tuple[str, str]  #: group and mapping


def _fitted(quantity: str, groups: Mapping[Key, Sequence[Design]], points: Points) -> dict[Key, Any]:
    """Fits of a quantity, all together."""
    if quantity == "period":
        return paths.judged(
            {
                key: [(d.name, d.spec, points[key[1]][d.name]["period_s"], d.large) for d in found]
                for key, found in groups.items()
            }
        )
    samples = {
        key: [_sample(quantity, design, points[key[1]][design.name], key[1]) for design in found]
        for key, found in groups.items()
    }
    return fit.judged(samples, GATES if quantity == "area" else TABLES)


def _sample(quantity: str, design: Design, point: Mapping[str, Any], mapping: str) -> Sample:
    if quantity == "area":
        return Sample(design.name, counted(design.spec, mapping), point["area"], design.large)
    return Sample(design.name, predict.tabled(design.spec), tables(point), design.large)


def tables(point: Mapping[str, Any]) -> float:
    """Look-up tables, those that ECP5's carry cells are made of included."""
    return float(point["lut"] + 2 * point["carry"] * (point["target"] == "ecp5"))


def _arrays(
    content: Mapping[str, Any], found: Sequence[Design], measured: Mapping[str, Any]
) -> dict[str, Any]:
    """Errors of arrays: no fit of their own, PEs and registers between them added up."""
    kept = [d for d in found if d.name in measured]
    if not kept:
        return {}
    if content["target"] in FPGAS:
        true = [tables(measured[d.name]) for d in kept]
        values = [sum(predict.lut_terms(content, d.spec).values()) for d in kept]
    else:
        true = [measured[d.name]["area"] for d in kept]
        values = [sum(predict.area_terms(content, d.spec)[1].values()) for d in kept]
    return fit.summary(values, true, [d.name for d in kept])


def missed(content: Mapping[str, Any]) -> dict[str, list[str]]:
    """Goals that are not reached, by group, mapping and quantity."""
    missing = {}
    for group, found in content["fits"].items():
        for mapping, fits in found.items():
            for quantity, one in fits.items():
                words = store.misses(quantity, one)
                if words:
                    missing[f"{group}, {mapping}, {quantity}"] = words
    if content["arrays"] and content["arrays"]["max"] > store.GOALS["array"][1]:
        worst = content["arrays"]
        missing["arrays"] = [f"worst {100 * worst['max']:.1f} % ({worst['worst']}) is above 5 %"]
    return missing


def lines(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a fit and judgement, for a table."""
    rows = []
    for group, found in content["fits"].items():
        for mapping, fits in found.items():
            for quantity, one in fits.items():
                for key, errors in one["errors"].items():
                    head = {"pe": group, "mapping": mapping, "quantity": quantity, "judged on": key}
                    rows.append(head | _row(errors))
    if content["arrays"]:
        head = {"pe": "arrays", "mapping": "best", "quantity": "area", "judged on": "not fitted"}
        rows.append(head | _row(content["arrays"]))
    return rows


def _row(errors: Mapping[str, Any]) -> dict[str, Any]:
    percent = {"mean %": 100 * errors["mape"], "worst %": 100 * errors["max"]}
    return {"designs": errors["n"], **percent, "worst design": errors["worst"]}
