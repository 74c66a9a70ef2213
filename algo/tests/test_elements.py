"""Value sets against ml_dtypes, code by code, and against the tables their authors print."""

from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.formats import blocks, elements, nearest, split, widths

#: Elements and the type that judges them.
JUDGES = {
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e4m3ieee": ml_dtypes.float8_e4m3,
    "e5m2": ml_dtypes.float8_e5m2,
    "e3m4ieee": ml_dtypes.float8_e3m4,
    "e2m1": ml_dtypes.float4_e2m1fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e3m2": ml_dtypes.float6_e3m2fn,
}


def real(name: str) -> np.ndarray:
    element = elements.get(name)
    table = [np.nan if v is None else float(v) for v in element.tables[0]]
    return np.ldexp(np.array(table), element.unit)


@pytest.mark.parametrize("name", JUDGES)
def test_every_code_is_the_number_ml_dtypes_says(name: str) -> None:
    mine = real(name)
    codes = np.arange(len(mine), dtype=np.uint8)
    theirs = codes.view(JUDGES[name]).astype(np.float64)
    np.testing.assert_array_equal(mine, np.where(np.isfinite(theirs), theirs, np.nan))


@pytest.mark.parametrize(("bits", "judge"), [(2, ml_dtypes.int2), (4, ml_dtypes.int4), (8, np.int8)])
def test_full_integers_are_those_of_the_type(bits: int, judge: type) -> None:
    codes = np.arange(1 << bits, dtype=np.uint8)
    signed = codes.astype(np.int8)
    theirs = np.where(codes >> (bits - 1) & 1, signed.astype(int) - (1 << bits) * (bits < 8), signed)
    np.testing.assert_array_equal(real(f"sint{bits}full"), theirs.astype(judge).astype(float))
    assert np.isnan(real(f"sint{bits}")[1 << (bits - 1)])


@pytest.mark.parametrize("name", JUDGES)
def test_random_numbers_are_rounded_as_ml_dtypes_rounds_them(name: str) -> None:
    fmt = blocks.get(f"{name}-g32", True)
    top = np.nanmax(real(name))
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [rng.uniform(-top, top, 20_000), rng.standard_normal(20_000), real(name)[np.isfinite(real(name))]]
    )
    grid = np.unique(real(name)[np.isfinite(real(name))])
    values = np.concatenate([values, (grid[1:] + grid[:-1]) / 2]).astype(np.float32)
    values = values[np.abs(values) <= top]
    found = np.ldexp(nearest.round_to(fmt, np.ldexp(values.astype(float), -fmt.unit)).astype(float), fmt.unit)
    np.testing.assert_array_equal(found, values.astype(JUDGES[name]).astype(float))


#: Element, largest integer, planes, most signed digits.
LOWERED = [
    ("sint4", 7, 4, 2),
    ("sint8", 127, 8, 4),
    ("e2m1", 12, 5, 2),
    ("e2m3", 60, 7, 3),
    ("e3m2", 448, 10, 2),
    ("e4m3", 229_376, 19, 3),
    ("e5m2", 3_758_096_384, 33, 2),
    ("e3m4", 1984, 12, 3),
    ("bitmod4", 16, 6, 2),
    ("bitmod3", 6, 4, 2),
    ("bnb_fp4", 192, 9, 2),
]


@pytest.mark.parametrize(("name", "top", "planes", "terms"), LOWERED)
def test_integers_planes_and_signed_digits_are_the_published(
    name: str, top: int, planes: int, terms: int
) -> None:
    fmt = blocks.get(f"{name}-g32", True)
    assert (fmt.high, len(fmt.coefs)) == (top, planes)
    assert widths.signed_terms(fmt.values().tolist()) == terms


