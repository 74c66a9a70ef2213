"""PTQ1.61 against plain loops, by its columns, and in its storage."""

from __future__ import annotations

import re

import numpy as np
import pytest

from algo.bitplane import words
from algo.bitplane.storage import breakdown
from algo.formats.quantized import Calibration
from algo.methods import ptq161, xnor


def known(columns: int) -> Calibration:
    rng = np.random.default_rng(columns)
    return Calibration.of(rng.standard_normal((20, columns)) * rng.lognormal(0, 1, columns))


def slow(weight: np.ndarray, peak: np.ndarray) -> np.ndarray:
    columns = weight.shape[1]
    chosen = sorted(range(columns), key=lambda j: (-peak[j], j))[: round(0.2 * columns)]
    out = np.zeros(weight.shape)
    for i, row in enumerate(weight):
        rest = [float(row[j]) for j in range(columns) if j not in chosen]
        kept = [0.0, *(float(row[j]) for j in chosen)]
        mean = sum(rest) / len(rest)
        scale = sum(abs(w - mean) for w in rest) / len(rest)
        step = float(np.float16((max(kept) - min(kept)) / 15))
        for j, w in enumerate(row):
            if j in chosen:
                zero = round(-min(kept) / step)
                out[i, j] = step * (min(max(round(w / step) + zero, 0), 15) - zero)
            else:
                out[i, j] = mean + scale if w >= mean else mean - scale
    return out


@pytest.mark.parametrize("columns", [1, 63, 65, 300])
def test_plain_loops_say_the_same_up_to_the_rounding_of_the_scalars(columns: int) -> None:
    weight = np.random.default_rng(columns).standard_normal((6, columns)) + 0.1
    result = ptq161.quantize(weight, known(columns))
    np.testing.assert_allclose(
        result.dequantize(), slow(weight, known(columns).peak), atol=1e-2 * np.abs(weight).max(), rtol=0
    )
    assert result.salient_columns == (round(0.2 * columns),)


def test_a_worked_row() -> None:
    given = Calibration(np.eye(5), np.array([1.0, 7, 2, 1, 1]))
    stored = ptq161.quantize(np.array([[1.0, 15, -1, 4, 0]]), given).dequantize()
    # Column 1 is salient: grid 0 .. 15. The rest: mean 1, mean distance 1.5, and 1 itself counts as plus.
    np.testing.assert_array_equal(stored, [[2.5, 15, -0.5, 2.5, -0.5]])


def test_a_step_too_small_for_its_rows_grid_grows_and_cuts_off_no_code() -> None:
    given = Calibration(np.eye(5), np.array([1.0, 7, 2, 1, 1]))
    weight = np.array([[4096.0, 1.5 * 15 / 8, 4096, 4096, 4096]])
    matrix = ptq161.quantize(weight, given).matrix
    # The mean 4096 has mantissas of 1/4: the step of 3/16 becomes one of them, not none.
    assert np.ldexp(float(matrix.ints["code_scale"].values[0, 0]), int(matrix.exponent.values[0, 0])) == 0.25
    assert ptq161.quantize(weight, given).dequantize()[0, 1] == 2.75


def test_of_equal_activations_the_first_columns_are_salient() -> None:
    result = ptq161.quantize(np.ones((2, 65)), Calibration(np.eye(65), np.ones(65)))
    found = words.unpack(result.matrix.dense("salient"), 65)[0]
    np.testing.assert_array_equal(np.flatnonzero(found), range(13))


def test_outputs_are_kept_better_than_at_one_bit_where_channels_differ() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 300)) * rng.lognormal(0, 1.5, 300)
    weight = rng.standard_normal((64, 300))

    def lost(stored: np.ndarray) -> float:
        return float(np.sum((x @ (weight - stored).T) ** 2) / np.sum((x @ weight.T) ** 2))

    one_bit = lost(xnor.quantize(weight, config=xnor.Config(group=300)).dequantize())
    assert lost(ptq161.quantize(weight, Calibration.of(x)).dequantize()) < 0.3 * one_bit


def test_the_published_figure_leaves_out_four_scalars_a_row_and_a_bit_a_column_is_nothing() -> None:
    result = ptq161.quantize(np.random.default_rng(0).standard_normal((320, 1280)), known(1280))
    assert result.published_bits == pytest.approx(1.6 + 1 / 320)
    assert breakdown(result.matrix) == pytest.approx(
        {
            "sign planes": 0.8,
            "extra planes": 0.8,
            "masks": 1 / 320,
            "scales": 2 * 16 / 1280,
            "offsets": 16 / 1280,
            "zeros": 4 / 1280,
            "exponents": 16 / 1280,
        }
    )


def test_what_it_cannot_work_with_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^calibration must be given for ptq161, not None$"):
        ptq161.quantize(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"^peak must have 4 columns as the weight has, not 3$"):
        ptq161.quantize(np.ones((2, 4)), Calibration.of(np.eye(3)))
    for wrong, text in (
        ({"salient": 0}, "salient must be a number above 0 and below 1, not 0"),
        ({"bits": 17}, "bits must be at most 16, not 17"),
        ({"bits": -1}, "bits must be at least 1, not -1"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            ptq161.Config(**wrong)
