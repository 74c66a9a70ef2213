"""Complex: golden and RTL against NumPy's complex arithmetic, cells against Yosys."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw import pysim
from hw.beats import Beats
from hw.pe.complex import SAMPLES, Complex
from hw.spec import Beat, Segment, signed_bits, wrap
from hw.tests.structure import bits, claimed, counted, word

INT8 = (1, 2, 4, 8, 16, 32, 64, -128)


def item(spec: Complex, weight: np.ndarray, x: np.ndarray, mask: np.ndarray) -> list[Beat]:
    """The beats of one dot product of weights {1, -1, i, -i} and Gaussian integers of eight bits."""
    columns, lanes = len(weight), spec.lanes
    pad = (0, -columns % lanes)
    axis, sign = np.pad(weight.imag != 0, pad), np.pad(weight.real + weight.imag > 0, pad)
    real, imaginary = (bits(np.pad(part.astype(np.int64), pad), 8) for part in (x.real, x.imag))
    mask = np.pad(mask, pad)
    beats = []
    for plane in range(7, -1, -1):
        for start in range(0, columns, lanes):
            here = slice(start, start + lanes)
            beats.append(
                Beat(
                    w=word([axis[here], sign[here]]),
                    x=word([real[plane, here], imaginary[plane, here]]),
                    mask=word(mask[here]),
                    first=not beats,
                    shift=start == 0 and plane < 7,
                    neg=plane == 7,
                    last=plane == 0 and start + lanes >= columns,
                )
            )
    return beats


def vectors(columns: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    weight = rng.choice([1, -1, 1j, -1j], columns)
    x = rng.integers(-128, 128, columns) + 1j * rng.integers(-128, 128, columns)
    return weight, x, rng.random(columns) < 0.8


def parts(value: complex) -> list[int]:
    return [int(value.real), int(value.imag)]


@pytest.mark.parametrize("conjugate", [False, True])
@settings(max_examples=30)
@given(columns=st.sampled_from([1, 6, 63, 100]), lanes=st.sampled_from([1, 7, 64]), seed=st.integers(0, 99))
def test_a_dot_product_of_gaussian_integers_is_numpys(conjugate, columns, lanes, seed):
    spec = Complex(lanes=lanes, conjugate=conjugate)
    weight, x, mask = vectors(columns, seed)
    beats = item(spec, weight, x, mask)
    expected = ((weight.conj() if conjugate else weight) * x * mask).sum()
    assert [spec.items(beats, output) for output in (0, 1)] == [[part] for part in parts(expected)]


@pytest.mark.parametrize("conjugate", [False, True])
def test_rtl_computes_dot_products_of_gaussian_integers(conjugate):
    spec = Complex(lanes=10, acc_width=20, levels=1, conjugate=conjugate)
    cases = [vectors(23, seed) for seed in range(6)]
    beats = [beat for case in cases for beat in item(spec, *case)]
    expected = [parts(((w.conj() if conjugate else w) * x * mask).sum()) for w, x, mask in cases]
    assert pysim.run(spec, Beats.from_list(beats, spec)).items.tolist() == expected


@given(st.data())
def test_golden_starts_doubles_negates_and_takes_signs_as_the_flags_say(data):
    lanes, conjugate = data.draw(st.sampled_from([1, 5, 70])), data.draw(st.booleans())
    spec = Complex(lanes=lanes, acc_width=12, conjugate=conjugate)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    axis, sign, real, imaginary, mask = rng.integers(0, 2, (5, lanes))
    x_bipolar, first, shift, neg = (data.draw(st.booleans()) for _ in range(4))
    weight = np.where(axis, 1j, 1) * (2 * sign - 1)
    digits = (2 * real - 1) + 1j * (2 * imaginary - 1) if x_bipolar else real + 1j * imaginary
    dot = ((weight.conj() if conjugate else weight) * digits * mask).sum()
    beat = Beat(
        w=word([axis, sign]),
        x=word([real, imaginary]),
        mask=word(mask),
        x_bipolar=x_bipolar,
        first=first,
        shift=shift,
        neg=neg,
    )
    acc = data.draw(st.integers(-2048, 2047))
    start = 0 if first else 2 * acc if shift else acc
    expected = [wrap(start - part if neg else start + part, 12) for part in parts(dot)]
    assert [spec.golden(acc, beat, output) for output in (0, 1)] == expected


def test_a_fairy_layer_takes_two_items_an_output_one_for_the_scale_of_each_axis():
    # y = conj(conj(w) x), with 0.7 for weights on the real axis and 0.475 for those on the imaginary one.
    weight = np.array([1, 1j, -1j, -1, 1j, -1j])
    x = np.array([3, -1, 2, 5, -4, 1]) + 1j * np.array([-2, 4, 1, 0, 3, -6])
    spec = Complex(lanes=4, conjugate=True)
    beats = [beat for mask in (weight.imag == 0, weight.imag != 0) for beat in item(spec, weight, x, mask)]
    real, imaginary = pysim.run(spec, Beats.from_list(beats, spec)).items.T
    assert (real.tolist(), (-imaginary).tolist()) == ([-2, 12], [2, -8])
    scales = np.array([0.7, 0.475])
    np.testing.assert_allclose([scales @ real, -scales @ imaginary], [4.3, -2.4])


@pytest.mark.parametrize("lanes", [1, 5, 66])
def test_rtl_holds_the_largest_and_the_smallest_parts_in_the_narrowest_accumulators(lanes):
    spec = Complex(lanes=lanes, acc_width=signed_bits(-lanes, lanes))
    ones, zeros = np.ones(lanes), np.zeros(lanes)
    signs = {"mask": word(ones), "x_bipolar": True, "first": True, "last": True}
    beats = [
        Beat(w=word([axis, sign]), x=word([ones, ones]), **signs)
        for axis, sign in ((zeros, ones), (zeros, zeros), (ones, ones), (ones, zeros))
    ]
    expected = [[lanes, lanes], [-lanes, -lanes], [-lanes, lanes], [lanes, -lanes]]
    assert pysim.run(spec, Beats.from_list(beats, spec)).items.tolist() == expected


@pytest.mark.parametrize("spec", [SAMPLES[0], Complex(lanes=9, levels=2)], ids=repr)
def test_resources_are_the_cells_yosys_finds(spec):
    assert counted(spec) == claimed(spec)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"conjugate": 1}, TypeError, "conjugate must be True or False, not 1"),
        ({"levels": -1}, ValueError, "levels must be at least 0, not -1"),
        ({"lanes": 64, "acc_width": 7}, ValueError, "acc_width must be at least 8, not 7"),
    ],
)
def test_bad_parameters_are_refused(parameters, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Complex(**parameters)


def test_units_take_a_beat_for_each_plane_of_both_parts():
    segment = Segment(columns=9, weight=(1,), activation=INT8, w_bipolar=True)
    steps = Complex(lanes=4).steps(segment)
    assert [(s.w, s.x, s.shift, s.neg) for s in steps] == [
        ((0, 1), (2 * plane, 2 * plane + 1), plane < 7, plane == 7) for plane in range(7, -1, -1)
    ]
    assert Complex(lanes=4).beats(segment) == 8 * 3


def test_dot_products_of_real_numbers_are_refused():
    segment = Segment(columns=9, weight=(1, -2), activation=INT8)
    message = "segment must be of complex units, not of the real planes (1, -2)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Complex().steps(segment)
