"""Energy of toggles by technology and kind of PE: fitted to measured PEs, and how far off on others.

Counts (`energy_toggles`) know no technology; measured energies (`energy_points`) know no counts. A fit
joins them: the clock's energy of a flip-flop is read off, all else is non-negative least squares on error
relative to a run's total. Designs and stimuli that are held out judge it.
``python -m cost_models.energy_coefficients --tech asap7`` fits again, prints the errors, stores the result.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from cost_models import energy_points, energy_toggles
from cost_models.energy_designs import DESIGNS, Design, kind
from cost_models.energy_stimuli import STIMULI, run_of
from cost_models.energy_toggles import FEATURES
from hw.beats import Beats

Array = NDArray[np.float64]

#: what toggles are priced by: all features but the flip-flops' clocks
DATA = FEATURES[1:]
#: mean and largest error to reach on what a fit has not seen, of kinds that count bits, and of all others
GOALS = {True: (0.05, 0.15), False: (0.10, 0.25)}
COUNTING = ("bitserial", "popcount", "ternary", "twoplane", "complex", "gather", "planes")
#: parts of what was held out: another stimulus, another size, or both
UNSEEN = ("stimuli", "sizes", "both")


@dataclass(frozen=True)
class Run:
    """One design under one stimulus."""

    design: Design
    stimulus: int  #: index into `STIMULI`
    counts: Array  #: [features] of a clock
    clock: float  #: energy of the clock pins [fJ per clock]
    data: float  #: all other energy [fJ per clock]

    @property
    def part(self) -> str:
        """ "fitted" or one of `UNSEEN`."""
        sizes, stimuli = self.design.held_out, STIMULI[self.stimulus].held_out
        return "both" if sizes and stimuli else "sizes" if sizes else "stimuli" if stimuli else "fitted"


def counted(design: Design) -> Array:
    """Counts of a design under each of `STIMULI`, [stimuli, features]."""
    run, windows = run_of(design.spec, STIMULI)
    beats = Beats.from_list(run, design.spec)
    return energy_toggles.of_beats(design.spec, beats, np.array(list(windows.values())))


def runs(points: energy_points.Points, designs: Sequence[Design] = DESIGNS) -> list[Run]:
    """Counts and energies of the designs that are measured."""
    out = []
    for design in designs:
        if design.text not in points:
            continue
        for at, (stimulus, counts) in enumerate(zip(STIMULI, counted(design), strict=True)):
            parts = points[design.text][stimulus.name]
            clock = parts["clock"]
            out.append(Run(design, at, counts, clock, sum(parts.values()) - clock))
    return out


def fit(measured: Sequence[Run]) -> dict[str, Any]:
    """Coefficients of one kind of PE [fJ], and errors on what they were not fitted to."""
    fitted = [run for run in measured if run.part == "fitted"]
    total = np.array([run.clock + run.data for run in fitted])
    table = np.array([run.counts[1:] for run in fitted])
    clocks = [run.clock / run.counts[0] for run in fitted]
    data = np.array([run.data for run in fitted])
    found = nnls(table / total[:, None], data / total)[0]
    # What is left of a column that the others explain is rounding.
    least = 1e-9 * float(found.max())
    made = {
        "clock": [_short(v) for v in (np.mean(clocks), min(clocks), max(clocks))],
        "coefficients": {name: _short(v) for name, v in zip(DATA, found, strict=True) if v > least},
    }
    errors = {part: _errors([r for r in measured if r.part == part], made) for part in ("fitted", *UNSEEN)}
    unseen = [run for run in measured if run.part != "fitted"]
    spread = [run.data / predict(made, run.counts)[1] for run in unseen]
    low, high = np.percentile(spread, [5, 95])
    return made | {"spread": [_short(min(low, 1.0)), _short(max(high, 1.0))], "errors": errors}


def predict(made: Mapping[str, Any], counts: Array) -> tuple[float, float]:
    """Energy of a clock [fJ]: of the clock pins, and all other."""
    by_name = dict(zip(FEATURES, counts, strict=True))
    data = sum(value * by_name[name] for name, value in made["coefficients"].items())
    return made["clock"][0] * by_name["flops"], float(data)


def _errors(measured: Sequence[Run], made: Mapping[str, Any]) -> dict[str, Any]:
    """Relative errors of the whole energy of runs."""
    off = [sum(predict(made, run.counts)) / (run.clock + run.data) - 1 for run in measured]
    worst = int(np.argmax(np.abs(off)))
    where = f"{measured[worst].design.text}, {STIMULI[measured[worst].stimulus].name}"
    return {
        "runs": len(off),
        "mean": _short(float(np.mean(np.abs(off)))),
        "max": _short(abs(off[worst])),
        "worst": where,
    }


def missed(name: str, made: Mapping[str, Any]) -> list[str]:
    """Goals that a fit does not reach, in words."""
    mean, most = GOALS[name in COUNTING]
    return [
        f"{part}: {what} {found[key]:.1%}, not {goal:.0%}"
        for part in UNSEEN
        for found in (made["errors"][part],)
        for key, what, goal in (("mean", "mean", mean), ("max", "largest", most))
        if found[key] > goal
    ]


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def file_of(tech: str) -> Path:
    """Where a technology's coefficients are kept."""
    return Path(str(resources.files("cost_models") / "data" / "energy" / f"{tech}.json"))


def names() -> tuple[str, ...]:
    """Technologies that have coefficients."""
    found = file_of("x").parent.glob("*.json")
    return tuple(sorted(path.stem for path in found if not path.stem.endswith(".points")))


@cache
def load(tech: str) -> Mapping[str, Any]:
    """The stored fits of a technology, by kind of PE. Raises ValueError naming those that have some."""
    if tech not in names():
        raise ValueError(f"tech must be one of {', '.join(names())}, not {tech!r}")
    stored: Mapping[str, Any] = json.loads(file_of(tech).read_text(encoding="utf-8"))
    return stored


def fitted(tech: str) -> dict[str, Any]:
    """Fits to all that is measured of a technology, by kind of PE; a kind that no design judges has none."""
    points = energy_points.read(tech)
    by_kind: dict[str, list[Run]] = {}
    for run in runs(points):
        by_kind.setdefault(kind(run.design.spec), []).append(run)
    judged = {name: measured for name, measured in by_kind.items() if any(r.part == "both" for r in measured)}
    return {name: fit(measured) for name, measured in judged.items()}


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cost_models.energy_coefficients", description=__doc__)
    parser.add_argument("--tech", required=True, help="name that energies are stored under")
    asked = parser.parse_args(None if arguments is None else list(arguments))
    kinds = fitted(asked.tech)
    for name, made in kinds.items():
        for part, found in made["errors"].items():
            print(
                f"{name}: {part}: mean {found['mean']:.1%}, largest {found['max']:.1%} ({found['worst']}), "
                f"{found['runs']} runs"
            )
        for line in missed(name, made):
            print(f"{name} misses: {line}")
    lines = [f'  "{name}": {json.dumps(made)}' for name, made in kinds.items()]
    text = '{\n "unit": "fJ",\n "kinds": {\n' + ",\n".join(lines) + "\n }\n}\n"
    file_of(asked.tech).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
