"""Coefficients of toggles: the fit finds what was put in, is judged on what it has not seen, and agrees with
gates simulated anew."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from cost_models import energy_coefficients as model
from cost_models import energy_points, energy_stimuli, energy_toggles, liberty
from cost_models.energy_coefficients import DATA, UNSEEN, Run
from cost_models.energy_designs import DESIGNS, Design, kind
from cost_models.energy_stimuli import STIMULI, Stimulus
from cost_models.energy_toggles import FEATURES
from cost_models.gate_energy import measure_windows
from cost_models.generic_liberty import PATH
from hw.beats import Beats
from hw.synth import synthesize

TRUTH = {"input pins": 0.7, "flop toggles": 1.5, "xor settled": 2.0, "glitch pins": 0.4}
CLOCK = 1.25


def made_up(noise=0.0):
    """Runs of all designs of a kind that obey `TRUTH`, but for noise."""
    rng = np.random.default_rng(0)
    out = []
    for design in (d for d in DESIGNS if kind(d.spec) == "term"):
        for at in range(len(STIMULI)):
            counts = rng.uniform(1, 100, len(FEATURES))
            by_name = dict(zip(FEATURES, counts, strict=True))
            data = sum(value * by_name[name] for name, value in TRUTH.items())
            data *= 1 + noise * rng.uniform(-1, 1)
            out.append(Run(design, at, counts, CLOCK * counts[0], data))
    return out


def test_the_fit_finds_energies_that_were_put_in():
    made = model.fit(made_up())
    assert made["clock"] == [CLOCK] * 3
    assert made["coefficients"] == pytest.approx(TRUTH)
    assert made["spread"] == [1.0, 1.0]
    assert all(made["errors"][part]["max"] < 1e-3 for part in ("fitted", *UNSEEN))
    assert model.missed("term", made) == []


def test_noise_shows_in_errors_and_spread_and_misses_the_goals():
    made = model.fit(made_up(noise=0.5))
    low, high = made["spread"]
    assert low < 0.8
    assert high > 1.2
    assert all(made["errors"][part]["mean"] > 0.1 for part in UNSEEN)
    words = model.missed("term", made)
    assert any(line.startswith("sizes: mean ") and line.endswith("not 10%") for line in words)
    assert any(line.endswith("not 5%") for line in model.missed("popcount", made))


def test_no_coefficient_is_negative_and_what_was_held_out_moves_none():
    runs = made_up(noise=0.3)
    made = model.fit(runs)
    assert min(made["coefficients"].values()) > 0
    assert set(made["coefficients"]) <= set(DATA)
    moved = [run if run.part == "fitted" else replace(run, data=3 * run.data) for run in runs]
    assert model.fit(moved)["coefficients"] == made["coefficients"]


def test_parts_say_what_was_held_out():
    seen = {(run.design.held_out, STIMULI[run.stimulus].held_out): run.part for run in made_up()}
    assert seen == {
        (False, False): "fitted",
        (False, True): "stimuli",
        (True, False): "sizes",
        (True, True): "both",
    }


@pytest.mark.parametrize("tech", model.names())
def test_every_kind_of_pe_reaches_its_goals_on_what_no_fit_has_seen(tech):
    kinds = model.load(tech)["kinds"]
    assert [line for name, made in kinds.items() for line in model.missed(name, made)] == []
    if tech == "generic_ge":
        assert set(kinds) == {kind(design.spec) for design in DESIGNS}


#: the smallest design of each kind that no fit has seen
UNSEEN_DESIGNS = {
    name: min(
        (d for d in DESIGNS if d.held_out and kind(d.spec) == name),
        key=lambda d: sum(d.spec.words().values()),
    )
    for name in dict.fromkeys(kind(d.spec) for d in DESIGNS)
}


@pytest.mark.parametrize("design", UNSEEN_DESIGNS.values(), ids=lambda d: d.text)
def test_an_unseen_pe_takes_what_gates_took(design):
    """Toggles counted now, against energies that gate-level simulation measured and that are stored."""
    made = model.load("generic_ge")["kinds"][kind(design.spec)]
    points = energy_points.read("generic_ge")[design.text]
    some = [s for s in STIMULI if s.held_out][:2]
    run, windows = energy_stimuli.run_of(design.spec, some)
    # As in the stored run each stimulus has the seed of its place.
    run = [
        beat
        for stimulus in some
        for beat in energy_stimuli.beats(design.spec, stimulus, STIMULI.index(stimulus))
    ]
    counts = energy_toggles.of_beats(
        design.spec, Beats.from_list(run, design.spec), np.array(list(windows.values()))
    )
    for stimulus, row in zip(some, counts, strict=True):
        judged = sum(points[stimulus.name].values())
        # Half a percent beyond what the fit said of runs like these.
        assert sum(model.predict(made, row)) == pytest.approx(
            judged, rel=made["errors"]["both"]["max"] + 0.005
        )


def goal(design):
    return model.GOALS[kind(design.spec) in model.COUNTING][1]


needs_icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")

#: of no fit: neither size nor stimulus
NEW = Stimulus(
    "new", w_bipolar=True, w_density=0.4, x_density=0.3, mask_density=0.7, w_hold=2, x_hold=3, item=20
)
NEW_DESIGNS = [
    Design(text, held_out=True)
    for text in (
        "popcount:lanes=21,acc_width=20,op=and",
        "mac:lanes=3,acc_width=24,booth=True",
        "mac:lanes=5,acc_width=30",
        "bitserial:lanes=40,acc_width=24,levels=2",
        "ternary:lanes=40,acc_width=24,levels=2",
        "twoplane:lanes=20,acc_width=24,levels=2",
        "complex:lanes=20,acc_width=24,levels=2",
        "gather:lanes=20,acc_width=24,levels=2",
        "planes:lanes=20,acc_width=24,w_planes=2,x_planes=2,levels=2",
        "minifloat:lanes=7,acc_width=28",
        "minifloat:lanes=9,x_exponent=2,x_mantissa=1,acc_width=20",
        "term:lanes=6,acc_width=28",
        "table:lanes=8,row_count=3,acc_width=24",
        "selectadd:lanes=20,acc_width=24",
        "selectadd:lanes=20,acc_width=24,ternary=False",
        "fpmac:lanes=3",
    )
]


def measured_anew(design, stimulus):
    """Energy of a clock by gates [fJ], and by the model."""
    from amaranth.back import rtlil

    spec = design.spec
    text = rtlil.convert(spec.create(), name="pe", emit_src=False)
    netlist = synthesize(text, "pe", "liberty", PATH, netlist=True).netlist
    run = energy_stimuli.beats(spec, stimulus, seed=7)
    window = (energy_stimuli.SETTLING, len(run))
    gates = measure_windows(
        netlist, "pe", liberty.read(PATH), energy_stimuli.ports(spec, run), {"": window}, wire_f=1e-15
    )[""]
    counts = energy_toggles.of_beats(spec, Beats.from_list(run, spec), np.array([window]))[0]
    return gates.total * 1e15, sum(model.predict(model.load("generic_ge")["kinds"][kind(spec)], counts))


@needs_icarus
@pytest.mark.parametrize(
    "design",
    [pytest.param(d, marks=[pytest.mark.slow] if at > 1 else []) for at, d in enumerate(NEW_DESIGNS)],
    ids=lambda d: d.text,
)
def test_a_new_size_under_a_new_stimulus_takes_what_gates_take(design):
    gates, ours = measured_anew(design, NEW)
    assert ours == pytest.approx(gates, rel=goal(design))


@pytest.mark.slow
def test_stored_coefficients_are_those_of_the_stored_points():
    found = model.fitted("generic_ge")
    stored = model.load("generic_ge")["kinds"]
    assert found.keys() == stored.keys()
    for name, made in found.items():
        assert made["clock"] == stored[name]["clock"]
        assert made["spread"] == pytest.approx(stored[name]["spread"], rel=0.02)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder of data of its own."""
    for module in (model, energy_points):
        monkeypatch.setattr(module.resources, "files", lambda _: tmp_path)
    (tmp_path / "data" / "energy").mkdir(parents=True)
    model.load.cache_clear()
    yield tmp_path / "data" / "energy"
    model.load.cache_clear()


