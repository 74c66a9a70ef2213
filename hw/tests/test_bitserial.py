"""BitSerial: golden against plain sums, RTL against golden, cells against Yosys."""

from __future__ import annotations

import doctest
import json
import random
import re
from collections import Counter
from itertools import product

import pytest
from amaranth import ResetInserter, Signal
from amaranth.hdl import Const
from amaranth.sim import Simulator
from hypothesis import given
from hypothesis import strategies as st

import hw.pe.bitserial
from hw import pysim, toolchain
from hw.beats import Beats
from hw.pe.bitserial import SAMPLES, BitSerial, tree
from hw.pipeline import payload_layout
from hw.spec import Beat, signed_bits, wrap
from hw.tests.faulty import PLAIN_FAULTS, STALL_FAULTS, Faulty
from hw.tests.stalls import full_rate, stalled

MODES = list(product([False, True], repeat=2))


def digit(word: int, lane: int, bipolar: bool) -> int:
    bit = word >> lane & 1
    return 2 * bit - 1 if bipolar else bit


def dot(beat: Beat, lanes: int) -> int:
    return sum(
        digit(beat.w, lane, beat.w_bipolar) * digit(beat.x, lane, beat.x_bipolar)
        for lane in range(lanes)
        if beat.mask >> lane & 1
    )


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize(("w_bipolar", "x_bipolar"), MODES)
def test_golden_is_the_sum_over_masked_digits_for_every_operand(lanes, w_bipolar, x_bipolar):
    spec = BitSerial(lanes=lanes, acc_width=8)
    for w, x, mask in product(range(1 << lanes), repeat=3):
        beat = Beat(w=w, x=x, mask=mask, w_bipolar=w_bipolar, x_bipolar=x_bipolar, first=True)
        assert spec.golden(99, beat) == dot(beat, lanes), beat


@given(st.data())
def test_golden_starts_doubles_and_negates_as_the_flags_say(data):
    lanes = data.draw(st.sampled_from([1, 7, 64, 100]))
    spec = BitSerial(lanes=lanes, acc_width=12)
    word = st.integers(0, (1 << lanes) - 1)
    flags = {n: st.booleans() for n in ("w_bipolar", "x_bipolar", "first", "shift", "neg")}
    beat = data.draw(st.builds(Beat, w=word, x=word, mask=word, **flags))
    acc = data.draw(st.integers(-2048, 2047))
    start = 0 if beat.first else acc * (2 if beat.shift else 1)
    exact = start + dot(beat, lanes) * (-1 if beat.neg else 1)
    assert spec.golden(acc, beat) == wrap(exact, 12)


def test_golden_wraps_when_the_accumulator_overflows():
    spec = BitSerial(lanes=5, acc_width=5)
    assert spec.golden(14, Beat(w=31, x=31, mask=31)) == 19 - 32
    assert spec.golden(-16, Beat(w=31, x=31, mask=31, neg=True)) == -21 + 32
    assert spec.golden(12, Beat(w=0, x=0, mask=0, shift=True)) == 24 - 32


def test_the_port_lays_a_beat_out_as_beats_pack_it():
    spec = BitSerial(lanes=37)
    beats, layout = Beats.random(spec, 50, 0), payload_layout(spec)
    payload = beats.payload(spec)
    for beat, words in zip(beats, payload, strict=True):
        fields = {name: int(getattr(beat, name)) for name in layout.members}
        port = Const.cast(layout.const(fields)).value
        assert port == int.from_bytes(words.astype("<u4").tobytes(), "little")


def test_the_tree_counts_every_bit_into_columns_of_two():
    assert doctest.testmod(hw.pe.bitserial).failed == 0
    for lanes in range(1, 300):
        levels = tree(lanes)
        assert max(levels[-1]) <= 2
        assert len(levels[0]) == signed_bits(-lanes, lanes)
        assert all(max(columns) > 2 for columns in levels[:-1])


