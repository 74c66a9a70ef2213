"""BiLLM against an independent slow reference, and its planes against what they must stand for."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from algo.binarize.compensation import compensate
from algo.binarize.curvature import Curvature, curvature
from algo.bitplane import words
from algo.bitplane.decode import dequantize, mask_bits
from algo.bitplane.storage import bits_per_weight, breakdown
from algo.methods import billm
from algo.tests.billm_reference import billm as reference


def layer(rows: int, columns: int, seed: int = 0, tokens: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A weight with a few strong columns, and the Hessian of correlated activations."""
    rng = np.random.default_rng([seed, rows, columns])
    weight = rng.standard_normal((rows, columns)) * np.exp(0.4 * rng.standard_normal(columns))
    mixing = rng.standard_normal((columns, columns)) / columns**0.5 + np.eye(columns)
    x = rng.standard_normal((tokens or 2 * columns + 8, columns)) @ mixing
    return weight, 2 * x.T @ x


def compare(weight: np.ndarray, hessian: np.ndarray, config: billm.Config) -> list[billm.Block]:
    curve = curvature(hessian, weight.shape[1], config.damping)
    blocks, loss = billm.fit_blocks(weight, curve, config)
    expected, expected_loss = reference(
        weight,
        hessian,
        block=config.group,
        damping=config.damping,
        metric=config.metric,
        limit=config.salient_limit,
        compensation=config.compensation,
    )
    assert len(blocks) == len(expected)
    for block, wanted in zip(blocks, expected, strict=True):
        assert np.flatnonzero(block.salient).tolist() == wanted.salient
        assert block.threshold == pytest.approx(wanted.threshold, rel=1e-9)
        np.testing.assert_allclose(block.values(), np.array(wanted.values), rtol=0, atol=1e-9)
    assert loss == pytest.approx(expected_loss, rel=1e-9)
    return blocks


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(1, 1), (6, 2), (5, 63), (3, 65), (6, 128), (4, 129), (5, 177), (7, 200), (1, 256), (3, 300)],
)
def test_blocks_equal_the_reference_before_rounding(rows: int, columns: int) -> None:
    compare(*layer(rows, columns), billm.Config())


@pytest.mark.parametrize("compensation", ["diag", "exact", "none"])
@pytest.mark.parametrize("metric", ["hessian", "magnitude"])
def test_every_metric_and_compensation_equals_the_reference(metric: str, compensation: str) -> None:
    config = billm.Config(group=40, metric=metric, compensation=compensation, salient_limit=12, damping=0.1)
    compare(*layer(5, 97, seed=1), config)


def test_few_calibration_tokens_are_enough_for_the_reference_and_for_us() -> None:
    compare(*layer(4, 160, seed=2, tokens=9), billm.Config())


def test_a_dead_channel_becomes_zero_before_it_is_binarized_as_released() -> None:
    weight, hessian = layer(5, 150, seed=3)
    hessian[[7, 140], :] = 0
    hessian[:, [7, 140]] = 0
    compare(weight, hessian, billm.Config())
    changed = weight.copy()
    changed[:, [7, 140]] = 55.0
    first, second = billm.quantize(weight, hessian), billm.quantize(changed, hessian)
    np.testing.assert_array_equal(dequantize(first.matrix), dequantize(second.matrix))
    assert first.notes["dead_columns"] == 2


def test_the_scale_of_the_hessian_does_not_matter() -> None:
    weight, hessian = layer(6, 140, seed=4)
    first, second = billm.quantize(weight, hessian), billm.quantize(weight, hessian * 2.0**40)
    np.testing.assert_array_equal(dequantize(first.matrix), dequantize(second.matrix))


