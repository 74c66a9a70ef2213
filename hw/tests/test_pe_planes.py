"""PlaneParallel: golden against plain products, groups of planes, extremes, beats, flops and refusals."""

from __future__ import annotations

import doctest
import re
from itertools import product

import numpy as np
import pytest

import hw.pe.planes
from hw import pysim
from hw.beats import Beats
from hw.pe.planes import SAMPLES, PlaneParallel, groups, plane_count
from hw.spec import Beat, Segment, horner, signed_bits
from hw.tests.flops import flops

INT4 = (1, 2, 4, -8)
INT8 = (1, 2, 4, 8, 16, 32, 64, -128)
SHAPES = [(1, 1), (2, 1), (1, 3), (4, 1), (3, 2), (2, 4)]


def word(values, bits: int) -> int:
    """Integers as a word of planes: bit p of lane l is bit p * lanes + l."""
    lanes = len(values)
    return sum((int(v) >> p & 1) << p * lanes + lane for p in range(bits) for lane, v in enumerate(values))


def integers(bits: int, negative: bool) -> np.ndarray:
    """Every integer of so many bits, two's complement or unsigned."""
    return np.arange(-(1 << bits - 1), 1 << bits - 1) if negative else np.arange(1 << bits)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_golden_is_the_dot_product_of_few_bits_either_way(shape):
    rng, spec = np.random.default_rng(0), PlaneParallel(lanes=7, w_planes=shape[0], x_planes=shape[1])
    for w_negative, x_negative in product((False, True), repeat=2):
        for _ in range(20):
            w = rng.choice(integers(shape[0], w_negative), 7)
            x = rng.choice(integers(shape[1], x_negative), 7)
            given = {"w": word(w, shape[0]), "x": word(x, shape[1])}
            kinds = {"w_bipolar": w_negative, "x_bipolar": x_negative}
            assert spec.golden(9, Beat(**given, **kinds)) == 9 + w @ x
            assert spec.golden(9, Beat(**given, **kinds, shift=True)) == 18 + w @ x
            assert spec.golden(9, Beat(**given, **kinds, shift=True, first=True)) == w @ x


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("lanes", [1, 4])
def test_rtl_holds_the_extremes_in_the_narrowest_accumulator(shape, lanes):
    ends = [
        (w_negative, x_negative, w, x)
        for w_negative, x_negative in product((False, True), repeat=2)
        for w in integers(shape[0], w_negative)[[0, -1]].tolist()
        for x in integers(shape[1], x_negative)[[0, -1]].tolist()
    ]
    expected = [lanes * w * x for _, _, w, x in ends]
    width = signed_bits(min(expected), max(expected))
    spec = PlaneParallel(lanes=lanes, acc_width=width, w_planes=shape[0], x_planes=shape[1], levels=lanes % 3)
    beats = [
        Beat(
            w=word([w] * lanes, shape[0]),
            x=word([x] * lanes, shape[1]),
            w_bipolar=w_negative,
            x_bipolar=x_negative,
            first=True,
            last=True,
        )
        for w_negative, x_negative, w, x in ends
    ]
    assert pysim.run(spec, Beats.from_list(beats, spec)).items.tolist() == expected
    assert spec.beat_range() == (min(expected), max(expected))
    with pytest.raises(ValueError, match=rf"^acc_width must be at least {width}, not {width - 1}$"):
        PlaneParallel(lanes=lanes, acc_width=width - 1, w_planes=shape[0], x_planes=shape[1])


@pytest.mark.parametrize("reach", [(-8, 7), (-1, 1), (0, 1), (0, 12), (-3, 3), (-128, 127), (0, 0)], ids=str)
@pytest.mark.parametrize("together", [1, 2, 3, 4])
def test_groups_of_planes_sum_up_to_the_integer(reach, together):
    found = groups(*reach, together)
    assert len(found) == -(-plane_count(*reach) // together)
    for value in range(reach[0], reach[1] + 1):
        code = value % (1 << plane_count(*reach))
        total = 0
        for at, (planes, negative) in enumerate(found):
            bits = [code >> plane & 1 for plane in planes]
            part = sum(bit << p for p, bit in enumerate(bits)) - (bits[-1] << together if negative else 0)
            total += part << at * together
        assert total == value


def test_integers_of_b_bits_take_a_beat_for_every_w_planes_of_them():
    one = Segment(columns=64, weight=INT4, activation=INT8)
    assert [PlaneParallel(w_planes=p).beats(one) for p in (1, 2, 4)] == [32, 16, 8]
    # Groups 16 apart: of four doublings, three come with no pair of groups, and take a beat each.
    assert PlaneParallel(w_planes=4, x_planes=4).beats(one) == 2 + 3
    assert [s.bubble for s in PlaneParallel(w_planes=4, x_planes=4).steps(one)] == [False, *[True] * 3, False]
    signs = Segment(columns=65, weight=(1,), activation=INT8, w_bipolar=True)
    assert PlaneParallel(w_planes=2).beats(signs) == 8 * 2


def test_only_the_group_with_the_sign_counts_its_highest_plane_negative():
    one = Segment(columns=1, weight=INT4, activation=INT8, w_bipolar=False)
    steps = PlaneParallel(w_planes=2, x_planes=4).steps(one)
    assert [(s.w, s.x, s.kinds(one), s.shift) for s in steps if not s.bubble] == [
        ((2, 3), (4, 5, 6, 7), {"w_bipolar": True, "x_bipolar": True}, False),
        ((0, 1), (4, 5, 6, 7), {"w_bipolar": False, "x_bipolar": True}, True),
        ((2, 3), (0, 1, 2, 3), {"w_bipolar": True, "x_bipolar": False}, True),
        ((0, 1), (0, 1, 2, 3), {"w_bipolar": False, "x_bipolar": False}, True),
    ]
    assert [s.shift for s in steps] == [False, *[True] * 6]


def test_a_step_that_says_nothing_has_the_segments_kinds_of_digits():
    one = Segment(columns=1, weight=(1,), activation=(1,), w_bipolar=True)
    assert horner((1,), (1,))[0].kinds(one) == {"w_bipolar": True, "x_bipolar": False}


@pytest.mark.parametrize(
    "spec", [SAMPLES[0], SAMPLES[1], PlaneParallel(lanes=3, w_planes=3, x_planes=3, levels=1)], ids=repr
)
def test_resources_have_the_flops_yosys_finds(spec):
    assert flops(spec) == spec.resources().flop


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"w_planes": 0}, "w_planes must be at least 1, not 0"),
        ({"w_planes": 17}, "w_planes must be at most 16, not 17"),
        ({"x_planes": 0}, "x_planes must be at least 1, not 0"),
        ({"x_planes": 17}, "x_planes must be at most 16, not 17"),
        ({"levels": -1}, "levels must be at least 0, not -1"),
    ],
)
def test_bad_parameters_are_refused(parameters, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        PlaneParallel(**parameters)


def test_the_documented_examples_hold():
    assert doctest.testmod(hw.pe.planes) == (0, 2)
