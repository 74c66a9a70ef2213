"""Every PE in hw/pe as Verilog, under simulators that share nothing with this project's own engines."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from algo.bitplane import family
from hw import toolchain, verilog_sim
from hw.beats import LAST, Beats
from hw.grid import Grid
from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec, PeSpec
from hw.tests.faulty import Faulty
from hw.tests.stalls import full_rate, stalled

SAMPLES: list[PeSpec] = [
    *(spec for name in family.names("hw.pe") for spec in family.load("hw.pe", name).SAMPLES),
    Grid(array=ArraySpec(pe=BitSerial(lanes=20, acc_width=24), rows=2, columns=3)),
    Grid(array=ArraySpec(pe=BitSerial(lanes=20, acc_width=24), rows=2, columns=2, network="systolic")),
]
SMALLEST: list[PeSpec] = [
    min(family.load("hw.pe", name).SAMPLES, key=lambda spec: sum(spec.words().values()))
    for name in family.names("hw.pe")
]
#: Verilator takes long to build: the default PE at once, the rest of the family in the long run.
VERILATED = [max(family.load("hw.pe", "bitserial").SAMPLES, key=lambda spec: spec.lanes), SAMPLES[-1]]
STALLED, BOTH = ("stalled",), ("full rate", "stalled")
RUNS = [
    *(("icarus", spec, 120, STALLED) for spec in SMALLEST),
    *(("icarus", spec, 120, BOTH) for spec in SAMPLES[-2:]),
    *(("verilator", spec, 5000, BOTH) for spec in VERILATED),
]
SLOW = [
    *(("icarus", spec, 1000, BOTH) for spec in SAMPLES),
    *(("verilator", spec, 20000, BOTH) for spec in SAMPLES if spec not in VERILATED),
]
RUNS += [pytest.param(*run, marks=pytest.mark.slow) for run in SLOW]  # type: ignore[arg-type]


@pytest.mark.parametrize(("simulator", "spec", "n", "traffic"), RUNS, ids=str)
def test_verilog_equals_golden_and_its_clocks_equal_the_model(simulator, spec, n, traffic):
    for kind in traffic:
        case = full_rate(spec, n) if kind == "full rate" else stalled(spec, n, seed=1)
        case.check(verilog_sim.run(spec, case.beats, simulator, case.offered, case.ready))


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("moves the item", r"^o must hold item -?\d+ until it is taken, not change at clock \d+$"),
        ("drops a beat", r"^the PE must hand over 200 items for these beats, not \d+$"),
    ],
)
def test_a_fault_behind_a_stall_is_caught_under_icarus(fault, complaint):
    spec = Faulty(lanes=5, acc_width=9, fault=fault)
    case = stalled(spec, 200)
    items = replace(case.beats, flags=case.beats.flags | np.uint8(LAST))
    with pytest.raises(RuntimeError, match=complaint):
        verilog_sim.run(spec, items, "icarus", case.offered, case.ready)


def test_a_second_run_builds_nothing(monkeypatch):
    spec = BitSerial(lanes=5, acc_width=7, levels=1)
    case = full_rate(spec, 20)
    verilog_sim.run(spec, case.beats, "icarus")
    call = toolchain.call

    def refuse_to_build(command, **options):
        assert "build" not in command
        return call(command, **options)

    monkeypatch.setattr(toolchain, "call", refuse_to_build)
    case.check(verilog_sim.run(spec, case.beats, "icarus"))


def test_a_simulator_that_hangs_is_ended(monkeypatch):
    spec = BitSerial(lanes=5, acc_width=7, levels=1)
    verilog_sim.compiled(spec, "icarus")
    call = toolchain.call

    def hurry(command, **options):
        return call(command, **options | ({"timeout": 0.2} if "test" in command else {}))

    monkeypatch.setattr(toolchain, "call", hurry)
    with pytest.raises(RuntimeError, match=r"must finish within 0\.2 s$"):
        verilog_sim.run(spec, Beats.random(spec, 3000, 0), "icarus")


def test_what_surrounds_the_process_does_not_reach_the_simulator(monkeypatch, tmp_path):
    for name in ("CXXFLAGS", "MAKEFLAGS", "COCOTB_TEST_FILTER", "WAVES", "PYTHONWARNINGS"):
        monkeypatch.setenv(name, "--no-such-option")
    environment = verilog_sim.private_environment(tmp_path)
    assert "--no-such-option" not in environment.values()
    assert "PYTEST_CURRENT_TEST" not in environment
    assert environment["PATH"].startswith(f"{tmp_path}{os.pathsep}")
    spec = BitSerial(lanes=1, acc_width=2, levels=0)
    case = full_rate(spec, 10)
    case.check(verilog_sim.run(spec, case.beats, "icarus"))


@pytest.mark.parametrize(
    ("simulator", "missing", "message"),
    [
        ("icarus", "iverilog", "iverilog must be on the path for icarus: apt-get install iverilog"),
        ("verilator", "make", "make must be on the path for verilator: apt-get install make"),
    ],
)
def test_a_missing_program_is_named_with_its_package(monkeypatch, simulator, missing, message):
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **k: None if name == missing else which(name, **k))
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        verilog_sim.require_tools(simulator)


def test_a_missing_libpython_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr("find_libpython.find_libpython", lambda: None)
    with pytest.raises(
        RuntimeError, match=r"^libpython must be installed for cocotb: apt-get install python3-dev$"
    ):
        verilog_sim.require_tools("icarus")


def test_an_unknown_simulator_is_refused():
    with pytest.raises(ValueError, match=r"^simulator must be one of icarus, verilator, not 'vcs'$"):
        verilog_sim.run(BitSerial(), Beats.random(BitSerial(), 1, 0), "vcs")


@pytest.mark.slow
def test_a_fault_behind_a_stall_is_caught_under_verilator():
    spec = Faulty(lanes=5, acc_width=9, fault="moves the item")
    case = stalled(spec, 200)
    items = replace(case.beats, flags=case.beats.flags | np.uint8(LAST))
    complaint = r"^o must hold item -?\d+ until it is taken, not change at clock \d+$"
    with pytest.raises(RuntimeError, match=complaint):
        verilog_sim.run(spec, items, "verilator", case.offered, case.ready)


def test_every_pe_names_its_spec_and_its_samples():
    for name in family.names("hw.pe"):
        module = family.load("hw.pe", name)
        assert issubclass(module.SPEC, PeSpec)
        assert all(isinstance(spec, module.SPEC) for spec in module.SAMPLES)
        assert any(spec.lanes % 64 for spec in module.SAMPLES)
        assert len(np.unique([spec.latency() for spec in module.SAMPLES])) > 1
