"""Energy constants of a library: ``python -m cost_models.energy_fit --liberty FILE --wire 0.5``.

Maps PEs to the library, runs them gate by gate (`gate_energy`) on random, held, sparse, masked and frozen
operands, and fits the energies per event that `energy` multiplies with an activity. Prints them with the
range that covers nine tenths of the measured runs, and the error of the model on designs it has not seen.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from amaranth import Module, Signal, signed
from amaranth.back import rtlil
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray
from scipy.optimize import nnls

from cost_models import gate_energy, liberty
from cost_models.calibrate import name_of, report, summary
from cost_models.energy import drivers
from cost_models.gate_energy import WARM_UP, GateEnergy
from cost_models.liberty import Library
from hw.pe.bitserial import BitSerial
from hw.pipeline import payload_layout
from hw.spec import Activity, ArraySpec, Beat
from hw.synth import synthesize

Array = NDArray[np.float64]

#: counted clocks of each run
CYCLES = 160
#: PEs measured; each in turn is the one a fit has not seen
DESIGNS = tuple(
    BitSerial(lanes=lanes, acc_width=acc, levels=levels)
    for lanes, acc, levels in ((16, 24, 0), (33, 32, 2), (64, 32, 3), (64, 32, 0), (128, 40, 3), (128, 24, 1))
)


@dataclass(frozen=True)
class Stimulus:
    """How operands move: the density of ones, and for how many beats each word stays."""

    name: str
    w_bipolar: bool = True
    x_bipolar: bool = True
    w_density: float = 0.5
    x_density: float = 0.5
    mask_density: float = 1.0
    w_hold: int = 1
    x_hold: int = 1
    mask_hold: int = CYCLES + WARM_UP


_SIGN_BY_PLANE = {"w_bipolar": True, "x_bipolar": False}
_PLANES = {"w_bipolar": False, "x_bipolar": False}
_FOREVER = CYCLES + WARM_UP

STIMULI = (
    Stimulus("signs"),
    Stimulus("planes", **_PLANES),
    Stimulus("signs by planes", **_SIGN_BY_PLANE),
    Stimulus("quarter-full weight planes", **_PLANES, w_density=0.25),
    Stimulus("sparse activations", **_PLANES, x_density=0.1),
    Stimulus("sparse both", **_PLANES, w_density=0.1, x_density=0.1),
    Stimulus("held signs, sparse planes", **_SIGN_BY_PLANE, x_density=0.1, w_hold=16),
    Stimulus("held signs", w_hold=16),
    Stimulus("both held", **_SIGN_BY_PLANE, w_hold=8, x_hold=8),
    Stimulus("frozen", w_hold=_FOREVER, x_hold=_FOREVER),
    Stimulus("moving mask", **_SIGN_BY_PLANE, mask_density=0.5, mask_hold=1),
    Stimulus("moving sparse mask", **_SIGN_BY_PLANE, mask_density=0.1, mask_hold=1),
    Stimulus("still sparse mask", **_SIGN_BY_PLANE, mask_density=0.1),
)


def beats(lanes: int, stimulus: Stimulus, seed: int) -> list[Beat]:
    """Beats of items of 16, doubling every fourth beat, the last half of every eight subtracted."""
    rng = random.Random(seed)

    def word(density: float) -> int:
        return sum((rng.random() < density) << lane for lane in range(lanes))

    w = x = mask = 0
    out = []
    for clock in range(CYCLES + WARM_UP):
        w = w if clock % stimulus.w_hold else word(stimulus.w_density)
        x = x if clock % stimulus.x_hold else word(stimulus.x_density)
        mask = mask if clock % stimulus.mask_hold else word(stimulus.mask_density)
        at = clock % 16
        control = {"first": at == 0, "shift": at % 4 == 0 and at > 0, "neg": at % 8 > 3, "last": at == 15}
        kinds = {"w_bipolar": stimulus.w_bipolar, "x_bipolar": stimulus.x_bipolar}
        out.append(Beat(w=w, x=x, mask=mask, **kinds, **control))
    return out


def activity(run: Sequence[Beat]) -> Activity:
    """What one PE did on the counted clocks of a run."""

    def toggles(name: str) -> int:
        words = [getattr(beat, name) for beat in run[WARM_UP - 1 :]]
        return sum((a ^ b).bit_count() for a, b in pairwise(words))

    counted = len(run) - WARM_UP
    return Activity(
        cycles=counted,
        beats=counted,
        w_toggles=toggles("w"),
        x_toggles=toggles("x"),
        mask_toggles=toggles("mask"),
    )


def ports(lanes: int, run: Sequence[Beat]) -> dict[str, list[int]]:
    """The run as values of the PE's ports, a beat offered and an item taken on every clock."""
    fields = {name: field.offset for name, field in payload_layout(BitSerial(lanes=lanes))}
    payload = [sum(int(getattr(beat, name)) << offset for name, offset in fields.items()) for beat in run]
    ones = [1] * len(run)
    return {
        "i__payload": payload,
        "i__valid": ones,
        "o__ready": ones,
        "rst": [int(clock < 2) for clock in range(len(run))],
    }