@pytest.mark.parametrize("spec", SAMPLES, ids=repr)
def test_rtl_equals_golden_and_its_clocks_equal_the_model(spec):
    for case in (full_rate(spec, 300), stalled(spec, 300, seed=1)):
        case.check(pysim.run(spec, case.beats, case.offered, case.ready))


@pytest.mark.parametrize("lanes", [2, 3, 4, 6, 7, 9, 17, 33, 130])
@pytest.mark.parametrize("levels", [0, 1, 2, 4])
def test_rtl_equals_golden_at_odd_sizes_and_depths(lanes, levels):
    spec = BitSerial(lanes=lanes, acc_width=signed_bits(-lanes, lanes) + levels, levels=levels)
    case = stalled(spec, 60, seed=lanes)
    case.check(pysim.run(spec, case.beats, case.offered, case.ready))


@pytest.mark.parametrize("sides", [(0.25, 1.0), (1.0, 0.25), (0.25, 0.25)])
def test_rtl_keeps_its_clocks_when_a_side_stalls_mostly(sides):
    spec, rng = BitSerial(lanes=5, acc_width=7), random.Random(0)
    beats = Beats.random(spec, 200, 3)
    offered, ready = ([rng.random() < share for _ in range(900)] for share in sides)
    run = pysim.run(spec, beats, offered, ready)
    assert run.items.tolist() == spec.items(beats)
    assert run.cycles == spec.stalled_cycles(beats.lasts.tolist(), offered, ready)


@pytest.mark.parametrize("lanes", [1, 5, 64, 100])
def test_rtl_holds_the_largest_and_the_smallest_sum_in_the_narrowest_accumulator(lanes):
    spec = BitSerial(lanes=lanes, acc_width=signed_bits(-lanes, lanes))
    ones = (1 << lanes) - 1
    signs = {"mask": ones, "w_bipolar": True, "x_bipolar": True, "first": True, "last": True}
    beats = [Beat(w=w, x=x, neg=neg, **signs) for w, x, neg in product((0, ones), (0, ones), (False, True))]
    run = pysim.run(spec, Beats.from_list(beats, spec))
    assert run.items.tolist() == [lanes, -lanes, -lanes, lanes, -lanes, lanes, lanes, -lanes]


@pytest.mark.parametrize("spec", SAMPLES, ids=repr)
def test_latency_is_the_clocks_from_a_beat_to_its_item(spec):
    beat = Beat(w=1, x=1, mask=1, first=True, last=True)
    assert pysim.run(spec, Beats.from_list([beat], spec)).cycles == spec.latency() + 1


def test_valid_does_not_follow_ready_nor_ready_valid():
    pe = BitSerial(lanes=5, acc_width=7).create()
    seen = []

    async def bench(ctx):
        ctx.set(pe.i.payload, {"w": 3, "x": 3, "mask": 3, "first": 1, "last": 1})
        for _ in range(20):
            ports = []
            for offers, takes in product((0, 1), repeat=2):
                ctx.set(pe.i.valid, offers)
                ctx.set(pe.o.ready, takes)
                ports.append((takes, ctx.get(pe.i.ready), ctx.get(pe.o.valid)))
            seen.append(ports)
            await ctx.tick()

    simulator = Simulator(pe)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert {valid for ports in seen for _, _, valid in ports} == {0, 1}
    for ports in seen:
        valid = ports[0][2]
        # Offered or not: valid stays, and the pipeline halts exactly while an item waits.
        assert ports == [(takes, int(takes or not valid), valid) for takes in (0, 1, 0, 1)]


def test_reset_empties_the_pipeline_and_the_accumulator():
    pe, reset = BitSerial(lanes=5, acc_width=7).create(), Signal()
    items = []

    async def bench(ctx):
        beat = {"w": 31, "x": 31, "mask": 31}
        ctx.set(pe.o.ready, 1)
        for clock in range(40):
            ctx.set(reset, clock == 12)
            ctx.set(pe.i.valid, clock <= 12 or clock == 20)
            ctx.set(pe.i.payload, beat | {"last": int(clock in {11, 12, 20})})
            _, _, valid, item = await ctx.tick().sample(pe.o.valid, pe.o.payload)
            if valid:
                items.append(item)

    simulator = Simulator(ResetInserter(reset)(pe))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert items == [5]