def test_a_technology_without_coefficients_is_refused(data):
    (data / "mine.json").write_text('{"kinds": {}}')
    (data / "other.points.json").write_text("{}")
    assert model.names() == ("mine",)
    with pytest.raises(ValueError, match=r"^tech must be one of mine, not 'other'$"):
        model.load("other")


def test_the_commands_store_points_and_coefficients(data, monkeypatch, capsys):
    chosen = [d for d in DESIGNS if d.text.startswith("selectadd:lanes=8")] + [
        Design("selectadd:lanes=6", True)
    ]

    def measured(design, *_):
        clock = energy_points.GateEnergy(
            clock=1e-15,
            flop=0.0,
            gates=1e-15,
            nets=design.spec.lanes * 1e-15,
            leakage_w=0.0,
            area=1.0,
            flops=1,
            path_s=0.0,
        )
        return dict.fromkeys((s.name for s in STIMULI), clock)

    monkeypatch.setattr(energy_points, "measured", measured)
    for module in (energy_points, model):
        monkeypatch.setattr(module, "DESIGNS", tuple(chosen))
    monkeypatch.setattr(model.runs, "__defaults__", (tuple(chosen),))
    words = ["--tech", "mine", "--liberty", str(PATH), "--wire", "1"]
    assert energy_points.main([*words, "--only", "selectadd:lanes=8"]) == 0
    assert len(energy_points.read("mine")) == 2
    assert energy_points.main(words) == 0
    stored = energy_points.read("mine")
    assert stored["selectadd:lanes=6"]["random"] == {"clock": 1.0, "flop": 0.0, "gates": 1.0, "nets": 6.0}
    assert model.main(["--tech", "mine"]) == 0
    out = capsys.readouterr().out
    assert "selectadd: both: mean " in out
    assert "selectadd misses: " in out
    assert list(json.loads((data / "mine.json").read_text())["kinds"]) == ["selectadd"]
