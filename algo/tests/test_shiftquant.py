"""ShiftQuant against plain loops in fractions, by known figures, and through the engines."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.bitplane import decode
from algo.bitplane.activations import Activations
from algo.bitplane.matrix import PackedMatrix
from algo.formats.quantized import Calibration
from algo.methods import shiftquant
from algo.methods.shiftquant import Config
from sim import judge
from sim.engines import ENGINES

RANGES = [8, 5, 3.9, 1.1, 0.9, 0.26, 0.02, 8e-4]


def skewed(rows: int, columns: int) -> np.ndarray:
    """Normal weights, columns of sizes from 1/16 to 4."""
    rng = np.random.default_rng([rows, columns])
    return rng.standard_normal((rows, columns)) * 2 ** rng.uniform(-4, 2, columns)


def class_of(most: float, own: float, groups: int) -> int:
    """The group by its definition: the power of two that fits is looked for one by one."""
    found = 0
    while found < groups - 1 and Fraction(own) * 2 ** (found + 1) <= Fraction(most):
        found += 1
    return found


def known(peak: list[float] | np.ndarray) -> Calibration:
    return Calibration(np.eye(len(peak)), np.asarray(peak, np.float64))


def scale_of(matrix: PackedMatrix, row: int) -> Fraction:
    """What the code 1 stands for in the first group, from the stored integers."""
    row = min(row, len(matrix.exponent.values) - 1)
    return Fraction(int(matrix.ints["scale"].values[row, 0])) * Fraction(2) ** int(
        matrix.exponent.values[row, 0]
    )


def test_channels_of_a_worked_vector_are_in_their_groups() -> None:
    np.testing.assert_array_equal(shiftquant.groups_of(np.array(RANGES), 4), [0, 0, 1, 2, 3, 3, 3, 3])
    np.testing.assert_array_equal(shiftquant.groups_of(np.array(RANGES), 1), np.zeros(8))
    # Just below and at a power of two below the largest, and no range at all.
    edges = np.array([1, 0.5, math.nextafter(0.5, 1), 0.25, math.nextafter(0.25, 0), 0])
    np.testing.assert_array_equal(shiftquant.groups_of(edges, 8), [0, 1, 0, 2, 2, 7])


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20), st.integers(1, 8))
def test_groups_are_those_of_the_definition(peaks: list[float], groups: int) -> None:
    found = shiftquant.groups_of(np.array(peaks), groups)
    assert list(found) == [class_of(max(peaks), peak, groups) for peak in peaks]


@pytest.mark.parametrize("scale", ["row", "tensor"])
@pytest.mark.parametrize(("bits", "groups"), [(4, 4), (2, 3), (8, 8), (5, 1)])
@pytest.mark.parametrize("columns", [1, 65, 130])
def test_stored_weights_are_codes_times_a_power_of_two_of_the_first_scale(
    columns: int, bits: int, groups: int, scale: str
) -> None:
    weight = skewed(5, columns)
    config = Config(bits=bits, groups=groups, scale=scale)  # type: ignore[arg-type]
    result = shiftquant.quantize(weight, config=config)
    matrix, stored, top = result.matrix, result.dequantize(), 2 ** (bits - 1) - 1
    shares = np.abs(weight) / (np.abs(weight).max(axis=1, keepdims=True) if scale == "row" else 1.0)
    peak = [max(float(v) for v in shares[:, c]) for c in range(columns)]
    place = [class_of(max(peak), own, groups) for own in peak]
    for m in range(5):
        first = scale_of(matrix, m) * 2 ** (groups - 1)
        rows = range(5) if scale == "tensor" else [m]
        wanted = max(abs(weight[i, c]) * 2.0 ** place[c] for i in rows for c in range(columns)) / top
        assert float(first) == pytest.approx(wanted, rel=2**-14)
        for c in range(columns):
            step = first / 2 ** place[c]
            code = max(-top, min(top, round(Fraction(weight[m, c]) / step)))
            assert Fraction(stored[m, c]) == code * step
    assert len(matrix.terms) == 1
    assert len(matrix.terms[0].coefs) == bits + groups - 1
    assert [result.notes[f"shift {k}"] for k in range(groups)] == [place.count(k) for k in range(groups)]


def test_a_worked_row() -> None:
    # Ranges 7, 1.5 and 0.3: groups 0, 2 and 3 under the step 1; their steps are 1, 1/4 and 1/8.
    stored = shiftquant.quantize(np.array([[7.0, 1.5, 0.3]])).dequantize()
    np.testing.assert_array_equal(stored, [[7, 1.5, 0.25]])
    # A single scale has nothing below 1.
    stored = shiftquant.quantize(np.array([[7.0, 1.5, 0.3]]), config=Config(groups=1)).dequantize()
    np.testing.assert_array_equal(stored, [[7, 2, 0]])


def integers(x: np.ndarray, step: float, bits: int) -> Activations:
    """Symmetric integers on one scale for all tokens."""
    top = 2 ** (bits - 1) - 1
    values = np.clip(np.rint(x / step), -top, top).astype(np.int64)
    return Activations(values=values, bits=bits, scale=np.full(len(x), step, np.float32))


def output_error(groups: int, x: np.ndarray, weight: np.ndarray) -> float:
    """Share of the output's energy lost by 4-bit activations in so many groups; weights have 8 bits."""
    config = Config(bits=8, groups=groups, side="activations")
    peak = np.abs(x).max(axis=0)
    matrix = shiftquant.quantize(weight, known(peak), config).matrix
    act = integers(x * matrix.factors["balance"].astype(np.float64), float(np.float32(peak.max() / 7)), 4)
    exact = x @ weight.T
    found = (
        act.values @ decode.integer_weights(matrix, "balance").T * np.ldexp(1.0, matrix.exponent.values[:, 0])
    )
    return float(np.sum((float(act.scale[0]) * found - exact) ** 2) / np.sum(exact**2))