def test_value_sets_are_those_in_print() -> None:
    assert list(elements.get("e2m1").tables[0][:8]) == [0, 1, 2, 3, 4, 6, 8, 12]
    e2m3 = [*range(17), *range(18, 31, 2), *range(32, 61, 4)]
    assert list(elements.get("e2m3").tables[0][:32]) == e2m3
    e3m2 = sorted(v for v in elements.get("e3m2").tables[0][:32] if v is not None)
    assert e3m2[:13] == [*range(9), 10, 12, 14, 16]
    assert [sorted(set(t)) for t in elements.get("bitmod4").tables] == [
        sorted({0, 1, 2, 3, 4, 6, 8, 12, -1, -2, -3, -4, -6, -8, -12, special})
        for special in (10, -10, 16, -16)
    ]
    assert [sorted(set(t)) for t in elements.get("bitmod3").tables] == [
        sorted({0, 1, 2, 4, -1, -2, -4, special}) for special in (3, -3, 6, -6)
    ]


#: NF4 as printed in appendix E of QLoRA, arXiv:2305.14314, to four places.
NF4 = [-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0.0]
NF4 += [0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1.0]


def test_nf4_is_generated_from_quantiles_and_agrees_with_the_printed_table() -> None:
    np.testing.assert_allclose(elements.nf4_values(), NF4, atol=6e-5)
    expected = (-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127)
    assert elements.get("nf4").tables[0] == expected


def test_the_fp4_of_bitsandbytes_is_no_e2m1() -> None:
    magnitudes = np.array(elements.get("bnb_fp4").tables[0][:8]) / 192
    expected = np.array([0, 0.0625, 8, 12, 4, 6, 2, 3]) / 12
    np.testing.assert_array_equal(magnitudes, expected)
    assert set(magnitudes * 12) != set(np.array(elements.get("e2m1").tables[0][:8]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("e0m3", "minifloat must have an exponent bit and 3 to 8 bits, not e0m3"),
        ("e1m0", "minifloat must have an exponent bit and 3 to 8 bits, not e1m0"),
        ("e5m3", "minifloat must have an exponent bit and 3 to 8 bits, not e5m3"),
    ],
)
def test_widths_that_are_no_small_float_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        elements.get(name)


def test_unknown_elements_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^element must be one of nf4, .*, not 'q4'$"):
        elements.get("q4")
    with pytest.raises(ValueError, match=r"^special must be one of all, fn, ieee, not 'x'$"):
        elements.minifloat(2, 1, "x")
    with pytest.raises(ValueError, match=r"^integers must have 2 to 8 bits, not 9$"):
        elements.integers(9)


def test_a_bias_of_ones_own_moves_the_unit_alone() -> None:
    assert elements.get("e2m1b4").tables == elements.get("e2m1").tables
    assert elements.get("e2m1b4").unit == elements.get("e2m1").unit - 3


@pytest.mark.parametrize("widths_", [(e, m) for e in range(1, 5) for m in range(8) if 3 <= 1 + e + m <= 8])
def test_planes_of_a_float_are_as_many_as_the_formula_says(widths_: tuple[int, int]) -> None:
    exponent, mantissa = widths_
    fmt = blocks.get(f"e{exponent}m{mantissa}all-row")
    assert len(fmt.coefs) == mantissa + 1 + ((1 << exponent) - 2) + 1


#: Both operands, exact width, published width, at 4096 products.
WIDTHS = [
    ("sint4", 19, None),
    ("sint8", 27, ("int8", 29)),
    ("e2m1", 21, None),
    ("e2m3", 25, ("e2m3", 25)),
    ("e3m2", 31, ("e3m2", 31)),
    ("e4m3", 49, ("e4m3", 49)),
    ("e5m2", 77, None),
]


@pytest.mark.parametrize(("name", "bits", "formula"), WIDTHS)
def test_accumulators_are_as_wide_as_published_or_narrower(
    name: str, bits: int, formula: tuple[str, int] | None
) -> None:
    digits = blocks.get(f"{name}-row", True).values().tolist()
    assert widths.exact(digits, digits, 4096) == bits
    if formula is not None:
        assert widths.published(formula[0], formula[0], 4096) == formula[1]


