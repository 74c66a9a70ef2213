"""Round to nearest, on vectors worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.bitplane import words
from algo.bitplane.decode import dequantize
from algo.formats import grouping
from algo.methods import rtn, sign


def codes(weight: list[list[float]], fmt: str, group: int = 128) -> tuple[list, list, list]:
    """Codes, zero points and scales as stored."""
    matrix = rtn.quantize(np.array(weight), config=rtn.Config(format=fmt, group=group)).matrix
    total = sum(
        words.unpack(plane.words, matrix.columns).astype(int) << place
        for place, plane in enumerate(matrix.planes.values())
    )
    scales = np.ldexp(matrix.ints["scale"].values.astype(float), matrix.exponent.values)
    return total.tolist(), matrix.ints["zero"].values.tolist(), scales.tolist()


@pytest.mark.parametrize(
    ("weight", "fmt", "expected"),
    [
        # lo = -1, hi = 2: scale 1, zero 1
        ([-1, 0, 1, 2], "int2-g128", ([0, 1, 2, 3], [1], [1])),
        # all above 0: the grid still holds 0
        ([3, 1.4, 2.6], "int2-g128", ([3, 1, 3], [0], [1])),
        # all below 0
        ([-3, -1.4, -2.6], "int2-g128", ([0, 2, 0], [3], [1])),
        # ties go to the even integer, before the zero point is added
        ([-1, 0.5, 1.5, -0.5, 2], "int2-g128", ([0, 1, 3, 1, 3], [1], [1])),
        # lo = -2.5, hi = 12.5: zero = rne(2.5) = 2, and -2.5 rounds to code rne(-2.5) + 2 = 0
        ([-2.5, 12.5, 0], "int4-g128", ([0, 14, 2], [2], [1])),
        # lo = -3.5, hi = 11.5: zero = 4, and 11.5 would be code 16: clipped
        ([-3.5, 11.5, 1], "int4-g128", ([0, 15, 5], [4], [1])),
        # one plane holds 0 and one end of the range: no sign
        ([3, 1.4, 1.6], "int1-g128", ([1, 0, 1], [0], [3])),
        ([-3, -1.4, -1.6], "int1-g128", ([0, 1, 0], [1], [3])),
        # an all-zero group stores scale 0
        ([0, 0, 0], "int3-g128", ([0, 0, 0], [0], [0])),
    ],
)
def test_hand_vectors(weight: list[float], fmt: str, expected: tuple[list, list, list]) -> None:
    found = codes([weight], fmt)
    assert tuple(part[0] for part in found) == expected


def test_the_scale_is_rounded_before_the_codes_are_chosen() -> None:
    half = float(np.float16(0.1))  # 0.0999755859375
    weight = [[1.5, 0.84999, 0.0]]
    found, zero, scale = codes(weight, "int4-g128")
    # 0.84999 / 0.1 rounds to 8; by the stored scale the nearest code is 9.
    assert (found, zero, scale) == ([[15, 9, 0]], [[0]], [[half]])


def test_codes_follow_the_grid_where_a_small_scale_shares_its_row_with_a_large_one() -> None:
    weight = np.array([[15 * 4096.0, 0.0, 15 * 0.3, 0.3 * 7]])
    _, _, scale = codes(weight.tolist(), "int4-g128", group=2)
    # Largest scale 4096 = 2^14 * 2^-2: the grid's step is a quarter, and 0.3 becomes 0.25.
    assert scale == [[4096, 0.25]]
    stored = dequantize(rtn.quantize(weight, config=rtn.Config(group=2)).matrix)
    np.testing.assert_array_equal(stored, [[15 * 4096, 0, 15 * 0.25, 8 * 0.25]])


def test_groups_have_their_own_grids_and_the_last_may_be_short() -> None:
    weight = [[3.0, 0.0, 6.0, 0.0, -30.0], [-3.0, 0.0, 0.0, 0.0, 0.0]]
    found, zero, scale = codes(weight, "int2-g128", group=2)
    assert found == [[3, 0, 3, 0, 0], [0, 3, 0, 0, 0]]
    assert zero == [[0, 0, 3], [3, 0, 0]]
    assert scale == [[1, 2, 10], [1, 0, 0]]


def test_a_scale_below_the_formats_smallest_becomes_that() -> None:
    assert grouping.smallest_scale("fp16") == 2.0**-24
    assert grouping.smallest_scale("e8m0") == 2.0**-127
    weight = [[2.0**-22, 0.0, 2.0**-24]]
    assert codes(weight, "int8-g128") == ([[4, 0, 1]], [[0]], [[2.0**-24]])


def test_a_scale_its_format_would_shrink_by_more_than_a_part_in_a_thousand_grows_instead() -> None:
    # 1.4 * 2^-24 is nearest to 2^-24, by which 15 codes would end at 10.7 steps of the real scale.
    weight = [[15 * 1.4 * 2.0**-24, 0.0]]
    assert codes(weight, "int4-g128") == ([[10, 0]], [[0]], [[2.0**-23]])


def test_every_width_from_one_to_eight_bits_is_taken_by_number() -> None:
    weight = np.random.default_rng(0).standard_normal((2, 140))
    for bits in range(1, 9):
        config = rtn.Config(bits=bits)
        assert config.format == f"int{bits}-g128"
        assert config == rtn.Config(bits=bits, format=f"int{bits}-g128")
        matrix = rtn.quantize(weight, config=config).matrix
        assert len(matrix.planes) == bits


def test_packing_changes_no_stored_scale() -> None:
    real = np.random.default_rng(0).lognormal(0, 3, (50, 9))
    stored = grouping.stored_scale(real, "fp16")
    np.testing.assert_array_equal(grouping.stored_scale(stored, "fp16"), stored)


def test_group_means_end_where_the_columns_end() -> None:
    np.testing.assert_array_equal(grouping.means(np.array([[1.0, 3.0, 5.0]]), 2), [[2, 5]])
    np.testing.assert_array_equal(grouping.spread(np.array([[2.0, 5.0]]), 3, 2), [[2, 2, 5]])


@settings(max_examples=80, deadline=None)
@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 70),
    group=st.integers(1, 70),
    fmt=st.sampled_from(rtn.FORMATS),
    seed=st.integers(0, 999),
)
def test_no_weight_is_further_than_half_a_step_from_its_code(
    rows: int, columns: int, group: int, fmt: str, seed: int
) -> None:
    weight = np.random.default_rng(seed).uniform(-1, 1, (rows, columns))
    matrix = rtn.quantize(weight, config=rtn.Config(format=fmt, group=group)).matrix
    scale = np.ldexp(matrix.ints["scale"].values.astype(float), matrix.exponent.values)
    step = scale[:, matrix.group_of]
    # The stored scale is up to 2^-11 of itself (and half a grid step) off, which 255 codes add up.
    top = (1 << len(matrix.planes)) - 1
    slack = top * (step * 2.0**-11 + np.ldexp(0.5, matrix.exponent.values))
    assert np.all(np.abs(dequantize(matrix) - weight) <= step / 2 + slack)


def test_sign_is_the_mean_magnitude_with_a_sign_and_zero_counts_as_plus() -> None:
    weight = np.array([[1.0, -2.0, 0.0, 3.0, -0.5], [0.0, 0.0, 0.0, -7.0, 7.0]])
    matrix = sign.quantize(weight, config=sign.Config(group=3)).matrix
    np.testing.assert_array_equal(dequantize(matrix), [[1, -1, 1, 1.75, -1.75], [0, 0, 0, -7, 7]])
    bits = words.unpack(matrix.planes["plane0"].words, 5)
    np.testing.assert_array_equal(bits, [[1, 0, 1, 1, 0], [1, 1, 1, 0, 1]])


def test_sign_keeps_what_theory_says_of_normal_weights() -> None:
    weight = np.random.default_rng(0).standard_normal((256, 1280))
    stored = dequantize(sign.quantize(weight, config=sign.Config(group=1280)).matrix)
    # E(|w|)^2 = 2/pi of the energy is kept.
    assert np.sum((weight - stored) ** 2) / np.sum(weight**2) == pytest.approx(1 - 2 / np.pi, abs=0.003)
