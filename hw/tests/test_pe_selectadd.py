"""SelectAdd: golden against plain products, its codes, extremes, halved sums of signs, flops and refusals."""

from __future__ import annotations

import doctest
import re

import numpy as np
import pytest

import hw.pe.selectadd
from hw import pysim
from hw.beats import Beats
from hw.pe.selectadd import SAMPLES, SelectAdd, sign_places, signs
from hw.spec import Beat, Segment
from hw.tests.flops import flops

INT8 = (1, 2, 4, 8, 16, 32, 64, -128)


def word(values, bits: int) -> int:
    """Integers as a word of planes: bit p of lane l's two's complement is bit p * lanes + l."""
    lanes = len(values)
    return sum((int(v) >> p & 1) << p * lanes + lane for p in range(bits) for lane, v in enumerate(values))


def weights(values, ternary: bool) -> int:
    """-1, 0 and 1 as a word."""
    negative = word([v < 0 for v in values], 1)
    return word([v != 0 for v in values], 1) | negative << len(values) if ternary else negative


@pytest.mark.parametrize("ternary", [True, False])
def test_golden_is_the_sum_of_activations_that_the_weights_select(ternary):
    rng, spec = np.random.default_rng(0), SelectAdd(lanes=9, ternary=ternary)
    for _ in range(50):
        w, x = rng.choice([-1, 0, 1] if ternary else [-1, 1], 9), rng.integers(-128, 128, 9)
        beat = Beat(w=weights(w, ternary), x=word(x, 8), shift=True)
        assert spec.golden(-21, beat) == -42 + w @ x
        assert spec.golden(-21, Beat(w=beat.w, x=beat.x)) == -21 + w @ x
        assert spec.golden(-21, Beat(w=beat.w, x=beat.x, first=True, shift=True)) == w @ x


@pytest.mark.parametrize("lanes", [1, 2, 5, 7])
@pytest.mark.parametrize("ternary", [True, False])
@pytest.mark.parametrize("levels", [0, 1])
def test_rtl_holds_the_extremes_in_the_narrowest_accumulator(lanes, ternary, levels):
    narrow = 8 + lanes.bit_length()
    spec = SelectAdd(lanes=lanes, acc_width=narrow, ternary=ternary, levels=levels)
    ends = [(w, x) for w in ([-1] * lanes, [1] * lanes, [1, -1] * lanes) for x in (-128, 127)]
    beats = [
        Beat(w=weights(w[:lanes], ternary), x=word([x] * lanes, 8), first=True, last=True) for w, x in ends
    ]
    expected = [sum(w[:lanes]) * x for w, x in ends]
    assert pysim.run(spec, Beats.from_list(beats, spec)).items.tolist() == expected
    assert (max(expected), min(expected)) == (128 * lanes, -128 * lanes)


def test_a_negative_weight_of_0_adds_nothing():
    spec = SelectAdd(lanes=3)
    beat = Beat(w=0b111_010, x=word([5, 7, -100], 8), first=True, last=True)
    assert spec.golden(0, beat) == -7
    assert pysim.run(spec, Beats.from_list([beat], spec)).items.tolist() == [-7]


@pytest.mark.parametrize(
    "digits", [(-1, 1), (-3, -1, 1, 3), (0, 1), (-1, 0, 1), tuple(range(-8, 8)), (0,), (-6, 5)]
)
def test_signs_of_falling_places_sum_up_to_the_digit_or_to_twice_it(digits):
    count, even = sign_places(digits), any(d % 2 == 0 for d in digits)
    for digit, code in signs(digits).items():
        found = [-1 if code >> p & 1 else 1 for p in range(count + even)]
        total = sum(sign << p for p, sign in enumerate(found[:count])) + sum(found[count:])
        assert total == digit * (2 if even else 1)
        assert code < 1 << count + even


def segment(weight, w_bipolar=False, masked=False, activation=INT8, **rest):
    return Segment(
        columns=20, weight=weight, activation=activation, w_bipolar=w_bipolar, masked=masked, **rest
    )


def test_a_place_takes_a_beat_and_what_signs_cannot_make_takes_one_more():
    trits, only_signs = SelectAdd(), SelectAdd(ternary=False)
    for one, of_trits, of_signs in (
        (segment((1,)), 1, 2),
        (segment((1,), w_bipolar=True), 1, 1),
        (segment((1,), w_bipolar=True, masked=True), 1, 2),
        (segment((1, -1)), 1, 2),
        (segment((1, 2, 4, -8)), 4, 5),
        (segment((1, 2), w_bipolar=True), 2, 2),
    ):
        assert (trits.beats(one), only_signs.beats(one)) == (of_trits, of_signs)
    assert [step.shift for step in only_signs.steps(segment((1, 2, -4)))] == [False, True, True, False]
    assert [(s.w, s.shift) for s in trits.steps(segment((4, -4)))] == [
        ((4, 5), False),
        ((), True),
        ((), True),
    ]


def test_activations_wider_than_a_lane_are_refused():
    message = "activation must be of integers from -8 to 7, not -128 to 127"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SelectAdd(act_bits=4).steps(segment((1,)))


def test_twice_a_sum_that_may_not_fit_is_refused_with_the_width_it_needs():
    # Twice 20 columns of at most 1 times 128.
    one = segment((1,))
    with pytest.raises(ValueError, match=r"^acc_width must be at least 14 for sums of signs, not 13$"):
        SelectAdd(lanes=9, acc_width=13, ternary=False).steps(one)
    assert len(SelectAdd(lanes=9, acc_width=14, ternary=False).steps(one)) == 2
    assert len(SelectAdd(lanes=9, acc_width=13).steps(one)) == 1


@pytest.mark.parametrize(
    "spec",
    [SAMPLES[0], SAMPLES[1], SelectAdd(lanes=6, ternary=False)],
    ids=repr,
)
def test_resources_have_the_flops_yosys_finds(spec):
    assert flops(spec) == spec.resources().flop


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"act_bits": 1}, ValueError, "act_bits must be at least 2, not 1"),
        ({"act_bits": 17}, ValueError, "act_bits must be at most 16, not 17"),
        ({"ternary": 1}, TypeError, "ternary must be True or False, not 1"),
        ({"levels": -1}, ValueError, "levels must be at least 0, not -1"),
        ({"acc_width": 14}, ValueError, "acc_width must be at least 15, not 14"),
    ],
)
def test_bad_parameters_are_refused(parameters, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        SelectAdd(**parameters)


def test_the_documented_examples_hold():
    assert doctest.testmod(hw.pe.selectadd) == (0, 2)
