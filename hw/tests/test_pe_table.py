"""Table: golden against signed sums, codes against what they stand for, cells against Yosys."""

from __future__ import annotations

import doctest
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hw.pe.table
from hw import pysim
from hw.beats import Beats
from hw.pe.table import Table, signed_sums
from hw.spec import Beat, Segment, signed_bits, wrap
from hw.tests.structure import bits, claimed, counted, word

INT8 = (1, 2, 4, 8, 16, 32, 64, -128)
ONE = Segment(columns=1, weight=INT8, activation=INT8)

#: Segments, and the beats that a word of each takes.
KINDS = {
    "signs": (replace(ONE, weight=(1,), w_bipolar=True), 1),
    "masked signs": (replace(ONE, weight=(1,), w_bipolar=True, masked=True), 2),
    "two signs": (replace(ONE, weight=(1, 2), w_bipolar=True), 2),
    "trits": (replace(ONE, weight=(1, -1)), 2),
    "a bit": (replace(ONE, weight=(1,)), 2),
    "int4": (replace(ONE, weight=(1, 2, 4, -8)), 5),
    "int8": (ONE, 9),
    "uint4": (replace(ONE, weight=(1, 2, 4, 8)), 6),
    "odd digits": (replace(ONE, digits=(-5, 1, 3)), 3),
    "masked odd digits": (replace(ONE, digits=(-5, 1, 3), masked=True), 5),
}


@given(st.data())
def test_golden_adds_or_subtracts_each_activation_as_its_rows_bit_says(data):
    lanes, rows, act_bits = data.draw(st.sampled_from([(2, 1, 2), (6, 3, 8), (70, 2, 5)]))
    spec = Table(lanes=lanes, row_count=rows, act_bits=act_bits, group=2, acc_width=20)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    w = rng.integers(0, 2, (rows, lanes))
    x = rng.integers(-(1 << act_bits - 1), 1 << act_bits - 1, lanes)
    first, shift = data.draw(st.tuples(st.booleans(), st.booleans()))
    beat = Beat(w=word(w), x=word(bits(x, act_bits)), first=first, shift=shift)
    acc = data.draw(st.integers(-(1 << 19), (1 << 19) - 1))
    start = 0 if first else 2 * acc if shift else acc
    expected = [wrap(start + int(total), 20) for total in (2 * w - 1) @ x]
    assert [spec.golden(acc, beat, row) for row in range(rows)] == expected


@pytest.mark.parametrize("count", range(2, 7))
def test_a_table_holds_every_signed_sum_that_adds_the_first_value(count):
    values = [7**i for i in range(count)]
    for index, total in enumerate(signed_sums(values)):
        signs = [1, *(1 if index >> i & 1 else -1 for i in range(count - 1))]
        assert total == sum(s * v for s, v in zip(signs, values, strict=True))
    assert len(signed_sums(values)) == 1 << count - 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_steps_of_every_digit_times_an_activation_make_their_product(kind):
    segment, beats = KINDS[kind]
    spec = Table(lanes=2, group=2, row_count=1, acc_width=24)
    steps, w_code, x_code = spec.steps(segment), spec.w_code(segment), spec.x_code(segment)
    assert len(steps) == beats == spec.beats(segment)
    assert set(w_code) == {*segment.w_digits, *([0] if segment.masked else [])}
    for digit, code in w_code.items():
        for x in (-128, -3, 0, 1, 127):
            acc = 99
            for number, step in enumerate(steps):
                # The second lane has no column: 0, whose weight bit counts as -1.
                w = word([[code >> p & 1, 0] for p in step.w])
                acts = word([[x_code[x] >> p & 1, 0] for p in step.x])
                acc = spec.golden(acc, Beat(w=w, x=acts, first=number == 0, shift=step.shift))
            assert spec.dot(acc, segment) == digit * x
            assert spec.dot(np.array([acc]), segment).tolist() == [digit * x]


