"""Verification: engines that agree pass, engines that do not are named, planted faults are caught."""

import json

import numpy as np
import pytest

from planeforge import faults, verifying
from planeforge.cli import main
from planeforge.hardware import pe
from planeforge.quantizing import quantize
from planeforge.simulating import streams
from planeforge.verifying import Case, verify

QUICK = ("torch", "numba", "integer", "cxxrtl")
PE = "bitserial:lanes=20,acc_width=24"


@pytest.fixture(scope="module")
def cases():
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=(9, 70)), rng.normal(size=(90, 70))
    made = {
        "billm": quantize(weight, "billm", calibration=x),
        "int2": quantize(weight, "rtn", "int2-g128", group=32),
    }
    return [
        Case(name=name, matrix=q.matrix, activations=streams(q.matrix, x[:3], 5)) for name, q in made.items()
    ]


def test_all_engines_agree_on_sums_and_clocks(cases):
    outcomes = verify(cases, (*QUICK, "amaranth"), pe(PE))
    assert [o.engine for o in outcomes] == [*QUICK, "amaranth"]
    for outcome in outcomes:
        assert outcome.agrees, outcome
        assert outcome.layers == 2
        assert outcome.macs == 70 * outcome.outputs > 0
    assert outcomes[-1].cycles == outcomes[-1].cycles_model > 0


@pytest.mark.parametrize("engine", ["numba", "integer"])
def test_one_wrong_sum_of_a_software_engine_is_reported(cases, engine, monkeypatch):
    from sim import engines

    sound = engines.ENGINES[engine]

    def off_by_one(matrix, activations):
        sums = sound(matrix, activations)
        sums[0, -1, -1] += 1
        return sums

    monkeypatch.setattr(engines, "ENGINES", {**engines.ENGINES, engine: off_by_one})
    [outcome] = verify(cases, (engine,), pe(PE))
    assert not outcome.agrees
    assert outcome.mismatches >= 2  # a sum, and the float made of it, in each of two layers


@pytest.mark.parametrize("spoil", ["item", "clock", "lost"])
def test_a_wrong_item_a_lost_item_or_a_wrong_clock_of_an_rtl_engine_is_reported(cases, spoil, monkeypatch):
    from dataclasses import replace

    from hw import cxxrtl

    def spoilt(spec, beats):
        run = sound(spec, beats)
        if spoil == "clock":
            return replace(run, cycles=run.cycles + 1)
        items = run.items.copy()
        items[3] ^= 1
        return replace(run, items=items[:-1] if spoil == "lost" else items)

    sound = cxxrtl.run
    monkeypatch.setattr(cxxrtl, "run", spoilt)
    [outcome] = verify(cases, ("cxxrtl",), pe(PE))
    assert not outcome.agrees
    assert (outcome.mismatches > 0) == (spoil != "clock")


def test_an_engine_that_cannot_run_says_why_and_the_others_go_on(cases, monkeypatch):
    from hw import cxxrtl

    def absent(spec, beats):
        raise RuntimeError("no C++ compiler: apt-get install g++")

    monkeypatch.setattr(cxxrtl, "run", absent)
    broken, fine = verify(cases, ("cxxrtl", "integer"), pe(PE))
    assert (broken.agrees, broken.failure) == (False, "no C++ compiler: apt-get install g++")
    assert fine.agrees


def test_every_planted_fault_is_caught_and_explained(cases):
    planted = faults.inject(cases, QUICK, pe(PE), 48, seed=1)
    assert {fault.kind for fault in planted} == set(faults.KINDS)
    assert {fault.engine for fault in planted} == set(QUICK[1:])
    assert all(fault.caught and fault.explained for fault in planted)


def test_an_engine_that_reads_no_masks_is_found_out(cases, monkeypatch):
    from dataclasses import replace

    from sim import engines

    billm = cases[0]
    sound = engines.ENGINES["integer"]

    def blind(matrix, activations):
        # Reads the stored masks of the sound matrix, whatever the file says.
        planes = {**matrix.planes, "salient": billm.matrix.planes["salient"]}
        return sound(replace(matrix, planes=planes), activations)

    monkeypatch.setattr(engines, "ENGINES", {**engines.ENGINES, "integer": blind})
    planted = faults.inject([billm], ("integer",), pe(PE), 60, seed=2)
    missed = [fault for fault in planted if not fault.caught]
    assert missed
    assert {fault.kind for fault in missed} == {"masks"}
    assert all(fault.where.startswith("salient") for fault in missed)


def test_flipping_a_bit_twice_gives_the_matrix_back(cases):
    for kind in ("planes", "masks", "scales"):
        matrix = cases[0].matrix
        once, where = faults.flip(matrix, kind, np.arange(9), np.random.default_rng(3))
        twice, again = faults.flip(once, kind, np.arange(9), np.random.default_rng(3))
        assert where == again
        name = where.split("[")[0]
        if kind == "scales":
            assert not np.array_equal(once.ints[name].values, matrix.ints[name].values)
            np.testing.assert_array_equal(twice.ints[name].values, matrix.ints[name].values)
        else:
            changed = once.planes[name].words ^ matrix.planes[name].words
            assert np.bitwise_count(changed).sum() == 1
            np.testing.assert_array_equal(twice.planes[name].words, matrix.planes[name].words)


def test_wrong_requests_are_refused(cases):
    with pytest.raises(ValueError, match=r"^engine must be one of torch, numba, .*, not 'abacus'$"):
        verify(cases, ("abacus",))
    with pytest.raises(ValueError, match=r"^inject must be at least 0, not -1$"):
        faults.inject(cases, QUICK, pe(PE), -1)
    with pytest.raises(ValueError, match=r"^engines must hold one to plant faults in besides torch"):
        faults.inject(cases, ("torch",), pe(PE), 1)


def test_the_verb_exits_1_on_a_mismatch_and_prints_the_table(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("w.npy", np.random.default_rng(0).normal(size=(6, 65)).astype(np.float32))
    assert main(["quantize", "w.npy", "--method", "sign", "-o", "w.packed"]) == 0
    capsys.readouterr()
    words = f"verify w.packed --engines torch,integer,cxxrtl --pe {PE} --inject 6 --json".split()
    assert main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [row["result"] for row in printed["engines"]] == ["agrees"] * 3
    assert all(fault["caught"] for fault in printed["faults"])
    from hw import cxxrtl

    sound = cxxrtl.run
    monkeypatch.setattr(verifying, "runner", lambda engine: lambda spec, beats: _wrong(sound(spec, beats)))
    assert main(words) == 1
    captured = capsys.readouterr()
    assert captured.err == "error: engines that differ or failed: cxxrtl\n"


def _wrong(run):
    from dataclasses import replace

    return replace(run, items=run.items + 1)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("bitserial:lanes=1000000", r"lanes must leave a beat at most 65535 bits, not 3000006"),
        (
            "popcount:form=lut6,instances=true",
            r"pe must be of plain logic to be executed, not of xilinx cells",
        ),
    ],
)
def test_rtl_that_no_engine_executes_is_refused_before_any_runs(named, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        verifying.verify([], ["cxxrtl"], pe(named))
    assert verifying.verify([], ["numba"], pe(named))[0].layers == 0
