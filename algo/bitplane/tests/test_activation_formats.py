"""Activation formats against the standard's dtypes, worked vectors, and the real numbers they stand for."""

import re

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.bitplane import activation_formats, decode
from algo.bitplane.activation_formats import FIXED, ActFormat, get, nearest, regrouped
from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit, Format

GROUPED = [*(name for name, fmt in FIXED.items() if fmt.group), "int8-g24", "int4-g7", "bfp12-g16"]


def vector() -> np.ndarray:
    """32 values on a ramp, and one outlier."""
    x = (np.arange(32) - 15.5) / 4
    x[5] = 7.3
    return x[None].astype(np.float32)


def real(fmt: ActFormat, x: np.ndarray) -> np.ndarray:
    """What quantized activations stand for, float64 [tokens, columns]."""
    act = fmt.quantize(x)
    scale = act.scale.astype(np.float64)[:, None]
    if act.mantissa is None:
        return act.values * scale
    return act.values * act.mantissa[:, np.arange(x.shape[1]) // fmt.group] * scale


@pytest.mark.parametrize(
    ("name", "loss", "integer", "product"),
    [
        ("mxfp4", 0.095293, 1174, 587.0),
        ("mxfp4-ceil", 0.089043, 567, 567.0),
        ("mxfp6-e2m3", 0.008574, 4584, 573.0),
        ("mxfp6-e3m2", 0.014043, 37056, 579.0),
        ("mxfp8-e4m3", 0.010137, 18956288, 578.5),
        ("mxint8", 0.000005, 9163, 572.6875),
        ("mxint4", 0.076543, 578, 578.0),
        ("nvfp4", 0.058347, None, 573.4845238),
        ("nvint4", None, None, 567.9846939),
    ],
)
def test_worked_vectors_of_the_block_formats(name, loss, integer, product):
    x, weight, fmt = vector(), np.arange(32) - 16, get(name)
    assert real(fmt, x)[0] @ weight == pytest.approx(product, rel=3e-7)
    if loss is not None:
        assert np.mean((real(fmt, x) - x) ** 2) == pytest.approx(loss, abs=6e-7)
    if integer is not None:
        assert fmt.quantize(x).values[0] @ weight == integer


def test_two_levels_of_nvfp4_are_integers():
    found = get("nvfp4").quantize(vector())
    np.testing.assert_array_equal(found.mantissa, [[448 << 9, 240 << 9]])
    weight = np.arange(32) - 16
    blocks = np.add.reduceat(found.values[0] * weight, [0, 16])
    np.testing.assert_array_equal(blocks, [407, 1000])
    assert int(blocks @ found.mantissa[0]) == 216_236_032


DTYPES = [
    (ml_dtypes.float4_e2m1fn, 1, 1, 12),
    (ml_dtypes.float6_e2m3fn, 3, 3, 60),
    (ml_dtypes.float6_e3m2fn, 4, 2, 448),
    (ml_dtypes.float8_e4m3fn, 9, 3, 448 << 9),
]


@pytest.mark.parametrize(
    ("dtype", "places", "mantissa", "top"), DTYPES, ids=lambda v: getattr(v, "__name__", "")
)
def test_elements_round_like_the_standards_dtypes(dtype, places, mantissa, top):
    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 1, 60_000) * np.exp2(rng.uniform(-3, np.log2(top), 60_000))
    codes = np.arange(256, dtype=np.uint8)[: 1 << ml_dtypes.finfo(dtype).bits].view(dtype).astype(np.float64)
    known = np.sort(codes[np.isfinite(codes)] * 2**places)
    ties = (known[1:] + known[:-1]) / 2
    x = np.clip(np.concatenate([values, ties, known]), -top, top)
    wanted = np.ldexp(x, -places).astype(dtype).astype(np.float64) * 2**places
    np.testing.assert_array_equal(nearest(x, mantissa), wanted)
    assert set(np.unique(nearest(x, mantissa))) <= set(known)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(GROUPED), st.integers(1, 4), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_every_value_is_within_half_a_step_of_its_block(name, tokens, columns, seed):
    fmt, rng = get(name), np.random.default_rng(seed)
    x = (rng.normal(size=(tokens, columns)) * np.exp2(rng.integers(-6, 6, (tokens, 1)))).astype(np.float32)
    x *= rng.random(x.shape) < 0.8
    act = fmt.quantize(x)
    first = np.arange(0, columns, fmt.group)
    peak = np.maximum.reduceat(np.abs(x.astype(np.float64)), first, axis=1)
    assert np.all((act.mantissa == 0) == (peak == 0)) or fmt.scale == "e4m3"
    # A scale is at most twice too wide, or a rounding of E4M3 or a power of two too narrow for the peak.
    step = {"floor": 2.0, "ceil": 2.0, "share": 1 + 1 / 8, "e4m3": 1 + 1 / 8}[fmt.scale] / fmt.top
    widest = 2.0 ** max(0, fmt.top.bit_length() - 1 - (fmt.mantissa or 99)) if fmt.mantissa is not None else 1
    spread = peak[:, np.arange(columns) // fmt.group]
    most = spread.max(axis=1, keepdims=True) * 2.0**-8  # what a share of 8 bits, or E4M3's smallest, may lose
    assert np.all(np.abs(real(fmt, x) - x) <= np.maximum(step * spread * widest, most) * 1.0001)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 90), st.integers(1, 100), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_regrouped_matrix_is_the_same_matrix(columns, group, by, seed):
    rng = np.random.default_rng(seed)
    fmt = Format(
        name="u2",
        digit=Digit.UNIPOLAR,
        coefs=(1, 2),
        group=group,
        zero=True,
        published_bits=2.0,
        source="test",
    )
    groups = -(-columns // min(group, columns))
    digits, zero = rng.integers(0, 4, (3, columns)), rng.integers(0, 4, (3, groups))
    matrix = from_digits(fmt, digits, rng.random((3, groups)) + 0.01, zero)
    fine = regrouped(matrix, by)
    np.testing.assert_array_equal(decode.dequantize(fine), decode.dequantize(matrix))
    cuts = set(range(0, columns, min(by, columns)))
    assert cuts <= set(range(0, columns, fine.group))


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(GROUPED), st.integers(1, 90), st.integers(1, 100), st.integers(0, 2**32 - 1))
def test_outputs_are_the_product_of_what_both_sides_stand_for(name, columns, group, seed):
    rng, fmt = np.random.default_rng(seed), get(name)
    weights = Format(
        name="s3", digit=Digit.UNIPOLAR, coefs=(1, 2, -4), group=group, published_bits=3.0, source="test"
    )
    groups = -(-columns // min(group, columns))
    matrix = from_digits(weights, rng.integers(-4, 4, (3, columns)), rng.random((3, groups)) + 0.01)
    x = rng.normal(size=(2, columns)).astype(np.float32)
    fine = fmt.regrouped(matrix)
    acts = fmt.streams(fine, x)
    sums = decode.integer_sums(fine, acts)
    wanted = real(fmt, x) @ decode.dequantize(matrix).T
    np.testing.assert_allclose(decode.outputs(fine, acts, sums), wanted, rtol=1e-6, atol=1e-9)


def test_groups_far_below_their_tokens_largest_lose_only_what_is_smaller_still():
    x = np.full((1, 64), 2.0**30, np.float32)
    x[0, 32:] = 1.5
    act = get("mxint8").quantize(x)
    assert act.mantissa.tolist() == [[1 << activation_formats.SPREAD, 1]]
    assert float(act.scale[0]) == 2.0 ** (30 - 6 - activation_formats.SPREAD)
    assert np.all(act.values[0, 32:] == 0)  # 1.5 against a step of 16


def test_zeros_stay_zeros():
    for name in GROUPED:
        act = get(name).quantize(np.zeros((2, 40)))
        assert not act.values.any()
        assert np.all(np.isfinite(act.scale))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mxfp8-e5m2", "format must have integers of at most 20 bits, not the 33 of mxfp8-e5m2"),
        ("int21", "act-format must have 2 to 20 bits, not 'int21'"),
        ("bfp1-g16", "act-format must have 2 to 20 bits, not 'bfp1-g16'"),
    ],
)
def test_integers_too_wide_or_narrow_are_refused(name, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        get(name)


@pytest.mark.parametrize("name", ["fp8", "bfp8", "int8-g0", "int08", ""])
def test_other_names_are_refused_with_those_there_are(name):
    with pytest.raises(ValueError, match=r"^act-format must be one of sign, mxint8, .*bfpB-gN, not "):
        get(name)


def test_activations_that_are_no_numbers_are_refused():
    with pytest.raises(
        ValueError, match=r"^activations must be finite and of two axes, not of shape \[1, 1\]$"
    ):
        get("mxfp4").quantize(np.array([[np.nan]]))


def test_a_rule_of_groups_needs_a_group():
    with pytest.raises(ValueError, match=r"^group must be given for scale rule 'floor', not None$"):
        ActFormat(name="x", top=7, scale="floor", source="").quantize(np.zeros((1, 4)))
