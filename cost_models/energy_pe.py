"""Energy of PEs of any kind: counted toggles times what a technology's toggles take.

Counts are of clocks in which a PE takes a beat, by stretch of a run (`energy_toggles`). A few stretches may
stand for all that the PEs do; the sampling error between them is then the range of a factor of its own. A
technology without measured PEs borrows the coefficients of one that has some, times how much more its
bit-serial PEs take.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cost_models import energy_coefficients, energy_points, energy_stimuli, energy_toggles
from cost_models import tech as techs
from cost_models.energy_designs import kind
from cost_models.energy_toggles import FEATURES
from cost_models.tech import Tech
from cost_models.uncertain import Constant, Term
from hw.beats import Beats
from hw.spec import PeSpec

Array = NDArray[np.float64]

_RANDOM_BEATS = 512  #: beats that rates of random operands are taken from

#: part of an energy that a feature belongs to, by the end of its name
_PARTS = {"input pins": "operands", "settled": "gates", "settled pins": "gates"}
_PARTS |= {
    "flop toggles": "registers",
    "flop pins": "registers",
    "glitch": "glitches",
    "glitch pins": "glitches",
}
#: parts of a PE's energy
PARTS = ("clock", *dict.fromkeys(_PARTS.values()))
#: where the error of borrowed coefficients is kept
_BORROWING = energy_coefficients.file_of("borrowing.points")
#: whose coefficients a technology borrows that has none, nor one that it is scaled from
LENDER = "asap7"
#: what the bit-serial PEs of two technologies are compared by: constants of `energy.PARTS`, and the number
#: of `design` that says how often each is spent in a beat on random operands
_BEAT = {
    "operand_toggle": "beat_operand_toggles",
    "counter_adder": "beat_adder_toggles",
    "register_flop": "beat_register_toggles",
    "accumulator_bit": "beat_accumulator_toggles",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Counted:
    """Toggles of a PE on its beats."""

    spec: PeSpec
    counts: Array  #: [stretches, features] of a clock, in the order of `FEATURES`
    whole: bool  #: the stretches are all that there is; else a sample


def count(spec: PeSpec, beats: Beats, windows: NDArray[np.int64], *, whole: bool = False) -> Counted:
    """Count the beats ``windows[i, 0]`` to ``windows[i, 1] - 1`` of a run, stretch by stretch."""
    return Counted(spec=spec, counts=energy_toggles.of_beats(spec, beats, windows), whole=whole)


@cache
def on_random(spec: PeSpec) -> Counted:
    """Counts on random operands: what stands for a product whose bits are not at hand."""
    run = energy_stimuli.beats(spec, energy_stimuli.STIMULI[0], 0, _RANDOM_BEATS)
    warm = energy_stimuli.SETTLING
    return count(spec, Beats.from_list(run, spec), np.array([[warm, len(run)]]), whole=True)


def why_none(spec: PeSpec, tech: Tech) -> str:
    """Why a PE's energy is not modelled in a technology; empty where it is."""
    if "energy_scale" not in tech.constants:
        return f"tech must be one with a constant 'energy_scale', not {tech.name!r}"
    kinds = energy_coefficients.load(basis(tech))["kinds"]
    if kind(spec) in kinds:
        return ""
    return f"pe must be one whose energy is measured ({', '.join(kinds)}), not {kind(spec)!r}"


def described(spec: PeSpec, tech: Tech) -> str:
    """Which fit prices a PE, and its errors on what it has not seen, in words."""
    found = energy_coefficients.load(basis(tech))["kinds"][kind(spec)]["errors"]["both"]
    borrowed = "" if basis(tech) == tech.name else f", borrowed for {tech.name}"
    return (
        f"{kind(spec)} in {basis(tech)}{borrowed}, default mapping; unseen sizes under unseen stimuli: "
        f"mean error {found['mean']:.1%}, largest {found['max']:.1%}"
    )


def basis(tech: Tech) -> str:
    """The technology whose coefficients hold: its own, of the one it is scaled from, or `LENDER`."""
    known = energy_coefficients.names()
    return next((name for name in (tech.name, tech.base) if name in known), LENDER)


def terms(counted: Counted, tech: Tech, beats: float, clocks: float) -> tuple[Term, ...]:
    """Energy of PEs [pJ] that take ``beats`` beats in all, and are clocked ``clocks`` times in all.

    Raises ValueError where `why_none` has a reason.
    """
    why = why_none(counted.spec, tech)
    if why:
        raise ValueError(why)
    made = energy_coefficients.load(basis(tech))["kinds"][kind(counted.spec)]
    lent, scale = _lent(tech), tech.constant("energy_scale")
    counts = counted.counts.mean(axis=0)
    key = f"{basis(tech)}.energy.{kind(counted.spec).replace(' ', '_')}"
    clock = _constant(f"{key}.flops", made["clock"], "fJ/flop/clock", tech)
    found = [Term(part="clock", quantity=counts[0] * clocks * 1e-3, constants=(clock, *lent["clock"], scale))]
    factors = (_model(key, made, tech), *_sampling(counted, made), *lent["data"], scale)
    for name, value in made["coefficients"].items():
        quantity = counts[FEATURES.index(name)] * beats * 1e-3
        if quantity:
            constant = _constant(f"{key}.{name.replace(' ', '_')}", [value] * 3, "fJ/toggle", tech)
            found.append(Term(part=part_of(name), quantity=quantity, constants=(constant, *factors)))
    return tuple(found)


