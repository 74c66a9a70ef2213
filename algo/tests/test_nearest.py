"""Rounding rules by name, on printed vectors and against a slow search; the traps of casts."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.bitplane.scales import round_scale
from algo.formats import blocks, nearest

X = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 5.01, 7.0, -0.25, 0.2500001, -2.5])
RULES = ("rne", "rha", "rhz", "rhu", "rtl")


def rounded(values: np.ndarray, rule: str, element: str = "e2m1") -> np.ndarray:
    fmt = blocks.get(f"{element}-g32-{rule}")
    return np.ldexp(nearest.round_to(fmt, np.ldexp(values, -fmt.unit)).astype(float), fmt.unit)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("rne", [0, 1, 1, 2, 2, 4, 4, 6, 6, 0, 0.5, -2]),
        ("rha", [0.5, 1, 1.5, 2, 3, 4, 6, 6, 6, -0.5, 0.5, -3]),
        ("rhz", [0, 0.5, 1, 1.5, 2, 3, 4, 6, 6, 0, 0.5, -2]),
        ("rhu", [0.5, 1, 1.5, 2, 3, 4, 6, 6, 6, 0, 0.5, -2]),
        ("rtl", [0, 0.5, 1, 1.5, 2, 3, 4, 6, 6, -0.5, 0.5, -3]),
    ],
)
def test_e2m1_is_rounded_by_each_rule_as_its_vector_says(rule: str, expected: list[float]) -> None:
    np.testing.assert_array_equal(rounded(X, rule), expected)


def slow(x: float, table: list[int], codes: list[int], rule: str) -> int:
    """The nearest of a table by looking at all of it."""
    least = min(abs(x - v) for v in table)
    near = [v for v in table if abs(x - v) == least]
    if len(near) == 1:
        return near[0]
    low, high = sorted(near)
    if rule == "rne":
        return low if codes[table.index(low)] % 2 == 0 else high
    away = high if x > 0 else low
    return {"rhu": high, "rtl": low, "rha": away, "rhz": low + high - away}[rule]


@settings(max_examples=60, deadline=None)
@given(
    element=st.sampled_from(["e2m1", "e3m2", "e4m3", "sint4", "nf4", "bnb_fp4", "flint4", "e1m2", "e3m0"]),
    rule=st.sampled_from(RULES),
    seed=st.integers(0, 10_000),
)
def test_every_rule_finds_what_a_search_of_the_table_finds(element: str, rule: str, seed: int) -> None:
    fmt = blocks.get(f"{element}-g32-{rule}")
    digits, codes = (found.tolist() for found in fmt.levels())
    rng = np.random.default_rng(seed)
    at = rng.integers(0, len(digits) - 1, 20)
    middles = [(digits[i] + digits[i + 1]) / 2 for i in at]
    values = np.concatenate([middles, rng.uniform(1.2 * digits[0], 1.2 * digits[-1], 20)])
    found = nearest.round_to(fmt, values)
    assert found.tolist() == [slow(x, digits, codes, rule) for x in values.tolist()]


def test_stochastic_rounding_is_unbiased_and_its_seed_says_it_all() -> None:
    fmt = blocks.get("e2m1-g32-sr")
    x = np.full(200_000, 2 * 2.3)
    found = nearest.round_to(fmt, x, seed=1) / 2
    # 2 or 3 with probability 0.7 and 0.3: five standard errors of the mean of so many
    assert found.mean() == pytest.approx(2.3, abs=5 * np.sqrt(0.21 / len(x)))
    assert set(found.tolist()) == {2.0, 3.0}
    np.testing.assert_array_equal(found, nearest.round_to(fmt, x, seed=1) / 2)
    assert np.any(found != nearest.round_to(fmt, x, seed=2) / 2)
    ends = np.array([12.0, 99.0, -12.0, -99.0, 3.0, 0.0])
    assert nearest.round_to(fmt, ends).tolist() == [12, 12, -12, -12, 3, 0]


def test_what_is_not_finite_or_no_rule_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^values must be finite, not NaN or infinity$"):
        nearest.round_to(blocks.get("mxfp4"), np.array([np.inf]))
    with pytest.raises(ValueError, match=r"^rounding must be one of rne, .*, not 'up'$"):
        nearest.boundaries(np.array([0, 1]), np.array([0, 1], np.uint8), "up")


def test_casts_that_overflow_differ_between_libraries_and_here_they_saturate() -> None:
    assert np.isnan(np.float32(465).astype(ml_dtypes.float8_e4m3fn).astype(np.float32))
    assert float(torch.tensor(465.0).to(torch.float8_e4m3fn)) == 448
    assert rounded(np.array([465.0, -1e30]), "rne", "e4m3").tolist() == [448, -448]
    assert float(round_scale([465.0], "ue4m3")[0]) == 448


def test_casts_to_e8m0_round_to_nearest_and_the_rules_do_not() -> None:
    from algo.formats.scaling import power_of

    cast = np.array([1.5, 3.0], np.float32).astype(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    assert cast.tolist() == [2, 4]
    assert np.exp2(power_of(np.array([1.5, 3.0]), 1.0, "floor")).tolist() == [1, 2]
    assert np.exp2(power_of(np.array([1.5, 3.0, 4.0, 4.0001]), 1.0, "ceil")).tolist() == [2, 4, 4, 8]


@pytest.mark.parametrize(
    ("scale", "judge", "count"), [("ue4m3", ml_dtypes.float8_e4m3fn, 127), ("e8m0", None, 0)]
)
def test_scales_are_rounded_as_their_type_rounds(scale: str, judge: type | None, count: int) -> None:
    values = np.random.default_rng(0).uniform(0, 448, 20_000).astype(np.float32)
    values = np.concatenate([values, values * 2.0**-12])
    if judge is None:
        found = np.exp2(np.rint(np.log2(values.astype(float))))
        np.testing.assert_array_equal(round_scale(values, scale), found)
        return
    np.testing.assert_array_equal(round_scale(values, scale), values.astype(judge).astype(float))
    codes = np.arange(count, dtype=np.uint8).view(judge).astype(float)
    np.testing.assert_array_equal(round_scale(codes, scale), codes)


def test_ue5m3_reaches_from_2_to_the_minus_17_to_114688() -> None:
    found = round_scale([2.0**-17, 2.0**-18, 2.0**-14, 1e9, 122_880.0, 9.5, 8.5, 17.0, 19.0], "ue5m3")
    assert found.tolist() == [2.0**-17, 0, 2.0**-14, 114_688, 114_688, 10, 8, 16, 20]
    with pytest.raises(ValueError, match=r"^scale must not be below 0, not -1.0$"):
        round_scale([-1.0], "ue5m3")