@pytest.mark.parametrize("shape", [(1, 1), (6, 129), (5, 200)])
def test_stored_planes_stand_for_the_blocks_up_to_the_rounding_of_their_scalars(
    shape: tuple[int, int],
) -> None:
    weight, hessian = layer(*shape, seed=5)
    blocks, _ = billm.fit_blocks(weight, curvature(hessian, shape[1], 0.01), billm.Config())
    stored = dequantize(billm.quantize(weight, hessian).matrix)
    exact = np.concatenate([block.values() for block in blocks], axis=1)
    scalars = np.stack([np.abs(v) for block in blocks for v in block.scalars().values()])
    # Three scalars make an entry: each loses half of 2^-10 of itself to fp16, half of 2^-15 of the row's
    # largest to the grid.
    allowed = 3 * (2.0**-11 + 2.0**-16) * scalars.max(axis=0)[:, None]
    assert np.all(np.abs(stored - exact) <= allowed)
    assert np.any(stored != exact) or shape == (1, 1)


def test_stored_scalars_are_fp16_values_on_the_row_grid() -> None:
    weight, hessian = layer(6, 200, seed=6)
    blocks, _ = billm.fit_blocks(weight, curvature(hessian, 200, 0.01), billm.Config())
    matrix = billm.quantize(weight, hessian).matrix
    step = np.ldexp(1.0, matrix.exponent.values)
    for name, ints in matrix.ints.items():
        half = np.stack([b.scalars()[name] for b in blocks], axis=1).astype(np.float16).astype(np.float64)
        assert np.all(np.abs(ints.values * step - half) <= step / 2), name
        assert ints.bits == 16
        assert ints.signed
    peak = np.max([np.abs(ints.values).max(axis=1) for ints in matrix.ints.values()], axis=0)
    assert np.all(peak >= 1 << 14)  # no finer grid holds the row's largest scalar
    assert np.all(peak < 1 << 15)


def test_the_three_groups_part_every_entry_and_zones_follow_the_metric() -> None:
    weight, hessian = layer(6, 200, seed=7)
    result = billm.quantize(weight, hessian)
    matrix = result.matrix
    masks = {term.mask: mask_bits(matrix, term) for term in matrix.terms}
    assert list(masks) == ["salient", "second & ~salient", "~second & ~salient"]
    np.testing.assert_array_equal(sum(m.astype(int) for m in masks.values()), np.ones((6, 200), int))
    flags = words.unpack(matrix.planes["salient"].words, 200)
    assert flags.shape == (1, 200)
    assert result.salient_columns == (int(flags[0, :128].sum()), int(flags[0, 128:].sum()))
    assert result.published_bits == 1 + int(flags.sum()) / 200
    diagonal = curvature(hessian, 200, 0.01).diagonal[:128]
    metric = (weight[:, :128] / diagonal) ** 2  # of the first block: no compensation has reached it
    for row in range(6):
        high = metric[row][masks["second & ~salient"][row, :128]]
        low = metric[row][masks["~second & ~salient"][row, :128]]
        assert high.min(initial=np.inf) > low.max(initial=0)


@pytest.mark.parametrize("size", [128, 256])
@pytest.mark.parametrize("limit", [1, 3, 49])
def test_storage_is_two_planes_and_seven_scalars_whatever_the_salient_columns(size: int, limit: int) -> None:
    weight, hessian = layer(size, size, seed=8)
    result = billm.quantize(weight, hessian, billm.Config(salient_limit=limit))
    counted = breakdown(result.matrix)
    assert counted["sign planes"] == 1
    assert counted["masks"] == 1 + 1 / size  # zone or second sign, and a flag per column for all rows
    assert counted["scales"] + counted["offsets"] == 7 * 16 / 128
    assert counted["exponents"] == 16 / size
    assert bits_per_weight(result.matrix) == 2.875 + 1 / size + 16 / size
    assert max(result.salient_columns) <= limit


def test_compensation_lowers_the_output_error_and_exact_lowers_it_further() -> None:
    rng = np.random.default_rng(9)
    weight = rng.standard_normal((64, 384))
    x = rng.standard_normal((800, 384)) @ (np.eye(384) + rng.standard_normal((384, 384)) / 384**0.5)
    error = {}
    for mode in ("none", "diag", "exact"):
        config = billm.Config(compensation=mode)
        stored = dequantize(billm.quantize(weight, 2 * x.T @ x, config).matrix)
        error[mode] = np.sum((x @ (weight - stored).T) ** 2)
    assert error["exact"] < error["diag"] < error["none"]


