"""Area: counted cells times calibrated gate equivalents times what a gate equivalent takes in a technology.

Two layers that never mix. `calibrate` fits gate equivalents per counted cell against synthesis with our own
library, free of any technology; a technology adds two numbers, area per gate equivalent and per flip-flop.
Cell area is what synthesis reports: nothing is placed or routed, except in `array_area`, which books an
assumed share for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from cost_models import memory
from cost_models import tech as techs
from cost_models.tech import Tech
from cost_models.uncertain import Constant, Cost, Term
from hw.spec import ArraySpec, Resources

#: fitted by `python -m cost_models.calibrate`
CALIBRATION = Path(__file__).parent / "data" / "calibration_generic_ge.json"


@cache
def calibration() -> Any:
    """The stored fit: coefficients, errors, points, tool version."""
    return json.loads(CALIBRATION.read_text(encoding="utf-8"))


def gate_equivalents(kind: str) -> Constant:
    """Fitted combinational gate equivalents of one counted cell; a flop's are its enable and reset."""
    fit = calibration()
    coefficients = fit["coefficients"]
    if kind not in coefficients:
        raise ValueError(f"cell kind must be one of {', '.join(coefficients)}, not {kind!r}")
    value = float(coefficients[kind])
    unseen = kind in fit["unseen"]
    source = (
        "cell areas of generic_ge.lib" if unseen else f"fit to {len(fit['points'])} syntheses, {fit['tool']}"
    )
    return Constant(
        key=f"calibration.{kind}",
        value=value,
        low=value,
        high=value,
        unit="GE",
        node="any",
        vdd="none",
        kind="derived" if unseen else "measured",
        source=f"{source} (python -m cost_models.calibrate)",
        note="only sums over a PE are validated; their error is the cost's fit",
    )


def error() -> float:
    """Largest relative error of the fit on any synthesized design, seen or held out."""
    return max(float(found["max"]) for found in calibration()["errors"].values())


def cell_terms(resources: Resources, tech: Tech) -> tuple[Term, ...]:
    """Cell area by cell kind."""
    per_ge = tech.constant("area_ge")
    terms = [
        Term(part=kind, quantity=count, constants=(gate_equivalents(kind), per_ge))
        for kind, count in asdict(resources).items()
        if count
    ]
    if resources.flop:
        per_flop = tech.constant("area_flop")
        terms.append(Term(part="flop", quantity=resources.flop, constants=(per_flop,)))
    return tuple(terms)


def pe_area(resources: Resources, tech: Tech | str) -> Cost:
    """Cell area of ``resources`` by cell kind, in the technology's unit (um2 or GE)."""
    tech = techs.resolve(tech)
    return Cost(unit=tech.area_unit, terms=cell_terms(resources, tech), fit=error())


def array_area(array: ArraySpec, tech: Tech | str) -> Cost:
    """Area of an array: cells of its PEs, room to place and route them, and its two buffers.

    Not in it: sequencer, scale unit, drain, interconnect. Raises ValueError for a technology without SRAM.
    """
    tech = techs.resolve(tech)
    cells = cell_terms(array.resources(), tech)
    buffers = (
        memory.area("weight_buffer", array.weight_buffer_bits, tech),
        memory.area("activation_buffer", array.activation_buffer_bits, tech),
    )
    return Cost(unit=tech.area_unit, terms=(*cells, *_placement(cells), *buffers), fit=error())


def _placement(cells: Iterable[Term]) -> Iterable[Term]:
    share = techs.design("placement")
    return (term.times(1.0, share, part="placement") for term in cells)
