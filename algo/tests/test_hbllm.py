"""HBLLM: bands worked by hand, a slow inverse of what is stored, enumeration, and the storage bill."""

from __future__ import annotations

import dataclasses
import itertools
import re

import numpy as np
import pytest

from algo.bitplane import words
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.storage import breakdown
from algo.formats.quantized import Calibration
from algo.methods import hbllm, sign, xnor

ALONE = hbllm.Config(compensation="none")


def weights(rows: int, columns: int) -> np.ndarray:
    rng = np.random.default_rng([rows, columns])
    return rng.standard_normal((rows, columns)) * rng.lognormal(0, 0.4, columns)


def stored_scalar(matrix: PackedMatrix, name: str) -> np.ndarray:
    return np.ldexp(matrix.ints[name].values.astype(float), matrix.exponent.values)


def inverse(matrix: PackedMatrix) -> np.ndarray:
    """The transform undone pair by pair from the stored bits and scalars, without a term or an expression."""
    rows, columns = matrix.rows, matrix.columns
    bit = {name: words.unpack(matrix.dense(name), columns) for name in matrix.planes}
    real = {name: stored_scalar(matrix, name) for name in matrix.ints}
    out = np.zeros((rows, columns))

    def coefficient(i: int, j: int, band: str) -> float:
        scale = real[f"{band}_scale{2 if bit['zone'][i, j] else 1}"][i, j // matrix.group]
        return real[f"{band}_mean"][i, j // matrix.group] + (scale if bit["haar"][i, j] else -scale)

    for i, j in itertools.product(range(rows), range(0, columns, 2)):
        low = coefficient(i, j, "low")
        if j + 1 == columns:
            out[i, j] = low
        else:
            high = coefficient(i, j + 1, "high")
            out[i, j], out[i, j + 1] = low + high, low - high
    if "residual" in bit:
        for i, j in itertools.product(range(rows), range(columns)):
            if bit["salient"][0, j]:
                pair = i - i % 2, min(i - i % 2 + 1, rows - 1)
                for row, name in zip(pair, ("residual_low", "residual_high"), strict=True):
                    scale = real[name][i, j // matrix.group]
                    out[i, j] += scale if bit["residual"][row, j] else -scale
    return out


def slow_band(values: list[float]) -> list[float]:
    """Every percentile tried, zones by sorting, error summed entry by entry."""
    mean = sum(values) / len(values)
    ranked = sorted(range(len(values)), key=lambda k: abs(values[k] - mean))
    best: tuple[float, list[float]] = (np.inf, [])
    for i in range(40):
        cut = 1 + int(np.floor((0.1 + 0.8 * i / 39) * (len(values) - 1) + 1e-9))
        out = [0.0] * len(values)
        for zone in (ranked[:cut], ranked[cut:]):
            scale = sum(abs(values[k] - mean) for k in zone) / max(len(zone), 1)
            for k in zone:
                out[k] = mean + scale if values[k] >= mean else mean - scale
        error = sum((a - b) ** 2 for a, b in zip(values, out, strict=True))
        if error < best[0] * (1 - 1e-12):
            best = error, out
    return best[1]


def slow_rows(block: np.ndarray) -> np.ndarray:
    out = np.zeros(block.shape)
    for i, row in enumerate(block.tolist()):
        pairs = [(row[j], row[j + 1]) for j in range(0, len(row) - 1, 2)]
        low = slow_band([(a + b) / 2 for a, b in pairs] + row[2 * len(pairs) :])
        high = slow_band([(a - b) / 2 for a, b in pairs]) if pairs else []
        for j, h in enumerate(high):
            out[i, 2 * j], out[i, 2 * j + 1] = low[j] + h, low[j] - h
        if len(row) % 2:
            out[i, -1] = low[-1]
    return out


def slow_block(block: np.ndarray, count: int) -> np.ndarray:
    rows, k = block.shape
    salient = sorted(range(k), key=lambda j: (-sum(block[:, j] ** 2), j))[:count]
    filled = block.copy()
    for j in salient:
        left = [n for n in range(j) if n not in salient][-1:]
        right = [n for n in range(j + 1, k) if n not in salient][:1]
        filled[:, j] = sum(block[:, n] for n in left + right) / len(left + right)
    out = slow_rows(filled)
    for i in range(0, rows, 2) if count else ():
        pair = range(i, min(i + 2, rows))
        left_over = [[block[r, j] - out[r, j] for j in salient] for r in pair]
        mean = [sum(c) / len(pair) for c in zip(*left_over, strict=True)]
        half = [(c[0] - c[-1]) / 2 for c in zip(*left_over, strict=True)]
        a, d = sum(map(abs, mean)) / count, sum(map(abs, half)) / count
        for at, j in enumerate(salient):
            for r in pair:
                out[r, j] += a if mean[at] >= 0 else -a
                out[r, j] += (d if half[at] >= 0 else -d) * (1 if r == i else -1)
    return out


def test_a_worked_row() -> None:
    # pairs (5, 1), (3, 3), (-4, 2): low 3, 3, -1, mean 5/3; high 2, 0, -3, mean -1/3
    band = hbllm.fit_band(np.array([[3.0, 3.0, -1.0]]))
    np.testing.assert_allclose(band.values(), [[3, 3, -1]])
    np.testing.assert_array_equal(band.outer, [[False, False, True]])
    found = hbllm.fit_block(np.array([[5.0, 1, 3, 3, -4, 2]]), 0).values()
    # the high band's zones: 0 (distance 1/3) alone, then 7/3 and 8/3 at 5/2
    np.testing.assert_allclose(found, [[3 + 13 / 6, 3 - 13 / 6, 3, 3, -1 - 17 / 6, -1 + 17 / 6]])


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 2), (5, 63), (4, 65), (7, 300)])
@pytest.mark.parametrize("known", [False, True])
def test_what_the_terms_say_is_the_inverse_transform_of_what_is_stored(
    rows: int, columns: int, known: bool
) -> None:
    rng = np.random.default_rng(columns)
    given = Calibration.of(rng.standard_normal((2 * columns + 8, columns))) if known else None
    config = hbllm.Config() if known else ALONE
    result = hbllm.quantize(weights(rows, columns), given, config)
    np.testing.assert_allclose(result.dequantize(), inverse(result.matrix), atol=1e-12)


