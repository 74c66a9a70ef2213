"""Ternary: golden against plain products, the code of integers as trits, extremes, flops and refusals."""

from __future__ import annotations

import doctest
import re

import numpy as np
import pytest

import hw.pe.ternary
from hw import pysim
from hw.beats import Beats
from hw.pe.ternary import SAMPLES, Ternary, trit_places, trits
from hw.spec import Beat, Segment
from hw.tests.flops import flops


def bits(flags) -> int:
    return sum(bool(flag) << lane for lane, flag in enumerate(flags))


def weights(values) -> int:
    """Trits as a word: nonzero lanes, and above them negative ones."""
    return bits(v != 0 for v in values) | bits(v < 0 for v in values) << len(values)


@pytest.mark.parametrize("x_bipolar", [False, True])
@pytest.mark.parametrize("neg", [False, True])
def test_golden_is_the_dot_product_of_trits_and_digits(x_bipolar, neg):
    rng, spec = np.random.default_rng(0), Ternary(lanes=11, acc_width=12)
    for _ in range(50):
        w, x = rng.integers(-1, 2, 11), rng.integers(0, 2, 11)
        digits = 2 * x - 1 if x_bipolar else x
        added = -(w @ digits) if neg else w @ digits
        given = {"w": weights(w), "x": bits(x), "x_bipolar": x_bipolar, "neg": neg}
        assert spec.golden(30, Beat(**given)) == 30 + added
        assert spec.golden(30, Beat(**given, shift=True)) == 60 + added
        assert spec.golden(30, Beat(**given, shift=True, first=True)) == added


@pytest.mark.parametrize("lanes", [1, 3, 4, 7, 13])
@pytest.mark.parametrize("x_bipolar", [False, True])
def test_rtl_holds_the_extremes_in_the_narrowest_accumulator(lanes, x_bipolar):
    spec = Ternary(lanes=lanes, acc_width=1 + lanes.bit_length(), levels=1)
    beats = [
        Beat(w=weights([sign] * lanes), x=x, x_bipolar=x_bipolar, neg=neg, first=True, last=True)
        for sign in (-1, 1)
        for neg in (False, True)
        for x in (0, (1 << lanes) - 1)
    ]
    expected = [
        sign * (-1 if neg else 1) * lanes * (1 if x else -1 if x_bipolar else 0)
        for sign in (-1, 1)
        for neg in (False, True)
        for x in (0, 1)
    ]
    assert pysim.run(spec, Beats.from_list(beats, spec)).items.tolist() == expected
    assert {lanes, -lanes} <= set(expected)


@pytest.mark.parametrize("x_bipolar", [False, True])
def test_a_negative_0_adds_nothing(x_bipolar):
    spec = Ternary(lanes=3)
    beat = Beat(w=0b110_100, x=0b111, x_bipolar=x_bipolar, first=True, last=True)
    assert spec.golden(0, beat) == -1
    assert pysim.run(spec, Beats.from_list([beat], spec)).items.tolist() == [-1]


def test_trits_of_falling_places_sum_up_to_the_digit():
    for digit, code in trits(tuple(range(-300, 301))).items():
        pairs = [(code >> 2 * p & 1, code >> 2 * p + 1 & 1) for p in range(9)]
        assert (
            sum(nonzero * (-1 if negative else 1) << p for p, (nonzero, negative) in enumerate(pairs))
            == digit
        )
        assert all(nonzero >= negative for nonzero, negative in pairs)
        assert code < 1 << 18


def test_only_places_that_some_digit_uses_take_beats():
    assert trit_places((-8, 7)) == (1, 2, 4, 8)
    assert trit_places((-7, 7)) == (1, 2, 4)
    spec, act = Ternary(lanes=64), (1, 2, -4)
    for weight, w_bipolar, beats in (((1, -1), False, 6), ((1,), True, 6), ((1, 2, 4, -8), False, 24)):
        one = Segment(columns=128, weight=weight, activation=act, w_bipolar=w_bipolar, masked=True)
        assert spec.beats(one) == beats
    apart = Segment(columns=5, weight=(1, 16), activation=(1,))
    assert [(s.w, s.shift) for s in spec.steps(apart)] == [
        ((8, 9), False),
        *[((), True)] * 3,
        ((0, 1), True),
    ]


def test_the_highest_plane_of_an_activation_is_subtracted():
    one = Segment(columns=5, weight=(1, -1), activation=(1, -2))
    assert [(s.w, s.x, s.shift, s.neg) for s in Ternary().steps(one)] == [
        ((0, 1), (1,), False, True),
        ((0, 1), (0,), True, False),
    ]


@pytest.mark.parametrize("spec", [SAMPLES[0], Ternary(lanes=20, levels=2)], ids=repr)
def test_resources_have_the_flops_yosys_finds(spec):
    assert flops(spec) == spec.resources().flop


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"lanes": 0}, "lanes must be at least 1, not 0"),
        ({"levels": -1}, "levels must be at least 0, not -1"),
        ({"acc_width": 7}, "acc_width must be at least 8, not 7"),
    ],
)
def test_bad_parameters_are_refused(parameters, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Ternary(**parameters)


def test_the_documented_examples_hold():
    assert doctest.testmod(hw.pe.ternary) == (0, 3)
