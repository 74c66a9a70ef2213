"""Energy of real quantized layers: PEs of every kind against gates on the layers' beats, and the command."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cost_models import energy_coefficients, energy_stimuli, energy_toggles, liberty
from cost_models.energy_designs import kind
from cost_models.gate_energy import measure_windows
from cost_models.generic_liberty import PATH
from hw.spec import ArraySpec
from hw.synth import synthesize
from planeforge import hardware, layer_energy, simulating
from planeforge.cli import main
from planeforge.packed import chosen, read
from sim.activity import stretches

MODEL = Path(__file__).parents[1] / "demo" / "models" / "tinydocs-0.1M"
TEXT = "The energy of a layer depends on the numbers in it. " * 3


@pytest.fixture(scope="session")
def layer(tmp_path_factory):
    """The first layer's weights of a trained model and its real inputs, normalized embeddings, as files."""
    from safetensors import safe_open
    from tokenizers import Tokenizer

    folder = tmp_path_factory.mktemp("layer")
    ids = Tokenizer.from_file(str(MODEL / "tokenizer.json")).encode(TEXT).ids[:24]
    with safe_open(MODEL / "model.safetensors", "np") as tensors:
        w, embedding, gain = (
            tensors.get_tensor(f"model.{name}.weight").astype(np.float32)
            for name in ("layers.0.self_attn.q_proj", "embed_tokens", "layers.0.input_layernorm")
        )
    x = embedding[ids]
    x = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-6) * gain
    np.save(folder / "w.npy", w)
    np.save(folder / "x.npy", x)
    return folder


#: format (and method) a PE's matrix is quantized by, activation bits, PE
CASES = (
    ("--method ternary", 8, "ternary:lanes=24,acc_width=24"),
    ("--method rtn --format int4-g128", 8, "mac:lanes=4,acc_width=28,booth=true"),
    ("--method rtn --format int4-g128", 8, "mac:lanes=5,acc_width=28"),
    ("--method rtn --format int4-g128", 8, "bitserial:lanes=40,acc_width=28"),
    ("--method rtn --format int4-g128", 8, "popcount:lanes=40,acc_width=28"),
    ("--method sign", 1, "popcount:lanes=40,acc_width=28,op=xor"),
    ("--method billm", 8, "twoplane:lanes=20,acc_width=28"),
    ("--method rtn --format int4-g128", 8, "planes:lanes=20,acc_width=28"),
    ("--method rtn --format fp4-g128", 8, "minifloat:lanes=6,acc_width=28"),
    ("--method rtn --format int4-g128", 8, "term:lanes=6,acc_width=28"),
    ("--method rtn --format int4-g128", 8, "table:lanes=8,acc_width=28,row_count=3"),
    ("--method rtn --format int4-g128", 8, "selectadd:lanes=20,acc_width=28"),
    ("--method sign", 8, "selectadd:lanes=20,acc_width=28,ternary=false"),
)


def quantized(layer, words, tmp_path):
    path = tmp_path / "w.packed"
    calib = ["--calib", str(layer / "x.npy")] if "billm" in words else []
    assert main(["quantize", str(layer / "w.npy"), *words.split(), *calib, "-o", str(path)]) == 0
    return path


needs_icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")


@needs_icarus
@pytest.mark.parametrize(
    ("words", "bits", "pe"),
    [pytest.param(*case, marks=[pytest.mark.slow] if at > 1 else []) for at, case in enumerate(CASES)],
    ids=[f"{pe} {words.split()[-1]}" for words, _, pe in CASES],
)
def test_a_real_layer_s_beats_take_what_gates_take(layer, words, bits, pe, tmp_path):
    from amaranth.back import rtlil

    matrix = next(iter(chosen(read(quantized(layer, words, tmp_path))[0], "").values()))
    x = np.load(layer / "x.npy")
    spec = hardware.pe(pe)
    array = ArraySpec(pe=spec, rows=2, columns=2)
    taken = stretches.take(
        matrix, lambda at: simulating.streams(matrix, x[at], bits), len(x), array, stretches=3, beats=60
    )
    assert not taken.whole
    text = rtlil.convert(spec.create(), name="pe", emit_src=False)
    netlist = synthesize(text, "pe", "liberty", PATH, netlist=True).netlist
    listed = taken.beats.to_list()
    # A run of its own begins with clocks of reset.
    run = [*listed[:16], *listed]
    windows = taken.windows + 16
    names = {str(at): (int(first), int(end)) for at, (first, end) in enumerate(windows)}
    gates = measure_windows(
        netlist, "pe", liberty.read(PATH), energy_stimuli.ports(spec, run), names, wire_f=1e-15
    )
    made = energy_coefficients.load("generic_ge")["kinds"][kind(spec)]
    counts = energy_toggles.of_beats(spec, type(taken.beats).from_list(run, spec), windows)
    goal = energy_coefficients.GOALS[kind(spec) in energy_coefficients.COUNTING]
    ours = np.array([sum(energy_coefficients.predict(made, row)) for row in counts])
    off = ours / np.array([found.total * 1e15 for found in gates.values()]) - 1
    assert np.abs(off).mean() < goal[0]
    assert np.abs(off).max() < goal[1]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    w = np.random.default_rng(0).normal(size=(12, 150))
    np.save(folder / "w.npy", w.astype(np.float32))
    for name, method in (("int4-g128", "rtn"), ("ternary-g128", "ternary")):
        words = ["quantize", str(folder / "w.npy"), "--method", method, "--format", name]
        assert main([*words, "-o", str(folder / name)]) == 0
    return folder