@pytest.mark.parametrize(
    ("rows", "columns", "group"), [(1, 1, 128), (2, 2, 128), (5, 63, 64), (4, 65, 32), (3, 130, 128)]
)
def test_plain_loops_find_the_same_matrix(rows: int, columns: int, group: int) -> None:
    weight = weights(rows, columns)
    config = dataclasses.replace(ALONE, group=group, salient_limit=4)
    result = hbllm.quantize(weight, config=config)
    expected, counts = [], []
    for start in range(0, columns, group):
        block = weight[:, start : start + group]
        tried = {n: slow_block(block, n) for n in (0, 1, 2, 4) if n < block.shape[1]}
        best = min(tried, key=lambda n: np.sum((block - tried[n]) ** 2))
        expected.append(tried[best])
        counts.append(best)
    assert result.salient_columns == tuple(counts)
    np.testing.assert_allclose(
        result.dequantize(), np.concatenate(expected, axis=1), atol=4e-3 * np.abs(weight).max(), rtol=0
    )


def test_salient_columns_stand_out_and_are_mended() -> None:
    weight = np.random.default_rng(0).standard_normal((64, 128))
    weight[:, [3, 70]] *= 12
    with_residual = hbllm.quantize(weight, config=ALONE)
    assert with_residual.salient_columns == (2,)
    found = words.unpack(with_residual.matrix.dense("salient"), 128)[0]
    np.testing.assert_array_equal(np.flatnonzero(found), [3, 70])
    without = hbllm.quantize(weight, config=dataclasses.replace(ALONE, salient_limit=0))
    assert without.salient_columns == (0,)
    assert "residual" not in without.matrix.planes

    def lost(stored: np.ndarray) -> float:
        return float(np.sum((weight - stored) ** 2))

    assert lost(with_residual.dequantize()) < 0.7 * lost(without.dequantize())


def test_two_zones_about_a_shared_mean_beat_one() -> None:
    weight = np.random.default_rng(0).standard_normal((64, 1280))

    def lost(stored: np.ndarray) -> float:
        return float(np.sum((weight - stored) ** 2) / np.sum(weight**2))

    found = lost(hbllm.quantize(weight, config=ALONE).dequantize())
    assert found == pytest.approx(0.11, abs=0.02)
    assert (
        found
        < 0.4 * lost(xnor.quantize(weight).dequantize())
        < 0.4 * lost(sign.quantize(weight).dequantize())
    )


def test_smooth_rows_fall_into_the_low_band() -> None:
    weight = np.repeat(np.random.default_rng(0).standard_normal((6, 50)), 2, axis=1)
    block = hbllm.fit_block(weight, 0)
    assert not np.any(block.high.values())
    assert np.any(block.low.values())


def test_outputs_are_kept_better_with_compensation() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 64)) @ rng.standard_normal((64, 192)) + 0.2 * rng.standard_normal(
        (600, 192)
    )
    weight = rng.standard_normal((40, 192))

    def lost(config: hbllm.Config) -> float:
        stored = hbllm.quantize(weight, Calibration.of(x), dataclasses.replace(config, group=32)).dequantize()
        return float(np.linalg.norm(x @ (weight - stored).T))

    assert lost(hbllm.Config()) < 0.8 * lost(ALONE)


def test_a_dead_channel_is_counted() -> None:
    hessian = np.eye(6)
    hessian[2, 2] = 0
    result = hbllm.quantize(weights(3, 6), Calibration(hessian, np.ones(6)))
    assert result.notes["dead_columns"] == 1


def test_three_bits_are_stored_where_one_is_published() -> None:
    weight = weights(256, 1280)
    result = hbllm.quantize(weight, config=ALONE)
    share = sum(result.salient_columns) / 1280
    assert 0 < share < 0.3
    assert result.published_bits == 1 + share
    assert breakdown(result.matrix) == pytest.approx(
        {
            "sign planes": 1,
            "extra planes": share,
            "masks": 1 + 2 / 256,
            "scales": 7 * 16 / 128,
            "offsets": 16 / 128,
            "exponents": 16 / 1280,
        }
    )


def test_what_it_cannot_work_with_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^calibration must be given for compensation diag, not None$"):
        hbllm.quantize(np.ones((2, 3)))
    for wrong, text in (
        ({"group": 77}, "group must be even, not 77"),
        ({"salient_limit": -1}, "salient_limit must be at least 0, not -1"),
        ({"compensation": "some"}, "compensation must be one of diag, exact, none, not 'some'"),
        ({"damping": -1}, "damping must be a finite number above 0, not -1"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            hbllm.Config(**wrong)
