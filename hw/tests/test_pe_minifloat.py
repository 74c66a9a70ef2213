"""Minifloat: golden against ml_dtypes and plain products, its codes, flops and refusals."""

from __future__ import annotations

import doctest
import re
from fractions import Fraction
from itertools import product

import ml_dtypes
import numpy as np
import pytest

import hw.pe.minifloat
from hw import pysim
from hw.beats import Beats, side_by_side
from hw.pe.minifloat import SAMPLES, Code, Minifloat, codes
from hw.spec import Beat, Segment
from hw.tests.flops import flops

STANDARD = {
    (2, 1): ml_dtypes.float4_e2m1fn,
    (2, 3): ml_dtypes.float6_e2m3fn,
    (3, 2): ml_dtypes.float6_e3m2fn,
    (4, 3): ml_dtypes.float8_e4m3fn,
    (5, 2): ml_dtypes.float8_e5m2,
}


def word(lane_codes: list[int], bits: int) -> int:
    """Codes as a word of planes, the lanes of a plane side by side."""
    planes = [side_by_side([code >> p & 1 for code in lane_codes], 1) for p in range(bits)]
    return side_by_side(planes, len(lane_codes))


def values(kind: tuple[int, int]) -> np.ndarray:
    """What ml_dtypes says that every code stands for, float64."""
    every = np.arange(1 << sum(kind) + 1, dtype=np.uint8)
    return every.view(STANDARD[kind]).astype(np.float64)


@pytest.mark.parametrize("kind", STANDARD)
def test_every_code_is_its_standards_value_over_the_smallest_positive_one(kind):
    expected = values(kind)
    finite = np.isfinite(expected)
    smallest = expected[finite & (expected > 0)].min()
    found = np.array([Code(*kind).integer(code) for code in range(len(expected))], np.float64)
    np.testing.assert_array_equal(found[finite], expected[finite] / smallest)


def test_without_mantissa_a_code_is_a_signed_power_of_two():
    sizes = [0, 1, 2, 4, 8, 16, 32, 64]
    assert [Code(3, 0).integer(code) for code in range(16)] == sizes + [-size for size in sizes]
    assert doctest.testmod(hw.pe.minifloat).failed == 0


@pytest.mark.parametrize("kind", [(2, 1), (4, 3), (0, 7)])
def test_codes_name_every_integer_once_and_zero_by_the_positive_one(kind):
    named = codes(Code(*kind))
    assert all(Code(*kind).integer(code) == digit for digit, code in named.items())
    assert set(named) == {Code(*kind).integer(code) for code in range(1 << sum(kind) + 1)}
    assert named[0] == 0


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (Minifloat(lanes=5, x_exponent=2, x_mantissa=1), (2, 1)),
        (Minifloat(lanes=3, exponent=4, mantissa=3, x_exponent=4, x_mantissa=3, acc_width=48), (4, 3)),
        (Minifloat(lanes=2, exponent=5, mantissa=2, x_exponent=5, x_mantissa=2, acc_width=70), (5, 2)),
    ],
    ids=str,
)
def test_golden_is_the_exact_dot_product_of_the_standards_values(spec, kind):
    rng, meaning = np.random.default_rng(0), values(kind)
    legal = np.flatnonzero(np.isfinite(meaning))
    unit = Fraction(min(v for v in meaning[legal].tolist() if v > 0)) ** 2
    for _ in range(100):
        w, x = rng.choice(legal, (2, spec.lanes))
        beat = Beat(w=word(w.tolist(), spec.w.bits), x=word(x.tolist(), spec.x.bits))
        exact = sum(Fraction(meaning[a]) * Fraction(meaning[b]) for a, b in zip(w, x, strict=True))
        assert spec.golden(7, beat) == exact / unit + 7


def test_golden_multiplies_floats_by_twos_complement_and_wraps():
    spec = Minifloat(lanes=2, acc_width=13)
    for w, x in product(range(16), range(256)):
        beat = Beat(w=word([w, 0], 4), x=word([x, 200], 8), first=True)
        expected = values((2, 1))[w] * 2 * np.array(x, np.uint8).view(np.int8)
        assert spec.golden(55, beat) == expected
    top = Beat(w=word([15, 15], 4), x=word([128, 128], 8))
    assert spec.golden(4095 - 3071, top) == 4096 - 8192


def test_rtl_holds_the_extremes_in_the_narrowest_accumulator():
    for spec in (
        Minifloat(lanes=5, acc_width=14),
        Minifloat(lanes=7, x_exponent=3, x_mantissa=2, acc_width=17),
    ):
        extremes = [
            (spec.lanes * [w], spec.lanes * [x])
            for w in (0b0111, 0b1111, 0b1000)
            for x in ((1 << spec.x.bits - 1) - 1, 1 << spec.x.bits - 1, (1 << spec.x.bits) - 1)
        ]
        beats = [
            Beat(w=word(w, spec.w.bits), x=word(x, spec.x.bits), first=True, last=True) for w, x in extremes
        ]
        expected = [
            sum(spec.w.integer(a) * spec.x.integer(b) for a, b in zip(w, x, strict=True)) for w, x in extremes
        ]
        assert pysim.run(spec, Beats.from_list(beats, spec)).items.tolist() == expected
        assert max(map(abs, expected)) == spec.beat_range()[1]


@pytest.mark.parametrize("spec", SAMPLES, ids=repr)
def test_samples_have_the_flops_yosys_finds(spec):
    assert flops(spec) == spec.resources().flop


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"exponent": 0}, ValueError, "exponent must be at least 1, not 0"),
        ({"exponent": 6}, ValueError, "exponent must be at most 5, not 6"),
        ({"mantissa": -1}, ValueError, "mantissa must be at least 0, not -1"),
        ({"act_bits": 17}, ValueError, "act_bits must be at most 16, not 17"),
        ({"x_exponent": 6}, ValueError, "x_exponent must be at most 5, not 6"),
        ({"x_mantissa": 8}, ValueError, "x_mantissa must be at most 7, not 8"),
        ({"levels": 1.0}, TypeError, "levels must be an integer, not 1.0"),
        ({"acc_width": 15}, ValueError, "acc_width must be at least 16, not 15"),
        (
            {"exponent": 4, "mantissa": 3, "x_exponent": 4, "x_mantissa": 3},
            ValueError,
            "acc_width must be at least 41, not 32",
        ),
    ],
)
def test_bad_parameters_are_refused(parameters, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Minifloat(**parameters)


def test_activations_wider_than_a_lane_are_refused():
    wide = Segment(columns=4, weight=(1,), activation=(1, 2, 4, -8))
    message = "activation must be integers of at most 3 bits, not places (1, 2, 4, -8)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Minifloat(act_bits=3).steps(wide)
    assert len(Minifloat(act_bits=4).steps(wide)) == 1


def test_a_listed_digit_without_a_code_is_refused():
    listed = Segment(columns=4, weight=(1, 2, 4), activation=(1, -2), digits=(0, 1, 4, 5))
    with pytest.raises(ValueError, match=r"^digits must be values of E2M1, not 5$"):
        Minifloat().steps(listed)
