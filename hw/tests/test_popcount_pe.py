"""The popcount PE: every form and depth equals golden, primitives equal their behaviour, tables are few."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw import cxxrtl, netlist, pysim, toolchain
from hw.formal.equivalence import netlist_of, prove_equal
from hw.pe.popcount import OPS, SAMPLES, Popcount
from hw.popcount.plan import FORMS
from hw.spec import Beat, Segment, signed_bits
from hw.synth import synthesize
from hw.tests.flops import flops
from hw.tests.stalls import full_rate, stalled

INT4 = (1, 2, 4, -8)


@settings(deadline=None, max_examples=8)
@given(
    lanes=st.integers(1, 130),
    levels=st.integers(0, 4),
    op=st.sampled_from(sorted(OPS)),
    form=st.sampled_from(FORMS),
    seed=st.integers(0, 99),
)
def test_any_lanes_at_any_depth_equal_golden(lanes, levels, op, form, seed):
    width = signed_bits(0, lanes) + seed % 5
    spec = Popcount(lanes=lanes, acc_width=width, op=op, levels=levels, form=form)
    case = stalled(spec, 12, seed)
    case.check(pysim.run(spec, case.beats, case.offered, case.ready))


@pytest.mark.parametrize("form", FORMS)
def test_cxxrtl_executes_either_form(form):
    spec = Popcount(lanes=37, acc_width=20, op="xor", levels=2, form=form)
    for case in (full_rate(spec, 2000), stalled(spec, 500, seed=3)):
        case.check(cxxrtl.run(spec, case.beats, case.offered, case.ready))


def test_golden_is_the_definition():
    pe = Popcount(lanes=6, acc_width=5)
    either = replace(pe, op="xor")
    beat = Beat(w=0b110101, x=0b011101)
    assert pe.golden(3, beat) == 3 + 3
    assert pe.golden(3, replace(beat, shift=True)) == 6 + 3
    assert pe.golden(3, replace(beat, shift=True, neg=True)) == 6 - 3
    assert pe.golden(3, replace(beat, first=True, shift=True, neg=True)) == -3
    assert pe.golden(15, beat) == 18 - 32
    assert either.golden(3, beat) == 3 + 2


@settings(max_examples=60)
@given(
    data=st.data(),
    columns=st.integers(1, 40),
    weight=st.sampled_from([(1,), (1, 2), (2, -4)]),
    activation=st.sampled_from([(1,), (1, 2, -4)]),
)
def test_xor_of_signs_yields_their_dot_product(data, columns, weight, activation):
    pe = Popcount(lanes=7, acc_width=40, op="xor")
    one = Segment(columns=columns, weight=weight, activation=activation, w_bipolar=True, x_bipolar=True)
    planes = st.lists(st.integers(0, 2**columns - 1), min_size=len(weight), max_size=len(weight))
    w = data.draw(planes)
    x = data.draw(
        st.lists(st.integers(0, 2**columns - 1), min_size=len(activation), max_size=len(activation))
    )
    acc, first = 0, True
    for step in pe.steps(one):
        for word in range(1 if step.bubble else -(-columns // 7)):
            lanes = [
                0 if step.bubble else planes >> 7 * word & 127
                for planes in (w[step.w_plane], x[step.x_plane])
            ]
            shift = step.shift and word == 0
            acc = pe.golden(acc, Beat(w=lanes[0], x=lanes[1], first=first, shift=shift, neg=step.neg))
            first = False

    def digit(planes, places, column):
        return sum(
            (1 if plane >> column & 1 else -1) * place for plane, place in zip(planes, places, strict=True)
        )

    expected = sum(digit(w, weight, c) * digit(x, activation, c) for c in range(columns))
    assert pe.dot(acc, one) == expected
    assert pe.dot(np.array([acc]), one).tolist() == [expected]


def test_and_reads_signs_as_twos_complement_where_they_meet_anything():
    pe = Popcount()
    signs = Segment(columns=9, weight=(1,), activation=INT4, w_bipolar=True, masked=True)
    assert pe.w_code(signs) == {-1: 0b11, 0: 0, 1: 0b01}
    assert pe.x_code(signs) is None
    assert [(s.w_plane, s.x_plane, s.shift, s.neg) for s in pe.steps(signs)] == [
        (1, 3, False, False),
        (0, 3, True, True),
        (1, 2, False, True),
        (0, 2, True, False),
        (1, 1, False, True),
        (0, 1, True, False),
        (1, 0, False, True),
        (0, 0, True, False),
    ]
    assert pe.x_code(replace(signs, activation=(1,), x_bipolar=True)) == {-1: 0b11, 0: 0, 1: 0b01}
    assert pe.dot(5, signs) == 5


@pytest.mark.parametrize("change", [{"w_bipolar": False}, {"x_bipolar": False}, {"masked": True}])
def test_xor_refuses_all_but_signs_and_signs(change):
    signs = Segment(columns=9, weight=(1,), activation=(1,), w_bipolar=True, x_bipolar=True)
    pe = Popcount(op="xor")
    assert len(pe.steps(signs)) == 1
    one = replace(signs, **change)
    message = f"segment must be of signs on both sides without a mask, not {one!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        pe.steps(one)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"op": "or"}, "op must be one of and, xor, not 'or'"),
        ({"form": "dsp"}, "form must be one of portable, lut6, not 'dsp'"),
        ({"levels": -1}, "levels must be at least 0, not -1"),
        ({"acc_width": 7}, "acc_width must be at least 8, not 7"),
        ({"instances": True}, "form must be lut6 where cells are instances, not 'portable'"),
    ],
)
def test_parameters_that_make_no_pe_are_refused(parameters, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Popcount(**parameters)


@pytest.mark.parametrize("spec", SAMPLES, ids=repr)
def test_flip_flops_are_those_of_the_resources(spec):
    assert spec.resources().flop == flops(spec)


@pytest.mark.slow
def test_the_primitives_are_proven_equal_to_what_they_are_said_to_do():
    pe = Popcount(lanes=13, acc_width=8, op="xor", form="lut6")
    cells = netlist_of(toolchain.rtlil(replace(pe, instances=True)), "xilinx")
    assert "LUT6_2" in cells
    assert "CARRY4" in cells
    assert prove_equal(toolchain.rtlil(pe), cells, "xilinx") > 30
    broken = re.sub(
        r"(LUT6_2 #\(\s*\.INIT\(64'h)(.)", lambda m: m[1] + f"{int(m[2], 16) ^ 8:x}", cells, count=1
    )
    assert broken != cells
    with pytest.raises(RuntimeError, match=r"^the netlist must equal the RTL in every pair of nets"):
        prove_equal(toolchain.rtlil(pe), broken, "xilinx")


@pytest.mark.slow
@pytest.mark.parametrize("op", OPS)
def test_the_primitives_of_64_lanes_are_proven_and_executed(op):
    pe = Popcount(lanes=64, acc_width=32, op=op, form="lut6", instances=True)
    cells = netlist_of(toolchain.rtlil(pe), "xilinx")
    assert prove_equal(toolchain.rtlil(replace(pe, instances=False)), cells, "xilinx") > 150
    case = stalled(pe, 500, seed=2)
    case.check(netlist.run(pe, case.beats, case.offered, case.ready, target="xilinx"))


def tables(pe: Popcount) -> int:
    found = synthesize(toolchain.rtlil(pe), "pe", "xilinx")
    assert found.dsp == 0
    return found.lut


def test_64_lanes_take_fewer_tables_than_the_published_fit():
    found = tables(Popcount(lanes=64, acc_width=32, op="xor", form="lut6", instances=True))
    # The lanes and counters of the plan (52), a table for each bit of the number and of the accumulator.
    assert 52 + 7 + 32 <= found <= 1.17 * 64 + 44


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [64, 128, 256])
@pytest.mark.parametrize("op", OPS)
def test_every_size_takes_fewer_tables_than_its_bound(op, lanes):
    pe = Popcount(lanes=lanes, acc_width=32, op=op)
    assert tables(pe) <= 2.04 * lanes + 25
    assert tables(replace(pe, form="lut6", instances=True)) <= 1.17 * lanes + 44