def test_the_plane_that_makes_weights_odd_is_the_same_for_all_of_them_in_twos_complement():
    code = Table().w_code(replace(ONE, weight=(1, 2, 4, -8)))
    assert {made >> 4 for made in code.values()} == {0}
    assert {made >> 4 for made in Table().w_code(replace(ONE, digits=(-8, 8))).values()} == {0, 1}


@pytest.mark.parametrize(("lanes", "group"), [(2, 2), (9, 3), (8, 4), (5, 5), (12, 6)])
def test_rtl_holds_the_largest_and_the_smallest_sum_in_the_narrowest_accumulators(lanes, group):
    most = 8 * lanes
    width = signed_bits(-most, most)
    spec = Table(lanes=lanes, group=group, row_count=2, act_bits=4, acc_width=width)
    x = word(bits([-8] * lanes, 4))
    beats = [
        Beat(w=word([[1] * lanes, [0] * lanes]), x=x, first=True, last=True),
        Beat(w=word([[0] * lanes, [1] * lanes]), x=x, first=True, last=True),
    ]
    assert pysim.run(spec, Beats.from_list(beats, spec)).items.tolist() == [[-most, most], [most, -most]]


OTHERS = tuple(
    Table(lanes=lanes, group=g, act_bits=a, row_count=rows, levels=levels)
    for lanes, g, a, rows, levels in ((5, 5, 3, 1, 0), (6, 6, 2, 2, 1), (12, 4, 8, 3, 2))
)


@pytest.mark.parametrize("spec", OTHERS, ids=repr)
def test_resources_are_the_cells_yosys_finds(spec):
    assert counted(spec) == claimed(spec)


def test_examples_in_the_documentation_hold():
    assert doctest.testmod(hw.pe.table).attempted == 1
    assert doctest.testmod(hw.pe.table).failed == 0


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"act_bits": 1}, ValueError, "act_bits must be at least 2, not 1"),
        ({"act_bits": 17}, ValueError, "act_bits must be at most 16, not 17"),
        ({"group": 1}, ValueError, "group must be at least 2, not 1"),
        ({"group": 7}, ValueError, "group must be at most 6, not 7"),
        ({"row_count": 0}, ValueError, "row_count must be at least 1, not 0"),
        ({"row_count": 2.5}, TypeError, "row_count must be an integer, not 2.5"),
        ({"levels": -1}, ValueError, "levels must be at least 0, not -1"),
        ({"lanes": 18}, ValueError, "lanes must be a multiple of group=4, not 18"),
        ({"acc_width": 12}, ValueError, "acc_width must be at least 13, not 12"),
    ],
)
def test_bad_parameters_are_refused(parameters, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Table(**parameters)


@pytest.mark.parametrize(
    ("parameters", "segment", "message"),
    [
        ({"act_bits": 7}, ONE, "activation must be within -64 to 63, not -128 to 127"),
        ({"act_bits": 2}, replace(ONE, activation=(1, 2)), "activation must be within -2 to 1, not 0 to 3"),
        (
            {"acc_width": 18},  # what 4 digits of -8 times -128 come to fits 13 bits, and twice that 14
            replace(ONE, columns=100),
            "acc_width must be at least 23 for 2 times 100 columns of digits -128 to 127, not 18",
        ),
        (
            {"acc_width": 14},
            replace(ONE, columns=100, weight=(1,), w_bipolar=True),
            "acc_width must be at least 15 for 1 times 100 columns of digits -1 to 1, not 14",
        ),
    ],
)
def test_segments_it_cannot_compute_are_refused(parameters, segment, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Table(**parameters).steps(segment)


def test_the_width_asked_for_is_the_least_that_holds_twice_the_dot_product():
    segment = replace(ONE, columns=64, weight=(1, 2, 4, -8))
    assert 2 * 64 * 8 * 128 == 1 << 17
    assert len(Table(acc_width=19).steps(segment)) == 5
    with pytest.raises(ValueError, match=r"^acc_width must be at least 19 for 2 times 64 columns "):
        Table(acc_width=18).steps(segment)