def measured(
    spec: BitSerial,
    library: Library,
    path: Path,
    dont_use: Sequence[str],
    wire_f: float,
    stimuli: Sequence[Stimulus],
) -> list[tuple[Activity, GateEnergy]]:
    """Activity and energy of one PE under each stimulus."""
    text = rtlil.convert(spec.create(), name="pe", emit_src=False)
    netlist = synthesize(text, "pe", "liberty", path, dont_use=dont_use, netlist=True).netlist
    out = []
    for seed, stimulus in enumerate(stimuli):
        run = beats(spec.lanes, stimulus, seed)
        out.append(
            (
                activity(run),
                gate_energy.measure(netlist, "pe", library, ports(spec.lanes, run), wire_f=wire_f),
            )
        )
    return out


def fit(runs: Sequence[tuple[BitSerial, Activity, GateEnergy]]) -> dict[str, float]:
    """Energies per event [fJ], by the names of `energy.PARTS`.

    The clock's is read off. What flip-flops spend on data follows the registers and the accumulator; all
    other cells and nets follow the operands, the counter and the accumulator. Two non-negative least
    squares on error relative to the run's total, added up.
    """
    table = _drivers(runs)
    total = np.array([run.total for _, _, run in runs]) * 1e15
    flop = np.array([run.flop for _, _, run in runs]) * 1e15
    rest = np.array([run.gates + run.nets for _, _, run in runs]) * 1e15
    clocks = np.array([run.clock for _, _, run in runs]) * 1e15
    inside, outside = ("registers", "accumulator"), ("operands", "counter", "accumulator")
    found = dict.fromkeys(table, 0.0)
    found["clock"] = float(np.mean(clocks / table["clock"]))
    for parts, energy in ((inside, flop), (outside, rest)):
        columns = np.stack([table[part] for part in parts], axis=1)
        for part, value in zip(parts, nnls(columns / total[:, None], energy / total)[0], strict=True):
            found[part] += float(value)
    return found


def _drivers(runs: Sequence[tuple[BitSerial, Activity, GateEnergy]]) -> dict[str, Array]:
    """The model's drivers of each run, per clock."""
    rows = [drivers(done, ArraySpec(pe=spec, rows=1, columns=1)) for spec, done, _ in runs]
    cycles = [done.cycles for _, done, _ in runs]
    return {part: np.array([row[part] / n for row, n in zip(rows, cycles, strict=True)]) for part in rows[0]}


def predict(runs: Sequence[tuple[BitSerial, Activity, GateEnergy]], found: Mapping[str, float]) -> Array:
    """Energy per clock of each run by the model [fJ]."""
    return np.sum([found[part] * column for part, column in _drivers(runs).items()], axis=0)


def errors(
    runs: Sequence[tuple[BitSerial, Activity, GateEnergy]], names: Sequence[str], found: Mapping[str, float]
) -> dict[str, Any]:
    """Errors of the total."""
    return summary(predict(runs, found), np.array([run.total for _, _, run in runs]) * 1e15, names)


