"""Scales: rounding to their published format, and the row's power-of-two grid."""

import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.bitplane.ints import Ints
from algo.bitplane.scales import SCALE_FORMATS, Grid, round_scale

REALS = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=6)


@given(REALS, st.integers(2, 24))
def test_the_grid_is_the_finest_that_holds_the_largest_value(row, bits):
    values = np.array([row])
    grid = Grid.covering(values, bits=bits)
    mantissas = grid.mantissas(values)
    top = (1 << (bits - 1)) - 1
    assert np.abs(mantissas).max() <= top
    if np.any(values):
        finer = Grid(grid.exponent - 1, bits)
        assert np.abs(finer.mantissas(values)).max() > top


@given(REALS)
def test_a_mantissa_is_within_half_a_step_of_its_value(row):
    values = np.array([row])
    grid = Grid.covering(values)
    step = Fraction(2) ** int(grid.exponent[0])
    for value, mantissa in zip(row, grid.mantissas(values)[0], strict=True):
        assert abs(int(mantissa) * step - Fraction(value)) * 2 <= step


def test_a_half_precision_scale_survives_the_grid_unless_its_row_spans_too_far():
    scale = round_scale([[0.1, 0.013, 0.0121]], "fp16")
    grid = Grid.covering(scale)
    np.testing.assert_array_equal(grid.values(grid.mantissas(scale)), scale)


def test_rows_have_exponents_of_their_own_and_a_zero_row_has_zero():
    grid = Grid.covering([[1.0], [2.0**-20], [0.0]])
    assert grid.exponent.tolist() == [-14, -34, 0]


@pytest.mark.parametrize(
    ("scale_format", "value", "rounded"),
    [("fp16", 0.1, 0.0999755859375), ("bf16", 0.1, 0.10009765625), ("e8m0", 3.1, 4.0), ("dyadic", 0.1, 0.1)],
)
def test_scales_round_to_their_format(scale_format, value, rounded):
    assert round_scale([value], scale_format).tolist() == [rounded]


@pytest.mark.parametrize(
    ("value", "scale_format", "message"),
    [
        (
            1.0,
            "fp3",
            f"scale format must be one of {', '.join(SCALE_FORMATS)}, not 'fp3'",
        ),
        (1e6, "fp16", "scale must fit fp16 (at most 65504), not 1000000.0"),
        (float("nan"), "fp16", "scale must be finite, not NaN or infinity"),
        (-1.0, "e8m0", "scale must be positive for e8m0, not -1.0"),
    ],
)
def test_scales_a_format_cannot_hold_are_refused(value, scale_format, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        round_scale([value], scale_format)


def test_mantissas_have_a_width_between_2_and_32():
    with pytest.raises(ValueError, match=r"^scale_bits must be at least 2 and at most 32, not 1$"):
        Grid.covering([[1.0]], bits=1)


@given(st.integers(1, 32), st.booleans(), st.integers(1, 4), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_integers_come_back_from_their_bit_stream(bits, signed, rows, columns, seed):
    low = -(1 << (bits - 1)) if signed else 0
    values = np.random.default_rng(seed).integers(low, low + (1 << bits), (rows, columns))
    ints = Ints(values, bits, signed)
    assert len(ints.stream()) == ints.nbytes == -(-rows * columns * bits // 8)
    np.testing.assert_array_equal(
        Ints.from_stream(ints.stream(), (rows, columns), bits, signed).values, values
    )


def test_integers_that_do_not_fit_are_refused():
    one = np.array([[8]])
    for bits, signed, message in (
        (4, True, "values must lie in [-8, 7], not 8"),
        (3, False, "values must lie in [0, 7], not 8"),
        (0, False, "bits must be at least 1 and at most 32, not 0"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            Ints(one, bits, signed)
    with pytest.raises(ValueError, match=r"^values must be int64 of two axes, not int64 \(1,\)$"):
        Ints(one[0], 4, False)
    with pytest.raises(ValueError, match=r"^stream must be 2 bytes for \(2, 2\) of 4 bits, not 1$"):
        Ints.from_stream(np.zeros(1, np.uint8), (2, 2), 4, False)
