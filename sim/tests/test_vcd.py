"""Waves of a PE by its definition against those of its RTL, change by change."""

import re

import numpy as np
import pytest
from amaranth.sim import Simulator
from vcd.reader import TokenKind, tokenize

from hw.beats import Beats
from hw.pe.bitserial import SAMPLES, BitSerial
from hw.spec import Beat
from sim import vcd

SCALE = {"fs": 1, "ns": 10**6}  #: femtoseconds
PORTS = ("clk", "i__valid", "i__ready", "o__valid", "o__ready", "o__payload")


def changes(path):
    """Changes of every wave as (femtoseconds, value), repeated values left out."""
    names, found, time, scale = {}, {}, 0, 0
    with path.open("rb") as file:
        for token in tokenize(file):
            if token.kind is TokenKind.TIMESCALE:
                scale = SCALE[token.timescale.unit.value] * token.timescale.magnitude.value
            elif token.kind is TokenKind.VAR:
                names.setdefault(token.var.id_code, []).append(token.var.reference.lstrip("\\"))
            elif token.kind is TokenKind.CHANGE_TIME:
                time = token.time_change * scale
            elif token.kind in (TokenKind.CHANGE_SCALAR, TokenKind.CHANGE_VECTOR):
                change = token.scalar_change if token.kind is TokenKind.CHANGE_SCALAR else token.vector_change
                for name in names[change.id_code]:
                    seen = found.setdefault(name, {})
                    value = int(change.value, 2) if isinstance(change.value, str) else change.value
                    seen[time] = value  # of several at one time the last one stands
    return {name: _distinct(seen) for name, seen in found.items()}


def _distinct(seen):
    kept = []
    for time, value in sorted(seen.items()):
        if not kept or kept[-1][1] != value:
            kept.append((time, value))
    return kept


def rtl(spec, beats, offered, ready, clocks, path):
    """The RTL's own dump of the same run: each beat offered when it is allowed to be, until it is taken."""
    pe = spec.create()
    payloads = [int.from_bytes(words.astype("<u4").tobytes(), "little") for words in beats.payload(spec)]

    async def bench(ctx):
        position, waiting = 0, False
        for clock in range(clocks):
            may = offered[clock] if clock < len(offered) else True
            waiting = position < len(payloads) and (waiting or may)
            ctx.set(pe.i.valid, int(waiting))
            if waiting:
                ctx.set(pe.i.payload.as_value(), payloads[position])
            ctx.set(pe.o.ready, int(ready[clock]) if clock < len(ready) else 1)
            _, _, accepted = await ctx.tick().sample(pe.i.ready)
            if waiting and accepted:
                position, waiting = position + 1, False

    simulator = Simulator(pe)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    with simulator.write_vcd(str(path)):
        simulator.run()


def stalls(seed, clocks):
    rng = np.random.default_rng(seed)
    return (rng.random(clocks) < 0.6).tolist(), (rng.random(clocks) < 0.5).tolist()


@pytest.mark.parametrize("stalled", [False, True], ids=["flowing", "stalled"])
@pytest.mark.parametrize("spec", SAMPLES, ids=lambda spec: f"{spec.lanes} lanes, {spec.levels} levels")
def test_waves_change_when_and_to_what_the_rtls_change(spec, stalled, tmp_path):
    beats = Beats.random(spec, 60, seed=3)
    offered, ready = stalls(4, 150) if stalled else ([], [])
    mine, theirs = tmp_path / "mine.vcd", tmp_path / "theirs.vcd"
    mine.write_text(vcd.dump(spec, beats, offered, ready))
    count = len(list(vcd.clocks(spec, beats, offered, ready)))
    rtl(spec, beats, offered, ready, count, theirs)
    found, expected = changes(mine), changes(theirs)
    end = max(time for time, _ in found["clk"])
    assert len(found) == len(PORTS) + 9
    for name, seen in found.items():
        assert seen == [change for change in expected[name] if change[0] <= end], name


@pytest.mark.parametrize("spec", SAMPLES, ids=lambda spec: f"{spec.lanes} lanes")
def test_the_last_item_is_taken_at_the_clock_the_contract_counts(spec):
    beats = Beats.random(spec, 40, seed=5)
    for offered, ready in (([], []), stalls(6, 100)):
        seen = list(vcd.clocks(spec, beats, offered, ready))
        taken = [at for at, clock in enumerate(seen) if clock.valid and clock.takes]
        assert taken[-1] + 1 == spec.stalled_cycles(beats.lasts.tolist(), offered, ready)
        assert [seen[at].accumulators[0] for at in taken] == spec.items(beats.to_list())


def test_a_run_cut_before_its_item_still_comes_to_rest():
    spec = BitSerial(lanes=5, acc_width=8)
    beats = Beats.from_list([Beat(w=31, x=31, mask=31, first=True)], spec)
    seen = list(vcd.clocks(spec, beats))
    assert len(seen) == spec.latency() + 1
    assert (seen[-1].accumulators[0], any(clock.valid for clock in seen)) == (5, False)


def test_beats_of_another_width_are_refused():
    message = "lanes must be 7 for the beats, not 5"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        vcd.dump(BitSerial(lanes=5, acc_width=8), Beats.random(BitSerial(lanes=7, acc_width=8), 3, seed=0))


def test_a_missing_writer_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "vcd", None)
    spec = BitSerial(lanes=5, acc_width=8)
    message = "pyvcd must be installed to write a VCD file: pip install 'planeforge[rtl]'"
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        vcd.dump(spec, Beats.random(spec, 3, seed=0))
