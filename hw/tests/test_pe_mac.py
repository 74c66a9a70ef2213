"""Mac: golden against plain products, Booth's digits, extremes, flops and refusals."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest

from hw import pysim
from hw.beats import Beats
from hw.pe.mac import SAMPLES, Mac
from hw.spec import Beat, Segment, signed_bits
from hw.tests.flops import flops

INT8 = (1, 2, 4, 8, 16, 32, 64, -128)
FORMS = pytest.mark.parametrize("booth", [False, True])


def word(values, bits: int) -> int:
    """Integers as a word of planes: bit p of lane l's two's complement is bit p * lanes + l."""
    lanes = len(values)
    return sum((int(v) >> p & 1) << p * lanes + lane for p in range(bits) for lane, v in enumerate(values))


def test_golden_is_the_dot_product_and_wraps():
    rng, spec = np.random.default_rng(0), Mac(lanes=7, acc_width=20, w_bits=5)
    for _ in range(50):
        w, x = rng.integers(-16, 16, 7), rng.integers(-128, 128, 7)
        beat = {"w": word(w, 5), "x": word(x, 8)}
        assert spec.golden(-77, Beat(**beat)) == -77 + w @ x
        assert spec.golden(-77, Beat(**beat, first=True)) == w @ x
    top = Beat(w=word([-16] * 7, 5), x=word([-128] * 7, 8))
    assert spec.golden((1 << 19) - 14336, top) == -(1 << 19)


@FORMS
@pytest.mark.parametrize(("w_bits", "act_bits"), [(2, 2), (3, 2), (4, 3), (5, 4)])
def test_rtl_multiplies_every_pair_of_integers(booth, w_bits, act_bits):
    spec = Mac(lanes=1, acc_width=w_bits + act_bits, w_bits=w_bits, act_bits=act_bits, booth=booth)
    w = range(-(1 << w_bits - 1), 1 << w_bits - 1)
    pairs = list(product(w, range(-(1 << act_bits - 1), 1 << act_bits - 1)))
    beats = [Beat(w=word([a], w_bits), x=word([b], act_bits), first=True, last=True) for a, b in pairs]
    assert pysim.run(spec, Beats.from_list(beats, spec)).items.tolist() == [a * b for a, b in pairs]


@FORMS
@pytest.mark.parametrize(("lanes", "levels", "w_bits"), [(1, 0, 8), (2, 1, 7), (5, 2, 4), (5, 0, 8)])
def test_rtl_holds_the_extremes_in_the_narrowest_accumulator(booth, lanes, levels, w_bits):
    low = -(1 << w_bits - 1)
    ends = list(product((low, -low - 1), (-128, 127)))
    expected = [lanes * w * x for w, x in ends]
    width = signed_bits(min(expected), max(expected))
    spec = Mac(lanes=lanes, acc_width=width, w_bits=w_bits, booth=booth, levels=levels)
    beats = [
        Beat(w=word([w] * lanes, w_bits), x=word([x] * lanes, 8), first=True, last=True) for w, x in ends
    ]
    assert pysim.run(spec, Beats.from_list(beats, spec)).items.tolist() == expected
    assert spec.beat_range() == (min(expected), max(expected))


@FORMS
def test_every_int8_is_multiplied_in_place(booth):
    rng, spec = np.random.default_rng(1), Mac(lanes=3, acc_width=18, booth=booth)
    w = np.arange(-128, 128)
    x = rng.integers(-128, 128, (256, 3))
    beats = [
        Beat(w=word([a, -a - 1, 0], 8), x=word(b, 8), first=True, last=True)
        for a, b in zip(w, x, strict=True)
    ]
    expected = w * x[:, 0] - (w + 1) * x[:, 1]
    assert pysim.run(spec, Beats.from_list(beats, spec)).items.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "spec",
    [SAMPLES[1], SAMPLES[4], Mac(lanes=2, acc_width=16, w_bits=4, act_bits=3, booth=True)],
    ids=repr,
)
def test_resources_have_the_flops_yosys_finds(spec):
    assert flops(spec) == spec.resources().flop


@pytest.mark.parametrize(
    ("weight", "activation", "message"),
    [
        ((1, 2, 4, 8), INT8, "weight must be of integers from -8 to 7, not 0 to 15"),
        (INT8, INT8, "weight must be of integers from -8 to 7, not -128 to 127"),
        ((1,), (*INT8[:7], 128, -256), "activation must be of integers from -128 to 127, not -256 to 255"),
    ],
)
def test_integers_wider_than_their_side_are_refused(weight, activation, message):
    one = Segment(columns=4, weight=weight, activation=activation)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Mac(w_bits=4).steps(one)
    assert len(Mac(w_bits=9, act_bits=9).steps(one)) == 1


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"w_bits": 1}, ValueError, "w_bits must be at least 2, not 1"),
        ({"w_bits": 17}, ValueError, "w_bits must be at most 16, not 17"),
        ({"act_bits": 1}, ValueError, "act_bits must be at least 2, not 1"),
        ({"act_bits": 17}, ValueError, "act_bits must be at most 16, not 17"),
        ({"booth": 1}, TypeError, "booth must be True or False, not 1"),
        ({"levels": -1}, ValueError, "levels must be at least 0, not -1"),
        ({"acc_width": 19}, ValueError, "acc_width must be at least 20, not 19"),
    ],
)
def test_bad_parameters_are_refused(parameters, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Mac(**parameters)
