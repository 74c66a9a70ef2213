"""TwoPlane: golden against plain sums of digits, extremes, flops, what a segment must be."""

from __future__ import annotations

import doctest
import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hw.pe.twoplane
from hw import pysim
from hw.beats import Beats
from hw.pe.bitserial import BitSerial
from hw.pe.twoplane import SAMPLES, SUM, XNOR, P, Q, TwoPlane, tree
from hw.spec import Beat, Segment, Step, signed_bits, wrap
from hw.tests.flops import flops

INT3 = (1, 2, -4)


def sums(p, q, x, mask) -> dict[int, int]:
    """The four results by digits of -1/+1, arrays of a lane each."""
    p, q, x = 2 * p - 1, 2 * q - 1, x * mask
    return {P: int(p @ x), Q: int(q @ x), XNOR: int((p * q) @ x), SUM: int(x.sum())}


def word(bits: np.ndarray) -> int:
    return sum(int(bit) << lane for lane, bit in enumerate(bits))


@pytest.mark.parametrize("lanes", [1, 2])
def test_golden_is_the_sums_over_masked_digits_for_every_operand(lanes):
    spec = TwoPlane(lanes=lanes, acc_width=8)
    vectors = [np.array(v) for v in product((0, 1), repeat=lanes)]
    for p, q, x, mask in product(vectors, repeat=4):
        beat = Beat(w=word(p) | word(q) << lanes, x=word(x), mask=word(mask), first=True)
        for output, expected in sums(p, q, x, mask).items():
            assert spec.golden(99, beat, output) == expected, (beat, output)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 7, 64, 100]))
def test_golden_starts_doubles_and_negates_as_the_flags_say(seed, lanes):
    rng, spec = np.random.default_rng(seed), TwoPlane(lanes=lanes, acc_width=12)
    p, q, x, mask = rng.integers(0, 2, (4, lanes))
    first, shift, neg = (bool(coin) for coin in rng.integers(0, 2, 3))
    acc = int(rng.integers(-2048, 2048))
    beat = Beat(
        w=word(p) | word(q) << lanes, x=word(x), mask=word(mask), first=first, shift=shift, neg=neg, last=True
    )
    start = 0 if first else acc * (2 if shift else 1)
    for output, added in sums(p, q, x, mask).items():
        assert spec.golden(acc, beat, output) == wrap(start - added if neg else start + added, 12)


def test_a_run_of_steps_is_the_dot_products_of_integers():
    rng, spec = np.random.default_rng(0), TwoPlane(lanes=9)
    p, q, mask = rng.integers(0, 2, (3, 9))
    for x, segment in (
        (rng.integers(-4, 4, 9), Segment(columns=9, weight=(1, 1), activation=INT3, w_bipolar=True)),
        (
            rng.choice([-1, 1], 9),
            Segment(columns=9, weight=(1, 1), activation=(1,), w_bipolar=True, x_bipolar=True),
        ),
    ):
        code = spec.x_code(segment)
        codes = x if code is None else np.array([code[v] for v in x.tolist()])
        steps = spec.steps(segment)
        beats = [
            Beat(
                w=word(p) | word(q) << 9,
                x=word(codes >> step.x_plane & 1),
                mask=word(mask),
                first=step is steps[0],
                shift=step.shift,
                neg=step.neg,
                last=step is steps[-1],
            )
            for step in steps
        ]
        assert all(step.w == (0, 1) for step in steps)
        assert {k: spec.items(beats, k) for k in range(4)} == {k: [v] for k, v in sums(p, q, x, mask).items()}


@pytest.mark.parametrize("lanes", [1, 5, 64])
def test_rtl_holds_the_largest_and_the_smallest_sums_in_the_narrowest_accumulator(lanes):
    spec, ones = TwoPlane(lanes=lanes, acc_width=signed_bits(-lanes, lanes)), (1 << lanes) - 1
    beats = [
        Beat(w=p | q << lanes, x=ones, mask=ones, neg=neg, first=True, last=True)
        for p, q, neg in product((0, ones), (0, ones), (False, True))
    ]
    run = pysim.run(spec, Beats.from_list(beats, spec))
    n = lanes
    one = [[-n, -n, n, n], [-n, n, -n, n], [n, -n, -n, n], [n, n, n, n]]
    assert run.items.tolist() == [[sign * v for v in row] for row in one for sign in (1, -1)]


def test_a_bubble_only_doubles():
    spec = TwoPlane(lanes=3)
    gap = Segment(columns=3, weight=(1, 1), activation=(1, 4), w_bipolar=True)
    assert spec.steps(gap)[1] == Step((), (), True, False)
    assert [spec.golden(5, Beat(w=0, x=0, mask=0, shift=True), k) for k in range(4)] == [10] * 4


def test_the_tree_counts_every_bit_into_columns_of_two():
    assert doctest.testmod(hw.pe.twoplane).failed == 0
    for lanes in range(1, 300):
        levels = tree(lanes)
        assert max(levels[-1]) <= 2
        assert len(levels[0]) == lanes.bit_length()
        assert all(max(columns) > 2 for columns in levels[:-1])


@pytest.mark.parametrize("spec", SAMPLES, ids=repr)
def test_resources_have_the_flops_yosys_finds(spec):
    assert flops(spec) == spec.resources().flop


def test_it_takes_less_than_three_bit_serial_pes_for_what_these_yield():
    two_plane, serial = TwoPlane().resources(), BitSerial().resources() * 3
    for cells in ("gate2", "full_adder", "flop"):
        assert getattr(two_plane, cells) < getattr(serial, cells)


@pytest.mark.parametrize(
    ("weight", "bipolar", "found"),
    [
        ((1, 2), True, "-1/+1 planes (1, 2)"),
        ((1,), True, "-1/+1 planes (1,)"),
        ((1, 1), False, "0/1 planes (1, 1)"),
    ],
)
def test_a_segment_of_other_planes_is_refused(weight, bipolar, found):
    segment = Segment(columns=3, weight=weight, activation=INT3, w_bipolar=bipolar)
    message = f"weight must be two sign planes (1, 1), not {found}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        TwoPlane().steps(segment)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"levels": -1}, "levels must be at least 0, not -1"),
        ({"lanes": 0}, "lanes must be at least 1, not 0"),
        ({"acc_width": 7}, "acc_width must be at least 8, not 7"),
    ],
)
def test_bad_parameters_are_refused(parameters, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        TwoPlane(**parameters)
