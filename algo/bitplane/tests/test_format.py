"""Formats: which integers the planes can say, and which code says them."""

import re
from typing import Any

import numpy as np
import pytest

from algo.bitplane.format import Digit, Format


def make(**changes: Any) -> Format:
    given: dict[str, Any] = {
        "name": "f",
        "digit": Digit.UNIPOLAR,
        "coefs": (1, 2, 4, -8),
        "group": 128,
        "published_bits": 4.0,
        "source": "test",
    }
    return Format(**(given | changes))


def test_twos_complement_codes_read_as_signed_integers():
    assert make().values().tolist() == [*range(8), *range(-8, 0)]
    assert (make().low, make().high) == (-8, 7)


def test_a_trit_has_two_codes_for_zero_and_the_lower_is_stored():
    trit = make(coefs=(1, -1))
    assert trit.values().tolist() == [0, 1, -1, 0]
    assert trit.bits([0, 1, -1]).tolist() == [[False, True, False], [False, False, True]]


@pytest.mark.parametrize(
    "fmt",
    [
        make(),
        make(coefs=(1, -1)),
        make(digit=Digit.BIPOLAR, coefs=(1,)),
        make(digit=Digit.BIPOLAR, coefs=(1, 2, 4)),
    ],
)
def test_bits_of_every_value_sum_back_to_it(fmt):
    values = np.unique(fmt.values())
    total = sum(c * fmt.digit.of(b) for c, b in zip(fmt.coefs, fmt.bits(values), strict=True))
    np.testing.assert_array_equal(total, values)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"coefs": ()}, ValueError, "coefs must be non-zero integers, not ()"),
        ({"coefs": (1, 0)}, ValueError, "coefs must be non-zero integers, not (1, 0)"),
        ({"group": 0}, ValueError, "group must be at least 1, not 0"),
        ({"group": 1.5}, TypeError, "group must be an integer, not 1.5"),
        (
            {"scale": "fp3"},
            ValueError,
            "scale must be one of fp16, bf16, e8m0, dyadic, fp32, ue4m3, ue5m3, int8, int8-256, not 'fp3'",
        ),
        ({"rounding": "up"}, ValueError, "rounding must be one of rne, rha, rhz, rhu, rtl, sr, not 'up'"),
    ],
)
def test_impossible_formats_are_refused(changes, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        make(**changes)


def test_digits_outside_the_format_are_refused():
    with pytest.raises(ValueError, match=r"^digits must be values of f, not 8$"):
        make().bits([7, 8])
