"""Area: counted cells times what synthesis with a technology's library made of such cells.

Two layers that never mix. A PE counts its cells, by what they are for and free of any technology
(`hw.spec.PeSpec.parts`). A technology has them priced: by fits to real designs mapped to its own library,
where `cost_models.data.calibration` has one of that name, else by the fits to our own library in gate
equivalents, times the two numbers of the technology, area per gate equivalent and per flip-flop. Cell area is
what synthesis reports: nothing is placed or routed, except in `array_area`, which books an assumed share.

Counts that belong to no PE of the family (`Resources` alone) are priced by one pooled fit of bit-serial PEs.
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
from cost_models.calibration import predict, store
from cost_models.calibration.designs import family_of
from cost_models.generic_liberty import FLOP_GE
from cost_models.tech import Tech
from cost_models.uncertain import Constant, Cost, Term
from hw.grid import Grid
from hw.spec import ArraySpec, PeSpec, Resources

#: the pooled fit, by `python -m cost_models.calibrate`
CALIBRATION = Path(__file__).parent / "data" / "calibration_generic_ge.json"
#: the library that other technologies are scaled from
GENERIC = "generic_ge"


@cache
def calibration() -> Any:
    """The stored pooled fit: coefficients, errors, points, tool version."""
    return json.loads(CALIBRATION.read_text(encoding="utf-8"))


def gate_equivalents(kind: str) -> Constant:
    """Pooled combinational gate equivalents of one counted cell; a flop's are its enable and reset."""
    fit = calibration()
    coefficients = fit["coefficients"]
    if kind not in coefficients:
        raise ValueError(f"cell kind must be one of {', '.join(coefficients)}, not {kind!r}")
    unseen = kind in fit["unseen"]
    source = (
        "cell areas of generic_ge.lib" if unseen else f"fit to {len(fit['points'])} syntheses, {fit['tool']}"
    )
    return _fitted(
        f"calibration.{kind}",
        float(coefficients[kind]),
        "GE",
        f"{source} (python -m cost_models.calibrate)",
        kind="derived" if unseen else "measured",
    )


def _fitted(key: str, value: float, unit: str, source: str, *, kind: str = "measured") -> Constant:
    return Constant(
        key=key,
        value=value,
        low=value,
        high=value,
        unit=unit,
        node="any" if unit == "GE" else key.split(".")[1],
        vdd="none",
        kind=kind,
        source=source,
        note="only sums over a PE are validated; their error is the cost's fit",
    )


def error() -> float:
    """Largest relative error of the pooled fit on any synthesized design, seen or held out."""
    return max(float(found["max"]) for found in calibration()["errors"].values())


def cell_terms(resources: Resources, tech: Tech) -> tuple[Term, ...]:
    """Cell area by cell kind, by the pooled fit."""
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


def part_terms(spec: PeSpec, tech: Tech) -> tuple[Term, ...]:
    """Cell area of a PE, or of a grid of them, by part and cell kind, under the mapping that takes least.

    Raises ValueError for a PE that the technology's calibration has not seen.
    """
    direct = tech.name in store.names()
    content = store.load(tech.name if direct else GENERIC)
    mapping, areas = predict.area_terms(content, spec)
    group, counts = predict.group_of(predict.core(spec)), predict.counted(spec, mapping)
    points = sum(map(len, content["points"].values()))
    source = f"fit to {points} syntheses of {content['library']}, {mapping} mapping, {content['tool']}"
    unit = tech.area_unit if direct else "GE"
    terms = []
    for name, area in areas.items():
        part, _, kind = name.rpartition(".")
        # A technology of two scales has its own flip-flops; what stands around them are gates.
        flops = 0.0 if direct or kind != "flop" else min(counts[name] * FLOP_GE, area)
        cells = (area - flops) / counts[name]
        if flops:
            terms.append(Term(part=part, quantity=flops / FLOP_GE, constants=(tech.constant("area_flop"),)))
        if cells > 1e-12:
            key = f"calibration.{content['target']}.{group}.{mapping}.{name}"
            constants = (_fitted(key, cells, unit, source),)
            scaled = constants if direct else (*constants, tech.constant("area_ge"))
            terms.append(Term(part=part, quantity=counts[name], constants=scaled))
    return tuple(terms)


def fit_error(spec: PeSpec, tech: Tech | str) -> float:
    """Largest relative error of the area fit of this kind of PE on designs that it has not seen."""
    name = techs.resolve(tech).name
    content = store.load(name if name in store.names() else GENERIC)
    if isinstance(spec, Grid):
        return max(float(content["arrays"]["max"]), fit_error(spec.array.pe, tech))
    fits = predict.fits(content, spec)
    return max(store.unseen(one["area"])[1] for one in fits.values())


def mapping(spec: PeSpec, tech: Tech | str) -> str:
    """The mapping whose area counts, being the least: ``default``, or ``booth`` (``synth -booth``)."""
    name = techs.resolve(tech).name
    return predict.area_terms(store.load(name if name in store.names() else GENERIC), spec)[0]


def missed(spec: PeSpec, tech: Tech | str) -> tuple[str, ...]:
    """Goals that the technology's fits of this kind of PE do not reach, in words."""
    name = techs.resolve(tech).name
    content = store.load(name if name in store.names() else GENERIC)
    group = predict.group_of(predict.core(spec))
    return tuple(
        f"{key}: {word}"
        for key, words in content["misses"].items()
        for word in words
        if key.split(",")[0] == group
    )


def pe_area(cells: PeSpec | Resources, tech: Tech | str) -> Cost:
    """Cell area of a PE by part, in the technology's unit (um2 or GE); of bare counts, by cell kind."""
    tech = techs.resolve(tech)
    if isinstance(cells, Resources):
        return Cost(unit=tech.area_unit, terms=cell_terms(cells, tech), fit=error())
    if not is_calibrated(cells):
        return pe_area(cells.resources(), tech)
    return Cost(unit=tech.area_unit, terms=part_terms(cells, tech), fit=fit_error(cells, tech))


def is_calibrated(spec: PeSpec) -> bool:
    """Whether this kind of PE is in the sweeps; one that somebody adds is priced by the pooled fit."""
    return family_of(predict.core(spec)) in store.load(GENERIC)["points"]


def array_area(array: ArraySpec, tech: Tech | str) -> Cost:
    """Area of an array: cells of its PEs, room to place and route them, and its two buffers.

    Not in it: sequencer, scale unit, drain, interconnect. Raises ValueError for a technology without SRAM.
    """
    tech = techs.resolve(tech)
    grid = Grid(array=array)
    cells = pe_area(grid, tech)
    buffers = (
        memory.area("weight_buffer", array.weight_buffer_bits, tech),
        memory.area("activation_buffer", array.activation_buffer_bits, tech),
    )
    return Cost(unit=tech.area_unit, terms=(*cells.terms, *_placement(cells.terms), *buffers), fit=cells.fit)


def _placement(cells: Iterable[Term]) -> Iterable[Term]:
    share = techs.design("placement")
    return (term.times(1.0, share, part="placement") for term in cells)