def test_output_errors_of_skewed_channels_fall_towards_that_of_a_scale_each() -> None:
    # 256 channels of sizes 2^-4 .. 2^2 that meet weights smaller where they are larger, by the square root.
    rng = np.random.default_rng(0)
    sizes = 2 ** rng.uniform(-4, 2, 256)
    x = rng.standard_normal((1024, 256)) * sizes
    weight = rng.standard_normal((64, 256)) / np.sqrt(sizes)
    peak = np.abs(x).max(axis=0)

    def lost(steps: np.ndarray) -> float:
        rounded = np.clip(np.rint(x / steps), -7, 7) * steps
        return float(np.sum(((x - rounded) @ weight.T) ** 2) / np.sum((x @ weight.T) ** 2))

    errors = [lost(peak.max() / 7 * 2.0 ** -shiftquant.groups_of(peak, groups)) for groups in (1, 2, 4, 8)]
    assert errors == pytest.approx([0.2337, 0.1269, 0.0552, 0.0431], abs=5e-5)
    assert lost(peak / 7) == pytest.approx(0.0208, abs=5e-5)
    # The packed path adds what its 8-bit weights lose.
    packed = [output_error(groups, x, weight) for groups in (1, 2, 4, 8)]
    assert packed == pytest.approx(errors, abs=1e-3)
    assert all(own >= real for own, real in zip(packed, errors, strict=True))


