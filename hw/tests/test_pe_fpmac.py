"""FpMac: golden against numpy's float32, RTL where rounding and cancellation are at work, flops, refusals."""

from __future__ import annotations

import doctest
import math
import re
from dataclasses import replace

import numpy as np
import pytest

import hw.pe.fpmac
from hw import cxxrtl, pysim
from hw.beats import FIRST, LAST, Beats
from hw.pe.fpmac import FpMac, half_integer, rounded, single_integer
from hw.spec import Segment
from hw.tests.flops import flops


def halves(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Finite fp16 values: all binades, or two neighbours (sums cancel), or few bits (sums tie); and zeros."""
    code = rng.integers(0, 1 << 16, shape, np.uint16)
    kind = rng.integers(0, 4, shape)
    near = (code & 0x87FF) | 0x3800
    short = code & 0x9E00
    code = np.select([kind == 0, kind == 1, kind == 2], [near, short, code & 0x83FF], code)
    return np.where(code >> 10 & 31 == 31, code & 0x83FF, code).astype(np.uint16).view(np.float16)


def beats_of(spec: FpMac, w: np.ndarray, x: np.ndarray, flags: np.ndarray) -> Beats:
    listed = [spec.beat(a, b) for a, b in zip(w.tolist(), x.tolist(), strict=True)]
    return replace(Beats.from_list(listed, spec), flags=flags)


def summed(w: np.ndarray, x: np.ndarray, flags: np.ndarray) -> list[int]:
    """Items by numpy in float32: products added two by two, then to the accumulator."""
    items, acc = [], np.float32(0)
    for products, flag in zip(w.astype(np.float32) * x.astype(np.float32), flags.tolist(), strict=True):
        terms = list(products)
        while len(terms) > 1:
            odd = terms[len(terms) & ~1 :]
            terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)] + odd
        acc = (np.float32(0) if flag & FIRST else acc) + terms[0]
        if flag & LAST:
            items.append(int(acc.view(np.int32)))
    return items


def case(lanes: int, n: int, seed: int):
    rng = np.random.default_rng(seed)
    w, x = halves(rng, (n, lanes)), halves(rng, (n, lanes))
    w[1::7] = -w[:-1:7][: len(w[1::7])]  # what was added leaves again
    x[1::7] = x[:-1:7][: len(x[1::7])]
    flags = np.where(rng.random(n) < 0.1, FIRST, 0) + np.where(rng.random(n) < 0.5, LAST, 0)
    flags[0] |= FIRST
    return w, x, flags.astype(np.uint8)


@pytest.mark.parametrize("lanes", [1, 2, 5])
def test_golden_is_numpys_float32_sum(lanes):
    spec = FpMac(lanes=lanes)
    w, x, flags = case(lanes, 3000, lanes)
    expected = summed(w, x, flags)
    assert spec.items(beats_of(spec, w, x, flags)) == expected
    assert len({item & 255 << 23 for item in expected}) > 40  # of the 82 exponents that sums have


def test_golden_rounds_ties_to_even_and_what_is_above_them_up():
    spec, place = FpMac(), 2.0**-12
    one, odd = [spec.beat([1.0], [1.0], first=True)], spec.beat([place], [2 * place])
    tie, above = spec.beat([place], [place], last=True), spec.beat([place + 2.0**-22], [place], last=True)
    found = [spec.value(spec.items(run)[0]) for run in ([*one, tie], [*one, above], [*one, odd, tie])]
    assert found == [1.0, 1 + 2.0**-23, 1 + 2.0**-22]


def test_every_finite_pattern_of_fp16_and_fp32_is_read_as_numpy_reads_it():
    codes = np.arange(1 << 16, dtype=np.uint16)
    finite = codes[codes >> 10 & 31 != 31]
    found = [half_integer(code) for code in finite.tolist()]
    np.testing.assert_array_equal(np.array(found) * 2.0**-24, finite.view(np.float16).astype(np.float64))
    patterns = np.random.default_rng(0).integers(-(1 << 31), 1 << 31, 5000).astype(np.int32)
    patterns = patterns[np.isfinite(patterns.view(np.float32))]
    numbers = [FpMac().value(item) for item in patterns.tolist()]
    np.testing.assert_array_equal(numbers, patterns.view(np.float32).astype(np.float64))
    assert [rounded(single_integer(item)) for item in patterns.tolist()] == patterns.tolist()
    assert doctest.testmod(hw.pe.fpmac).failed == 0


def test_rtl_rounds_cancels_and_loses_bits_as_numpy_does():
    spec = FpMac()
    w, x, flags = case(1, 12000, 9)
    flags[-1] |= LAST
    run = cxxrtl.run(spec, beats_of(spec, w, x, flags))
    assert run.items.tolist() == summed(w, x, flags)


def test_rtl_adds_lanes_in_the_order_that_is_stated():
    spec = FpMac(lanes=3)
    w, x, flags = case(3, 400, 5)
    flags[-1] |= LAST
    run = pysim.run(spec, beats_of(spec, w, x, flags))
    assert run.items.tolist() == summed(w, x, flags)


def test_rtl_adds_every_distance_of_exponents():
    spec = FpMac()
    places = [(2.0**a, 2.0**b) for a in range(-14, 16, 3) for b in range(-14, 16, 2)]
    w, x, flags = [], [], []
    for a, b in places:
        for near in (1.0, 1 + 2.0**-10, -1.0, -1 - 2.0**-10):
            w += [[a * (2 - 2.0**-10)], [near * 2.0**-14 * 2]]
            x += [[b * (2 - 2.0**-10)], [1.0 + 2.0**-9]]
            flags += [FIRST, LAST]
    w, x, flags = np.array(w, np.float16), np.array(x, np.float16), np.array(flags, np.uint8)
    run = cxxrtl.run(spec, beats_of(spec, w, x, flags))
    assert run.items.tolist() == summed(w, x, flags)


@pytest.mark.parametrize("lanes", [1, 5])
def test_resources_have_the_flops_yosys_finds(lanes):
    spec = FpMac(lanes=lanes)
    assert flops(spec) == spec.resources().flop


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, math.inf], "w must hold finite fp16 values, not inf"),
        ([math.nan], "w must hold finite fp16 values, not nan"),
        ([65536.0], "w must hold finite fp16 values, not 65536.0"),
        ([0.1], "w must hold finite fp16 values, not 0.1"),
        ([2.0**-25], "w must hold finite fp16 values, not 2.9802322387695312e-08"),
        ([0.0] * 3, "w must hold at most 2 values, not 3"),
    ],
)
def test_what_is_no_finite_fp16_value_is_refused(values, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        FpMac(lanes=2).beat(values, [1.0])


def test_the_front_door_takes_subnormals_and_the_largest_value():
    spec = FpMac(lanes=2)
    beat = spec.beat([2.0**-24, 65504.0], [2.0**-24, -65504.0], first=True, last=True)
    assert [spec.value(item) for item in spec.items([beat])] == [float(np.float32(-(65504.0**2)))]
    tiny = spec.beat([2.0**-24], [2.0**-24], first=True, last=True)
    assert [spec.value(item) for item in spec.items([tiny])] == [2.0**-48]


def test_a_packed_matrix_is_refused_since_its_sums_are_exact():
    segment = Segment(columns=1, weight=(1,), activation=(1,))
    message = (
        "pe must sum integers exactly for a packed matrix, not round to fp32: FpMac(lanes=1, acc_width=32)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        FpMac().steps(segment)


@pytest.mark.parametrize(
    ("width", "message"),
    [(31, "acc_width must be at least 32, not 31"), (33, "acc_width must be at most 32, not 33")],
)
def test_an_item_of_another_width_is_refused(width, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        FpMac(acc_width=width)