def costed(packed, capsys, *words, name="int4-g128"):
    status = main(["cost", str(packed / name), "--tokens", "3", *words, "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return json.loads(captured.out)


@pytest.mark.parametrize(
    ("pe", "name"),
    [
        ("bitserial:lanes=16", "int4-g128"),
        ("popcount:lanes=16", "int4-g128"),
        ("planes:lanes=8", "int4-g128"),
        ("mac:lanes=4,w_bits=5", "int4-g128"),
        ("term:lanes=4", "int4-g128"),
        ("table:lanes=8,row_count=2", "int4-g128"),
        ("selectadd:lanes=8", "int4-g128"),
        ("ternary:lanes=16", "ternary-g128"),
        ("minifloat:lanes=4", "ternary-g128"),
    ],
)
def test_every_family_that_runs_a_matrix_has_its_energy_and_band(packed, capsys, pe, name):
    found = costed(packed, capsys, "--pe", pe, "--array", "2x2", name=name)
    energy = found["costs"]["energy"]
    assert energy["low"] < energy["total"] < energy["high"]
    for part in ("clock", "clock_tree", "pe_leakage", "dram"):
        low, high = energy["bands"][part]
        assert 0 < low < energy["breakdown"][part] < high
    assert found["energy_per_token_pj"] == pytest.approx(energy["total"] / 3)
    assert found["activity"] == "measured"
    assert "unseen sizes under unseen stimuli: mean error " in found["energy_model"]
    assert found["beats_counted"].endswith("(all)") or "stretches" in found["beats_counted"]


def test_random_operands_hide_what_the_layer_s_own_take(packed, capsys):
    words = ("--pe", "mac:lanes=4", "--array", "2x2")
    own = costed(packed, capsys, *words)
    random = costed(packed, capsys, *words, "--activity", "random")
    assert (own["activity"], random["activity"]) == ("measured", "random")
    assert own["pe_energy_random_over_measured"] == pytest.approx(random["pe_energy_random_over_measured"])
    # INT4 weights fill half of an 8-bit multiplier, and a normal distribution's integers are mostly small.
    assert own["pe_energy_random_over_measured"] > 1.2
    parts = [found["costs"]["energy"]["breakdown"] for found in (own, random)]
    assert parts[1]["gates"] > parts[0]["gates"]
    for part in ("clock", "dram", "weight_buffer", "results"):
        assert parts[0][part] == parts[1][part]


def test_an_explanation_says_how_far_off_the_model_was_on_what_it_had_not_seen(packed, capsys):
    words = ["cost", str(packed / "int4-g128"), "--tokens", "3", "--array", "2x2"]
    assert main([*words, "--pe", "mac:lanes=4,w_bits=5", "--explain", "energy"]) == 0
    out = capsys.readouterr().out
    assert "asap7.energy.mac." in out
    assert "on what was held out; stimuli: mean error " in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--activity", "guessed"), "activity must be one of measured, random, not 'guessed'"),
        (
            ("--array", "2x2:dataflow=weight-stationary"),
            "dataflow must be 'output-stationary' to count activity, not 'weight-stationary'",
        ),
        (("--pe", "complex"), "pe must have an accumulator per row and token (1 x 1), not 2: "),
        (("--pe", "fpmac"), "pe must sum integers exactly for a packed matrix, not round to fp32: "),
    ],
)
def test_what_cannot_be_priced_is_one_line(packed, capsys, words, message):
    status = main(["cost", str(packed / "int4-g128"), "--tokens", "3", *words])
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_sampled_layer_says_how_much_of_it_was_counted_and_widens_its_band(monkeypatch):
    from algo.bitplane.build import from_digits
    from cost_models import tech
    from sim.tests.test_activity import INT2

    rng = np.random.default_rng(0)

    digits = rng.integers(0, 4, (8, 96))
    matrix = from_digits(INT2, digits, rng.random((8, 3)), rng.integers(0, 4, (8, 3)))
    array = hardware.array("2x2", "bitserial:lanes=16,acc_width=20")
    x = rng.normal(size=(5, 96))
    whole = layer_energy.run(matrix, x, 8, array)
    monkeypatch.setattr(stretches.take, "__kwdefaults__", {"stretches": 4, "beats": 64})
    some = layer_energy.run(matrix, x, 8, array)
    asap7 = tech.load("asap7")
    assert whole.figures(asap7)["beats_counted"].endswith("(all)")
    assert some.figures(asap7)["beats_counted"] == f"256 of {some.activity.beats} (4 stretches)"
    costs = [found.energy(asap7, "lpddr5") for found in (whole, some)]
    assert [any(c.key == "energy.sample" for c in cost.constants) for cost in costs] == [False, True]
    [sample] = [c for c in costs[1].constants if c.key == "energy.sample"]
    inside = [sum(cost.breakdown[p] for p in ("registers", "gates", "glitches")) for cost in costs]
    assert 2 * sample.low - 1 < inside[0] / inside[1] < 2 * sample.high - 1