def part_of(feature: str) -> str:
    """The part of an energy that a feature's toggles are booked under.

    >>> part_of("xor glitch"), part_of("flop pins")
    ('glitches', 'registers')
    """
    return _PARTS[feature if feature in _PARTS else feature.rpartition(" ")[2]]


_HOW = "python -m cost_models.energy_coefficients: fit to event-driven simulation of PEs in default mapping"


def _constant(
    key: str, ends: list[float], unit: str, tech: Tech, source: str = _HOW, note: str = ""
) -> Constant:
    value, low, high = ends
    return Constant(
        key=key,
        value=value,
        low=low,
        high=high,
        unit=unit,
        node=tech.node,
        vdd=tech.vdd,
        kind="measured",
        source=source,
        note=note or "only sums over a PE are validated",
    )


def _model(key: str, made: Mapping[str, Any], tech: Tech) -> Constant:
    """The model's own error, common to all PEs of a kind."""
    low, high = made["spread"]
    unseen = {part: made["errors"][part] for part in energy_coefficients.UNSEEN}
    note = "range: 5th to 95th percentile of measured over modelled data energy on what was held out; " + (
        "; ".join(
            f"{part}: mean error {e['mean']:.1%}, largest {e['max']:.1%} ({e['worst']})"
            for part, e in unseen.items()
        )
    )
    return _constant(f"{key}.model", [1.0, low, high], "1", tech, note=note)


def _sampling(counted: Counted, made: Mapping[str, Any]) -> tuple[Constant, ...]:
    """Twice the standard error of the data energy's mean over stretches; none where all was counted."""
    n = len(counted.counts)
    if counted.whole or n < 2:
        return ()
    data = [energy_coefficients.predict(made, row)[1] for row in counted.counts]
    error = min(0.5, 2 * float(np.std(data, ddof=1)) / n**0.5 / max(float(np.mean(data)), 1e-12))
    note = f"{n} stretches of beats counted; range: two standard errors of their mean"
    return (
        Constant(
            key="energy.sample",
            value=1.0,
            low=1.0 - error,
            high=1.0 + error,
            unit="1",
            node="any",
            vdd="none",
            kind="measured",
            source="toggles of evenly spread stretches of this product",
            note=note,
        ),
    )


def borrowing(points: energy_points.Points, tech: Tech) -> dict[str, Any]:
    """How far off `LENDER`'s coefficients are in a technology whose energies are measured.

    Returns the range that holds nine tenths of the runs' measured over modelled data energy, the larger end
    taken both ways since other technologies may err the other way, and in words.
    """
    lender = techs.load(LENDER)
    kinds = energy_coefficients.load(LENDER)["kinds"]
    more = random_beat(tech) / random_beat(lender)
    found = [
        run.data / (more * energy_coefficients.predict(kinds[kind(run.design.spec)], run.counts)[1])
        for run in energy_coefficients.runs(points)
        if kind(run.design.spec) in kinds
    ]
    low, high = np.percentile(found, [5, 100 - 5])
    reach = float(max(1 / low, high, 1.0))
    words = (
        f"measured on {len(points)} PEs of {tech.name}, {len(found)} runs: {low:.3g} to {high:.3g} from the "
        "5th to the 95th percentile, the larger end taken both ways"
    )
    return {"low": float(f"{1 / reach:.3g}"), "high": float(f"{reach:.3g}"), "note": words}


@cache
def _borrowing() -> Mapping[str, Any]:
    """What `borrowing` found, as it is stored."""
    made: Mapping[str, Any] = json.loads(_BORROWING.read_text(encoding="utf-8"))
    return made


def _lent(tech: Tech) -> dict[str, tuple[Constant, ...]]:
    """Factors on another technology's coefficients, of clock and data; none on one's own."""
    lender = basis(tech)
    if lender == tech.name:
        return {"clock": (), "data": ()}
    low, high = (1.0, 1.0) if lender == tech.base else (_borrowing()["low"], _borrowing()["high"])
    own, other = tech, techs.load(lender)
    ratios = {
        "clock": own.constant("clock_flop").value / other.constant("clock_flop").value,
        "data": random_beat(own) / random_beat(other),
    }
    return {
        name: (
            Constant(
                key=f"{tech.name}.energy.{name}_over_{lender}",
                value=ratio,
                low=ratio * (low if name == "data" else 1.0),
                high=ratio * (high if name == "data" else 1.0),
                unit="1",
                node=tech.node,
                vdd=tech.vdd,
                kind="derived",
                source=f"bit-serial PEs of {tech.name} over those of {lender}, random operands",
                note=_borrowing()["note"] if lender != tech.base else "",
                factors=own.constant("clock_flop").factors,
            ),
        )
        for name, ratio in ratios.items()
    }


def random_beat(tech: Tech) -> float:
    """Data energy of a bit-serial PE's beat on random operands [fJ], by the technology's own constants."""
    return sum(techs.design(count).value * tech.constant(name).value for name, count in _BEAT.items())


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m cost_models.energy_pe",
        description="Measure and store how far off borrowed coefficients are.",
    )
    parser.add_argument("--tech", required=True, help="a technology of which some PEs are measured")
    asked = parser.parse_args(None if arguments is None else list(arguments))
    made = borrowing(energy_points.read(asked.tech), techs.load(asked.tech))
    _BORROWING.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(f"{made['low']} to {made['high']}, {made['note']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
