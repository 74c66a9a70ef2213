"""Requantization against exact fractions and `round`, and the RTL against its definition."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.accelerator.requantize import RequantizeSpec
from hw.accelerator.tests import streams

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(st.one_of(INT64, st.integers(-300, 300)), st.integers(-(2**15), 2**15 - 1), st.integers(0, 63))
def test_golden_rounds_the_exact_quotient_to_nearest_even_and_saturates(value, mantissa, shift):
    exact = round(Fraction(value * mantissa, 2**shift))  # Python rounds ties to even
    assert RequantizeSpec().golden(value, mantissa, shift) == min(max(exact, -128), 127)


def vectors(spec: RequantizeSpec, count: int) -> list[dict[str, int]]:
    """Sums and factors whose results mostly lie within range; many are ties, some overflow."""
    rng = random.Random(2)
    found = []
    for _ in range(count):
        shift = rng.randrange(1 << spec.shift_bits)
        mantissa = rng.choice([1, -1, 3, -(1 << (spec.mantissa_bits - 1)), rng.randint(1, 200)])
        near = (rng.randint(-600, 600) << shift) // (4 * mantissa)
        top = 1 << (spec.sum_bits - 1)
        value = rng.choice([near, near + 1, -top, top - 1, rng.randint(-top, top - 1)])
        found.append(
            {
                "value": min(max(value, -top), top - 1),
                "mantissa": mantissa,
                "shift": shift,
                "narrow": int(rng.random() < 0.8),
                "user": rng.getrandbits(spec.user_bits),
            }
        )
    return found


@pytest.mark.parametrize(
    "spec",
    [RequantizeSpec(user_bits=3), RequantizeSpec(sum_bits=21, mantissa_bits=9, shift_bits=4, out_bits=5)],
    ids=str,
)
@pytest.mark.parametrize("stall", [False, True])
def test_rtl_equals_golden_in_order(spec, stall):
    given_sums = vectors(spec, 300)
    rng = np.random.default_rng(5)
    ready = (rng.random(400) < 0.5).tolist() if stall else []
    offered = (rng.random(400) < 0.5).tolist() if stall else []
    wanted = [
        (
            spec.golden(v["value"], v["mantissa"], v["shift"]) if v["narrow"] else v["value"],
            v["narrow"],
            v["user"],
        )
        for v in given_sums
    ]
    taken, clocks = streams.run(spec.create(), given_sums, len(wanted), offered, ready)
    assert [(item.value, item.narrow, item.user) for item in taken] == wanted
    if not stall:
        assert clocks == len(wanted) + spec.latency()


def test_the_vectors_meet_every_case_of_rounding():
    spec = RequantizeSpec()
    seen = set()
    for v in vectors(spec, 300):
        exact = Fraction(v["value"] * v["mantissa"], 2 ** v["shift"])
        result = spec.golden(v["value"], v["mantissa"], v["shift"])
        if not -128 <= round(exact) <= 127:
            seen.add("low" if result == -128 else "high")
        elif (exact % 1) == Fraction(1, 2):
            seen.add("tie up" if result > exact else "tie down")
        else:
            seen.add("exact" if exact == result else "up" if result > exact else "down")
    assert seen == {"low", "high", "tie up", "tie down", "exact", "up", "down"}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sum_bits", 0, r"^sum_bits must be at least 1, not 0$"),
        ("shift_bits", 0, r"^shift_bits must be at least 1, not 0$"),
        ("out_bits", 65, r"^out_bits must be at most 64, not 65$"),
        ("user_bits", -1, r"^user_bits must be at least 0, not -1$"),
    ],
)
def test_a_bad_parameter_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        RequantizeSpec(**{field: value})
