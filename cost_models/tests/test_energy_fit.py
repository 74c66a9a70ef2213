"""Energy constants by fit: the stimuli count what they do, the fit finds what was put in, and a library
measured again agrees with the constants that ship."""

import os
import shutil
from pathlib import Path

import pytest

from cost_models import energy_fit, liberty
from cost_models.energy import PARTS, drivers, energy
from cost_models.energy_fit import CYCLES, DESIGNS, STIMULI, activity, beats, errors, fit, ports, spread
from cost_models.gate_energy import WARM_UP, GateEnergy
from cost_models.tech import load
from hw.spec import ArraySpec

DATA = Path(os.environ.get("PLANEFORGE_DATA", Path(__file__).parents[2] / "../shared/data")).resolve()
STIMULUS = {stimulus.name: stimulus for stimulus in STIMULI}


def test_activity_counts_the_bits_that_change_after_the_warm_up():
    run = beats(16, STIMULUS["moving mask"], seed=0)
    assert len(run) == CYCLES + WARM_UP
    found = activity(run)
    assert (found.cycles, found.beats) == (CYCLES, CYCLES)
    for name in ("w", "x", "mask"):
        words = [getattr(beat, name) for beat in run]
        changed = sum(bin(words[i] ^ words[i - 1]).count("1") for i in range(WARM_UP, len(words)))
        assert getattr(found, f"{name}_toggles") == changed > 0


def test_held_and_frozen_operands_move_as_little_as_they_say():
    assert activity(beats(16, STIMULUS["frozen"], seed=0)).w_toggles == 0
    held = activity(beats(16, STIMULUS["held signs"], seed=0))
    assert held.mask_toggles == 0
    assert 0 < held.w_toggles < held.x_toggles / 8


def test_ports_carry_the_beat_where_the_pe_expects_it():
    run = beats(5, STIMULUS["moving mask"], seed=0)
    values = ports(5, run)
    assert {name: len(column) for name, column in values.items()} == dict.fromkeys(values, len(run))
    payload, beat = values["i__payload"][20], run[20]
    assert (payload & 31, payload >> 5 & 31, payload >> 10 & 31) == (beat.w, beat.x, beat.mask)
    flags = [payload >> 15 + i & 1 for i in range(6)]
    assert flags == [beat.w_bipolar, beat.x_bipolar, beat.first, beat.shift, beat.neg, beat.last]


def made_up(truth):
    """Runs that obey ``truth`` [fJ] exactly, split between flip-flops and gates as the fit assumes."""
    runs = []
    for spec in DESIGNS:
        for seed, stimulus in enumerate(STIMULI):
            done = activity(beats(spec.lanes, stimulus, seed))
            part = drivers(done, ArraySpec(pe=spec, rows=1, columns=1))
            each = {name: truth[name] * part[name] / done.cycles * 1e-15 for name in part}
            inner = each["registers"] + 0.25 * each["accumulator"]
            outer = each["operands"] + each["counter"] + 0.75 * each["accumulator"]
            runs.append(
                (
                    spec,
                    done,
                    GateEnergy(
                        clock=each["clock"],
                        flop=inner,
                        gates=outer / 2,
                        nets=outer / 2,
                        leakage_w=0.0,
                        area=1.0,
                        flops=1,
                        path_s=0.0,
                    ),
                )
            )
    return runs


TRUTH = {"clock": 1.0, "operands": 2.0, "counter": 3.0, "registers": 0.4, "accumulator": 1.5}


def test_the_fit_finds_energies_that_were_put_in():
    runs = made_up(TRUTH)
    found = fit(runs)
    assert found.keys() == PARTS.keys()
    assert found == pytest.approx(TRUTH)
    assert errors(runs, [str(i) for i in range(len(runs))], found)["max"] < 1e-5
    assert spread(runs, found) == (pytest.approx(1.0), pytest.approx(1.0))


def test_the_spread_is_of_data_energy_alone():
    runs = made_up(TRUTH)
    low, high = spread(runs, TRUTH | {part: value / 2 for part, value in TRUTH.items() if part != "clock"})
    assert (low, high) == (pytest.approx(2.0), pytest.approx(2.0))


needs_tools = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")


@needs_tools
@pytest.mark.parametrize("tech", ["asap7", pytest.param("sg13g2", marks=pytest.mark.slow)])
def test_a_pe_measured_gate_by_gate_costs_what_the_model_says(tech):
    path = DATA / "liberty" / f"{tech}.slim.lib.gz"
    if not path.is_file():
        pytest.skip(f"no {path.name} under PLANEFORGE_DATA")
    spec = DESIGNS[1]
    wire = {"asap7": 0.5e-15, "sg13g2": 3e-15}[tech]
    chosen = (STIMULUS["signs"], STIMULUS["frozen"])
    runs = energy_fit.measured(spec, liberty.read(path), path, load(tech).dont_use, wire, chosen)
    array = ArraySpec(pe=spec, rows=1, columns=1)
    dynamic = []
    for done, run in runs:
        parts = energy(done, array, tech).breakdown
        ours = sum(parts.get(part, 0.0) for part in PARTS) / done.cycles
        assert ours == pytest.approx(run.total * 1e12, rel=0.25)
        assert parts["clock"] / done.cycles == pytest.approx(run.clock * 1e12, rel=0.05)
        dynamic.append(run.total)
    assert dynamic[1] < 0.75 * dynamic[0]


@needs_tools
@pytest.mark.slow
def test_the_command_prints_constants_and_errors(monkeypatch, capsys):
    path = DATA / "liberty" / "sg13g2.slim.lib.gz"
    if not path.is_file():
        pytest.skip(f"no {path.name} under PLANEFORGE_DATA")
    monkeypatch.setattr(energy_fit, "DESIGNS", DESIGNS[:2])
    monkeypatch.setattr(
        energy_fit, "STIMULI", (STIMULUS["signs"], STIMULUS["frozen"], STIMULUS["sparse both"])
    )
    assert energy_fit.main(["--liberty", str(path), "--wire", "3"]) == 0
    out = capsys.readouterr().out
    assert "fJ per event: clock 3" in out
    assert out.count("held out: ") == 2
    assert "leakage: 0.01" in out
    assert "fJ per item bit and mantissa bit: low" in out