def test_an_entry_equal_to_its_mean_takes_plus_one() -> None:
    # Of 1, 2, 3 the mean is 2 and the scale 2/3: the middle entry has no sign of its own.
    config = billm.Config(metric="magnitude", compensation="none", salient_limit=1)
    weight = np.array([[3.0, 1.0, 2.0, 9.0]])
    stored = dequantize(billm.quantize(weight, None, config).matrix)
    assert stored[0, 3] == 9
    pair = billm.binarize(weight, np.array([[True, True, True, False]]), 1)
    np.testing.assert_allclose(pair.values(), [[8 / 3, 4 / 3, 8 / 3, 0]])


def test_without_a_hessian_magnitudes_alone_can_be_binarized() -> None:
    weight, _ = layer(5, 70, seed=10)
    config = billm.Config(metric="magnitude", compensation="none")
    expected = billm.quantize(weight, np.eye(70), config)
    np.testing.assert_array_equal(
        dequantize(billm.quantize(weight, None, config).matrix), dequantize(expected.matrix)
    )


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"group": 0}, ValueError, "group must be at least 1, not 0"),
        ({"group": 64.0}, TypeError, "group must be an integer, not 64.0"),
        ({"group": True}, TypeError, "group must be an integer, not True"),
        ({"salient_limit": 0}, ValueError, "salient_limit must be at least 1, not 0"),
        ({"damping": 0}, ValueError, "damping must be a finite number above 0, not 0"),
        ({"damping": float("nan")}, ValueError, "damping must be a finite number above 0, not nan"),
        ({"damping": "x"}, ValueError, "damping must be a finite number above 0, not 'x'"),
        ({"metric": "l2"}, ValueError, "metric must be one of hessian, magnitude, not 'l2'"),
        ({"compensation": "x"}, ValueError, "compensation must be one of diag, exact, none, not 'x'"),
    ],
)
def test_a_config_refuses_what_makes_no_sense(
    change: dict[str, object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        dataclasses.replace(billm.Config(), **change)


@pytest.mark.parametrize(
    ("hessian", "message"),
    [
        (None, "hessian must be given for metric hessian and compensation diag, not None"),
        (np.eye(5), "hessian must have shape [4, 4], not [5, 5]"),
        (np.full((4, 4), np.nan), "hessian must be finite, not NaN or infinity"),
        (
            np.ones((4, 4)) - 3 * np.eye(4),
            "hessian must be positive definite at damping 0.01, not indefinite: is it a sum of x x^T?",
        ),
    ],
)
def test_a_hessian_that_is_none_is_refused(hessian: np.ndarray | None, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        billm.quantize(np.ones((3, 4)), hessian)


def test_a_scalar_that_fp16_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^scale must fit fp16 \(at most 65504\), not 70000\.0$"):
        billm.quantize(np.full((1, 1), 70000.0), np.eye(1))


class Rounded:
    """The nearest integers, as a fit."""

    def __init__(self, block: np.ndarray) -> None:
        self.block = block.copy()

    def values(self) -> np.ndarray:
        return np.rint(self.block)


@pytest.mark.parametrize(("mode", "third"), [("diag", 2.475), ("exact", 2.975), ("none", 3.0)])
def test_errors_are_pushed_on_as_worked_by_hand(mode: str, third: float) -> None:
    curve = Curvature(np.array([[2.0, 4.0, 1.0], [0, 1, 1], [0, 0, 5]]), np.zeros(3, np.bool_))
    weight = np.array([[0.25, 2.4, 3.0]])
    fits, loss = compensate(weight, curve, 2, mode, lambda block, _: Rounded(block))
    # Errors 0.25 and 0.4: by the diagonal [0.125, 0.4], solved [0.125, -0.1]; both times the row [1, 1].
    assert [fit.block.tolist() for fit in fits] == [[[0.25, 2.4]], [[pytest.approx(third)]]]
    assert loss == pytest.approx(0.5 * (0.125**2 + 0.4**2 + ((third - np.rint(third)) / 5) ** 2))
    assert weight.tolist() == [[0.25, 2.4, 3.0]]
