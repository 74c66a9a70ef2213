"""Mutants: each is what it says, the unchanged circuit among them is the PE, and the checks kill faults."""

import pytest

from hw.beats import Beats
from hw.mutation import circuit, report, schemata
from hw.mutation.equivalence import in_force, reason
from hw.mutation.run import outcomes
from hw.pe.bitserial import BitSerial
from hw.verilog import design

SPEC = BitSerial(lanes=1, acc_width=3, levels=0)

ADDER = """
module \\top
  wire width 2 input 1 \\a
  wire width 2 input 2 \\b
  wire width 2 output 3 \\y
  wire input 4 \\clk
  wire input 5 \\rst
  wire width 2 \\sum
  cell $add \\add
    parameter \\A_SIGNED 0
    parameter \\B_SIGNED 0
    parameter \\A_WIDTH 2
    parameter \\B_WIDTH 2
    parameter \\Y_WIDTH 2
    connect \\A \\a
    connect \\B \\b
    connect \\Y \\sum
  end
  cell $sdff \\register
    parameter \\WIDTH 2
    parameter \\CLK_POLARITY 1
    parameter \\SRST_POLARITY 1
    parameter \\SRST_VALUE 2'00
    connect \\CLK \\clk
    connect \\SRST \\rst
    connect \\D \\sum
    connect \\Q \\y
  end
end
"""


@pytest.fixture(scope="module")
def run():
    beats = [design(SPEC, Beats.random(SPEC, size, seed)) for seed, size in enumerate([80, 80, *[20] * 20])]
    return outcomes(beats)


def test_an_adder_and_a_register_have_the_mutants_one_expects():
    made = schemata.all_mutants(circuit.read(ADDER, "top"))
    found = {(mutant.group, mutant.what) for mutant in made.mutants}
    assert {
        ("operator", "$add becomes $sub"),
        ("off by one", "$add is one too many"),
        ("slice", "A of $add is one bit off"),
        ("reset", "the reset is dropped"),
        ("reset", "bit 0 of the reset value is inverted"),
        ("inversion", "bit 1 of the register is inverted"),
    } <= found


def test_with_no_mutant_in_force_the_circuit_is_the_pe(run):
    everything, _ = run
    text = circuit.to_rtlil(in_force(everything, 0), "pe")
    assert "mutant" not in text
    assert reason(SPEC, everything, 0)


def test_nearly_all_mutants_die_and_those_that_live_are_proven_harmless(run):
    everything, found = run
    alive = [one for one in found if not one.killed]
    assert len(found) > 60
    assert len(alive) < 0.1 * len(found)
    assert all(reason(SPEC, everything, one.number) for one in alive)
    assert {one.phase for one in found if one.killed} == {0, 1, 2}


def test_a_killed_mutant_has_no_excuse(run):
    everything, found = run
    killed = [one for one in found if one.killed]
    excused = [one for one in killed[:: len(killed) // 6] if reason(SPEC, everything, one.number)]
    assert excused == []


def test_checks_that_never_stall_and_never_reset_let_mutants_live(run):
    _, found = outcomes([design(SPEC, Beats.random(SPEC, 80, 0))])
    assert sum(one.killed for one in found) < sum(one.killed for one in run[1])


def test_the_command_reports_the_share_and_fails_where_too_many_live(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(report, "DESIGNS", {"tiny": SPEC})
    lines = []
    status = report.main(["tiny"], tmp_path / "out.json", lines.append, beats=80, resets=20)
    assert status == 0
    assert lines[-1].startswith("killed 9")
    assert (tmp_path / "out.json").is_file()
    monkeypatch.setattr(report, "reason", lambda *given: "")
    monkeypatch.setattr(report, "LEAST", 1.0)
    assert report.main(["tiny"], None, lines.append, beats=80, resets=20) == 1
    assert any("not proven harmless" in line for line in lines)
    assert report.main(["none"], None) == 2
    assert capsys.readouterr().err == "designs must be among tiny, not 'none'\n"
