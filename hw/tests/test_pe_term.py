"""Term: golden against sums of shifted integers, codes against what they stand for, cells against Yosys."""

from __future__ import annotations

import doctest
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hw.pe.term
import hw.pipeline
from hw import pysim
from hw.beats import Beats
from hw.pe.term import SAMPLES, Term, slots_for
from hw.spec import Beat, Segment, signed_bits, wrap
from hw.tests.structure import bits, claimed, counted, word

INT8 = (1, 2, 4, 8, 16, 32, 64, -128)
ONE = Segment(columns=1, weight=(1, 2, 4, 8, 16, 32, 64, -128), activation=INT8)


def signed(*magnitudes: int) -> tuple[int, ...]:
    return tuple(sorted({sign * value for value in (0, *magnitudes) for sign in (1, -1)}))


#: Digits of each format, over its smallest value, and the slots they take with exponents 0 to 3.
FORMATS = {
    "trits": (signed(1), 1),
    "int3": (tuple(range(-4, 4)), 2),
    "int4": (tuple(range(-8, 8)), 2),
    "int5": (tuple(range(-16, 16)), 3),
    "int6": (tuple(range(-32, 32)), 3),
    "int8": (tuple(range(-128, 128)), 4),
    "uint4": (tuple(range(16)), 3),
    "fp3": (signed(1, 2, 4), 1),
    "fp3-er": ((*signed(1, 2, 4)[:-1], 3, 4), 2),
    "fp3-ea": ((-6, *signed(1, 2, 4)), 2),
    "fp4": (signed(1, 2, 3, 4, 6, 8, 12), 2),
    "fp4-er": ((*signed(1, 2, 3, 4, 6, 8, 12)[:-1], 10, 12), 2),
    "fp4-ea": ((*signed(1, 2, 3, 4, 6, 8, 12), 16), 2),
    "flint4": (signed(1, 2, 3, 4, 6, 8, 16), 2),
    "fp6-e2m3": (signed(*range(8), *range(8, 16), *range(16, 32, 2), *range(32, 64, 4)), 3),
}


@given(st.data())
def test_golden_adds_each_lanes_signed_and_shifted_activation(data):
    lanes, act_bits, exponent_bits = data.draw(st.sampled_from([(1, 3, 1), (7, 8, 2), (70, 5, 3)]))
    spec = Term(lanes=lanes, act_bits=act_bits, exponent_bits=exponent_bits, acc_width=24)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    counts, negative = rng.integers(0, 2, (2, lanes))
    exponent = rng.integers(0, 1 << exponent_bits, lanes)
    x = rng.integers(-(1 << act_bits - 1), 1 << act_bits - 1, lanes)
    first, shift = data.draw(st.tuples(st.booleans(), st.booleans()))
    w = word(np.concatenate([[counts, negative], bits(exponent, exponent_bits)]))
    beat = Beat(w=w, x=word(bits(x, act_bits)), first=first, shift=shift)
    acc = data.draw(st.integers(-(1 << 23), (1 << 23) - 1))
    total = int((counts * np.where(negative, -1, 1) * x * 2**exponent).sum())
    assert spec.golden(acc, beat) == wrap((0 if first else 2 * acc if shift else acc) + total, 24)


@pytest.mark.parametrize("name", FORMATS)
def test_the_steps_of_every_digit_times_an_activation_make_their_product(name):
    digits, slots = FORMATS[name]
    segment, spec = replace(ONE, digits=digits), Term(lanes=1, acc_width=24)
    steps = spec.steps(segment)
    assert sum(not step.bubble for step in steps) == slots
    w_code, x_code = spec.w_code(segment), spec.x_code(segment)
    assert set(w_code) == {0, *digits}
    for digit in digits:
        for x in (-128, -3, 0, 1, 127):
            acc = 99
            for number, step in enumerate(steps):
                w = word([w_code[digit] >> p & 1 for p in step.w])
                acts = word([x_code[x] >> p & 1 for p in step.x])
                acc = spec.golden(acc, Beat(w=w, x=acts, first=number == 0, shift=step.shift))
            assert acc == digit * x


def test_bubbles_double_where_slots_stand_further_apart_than_one_place():
    spec = Term(lanes=2, exponent_bits=1)
    steps = spec.steps(ONE)  # radix-4 digits of eight bits at places 64, 16, 4 and 1
    assert [(step.bubble, step.shift) for step in steps] == [(False, False)] + [
        (True, True),
        (False, True),
    ] * 3
    assert spec.beats(replace(ONE, columns=7)) == 4 * 4 + 3
    assert spec.steps(replace(ONE, columns=3, digits=(1, 2)))[0].shift is False


