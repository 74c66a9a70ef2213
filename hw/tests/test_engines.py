"""RTL in bulk and the synthesized netlist: the same items in the same clocks as the contract says."""

from __future__ import annotations

import re

import pytest

from hw import cxxrtl, netlist, toolchain
from hw.beats import Beats
from hw.pe.bitserial import SAMPLES, BitSerial
from hw.spec import Beat
from hw.stimulus import Stimulus
from hw.tests.faulty import Faulty
from hw.tests.stalls import Case, full_rate, stalled

SMALL = BitSerial(lanes=5, acc_width=7, levels=1)


@pytest.mark.parametrize("spec", SAMPLES, ids=repr)
def test_cxxrtl_equals_golden_and_its_clocks_equal_the_model(spec):
    library = cxxrtl.library(spec)
    cases = [full_rate(spec, 3000), *(stalled(spec, 3000, seed, 0.3 + 0.2 * seed) for seed in range(3))]
    for case in cases:
        case.check(cxxrtl.execute(library, Stimulus.of(spec, case.beats, case.offered, case.ready)))


def test_cxxrtl_is_fast_enough_for_whole_layers():
    beats = Beats.random(BitSerial(), 300_000, 0)
    run = cxxrtl.run(BitSerial(), beats)
    lasts = beats.lasts.tolist()
    assert run.cycles == 300_000 + BitSerial().latency()
    assert len(run.items) == sum(lasts)


@pytest.mark.parametrize("spec", [SMALL, BitSerial(lanes=66, acc_width=20, levels=0)], ids=repr)
def test_the_netlist_equals_golden_and_its_clocks_equal_the_model(spec):
    for case in (full_rate(spec, 1000), stalled(spec, 1000, seed=2)):
        case.check(netlist.run(spec, case.beats, case.offered, case.ready))


def test_the_netlist_holds_nothing_but_gates_and_flip_flops():
    text = netlist.synthesize(SMALL)
    assigns = re.findall(r"assign .*? = (.*?);", text)
    gate = re.compile(r"~?\(?[^-+*/<>]*\)?")
    assert assigns
    assert all(gate.fullmatch(logic) for logic in assigns)
    bits = sum(text.count(kind) for kind in ("always @(posedge clk)",))
    assert bits == SMALL.resources().flop


def test_one_wrong_gate_in_the_netlist_is_caught(monkeypatch):
    text = netlist.synthesize(SMALL)
    wrong = re.sub(r"(assign _\w+ = \S+) \^ ", r"\1 | ", text, count=1)
    assert wrong != text
    monkeypatch.setattr(netlist, "synthesize", lambda spec, target: wrong)
    case = full_rate(SMALL, 500)
    with pytest.raises((AssertionError, RuntimeError)):
        case.check(netlist.run(SMALL, case.beats))


@pytest.mark.parametrize("spec", [SMALL, pytest.param(BitSerial(), marks=pytest.mark.slow)], ids=repr)
def test_the_netlist_of_an_fpgas_cells_equals_golden_until_a_table_is_wrong(spec, monkeypatch):
    for case in (full_rate(spec, 500), stalled(spec, 500, seed=2)):
        case.check(netlist.run(spec, case.beats, case.offered, case.ready, target="xilinx"))
    text = netlist.synthesize(spec, "xilinx")
    tables = re.findall(r"\.INIT\(64'h([0-9a-f]{16})\)", text)
    assert tables
    # All 64 entries inverted: whatever the table's inputs, it is wrong.
    wrong = text.replace(f"64'h{tables[0]}", f"64'h{int(tables[0], 16) ^ (1 << 64) - 1:016x}", 1)
    monkeypatch.setattr(netlist, "synthesize", lambda spec, target: wrong)
    case = full_rate(spec, 500)
    with pytest.raises((AssertionError, RuntimeError)):
        case.check(netlist.run(spec, case.beats, target="xilinx"))


def test_a_target_without_cells_is_refused():
    with pytest.raises(ValueError, match=r"^target must be one of gates, xilinx, not 'tpu'$"):
        netlist.run(SMALL, Beats.random(SMALL, 3, 0), target="tpu")


@pytest.mark.parametrize("engine", [cxxrtl, netlist])
def test_an_accumulator_of_64_bits_wraps_at_both_ends(engine):
    spec = BitSerial(lanes=5, acc_width=64, levels=2)
    signs = {"mask": 31, "w_bipolar": True, "x_bipolar": True}
    # 62 doublings of 5 run over; 63 of 1 reach the smallest number of all.
    runs = [
        [Beat(w=31, x=31, first=True, **signs), *[Beat(w=0, x=0, mask=0, shift=True)] * 62],
        [Beat(w=1, x=1, mask=1, first=True), *[Beat(w=0, x=0, mask=0, shift=True)] * 63],
    ]
    beats = [beat for run in runs for beat in [*run, Beat(w=0, x=0, mask=0, last=True)]]
    run = engine.run(spec, Beats.from_list(beats, spec))
    assert run.items.tolist() == [(5 << 62) - (1 << 64), -(1 << 63)] == spec.items(beats)


def test_beats_that_finish_nothing_take_no_clock_and_give_no_item():
    beats = Beats.from_list([Beat(w=1, x=1, mask=1, first=True)] * 3, SMALL)
    for case in (Case(spec=SMALL, beats=beats), Case(spec=SMALL, beats=Beats.random(SMALL, 0, 0))):
        case.check(cxxrtl.run(SMALL, case.beats))


def test_a_second_run_builds_nothing(monkeypatch):
    case = full_rate(SMALL, 50)
    cxxrtl.run(SMALL, case.beats)
    netlist.run(SMALL, case.beats)

    def refuse(*command, **options):
        raise AssertionError(f"built again: {command}")

    monkeypatch.setattr(toolchain, "call", refuse)
    case.check(cxxrtl.run(SMALL, case.beats))
    case.check(netlist.run(SMALL, case.beats))


@pytest.mark.parametrize("fault", ["drops a beat", "moves the item"])
def test_cxxrtl_shows_a_fault_behind_a_stall(fault):
    spec = Faulty(lanes=5, acc_width=9, fault=fault)
    case = full_rate(spec, 300)
    case.check(cxxrtl.run(spec, case.beats))
    case = stalled(spec, 300)
    with pytest.raises((AssertionError, RuntimeError)):
        case.check(cxxrtl.run(spec, case.beats, case.offered, case.ready))


def test_an_item_too_many_is_reported():
    spec = Faulty(lanes=5, acc_width=9, fault="hands an item over twice")
    beats = Beats.from_list([Beat(w=1, x=1, mask=1, first=True, last=True)], spec)
    with pytest.raises(RuntimeError, match=r"^the PE must hand over 1 items for these beats, not 2$"):
        cxxrtl.run(spec, beats)


def test_an_accumulator_beyond_64_bits_is_refused_before_anything_is_built(monkeypatch):
    monkeypatch.setattr(toolchain, "built", None)
    spec = BitSerial(lanes=5, acc_width=65)
    for engine in (cxxrtl, netlist):
        with pytest.raises(ValueError, match=r"^acc_width must be at most 64 to execute RTL, not 65$"):
            engine.run(spec, Beats.random(spec, 1, 0))