def test_weights_in_groups_lose_less_than_under_one_scale() -> None:
    weight = skewed(32, 300)
    lost = []
    for groups in (1, 2, 4, 8):
        stored = shiftquant.quantize(weight, config=Config(groups=groups)).dequantize()
        # Each column by itself: the large ones hide all others in a sum.
        lost.append(float(np.mean(np.sum((weight - stored) ** 2, axis=0) / np.sum(weight**2, axis=0))))
    assert lost[0] > 3 * lost[2]
    assert lost == sorted(lost, reverse=True)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(2, 8), st.integers(1, 8), st.sampled_from(["weights", "activations", "both"]),
    st.integers(1, 130), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_the_integer_path_is_the_float_path(
    bits: int, groups: int, side: str, columns: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((3, columns)) * 2 ** rng.uniform(-4, 2, columns)
    peak = 2 ** rng.uniform(-6, 3, columns)
    config = Config(bits=bits, groups=groups, side=side)  # type: ignore[arg-type]
    result = shiftquant.quantize(weight, known(peak), config)
    matrix, values = result.matrix, rng.integers(-8, 8, (2, columns))
    act = Activations(values=values, bits=4, scale=np.array([0.5, 2], np.float32))
    expected = judge.integer_sums(matrix, [act])
    for name, engine in ENGINES.items():
        np.testing.assert_array_equal(engine(matrix, [act]), expected, err_msg=name)

    # In fractions: plain codes of the weight times activations whose group's scale is a power of two smaller.
    place = [class_of(float(peak.max()), float(own), groups) for own in peak]
    real = result.dequantize()
    for n, s_x in enumerate((Fraction(1, 2), Fraction(2))):
        for m in range(3):
            shift = [Fraction(2) ** -k if side != "weights" else Fraction(1) for k in place]
            total = sum(
                Fraction(real[m, c]) * shift[c] * int(values[n, c]) * s_x for c in range(columns)
            )  # what the activations were multiplied by comes off again
            unit = Fraction(2) ** int(matrix.exponent.values[m, 0])
            assert total == int(expected[0, n, m]) * unit * s_x


def test_activations_in_groups_leave_the_weights_as_one_scale_has_them() -> None:
    weight = skewed(6, 70)
    given_ = known(2.0 ** -np.arange(70))
    shifted = shiftquant.quantize(weight, given_, Config(side="activations"))
    plain = shiftquant.quantize(weight, config=Config(groups=1))
    np.testing.assert_array_equal(shifted.dequantize(), plain.dequantize())
    np.testing.assert_array_equal(shifted.matrix.factors["balance"], [1, 2, 4] + [8] * 67)


def test_shifts_of_both_sides_add_up() -> None:
    weight = skewed(6, 70)
    peak = 2 ** np.random.default_rng(1).uniform(-6, 0, 70)
    config = Config(groups=3, side="both")
    both = shiftquant.quantize(weight, known(peak), config)
    alone = shiftquant.quantize(weight, config=Config(groups=3))
    np.testing.assert_array_equal(both.dequantize(), alone.dequantize())
    met = [class_of(float(peak.max()), float(own), 3) for own in peak]
    np.testing.assert_array_equal(both.matrix.factors["balance"], 2.0 ** np.array(met))
    assert len(both.matrix.terms[0].coefs) == 4 + 4
    own = shiftquant.groups_of(np.max(np.abs(weight) / np.abs(weight).max(axis=1, keepdims=True), axis=0), 3)
    assert [both.notes[f"shift {k}"] for k in range(5)] == list(np.bincount(own + met, minlength=5))


def test_published_bits_are_a_code_and_the_share_of_a_group_number() -> None:
    assert shiftquant.quantize(skewed(8, 64)).published_bits == 4 + 2 / 8
    assert shiftquant.quantize(skewed(8, 64), config=Config(bits=3, groups=5)).published_bits == 3 + 3 / 8
    assert shiftquant.quantize(skewed(8, 64), config=Config(groups=1)).published_bits == 4
    both = shiftquant.quantize(skewed(8, 64), known(np.ones(64)), Config(side="both"))
    assert both.published_bits == 4 + 2 * 2 / 8


@pytest.mark.parametrize(
    ("given_", "error", "message"),
    [
        ({"bits": 1}, ValueError, "bits must be at least 2, not 1"),
        ({"bits": 9}, ValueError, "bits must be at most 8, not 9"),
        ({"groups": 0}, ValueError, "groups must be at least 1, not 0"),
        ({"groups": 9}, ValueError, "groups must be at most 8, not 9"),
        ({"groups": 2.0}, TypeError, "groups must be an integer, not 2.0"),
        ({"side": "rows"}, ValueError, "side must be one of weights, activations, both, not 'rows'"),
        ({"scale": "group"}, ValueError, "scale must be one of row, tensor, not 'group'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(given_: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Config(**given_)


def test_activations_are_not_grouped_without_their_ranges() -> None:
    config = Config(side="activations")
    assert shiftquant.needs_calibration(config)
    assert not shiftquant.needs_calibration(Config())
    with pytest.raises(
        ValueError, match=r"^calibration must be given for shiftquant of activations, not None$"
    ):
        shiftquant.quantize(np.ones((2, 3)), config=config)
    with pytest.raises(ValueError, match=r"^peak must have 3 columns as the weight has, not 2$"):
        shiftquant.quantize(np.ones((2, 3)), known([1, 1]), config)
