"""PB-LLM against plain loops, on a worked block, and in its storage."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from algo.bitplane import words
from algo.bitplane.storage import breakdown
from algo.formats.quantized import Calibration
from algo.methods import pb_llm, xnor

ALONE = pb_llm.Config(metric="magnitude", compensation="none")


def known(columns: int) -> Calibration:
    rng = np.random.default_rng(columns)
    return Calibration.of(
        rng.standard_normal((3 * columns + 8, columns)) @ rng.standard_normal((columns, columns))
    )


def slow(weight: np.ndarray, hessian: np.ndarray | None, config: pb_llm.Config) -> np.ndarray:
    """Entry by entry; the curvature from the inverse of the damped Hessian and of its trailing parts."""
    rows, columns = weight.shape
    left, out = weight.astype(float).copy(), np.zeros(weight.shape)
    if hessian is not None:
        hessian = hessian + config.damping * np.mean(np.diagonal(hessian)) * np.eye(columns)
        upper = np.linalg.cholesky(np.linalg.inv(hessian)).T
    for start in range(0, columns, config.group):
        here = range(start, min(start + config.group, columns))
        ranked = []
        for i in range(rows):
            for j in here:
                salience = abs(left[i, j])
                if hessian is not None and config.metric == "hessian":
                    salience = left[i, j] ** 2 * np.linalg.inv(np.linalg.inv(hessian[j:, j:])[:1, :1])[0, 0]
                ranked.append((-salience, i, j))
        chosen = {(i, j) for _, i, j in sorted(ranked)[: round(config.salient * len(ranked))]}
        for i in range(rows):
            rest = [float(left[i, j]) for j in here if (i, j) not in chosen]
            kept = [float(left[i, j]) for j in here if (i, j) in chosen]
            mean = sum(rest) / max(len(rest), 1)
            scale = sum(abs(w - mean) for w in rest) / max(len(rest), 1)
            low, top = min([0.0, *kept]), 2**config.bits - 1
            step = float(np.float16((max([0.0, *kept]) - low) / top))
            for j in here:
                if (i, j) in chosen:
                    zero = round(-low / step)
                    out[i, j] = step * (min(max(round(left[i, j] / step) + zero, 0), top) - zero)
                else:
                    out[i, j] = mean + scale if left[i, j] >= mean else mean - scale
        if config.compensation == "diag":
            for j in here:
                error = (left[:, j] - out[:, j]) / upper[j, j]
                left[:, here[-1] + 1 :] -= np.outer(error, upper[j, here[-1] + 1 :])
    return out


def test_a_worked_block() -> None:
    weight = np.array([[10.0, 1, 2, 3, -5, 0], [0.5, -0.5, 1.5, -1.5, 0, 0]])
    config = dataclasses.replace(ALONE, salient=1 / 6, bits=2)
    # 10 and -5: scale 5, zero 1. The rest of that row: mean 1.5, scale 1. The second row: mean 0, scale 2/3.
    third = float(np.float16(2 / 3))
    np.testing.assert_array_equal(
        pb_llm.quantize(weight, config=config).dequantize(),
        [[10, 0.5, 2.5, 2.5, -5, 0.5], [third, -third, third, -third, third, third]],
    )


@pytest.mark.parametrize(("columns", "group"), [(1, 128), (63, 64), (65, 32), (300, 128)])
def test_plain_loops_say_the_same_without_calibration(columns: int, group: int) -> None:
    weight = np.random.default_rng(columns).standard_normal((6, columns)) + 0.2
    config = dataclasses.replace(ALONE, group=group)
    off = np.abs(pb_llm.quantize(weight, config=config).dequantize() - slow(weight, None, config))
    # A salient code at the border of two, by its scale before and after the row's grid, is a step away.
    assert np.mean(off > 4e-3) < 0.01
    assert off.max() < 7 / 255


@pytest.mark.parametrize("metric", pb_llm.METRICS)
def test_plain_loops_say_the_same_with_calibration(metric: str) -> None:
    weight, given = np.random.default_rng(5).standard_normal((6, 65)), known(65)
    config = pb_llm.Config(group=32, metric=metric)
    expected = slow(weight, given.hessian, config)
    np.testing.assert_allclose(
        pb_llm.quantize(weight, given, config).dequantize(),
        expected,
        atol=2e-2 * np.abs(expected).max(),
        rtol=0,
    )


def test_the_largest_tenth_is_salient_and_kept_closer() -> None:
    weight = np.random.default_rng(0).standard_normal((40, 300))
    result = pb_llm.quantize(weight, config=ALONE)
    salient = words.unpack(result.matrix.dense("salient"), 300)
    assert result.notes["salient_share"] == salient.mean() == pytest.approx(0.1, abs=1e-3)
    for start in (0, 128, 256):
        part = slice(start, start + 128)
        assert (
            np.abs(weight[:, part])[salient[:, part]].min()
            >= np.abs(weight[:, part])[~salient[:, part]].max()
        )
    off = np.abs(weight - result.dequantize())
    assert off[salient].max() < 0.03
    assert np.sum(off**2) < 0.5 * np.sum((weight - xnor.quantize(weight).dequantize()) ** 2)


def test_storage_counts_the_mask_that_the_published_figure_leaves_out() -> None:
    result = pb_llm.quantize(np.random.default_rng(0).standard_normal((320, 1280)), config=ALONE)
    assert result.published_bits == pytest.approx(0.1 * 8 + 0.9)
    bits = breakdown(result.matrix)
    assert bits["masks"] == 1
    assert bits["sign planes"] == pytest.approx(0.9, abs=1e-3)
    assert bits["extra planes"] == pytest.approx(0.8, abs=1e-2)
    assert bits["scales"] == 2 * 16 / 128
    assert bits["offsets"] == 16 / 128
    assert bits["zeros"] == 8 / 128


def test_what_it_cannot_work_with_is_refused() -> None:
    message = "calibration must be given for metric hessian and compensation diag, not None"
    with pytest.raises(ValueError, match=f"^{message}$"):
        pb_llm.quantize(np.ones((2, 3)))
    for wrong, text in (
        ({"salient": 1.0}, "salient must be a number above 0 and below 1, not 1.0"),
        ({"bits": 17}, "bits must be at most 16, not 17"),
        ({"bits": 0}, "bits must be at least 1, not 0"),
        ({"metric": "size"}, "metric must be one of hessian, magnitude, not 'size'"),
        ({"compensation": "some"}, "compensation must be one of diag, exact, none, not 'some'"),
        ({"damping": 0}, "damping must be a finite number above 0, not 0"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            pb_llm.Config(**wrong)