def test_fewest_slots_come_before_fewest_bubbles():
    assert slots_for(FORMATS["fp4-ea"][0], 4, 4).bases == (0, 0)
    assert slots_for(FORMATS["int8"][0], 4, 4).bases == (4, 2, 1, 0)
    assert len(slots_for(FORMATS["int4"][0], 8, 4).bases) == 2


@pytest.mark.parametrize("lanes", [1, 6])
def test_rtl_holds_the_largest_and_the_smallest_sum_in_the_narrowest_accumulator(lanes):
    most = lanes * 8 * 2**3
    spec = Term(lanes=lanes, act_bits=4, acc_width=signed_bits(-most, most))
    beats = []
    for negative in (0, 1):
        w = word([[1] * lanes, [negative] * lanes, [1] * lanes, [1] * lanes])
        beats.append(Beat(w=w, x=word(bits([-8] * lanes, 4)), first=True, last=True))
    assert pysim.run(spec, Beats.from_list(beats, spec)).items.tolist() == [-most, most]


OTHERS = tuple(
    Term(lanes=lanes, act_bits=a, exponent_bits=e, levels=levels)
    for lanes, a, e, levels in ((2, 8, 2, 0), (7, 2, 1, 1))
)


@pytest.mark.parametrize("spec", SAMPLES[1:3] + OTHERS, ids=repr)
def test_resources_are_the_cells_yosys_finds(spec):
    assert counted(spec) == claimed(spec)


def test_examples_in_the_documentation_hold():
    for module in (hw.pe.term, hw.pipeline):
        assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"act_bits": 1}, ValueError, "act_bits must be at least 2, not 1"),
        ({"act_bits": 17}, ValueError, "act_bits must be at most 16, not 17"),
        ({"exponent_bits": 0}, ValueError, "exponent_bits must be at least 1, not 0"),
        ({"exponent_bits": 5}, ValueError, "exponent_bits must be at most 4, not 5"),
        ({"slots": 0}, ValueError, "slots must be at least 1, not 0"),
        ({"slots": 9}, ValueError, "slots must be at most 8, not 9"),
        ({"levels": -1}, ValueError, "levels must be at least 0, not -1"),
        ({"slots": 2.0}, TypeError, "slots must be an integer, not 2.0"),
        ({"lanes": 4, "acc_width": 13}, ValueError, "acc_width must be at least 14, not 13"),
    ],
)
def test_bad_parameters_are_refused(parameters, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Term(**parameters)


@pytest.mark.parametrize(
    ("parameters", "changes", "message"),
    [
        # 11 is 8 + 4 - 1.
        ({"slots": 2}, {}, "weight must be of digits that 2 terms of 4 exponents make up, not -11"),
        (
            {"slots": 1},
            {"digits": (1, 3, 4)},
            "weight must be of digits that 1 terms of 4 exponents make up, not 3",
        ),
        # Two terms each, but no two slots of a reach of two both make 8 + 1 and 64 + 1.
        (
            {"slots": 2, "exponent_bits": 1},
            {"digits": (1, 9, 65)},
            "weight must be of digits that 2 terms of 2 exponents make up, not 65",
        ),
        (
            {},
            {"activation": (*INT8[:7], 128, -256)},
            "activation must be within -128 to 127, not -256 to 255",
        ),
        ({"act_bits": 2}, {"activation": (1, 2)}, "activation must be within -2 to 1, not 0 to 3"),
    ],
)
def test_segments_it_cannot_compute_are_refused(parameters, changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Term(**parameters).steps(replace(ONE, **changes))


def test_a_segments_digits_are_those_of_its_planes_unless_it_says_which():
    assert replace(ONE, weight=(1, -2)).w_digits == (-2, -1, 0, 1)
    assert replace(ONE, weight=(1, 4), w_bipolar=True).w_digits == (-5, -3, 3, 5)
    assert replace(ONE, digits=(-3, 7)).w_digits == (-3, 7)
    for digits in ((1, 1), (2, 0)):
        with pytest.raises(ValueError, match=f"^{re.escape(f'digits must ascend, not {digits!r}')}$"):
            replace(ONE, digits=digits)


def test_signs_of_activations_are_integers_too():
    segment = replace(ONE, activation=(1,), x_bipolar=True)
    assert Term(act_bits=3).x_code(segment) == {-1: 7, 0: 0, 1: 1}
