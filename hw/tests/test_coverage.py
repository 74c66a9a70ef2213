"""What random runs put a PE into: everything that is named, and nothing that did not happen."""

from __future__ import annotations

import pytest

from algo.bitplane import family
from hw import coverage, coverage_report
from hw.beats import Beats
from hw.pe.bitserial import BitSerial
from hw.spec import Beat
from hw.tests.stalls import full_rate, stalled

SAMPLES = [spec for name in family.names("hw.pe") for spec in family.load("hw.pe", name).SAMPLES]
PE = BitSerial(lanes=5, acc_width=9, levels=0)


@pytest.mark.parametrize("spec", SAMPLES, ids=repr)
def test_the_runs_of_the_tests_reach_every_situation(spec):
    cases = [full_rate(spec, 400), stalled(spec, 1200, seed=1)]
    found = sum((coverage.count(spec, c.beats, c.offered, c.ready) for c in cases), start=coverage.Counter())
    assert set(found) <= set(coverage.situations(spec))
    missed = [name for name in coverage.situations(spec) if not found[name]]
    assert missed == []


def test_full_rate_reaches_no_stall():
    case = full_rate(PE, 400)
    found = coverage.count(PE, case.beats)
    assert [name for name in coverage.STALLS if found[name]] == [
        "items in successive clocks",
        "both sides go on for ten clocks",
    ]


def test_one_beat_is_counted_for_what_it_is():
    beat = Beat(w=1, x=1, mask=31, first=True, last=True, neg=True)
    found = coverage.count(PE, [beat], offered=[False, True], ready=[False] * 7 + [True])
    reached = {name: n for name, n in found.items() if n}
    flags = {f"{flag} {int(getattr(beat, flag))}": 1 for flag in PE.flags()}
    waits = 7 - (1 + PE.latency())
    assert reached == flags | {
        "mask full": 1,
        "item of one beat": 1,
        "item negative": 1,
        "gap before an item": 1,
        "item refused": waits,
        "item refused thrice running": int(waits >= 3),
        "gap while an item is refused": waits,
    }


def test_clocks_are_those_the_contract_counts():
    case = stalled(PE, 300, seed=4)
    clocks = list(coverage._clocks(PE, case.beats.lasts.tolist(), case.offered, case.ready))
    assert len(clocks) == PE.stalled_cycles(case.beats.lasts.tolist(), case.offered, case.ready)
    assert sum(clock.handed for clock in clocks) == case.beats.lasts.sum()
    assert not coverage.count(PE, Beats.random(PE, 0, 0))["item refused"]


def test_the_table_for_people_has_a_line_for_every_pe(capsys):
    coverage_report.main()
    shown = capsys.readouterr().out
    assert all(name in shown for name in family.names("hw.pe"))
    assert "0 missed" in shown