def test_an_fp4_by_int8_sum_and_a_length_that_is_no_power_of_two() -> None:
    digits = {n: blocks.get(f"{n}-row").values().tolist() for n in ("e2m1", "e2m3", "sint8")}
    assert widths.exact(digits["e2m1"], digits["sint8"], 4096) == 24
    assert widths.exact(digits["e2m3"], digits["e2m3"], 4608) == 25
    assert widths.published("e2m3", "e2m3", 4608) == 26


@given(count=st.integers(1, 70_000), name=st.sampled_from(["e2m1", "e2m3", "e3m2", "e3m4", "e2m2", "int"]))
@settings(deadline=None)
def test_the_exact_width_holds_the_extremes_and_is_at_most_the_formula(count: int, name: str) -> None:
    for bits in (2, 3, 5, 8) if name == "int" else (0,):
        digits = blocks.get(f"sint{bits}-row" if bits else f"{name}all-row").values().tolist()
        found = widths.exact(digits, digits, count)
        most = max(digits) ** 2 * count
        assert most < 1 << (found - 1)
        assert most >= 1 << (found - 2)
        formula = f"int{bits}" if bits else name
        assert found <= widths.published(formula, formula, count)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: widths.exact([1], [1], 0), "count must be at least 1, not 0"),
        (lambda: widths.published("int4", "int4", 0), "count must be at least 1, not 0"),
        (lambda: widths.published("nf4", "int4", 1), "element must be intB or eXmY, not 'nf4'"),
        (
            lambda: widths.published("int4", "e2m1", 1),
            "elements must be both integers or both floats, not 'int4' and 'e2m1'",
        ),
    ],
)
def test_widths_of_nothing_are_refused(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize(("name", "power"), [("e3m2", 12), ("e2m2", 14), ("e2m1", 14), ("e2m3", 14)])
def test_codes_read_as_fp16_are_the_value_and_a_power_of_two(name: str, power: int) -> None:
    codes = np.arange(len(real(name)), dtype=np.uint8)
    fields = int(name[1]), int(name[3])
    np.testing.assert_array_equal(split.as_fp16(codes, *fields).astype(float) * 2.0**power, real(name))


@given(bits=st.integers(1, 8), rows=st.integers(1, 4), columns=st.integers(1, 200), seed=st.integers(0, 99))
def test_split_codes_come_back(bits: int, rows: int, columns: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (rows, columns)).astype(np.uint8)
    streams = split.pack_split(codes, bits)
    assert sum(split.segments(bits)) == bits
    np.testing.assert_array_equal(split.unpack_split(streams, bits, columns), codes)
    if columns % 64 == 0:
        assert 8 * sum(s.nbytes for s in streams) == bits * codes.size


def test_six_bits_are_two_and_four_and_waste_nothing() -> None:
    assert [split.segments(b) for b in (5, 6, 7)] == [(1, 4), (2, 4), (1, 2, 4)]
    codes = np.arange(64, dtype=np.uint8)[None].repeat(3, axis=0)
    top, low = split.pack_split(codes, 6)
    assert (top.shape, low.shape) == ((3, 2), (3, 4))
    assert int(top[0, 0]) & 3 == 0
    assert int(low[0, 1]) & 15 == 0
    assert int(top[0, 1]) >> 62 == 3


def test_what_cannot_be_split_is_refused() -> None:
    codes = np.full((1, 3), 9, np.uint8)
    for call, message in (
        (lambda: split.segments(9), "bits must be at least 1 and at most 8, not 9"),
        (lambda: split.pack_split(codes, 3), "codes must have 3 bits, not 9"),
        (lambda: split.pack_split(codes[0], 4), "codes must be uint8 of two axes, not uint8 [3]"),
        (
            lambda: split.unpack_split(split.pack_split(codes, 4), 4, 65),
            "streams must have [5] words a row, not [1]",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()
