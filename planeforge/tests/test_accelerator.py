"""The accelerator from the command line: verified, exported, faults caught, misuse refused plainly."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hw.accelerator import reference, registers, simulate
from planeforge import accelerator_faults, accelerator_tiles, accelerator_verifying, hardware
from planeforge.accelerator_verifying import verify
from planeforge.cli import main
from planeforge.quantizing import quantize
from planeforge.simulating import streams
from planeforge.verifying import Case
from sim.integer import integer_sums

PE = "bitserial:lanes=8,acc_width=20,levels=1"
SMALL = "2x2:w_depth=32,x_depth=32,mask_depth=16,step_depth=32"
SPEC = hardware.accelerator(SMALL, PE)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=(5, 21)), rng.normal(size=(60, 21))
    made = {
        "signs": quantize(weight, "billm", calibration=x),
        "integers": quantize(weight, "rtn", "int4-g128", group=16),
    }
    return [
        Case(name=name, matrix=q.matrix, activations=streams(q.matrix, x[:3], 3)) for name, q in made.items()
    ]


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("packed")
    np.save(folder / "w.npy", np.random.default_rng(1).normal(size=(5, 20)).astype(np.float32))
    out = folder / "w.packed"
    words = ["--method", "rtn", "--format", "int4-g128", "-o", str(out)]
    assert main(["quantize", str(folder / "w.npy"), *words]) == 0
    return str(out)


def test_an_accelerator_is_named_by_its_fields_and_its_arrays():
    spec = hardware.accelerator("3x2:network=systolic,scaling=serial,w_depth=128,clock_hz=2e8", PE)
    assert (spec.array.rows, spec.array.columns, spec.array.pe.lanes) == (3, 2, 8)
    assert (spec.array.network, spec.array.clock_hz) == ("systolic", 2e8)
    assert (spec.scaling, spec.w_depth, spec.x_depth) == ("serial", 128, 256)
    with pytest.raises(ValueError, match=r"^accelerator must be ROWSxCOLUMNS such as 8x8, not '3by2'$"):
        hardware.accelerator("3by2")
    with pytest.raises(ValueError, match=r"^accelerator parameter must be one of .*, not 'depth'$"):
        hardware.accelerator("3x2:depth=1")


def test_engines_agree_on_sums_and_on_the_clocks_of_whole_sessions(cases, monkeypatch):
    monkeypatch.setitem(accelerator_verifying.BUDGET, "amaranth", 2_000)
    outcomes = verify(cases, ("torch", "numba", "model", "amaranth"), SPEC)
    for outcome in outcomes:
        assert outcome.agrees, outcome
        assert outcome.layers == 2
        assert outcome.macs == 21 * outcome.outputs > 0
    assert outcomes[2].cycles is None
    assert outcomes[3].cycles == outcomes[3].cycles_model > 500


@pytest.mark.parametrize("spoil", ["sum", "clock"])
def test_a_wrong_sum_or_clock_is_reported(cases, spoil, monkeypatch):
    def wrong(spec, session):
        outcome = reference.run(spec, session)
        if spoil == "clock":
            return replace(outcome, clocks=1)
        first = bytes([outcome.tiles[-1][0] ^ 1]) + outcome.tiles[-1][1:]
        return replace(outcome, tiles=[*outcome.tiles[:-1], first])

    monkeypatch.setattr(simulate, "run", wrong)
    [outcome] = verify(cases[:1], ("amaranth",), SPEC)
    assert not outcome.agrees
    assert outcome.mismatches == (1 if spoil == "sum" else 0)


def test_an_engine_that_fails_says_why(cases, monkeypatch):
    def failing(spec, session):
        raise RuntimeError("the tool must be there")

    monkeypatch.setattr(simulate, "run", failing)
    [outcome] = verify(cases[:1], ("amaranth",), SPEC)
    assert (outcome.agrees, outcome.failure) == (False, "the tool must be there")


def test_as_many_tiles_are_cut_as_a_budget_of_clocks_pays_for(cases):
    few, many = (accelerator_verifying.cut(cases[0], SPEC, budget, 0) for budget in (1, 100_000))
    assert (len(few.tokens), len(few.rows)) == (2, 2)
    assert (len(many.tokens), len(many.rows)) == (3, 5)
    assert len(set(many.rows)) == 5


def test_flipped_bits_of_the_stream_are_caught_and_mean_what_the_model_says(cases):
    planted = accelerator_faults.inject(cases, ("torch", "model", "amaranth"), SPEC, 4, seed=1)
    assert [fault.engine for fault in planted] == ["model", "amaranth"] * 2
    assert all(fault.caught and fault.explained for fault in planted), planted


def test_an_engine_that_does_not_read_the_stream_catches_nothing(cases, monkeypatch):
    sound: list[object] = []

    def blind(spec, session):
        sound.append(accelerator_faults.session_of(cases[0], spec, 0))
        return reference.run(spec, sound[0])

    monkeypatch.setattr(simulate, "run", blind)
    [fault] = accelerator_faults.inject(cases[:1], ("amaranth",), SPEC, 1)
    assert not fault.explained


@pytest.mark.parametrize(
    ("engines", "count", "message"),
    [
        (("model",), -1, r"^inject must be at least 0, not -1$"),
        (
            ("torch",),
            1,
            r"^engines must hold one of model, amaranth, cxxrtl, icarus to plant faults in, not .*torch",
        ),
    ],
)
def test_faults_that_cannot_be_planted_are_refused(cases, engines, count, message):
    with pytest.raises(ValueError, match=message):
        accelerator_faults.inject(cases, engines, SPEC, count)


def test_rows_of_a_matrix_are_a_matrix_with_their_sums(cases):
    rows = np.array([4, 1])
    for case in cases:
        part = accelerator_tiles.rows_of(case.matrix, rows)
        np.testing.assert_array_equal(integer_sums(part, case.activations), case.judged[:, :, rows])


def test_verify_prints_a_table_and_its_status_says_whether_all_agree(packed, capsys, monkeypatch):
    words = ["verify", packed, "--accelerator", SMALL, "--pe", PE, "--act-bits", "3", "--tokens", "3"]
    words += ["--engines", "torch,model", "--inject", "2", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["result"] for row in found["engines"]] == ["agrees", "agrees"]
    assert [fault["kind"] for fault in found["faults"]] == ["stream", "stream"]

    def wrong(spec, session):
        outcome = sound(spec, session)
        return replace(outcome, tiles=[bytes(len(tile)) for tile in outcome.tiles])

    sound = reference.run
    monkeypatch.setattr(reference, "run", wrong)
    assert main([*words[:-3], "--json"]) == 1
    assert "engines that differ or failed: model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pe", "twoplane"], "pe must have an accumulator per row and token (1 x 1), not 4"),
        (["--array", "2x2"], "array must be empty beside --accelerator, not '2x2'"),
        (["--engines", "netlist"], "engine must be one of torch, numba, integer, model, "),
        (["--accelerator", "2x2:scale_bits=9"], "scale_bits must be at least "),
        (["--accelerator", "2x2:step_depth=4"], "step_depth must be at least 32, not 4 (matrix weight)"),
        (["--accelerator", "2x2:w_depth=3"], "w_depth must be a power of two, not 3"),
        (["--pe", "xnor"], "must be one of "),
    ],
)
def test_what_does_not_run_is_refused_in_a_line_that_names_what_to_change(packed, capsys, words, message):
    given = ["verify", packed, "--accelerator", "2x2", "--engines", "model", "--tokens", "2", *words]
    assert main(given) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert message in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--accelerator", "2x2", "--array", "2x2"], "array must be empty beside --accelerator, not '2x2'"),
        (["--matrix", "w"], "matrix must come with --accelerator, not alone: 'w'"),
        (
            ["--accelerator", "1x1", "--pe", "fpmac"],
            "accelerator must run a matrix to test it with (--matrix)",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused(tmp_path, capsys, words, message):
    assert main(["verilog", *words, "-o", str(tmp_path / "rtl")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "rtl").exists()


@pytest.mark.parametrize("of_file", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_an_exported_folder_passes_by_itself(packed, tmp_path, capsys, of_file):
    folder = tmp_path / "rtl"
    words = ["verilog", "--accelerator", SMALL, "--pe", PE, "-o", str(folder), "--json"]
    assert main([*words, *(["--matrix", packed, "--act-bits", "2"] if of_file else [])]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["parameters"]["w_depth"] == 32
    assert {"registers.md", "registers.h", "accelerator_pins.v", "steps.hex"} <= set(made["files"])
    done = subprocess.run(
        ["sh", "build.sh", "test"], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"out in {made['clocks']} clocks" in done.stdout


def test_the_document_holds_the_register_map_as_it_is():
    document = Path(__file__).parents[2] / "docs" / "accelerator.md"
    text = document.read_text()
    begin, end = "<!-- begin of the register map -->\n", "<!-- end of the register map -->"
    held = text.partition(begin)[2].partition(end)[0]
    assert held == registers.markdown().replace("\n## ", "\n### ").replace("# Registers", "## Registers", 1)
    for error in registers.BY_NAME["ERRORS"].fields:
        assert re.search(rf"^\| `{error.name}` \|", text, re.M), error.name