@pytest.mark.parametrize("fault", STALL_FAULTS)
def test_a_fault_behind_a_stall_is_caught_by_stalls_only(fault):
    spec = Faulty(lanes=5, acc_width=9, fault=fault)
    case = full_rate(spec, 200)
    case.check(pysim.run(spec, case.beats))
    case = stalled(spec, 200)
    with pytest.raises((RuntimeError, AssertionError)):
        case.check(pysim.run(spec, case.beats, case.offered, case.ready))


@pytest.mark.parametrize("fault", PLAIN_FAULTS)
def test_a_fault_in_the_datapath_is_caught_at_full_rate(fault):
    spec = Faulty(lanes=5, acc_width=9, fault=fault)
    case = full_rate(spec, 200)
    with pytest.raises((RuntimeError, AssertionError)):
        case.check(pysim.run(spec, case.beats))


def test_a_pe_without_a_fault_passes_as_the_faulty_ones_are_judged():
    spec = Faulty(lanes=5, acc_width=9, fault="none")
    case = stalled(spec, 200)
    case.check(pysim.run(spec, case.beats, case.offered, case.ready))


def cells(design: dict) -> Counter[str]:
    """Bits of each kind of cell in Yosys' JSON; selects between two constants apart."""
    found: Counter[str] = Counter()
    for cell in design["modules"]["pe"]["cells"].values():
        pins = cell["connections"]
        select = cell["type"] == "$mux" and any(isinstance(bit, int) for bit in pins["A"] + pins["B"])
        kind = "constants" if cell["type"] == "$mux" and not select else cell["type"]
        found[kind] += len(pins.get("Q") or pins.get("Y") or ())
    return found


OTHERS = tuple(
    BitSerial(lanes=lanes, acc_width=17, levels=levels)
    for lanes, levels in ((2, 0), (7, 1), (31, 3), (130, 4))
)


@pytest.mark.parametrize("spec", SAMPLES + OTHERS, ids=repr)
def test_resources_are_the_cells_yosys_finds(spec):
    script = "proc\nflatten -noscopeinfo\nopt\nwrite_json\nwreduce\nopt_clean\nwrite_json"
    text = toolchain.builtin_yosys(toolchain.rtlil(spec), script)
    first, end = json.JSONDecoder().raw_decode(text, text.index("{"))
    found, reduced = cells(first), cells(json.loads(text[text.index("{", end) :]))
    claimed = spec.resources()
    assert sum(bits for kind, bits in found.items() if "dff" in kind) == claimed.flop
    # Five gates are a full adder; the accumulator's enable is one more gate, a $reduce_and of two bits.
    gates = sum(found[kind] for kind in ("$and", "$or", "$xor", "$reduce_and"))
    assert gates == claimed.gate2 + 5 * claimed.full_adder + 2 * claimed.half_adder
    # Sums and selects are written wider than they are used.
    assert (reduced["$add"], reduced["$mux"]) == (claimed.adder_bit, claimed.mux2)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"levels": -1}, ValueError, "levels must be at least 0, not -1"),
        ({"levels": 1.0}, TypeError, "levels must be an integer, not 1.0"),
        ({"lanes": 0}, ValueError, "lanes must be at least 1, not 0"),
        ({"lanes": 64, "acc_width": 7}, ValueError, "acc_width must be at least 8, not 7"),
    ],
)
def test_bad_parameters_are_refused(parameters, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        BitSerial(**parameters)


@pytest.mark.parametrize(
    ("acc_width", "stalls", "message"),
    [
        (65, {}, "acc_width must be at most 64 to execute RTL, not 65"),
        (9, {"ready": [[True]]}, "ready must be bool [clocks], not of shape [1, 1]"),
    ],
)
def test_a_run_an_engine_cannot_express_is_refused(acc_width, stalls, message):
    spec = BitSerial(lanes=5, acc_width=acc_width)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        pysim.run(spec, Beats.random(spec, 2, 0), **stalls)
