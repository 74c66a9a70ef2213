"""The command line as a user meets it: results, exit status, one line for bad input, nothing left behind."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from planeforge.cli import ORDER, main


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Call the command line in an empty folder; returns status, output, error text."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        status = main([str(word) for word in words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def arrays(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "w.npy", rng.normal(size=(20, 150)).astype(np.float32))
    np.save(tmp_path / "x.npy", rng.normal(size=(40, 150)).astype(np.float32))
    np.save(tmp_path / "h.npy", rng.normal(size=(30, 150)).astype(np.float32))
    return tmp_path


@pytest.mark.parametrize("verb", ORDER)
def test_every_verb_has_help_with_an_example(run, verb):
    status, out, _ = run(verb, "--help")
    assert status == 0
    assert f"Example: planeforge {verb}" in " ".join(out.split())


def test_help_loads_nothing_heavy():
    # Start-up time follows from what is imported; a clock would judge the machine instead.
    heavy = (
        "import sys; from planeforge import cli; "
        "print([m for m in ('torch', 'numba', 'pandas', 'numpy', 'amaranth') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", heavy], check=True, capture_output=True, text=True).stdout
    assert loaded.strip() == "[]"


@pytest.mark.parametrize("verb", ["methods", "formats", "pes", "techs"])
def test_lists_print_what_is_registered_for_people_and_machines(run, verb):
    status, out, _ = run(verb, "--json")
    members = json.loads(out)["members"]
    assert status == 0
    assert members
    status, table, _ = run(verb)
    name = verb[:-1]
    assert status == 0
    assert members[0][name] in table


def test_quantize_prints_every_figure_and_the_file_holds_what_it_says(run, arrays):
    words = [
        "quantize",
        "w.npy",
        "--method",
        "billm",
        "--calib",
        "x.npy",
        "--holdout",
        "h.npy",
        "-o",
        "w.packed",
        "--json",
    ]
    status, out, err = run(*words)
    assert (status, err) == (0, "")
    figures = json.loads(out)
    wanted = "method shape bits_per_weight bits_per_weight_published breakdown weight_error output_error"
    assert {*wanted.split(), "holdout_error", "salient_columns", "seconds"} <= set(figures)
    assert figures["shape"] == [20, 150]
    assert len(figures["salient_columns"]) == 2
    assert sum(figures["breakdown"].values()) == pytest.approx(figures["bits_per_weight"])
    status, out, _ = run(*["inspect", "w.packed", "--dequantized", "q.npy", "--json"])
    assert status == 0
    assert json.loads(out)["bits_per_weight"] == pytest.approx(figures["bits_per_weight"])
    w, q, x, h = (np.load(arrays / f"{name}.npy").astype(np.float64) for name in "wqxh")
    assert figures["weight_error"] == pytest.approx(((w - q) ** 2).sum() / (w**2).sum(), rel=1e-5)
    for key, acts in (("output_error", x), ("holdout_error", h)):
        error = ((acts @ (w - q).T) ** 2).sum() / ((acts @ w.T) ** 2).sum()
        assert figures[key] == pytest.approx(error, rel=1e-5)


def test_simulate_writes_the_outputs_and_the_integers_behind_them(run, arrays):
    run(*["quantize", "w.npy", "--method", "rtn", "--format", "int4-g128", "-o", "w.packed"])
    words = ["simulate", "w.packed", "--activations", "x.npy", "-o", "y.npy", "--partials", "s.npy", "--json"]
    status, out, err = run(*words)
    assert (status, err) == (0, "")
    figures = json.loads(out)
    y, s = np.load(arrays / "y.npy"), np.load(arrays / "s.npy")
    assert (y.dtype, y.shape, s.dtype, s.shape) == (np.float32, (40, 20), np.int64, (40, 20))
    assert figures["cycles"] > 0
    assert 0 < figures["utilisation"] <= 1
    run(*["inspect", "w.packed", "--dequantized", "q.npy"])
    x = np.load(arrays / "x.npy").astype(np.float64)
    q = np.load(arrays / "q.npy").astype(np.float64)
    # Eight-bit activations move an output by a percent of its size, not more.
    assert np.abs(y - x @ q.T).max() < 0.05 * np.abs(y).max()


def test_both_simulation_engines_give_the_same_file(run, arrays):
    run(*["quantize", "w.npy", "--method", "ternary", "-o", "w.packed"])
    for engine in ("numba", "integer", "torch"):
        words = f"simulate w.packed --activations x.npy --engine {engine} --partials {engine}.npy".split()
        assert run(*words)[0] == 0
    numba, integer, torch = (np.load(arrays / f"{e}.npy") for e in ("numba", "integer", "torch"))
    np.testing.assert_array_equal(numba, torch)
    np.testing.assert_array_equal(integer, torch)


def bad_inputs(folder: Path) -> dict[str, tuple[str, str]]:
    """Commands that must be refused, and words their line must hold."""
    rng = np.random.default_rng(1)
    (folder / "text.safetensors").write_text("this is no tensor")
    save_file({"w": rng.normal(size=(8, 8)).astype(np.float32)}, folder / "good.safetensors")
    whole = (folder / "good.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-9])
    np.save(folder / "nan.npy", np.full((4, 4), np.nan, np.float32))
    np.save(folder / "flat.npy", np.zeros(9, np.float32))
    np.save(folder / "narrow.npy", rng.normal(size=(40, 149)).astype(np.float32))
    (folder / "empty").mkdir()
    quantize = "quantize {} --method rtn -o out"
    return {
        "missing file": (quantize.format("no.npy"), "no.npy"),
        "missing directory of a model": ("eval nowhere", "nowhere"),
        "folder without a model": ("eval empty", "config.json"),
        "text named safetensors": (quantize.format("text.safetensors"), "text.safetensors"),
        "truncated safetensors": (quantize.format("cut.safetensors"), "cut.safetensors"),
        "missing tensor": (quantize.format("good.safetensors::v"), "'v'"),
        "nan weights": (quantize.format("nan.npy"), "nan.npy"),
        "one axis": (quantize.format("flat.npy"), "flat.npy"),
        "calibration of another width": (
            "quantize w.npy --method billm --calib narrow.npy -o out",
            "150 columns",
        ),
        "no calibration": ("quantize w.npy --method billm -o out", "calib must be given for billm"),
        "unknown method": ("quantize w.npy --method gptq9 -o out", "method must be one of"),
        "unknown format": ("quantize w.npy --method rtn --format f9 -o out", "format must be one of"),
        "group of 0": ("quantize w.npy --method rtn --set group=0 -o out", "group must be at least 1, not 0"),
        "setting without value": ("quantize w.npy --method rtn --set group -o out", "key=value"),
        "output folder missing": ("quantize w.npy --method rtn -o no/out", "output folder must exist"),
        "no packed file": ("inspect w.npy", "must be a whole safetensors file"),
        "other safetensors": ("inspect good.safetensors", "must be a packed file"),
        "unknown option": ("inspect w.npy --nonsense", "--nonsense"),
        "missing option": ("quantize w.npy --method rtn", "--output"),
        "no method": ("quantize w.npy -o out", "method must be given"),
        "unknown verb": ("quantise w.npy", "quantise"),
        "unknown pe": ("verilog --pe nope -o out", "pe must be one of"),
        "unknown engine": ("verify w.packed --engines torch,abacus", "engine must be one of"),
        "act bits": ("simulate w.packed --activations x.npy --act-bits 21 -o out", "act-bits must be"),
        "unknown target": ("synth empty --target vlsi", "must"),
        "missing study": ("compare no.toml -o out", "no.toml"),
    }


NAMES = (
    "missing file",
    "missing directory of a model",
    "folder without a model",
    "text named safetensors",
    "truncated safetensors",
    "missing tensor",
    "nan weights",
    "one axis",
    "calibration of another width",
    "no calibration",
    "unknown method",
    "unknown format",
    "group of 0",
    "setting without value",
    "output folder missing",
    "no packed file",
    "other safetensors",
    "unknown option",
    "missing option",
    "no method",
    "unknown verb",
    "unknown pe",
    "unknown engine",
    "act bits",
    "unknown target",
    "missing study",
)


@pytest.mark.parametrize("case", NAMES)
def test_bad_input_is_one_line_and_status_2_and_leaves_nothing_behind(run, arrays, case):
    cases = bad_inputs(arrays)
    assert set(cases) == set(NAMES)
    run(*["quantize", "w.npy", "--method", "rtn", "-o", "w.packed"])
    before = sorted(path.name for path in arrays.iterdir())
    command, words = cases[case]
    status, out, err = run(*command.split())
    assert (status, out) == (2, ""), err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert words in err
    assert sorted(path.name for path in arrays.iterdir()) == before


def test_an_old_result_survives_a_failed_run(run, arrays):
    run(*["quantize", "w.npy", "--method", "rtn", "-o", "w.packed"])
    before = (arrays / "w.packed").read_bytes()
    assert run(*["quantize", "w.npy", "--method", "rtn", "--set", "group=0", "-o", "w.packed"])[0] == 2
    assert (arrays / "w.packed").read_bytes() == before


def test_the_version_is_printed(run):
    assert run("--version") == (0, "planeforge 0.1.0\n", "")


def test_inspect_explains_the_bits_between_what_is_published_and_what_is_stored(tmp_path, capsys):
    rng = np.random.default_rng(4)
    np.save(tmp_path / "w.npy", rng.normal(size=(20, 150)).astype(np.float32))
    np.save(tmp_path / "x.npy", rng.normal(size=(200, 150)).astype(np.float32))
    out = tmp_path / "w.packed"
    for method in ("billm", "stbllm", "nanoquant"):
        given = ["quantize", str(tmp_path / "w.npy"), "--method", method, "--calib", str(tmp_path / "x.npy")]
        assert main([*given, "-o", str(out), "--json"]) == 0
        figures = json.loads(capsys.readouterr().out)
        assert main(["inspect", str(out), "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        bill = shown["from_published"]
        assert bill["published"] == figures["bits_per_weight_published"]
        assert sum(bill.values()) == pytest.approx(shown["bits_per_weight"], rel=1e-12)
        assert shown["bits_per_weight"] == pytest.approx(figures["bits_per_weight"], rel=1e-12)
        assert main(["inspect", str(out)]) == 0
        assert "by the authors' formula" in capsys.readouterr().out
        for matrix in shown["matrices"]:
            assert main(["inspect", str(out), "--layer", matrix["name"], "--json"]) == 0
            alone = json.loads(capsys.readouterr().out)
            assert alone["bits_per_weight"] == pytest.approx(matrix["bits_per_weight"], rel=1e-12)
