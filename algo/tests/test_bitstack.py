"""BitStack against published errors, against dense decompositions, and in its storage."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from algo.bitplane.storage import bits_per_weight
from algo.formats.low_rank import truncated
from algo.formats.quantized import Calibration
from algo.methods import bitstack, onebit


def lost(weight: np.ndarray, stored: np.ndarray) -> float:
    return float(np.linalg.norm(weight - stored) / np.linalg.norm(weight))


def weights(rows: int, columns: int) -> np.ndarray:
    rng = np.random.default_rng([rows, columns])
    return rng.standard_normal((rows, columns)) * rng.lognormal(0, 0.5, (rows, 1))


def slow(weight: np.ndarray, norms: np.ndarray, blocks: int, rank: int) -> np.ndarray:
    """Signs and dense singular value decompositions, nothing rounded."""
    left = weight * norms
    for _ in range(blocks):
        u, s, vt = np.linalg.svd(np.abs(left))
        left = left - np.where(left >= 0, 1, -1) * (u[:, :rank] * s[:rank] @ vt[:rank])
    return weight - left / norms


def test_errors_of_six_blocks_are_the_published_ones() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((256, 256)) * rng.lognormal(0, 0.3, (256, 1))
    expected = [0.5196, 0.2769, 0.1568, 0.0933, 0.0587, 0.0388]
    found = [
        lost(weight, bitstack.quantize(weight, config=bitstack.Config(blocks=blocks)).dequantize())
        for blocks in range(1, 7)
    ]
    assert found == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize(("rows", "columns", "rank"), [(1, 1, 16), (5, 300, 2), (40, 63, 4), (65, 30, 16)])
@pytest.mark.parametrize("known", [False, True])
def test_dense_decompositions_say_the_same(rows: int, columns: int, rank: int, known: bool) -> None:
    weight = weights(rows, columns)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((50, columns)) * rng.lognormal(0, 1, columns)
    norms = np.sqrt(np.sum(x**2, axis=0)) + 1e-3 if known else np.ones(columns)
    given = Calibration.of(x) if known else None
    stored = bitstack.quantize(weight, given, bitstack.Config(blocks=1, rank=rank)).dequantize()
    np.testing.assert_allclose(stored, slow(weight, norms, 1, rank), atol=4e-3 * np.abs(weight).max())
    deep = bitstack.quantize(weight, given, bitstack.Config(blocks=3, rank=rank)).dequantize()
    expected = lost(weight * norms, slow(weight, norms, 3, rank) * norms)
    assert lost(weight * norms, deep * norms) == pytest.approx(expected, rel=0.05, abs=1e-3)


def test_rank_one_is_the_decomposition_of_onebit() -> None:
    weight = weights(20, 65)
    stored = bitstack.quantize(weight, config=bitstack.Config(blocks=1, rank=1))
    assert len(stored.matrix.terms) == 1
    np.testing.assert_allclose(
        stored.dequantize(), onebit.quantize(weight).dequantize(), rtol=3e-3, atol=1e-6
    )


def test_every_block_leaves_less() -> None:
    weight = weights(30, 130)
    blocks = bitstack.fit_blocks(weight, np.ones(130), bitstack.Config(blocks=6, rank=3))
    left = [np.linalg.norm(weight - sum(b.values() for b in blocks[:n])) for n in range(7)]
    assert all(after < 0.9 * before for before, after in itertools.pairwise(left))


def test_columns_of_strong_channels_are_kept_closer_with_calibration() -> None:
    weight, strength = weights(40, 64), np.repeat([30.0, 1.0], 32)
    x = np.random.default_rng(0).standard_normal((200, 64)) * strength

    def output_lost(stored: np.ndarray) -> float:
        return float(np.linalg.norm(x @ (weight - stored).T) / np.linalg.norm(x @ weight.T))

    config = bitstack.Config(blocks=1, rank=2)
    alone = output_lost(bitstack.quantize(weight, None, config).dequantize())
    assert output_lost(bitstack.quantize(weight, Calibration.of(x), config).dequantize()) < 0.99 * alone


@pytest.mark.parametrize("shape", [(7, 40), (40, 7)])
def test_truncation_spans_the_leading_singular_vectors(shape: tuple[int, int]) -> None:
    matrix = np.abs(weights(*shape))
    found = truncated(matrix, 3)
    _, s, vt = np.linalg.svd(matrix)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs(np.sum(unit * vt[:3], axis=1)), 1, atol=1e-9)
    assert np.all(
        (np.linalg.norm(found, axis=1) ** 2 / s[:3] > 0.2)
        & (np.linalg.norm(found, axis=1) ** 2 / s[:3] < 4.1)
    )
    assert truncated(matrix, 99).shape == (7, shape[1])
    assert not np.any(truncated(np.zeros(shape), 2))


def test_a_sign_plane_is_stored_once_for_all_terms_of_its_block() -> None:
    result = bitstack.quantize(weights(128, 256), config=bitstack.Config(blocks=2, rank=4))
    assert result.published_bits == 2 * (1 + 16 * 4 * 384 / (128 * 256))
    assert bits_per_weight(result.matrix) == pytest.approx(result.published_bits + 16 / 256)
    assert len(result.matrix.terms) == 8
    assert len(result.matrix.planes) == 2


def test_what_it_cannot_work_with_is_refused() -> None:
    message = "calibration must have 4 columns as the weight has, not 3"
    with pytest.raises(ValueError, match=f"^{message}$"):
        bitstack.quantize(np.ones((2, 4)), Calibration.of(np.eye(3)))
    for wrong, text in (
        ({"blocks": 0}, "blocks must be at least 1, not 0"),
        ({"rank": 0}, "rank must be at least 1, not 0"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            bitstack.Config(**wrong)