def spread(
    runs: Sequence[tuple[BitSerial, Activity, GateEnergy]], found: Mapping[str, float]
) -> tuple[float, float]:
    """Measured over predicted data energy, all but the clock: 5th and 95th percentile of the runs."""
    clock = found["clock"] * _drivers(runs)["clock"]
    data = np.array([run.total - run.clock for _, _, run in runs]) * 1e15
    low, high = np.percentile(data / (predict(runs, found) - clock), [5, 95])
    return float(low), float(high)


class ScaleUnit(wiring.Component):
    """An item times a scale mantissa, added to a row's sum, all registered."""

    def __init__(self, item: int, mantissa: int, total: int) -> None:
        super().__init__({"item": In(signed(item)), "mantissa": In(mantissa), "total": Out(signed(total))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        item, mantissa = Signal.like(self.item), Signal.like(self.mantissa)
        m.d.sync += [
            item.eq(self.item),
            mantissa.eq(self.mantissa),
            self.total.eq(self.total + item * mantissa),
        ]
        return m


def multiplier_bit(library: Library, path: Path, dont_use: Sequence[str], wire_f: float) -> dict[str, float]:
    """Energy of a product and its addition [fJ] per item bit and mantissa bit, by the items' real width."""
    item, mantissa = 32, 16
    text = rtlil.convert(ScaleUnit(item, mantissa, 48), name="scale", emit_src=False)
    netlist = synthesize(text, "scale", "liberty", path, dont_use=dont_use, netlist=True).netlist
    out = {}
    for label, bits in (("low", 8), ("value", 16), ("high", 32)):
        rng = random.Random(bits)
        items = [rng.randrange(-(1 << (bits - 1)), 1 << (bits - 1)) for _ in range(CYCLES + WARM_UP)]
        stimulus = {
            "item": items,
            "mantissa": [rng.getrandbits(mantissa) for _ in items],
            "rst": [int(clock < 2) for clock in range(len(items))],
        }
        run = gate_energy.measure(netlist, "scale", library, stimulus, wire_f=wire_f)
        out[label] = run.total * 1e15 / (item * mantissa)
    return out


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cost_models.energy_fit", description=__doc__)
    parser.add_argument(
        "--liberty", type=Path, required=True, help="a .lib or .lib.gz file with internal power"
    )
    parser.add_argument(
        "--wire", type=float, required=True, help="assumed wire capacitance per driven pin [fF]"
    )
    parser.add_argument("--dont-use", action="append", default=[], help="a liberty cell to avoid; may repeat")
    asked = parser.parse_args(None if arguments is None else list(arguments))
    library, wire_f = liberty.read(asked.liberty), asked.wire * 1e-15
    runs, names = [], []
    for spec in DESIGNS:
        print(f"  {name_of(spec)}", file=sys.stderr)
        done_by_stimulus = measured(spec, library, asked.liberty, asked.dont_use, wire_f, STIMULI)
        for stimulus, (done, run) in zip(STIMULI, done_by_stimulus, strict=True):
            runs.append((spec, done, run))
            names.append(f"{name_of(spec)}, {stimulus.name}")
    found = fit(runs)
    low, high = spread(runs, found)
    print("fJ per event:", ", ".join(f"{part} {value:.4g}" for part, value in found.items()))
    print(f"measured over predicted data energy, 5th to 95th percentile: {low:.2f} to {high:.2f}")
    print(report("all runs", errors(runs, names, found)))
    for spec in DESIGNS:
        seen = [run for run in runs if run[0] != spec]
        new = [i for i, run in enumerate(runs) if run[0] == spec]
        unseen = errors([runs[i] for i in new], [names[i] for i in new], fit(seen))
        print(report(f"held out: {name_of(spec)}", unseen))
    leak = np.mean([run.leakage_w * 1e9 / run.area for _, _, run in runs])
    print(f"leakage: {leak:.4g} nW per area unit")
    for spec, done, run in runs[:: len(STIMULI)]:
        print(
            f"{name_of(spec)}, {STIMULI[0].name}: {run.total * 1e15:.1f} fJ per beat, slowest path "
            f"{run.path_s * 1e9:.2f} ns, {done.w_toggles / done.beats:.1f} weight toggles"
        )
    products = multiplier_bit(library, asked.liberty, asked.dont_use, wire_f)
    print("fJ per item bit and mantissa bit:", ", ".join(f"{k} {v:.4g}" for k, v in products.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
