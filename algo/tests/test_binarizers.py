"""BiLLM, ARB, ARB-X, ARB-RC and STBLLM against slow references, and what they store against the formulas."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest

from algo.binarize.curvature import curvature
from algo.binarize.residual import binarized
from algo.binarize.zone import Block
from algo.bitplane import family, words
from algo.bitplane.decode import mask_bits
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.planes import Gathered, Pattern, Plane
from algo.bitplane.storage import bits_per_weight, breakdown
from algo.formats.quantized import Calibration
from algo.methods import arb, arb_rc, arb_x, billm, stbllm
from algo.tests.reference import blocks, cases
from algo.tests.reference.nm import importance, keep_mask

Array = np.ndarray
METHODS = ("billm", "arb", "arb-x", "arb-rc", "stbllm")
FORMS = [*product(METHODS[:4], (False, True)), ("stbllm", False)]  #: each with and without a bitmap
#: Of the largest magnitude. Alternation to the end leaves levels that coincide but for rounding, and rounding
#: says which of them is the nearest.
CLOSE = {"billm": 1e-12, "arb": 1e-8, "arb-x": 1e-8, "arb-rc": 1e-6, "stbllm": 1e-12}
#: ARB-RC's epsilon is relative here and absolute in the reference, where it is lost beside large weights.
SIZE = {"arb-rc": 2.0**14}
ROWS = {"degenerate": [2, 3, 7]}  #: with the row of zeros and the constant row
COLUMNS = {"ragged": 171, "degenerate": 200}  #: to the short block and the dead channel; else a short block


def known(hessian: Array) -> Calibration:
    return Calibration(hessian, np.ones(len(hessian)))


def config_of(method: str, **options: Any) -> Any:
    return family.load("algo.methods", method).Config(**options)


def fitted(method: str, weight: Array, calibration: Calibration, config: Any) -> Sequence[Block]:
    module = family.load("algo.methods", method)
    curve = config.curvature(weight.shape[1], calibration)
    if method == "arb-x":
        return module.fit_blocks(weight, curve, calibration, config)[0]
    if method == "stbllm":
        keep = module.keep_mask(weight, calibration, curve, config)
        return module.fit_blocks(weight, keep, curve, config)[0]
    return module.fit_blocks(weight, curve, config)[0]


def values_of(found: Sequence[Block]) -> Array:
    return np.concatenate([block.values() for block in found], axis=1)


def quantized(method: str, weight: Array, hessian: Array, **options: Any) -> Any:
    config = config_of(method, **options)
    return family.load("algo.methods", method).quantize(weight, known(hessian), config)


def layer(rows: int, columns: int, seed: int = 0, tokens: int = 0) -> tuple[Array, Array]:
    """A weight with a few strong columns, and the Hessian of correlated activations."""
    rng = np.random.default_rng([seed, rows, columns])
    weight = rng.standard_normal((rows, columns)) * np.exp(0.4 * rng.standard_normal(columns))
    mixing = rng.standard_normal((columns, columns)) / columns**0.5 + np.eye(columns)
    x = rng.standard_normal((tokens or 2 * columns + 8, columns)) @ mixing
    return weight, 2 * x.T @ x


def compare(method: str, weight: Array, hessian: Array, **options: Any) -> None:
    """Salient columns and unrounded values of every block are the reference's."""
    weight = weight * SIZE.get(method, 1.0)
    found = fitted(method, weight, known(hessian), config_of(method, **options))
    renamed = {"group": "block", "salient_limit": "limit"}
    told = {renamed.get(name, name): value for name, value in options.items()}
    if "nm" in told:
        told["nm"] = tuple(int(part) for part in told["nm"].split(":"))
    wanted = blocks.quantize(weight, hessian, method=method, **told)
    assert [np.flatnonzero(block.salient).tolist() for block in found] == [one.salient for one in wanted]
    expected = blocks.dense(wanted)
    close = CLOSE[method] * np.abs(expected).max()
    np.testing.assert_allclose(values_of(found), expected, rtol=0, atol=close)


@pytest.mark.parametrize("name", cases.ALL)
@pytest.mark.parametrize(("method", "cgb"), FORMS)
def test_blocks_equal_the_reference_before_rounding(method: str, cgb: bool, name: str) -> None:
    weight, hessian, _ = cases.ALL[name]()
    columns = COLUMNS.get(name, 150)
    weight, hessian = weight[ROWS.get(name, slice(2)), :columns], hessian[:columns, :columns]
    compare(method, weight, hessian, **({"cgb": True} if cgb else {}))


@pytest.mark.slow
@pytest.mark.parametrize("compensation", ["diag", "exact", "none"])
@pytest.mark.parametrize("metric", ["hessian", "magnitude"])
@pytest.mark.parametrize("name", cases.ALL)
@pytest.mark.parametrize(("method", "cgb"), FORMS)
def test_every_option_equals_the_reference_on_every_case(
    method: str, cgb: bool, name: str, metric: str, compensation: str
) -> None:
    weight, hessian, _ = cases.ALL[name]()
    options: dict[str, Any] = {"metric": metric, "compensation": compensation}
    options |= {"cgb": True} if cgb else {}
    compare(method, weight, hessian, **options)
    if metric != "hessian":
        compare(method, weight, hessian, **options, group=40, damping=0.1, salient_limit=7)


@pytest.mark.parametrize("compensation", ["diag", "exact", "none"])
@pytest.mark.parametrize("metric", ["hessian", "magnitude"])
def test_every_metric_and_compensation_equals_the_reference(metric: str, compensation: str) -> None:
    options: dict[str, Any] = {"metric": metric, "compensation": compensation}
    compare("billm", *layer(5, 97, seed=1), group=40, salient_limit=12, damping=0.1, **options)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("arb", {"compensation": "exact", "iterations": 3, "cgb": True}),
        ("arb-x", {"compensation": "exact", "metric": "magnitude", "iterations": 4}),
        ("arb-rc", {"compensation": "none", "metric": "magnitude", "iterations": 1}),
        ("stbllm", {"compensation": "exact", "metric": "magnitude", "nm": "5:8"}),
        ("stbllm", {"nm": "2:4"}),
    ],
)
def test_other_options_equal_the_reference_on_an_odd_group(method: str, options: dict[str, Any]) -> None:
    compare(method, *layer(4, 97, seed=1), group=40, salient_limit=9, **options)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (6, 2), (2, 65), (1, 129)])
@pytest.mark.parametrize("method", METHODS)
def test_any_shape_equals_the_reference(method: str, rows: int, columns: int) -> None:
    compare(method, *layer(rows, columns), salient_limit=11)


def test_few_calibration_tokens_are_enough_for_the_reference_and_for_us() -> None:
    compare("billm", *layer(4, 160, seed=2, tokens=9))


def test_the_loss_is_that_of_the_blocks_as_they_were_compensated() -> None:
    weight, hessian, _ = cases.ragged()
    weight = weight[:4]
    u = curvature(hessian, 171, 0.01).square(slice(171))
    stored, left, loss = blocks.quantize(weight, hessian, method="billm"), weight.copy(), 0.0
    for place, one in enumerate(stored):
        span = slice(128 * place, 128 * place + one.values.shape[1])
        error = (left[:, span] - one.values) / np.diagonal(u)[span]
        loss += 0.5 * float((error**2).sum())
        left[:, span.stop :] -= error @ u[span, span.stop :]
    assert quantized("billm", weight, hessian).notes["loss"] == pytest.approx(loss, rel=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_dead_channel_becomes_zero_before_it_is_binarized_as_released(method: str) -> None:
    weight, hessian = layer(5, 150, seed=3)
    hessian[[7, 140], :] = 0
    hessian[:, [7, 140]] = 0
    changed = weight.copy()
    changed[:, [7, 140]] = 55.0
    first, second = quantized(method, weight, hessian), quantized(method, changed, hessian)
    np.testing.assert_array_equal(first.dequantize(), second.dequantize())
    assert first.notes["dead_columns"] == 2


@pytest.mark.parametrize(("method", "cgb"), FORMS)
def test_the_scale_of_the_hessian_does_not_matter(method: str, cgb: bool) -> None:
    weight, hessian = layer(6, 140, seed=4)
    options = {"cgb": True} if cgb else {}
    first = quantized(method, weight, hessian, **options).dequantize()
    np.testing.assert_array_equal(first, quantized(method, weight, hessian * 2.0**40, **options).dequantize())


def allowed(matrix: PackedMatrix) -> Array:
    """What the rounding of an entry's scalars may move it, [rows, columns]."""
    step = np.ldexp(1.0, matrix.exponent.values)
    total = np.zeros((matrix.rows, matrix.columns))

    def one(name: str) -> tuple[Array, Array]:
        """A stored scalar's size and how far it may be off: half an fp16 step, half a step of the grid."""
        size = np.abs(matrix.ints[name].values[:, matrix.group_of]) * step
        return size, 2.0**-11 * size + 2.0**-25 + step

    for term in matrix.terms:
        size, off = one(term.scale)
        if term.col is not None:
            factor = matrix.factors[term.col].astype(np.float64)
            off = off * factor + size * (2.0**-11 * factor + 2.0**-25)
        if term.offset is not None:
            off = off + one(term.offset)[1]
        total += np.where(mask_bits(matrix, term), off, 0.0)
    return total


@pytest.mark.parametrize("name", cases.ALL)
@pytest.mark.parametrize(("method", "cgb"), FORMS)
def test_stored_planes_stand_for_the_blocks_up_to_the_rounding_of_their_scalars(
    method: str, cgb: bool, name: str
) -> None:
    weight, hessian, _ = cases.ALL[name]()
    options = {"cgb": True} if cgb else {}
    exact = values_of(fitted(method, weight, known(hessian), config_of(method, **options)))
    result = quantized(method, weight, hessian, **options)
    off = np.abs(result.dequantize() - exact)
    assert np.all(off <= allowed(result.matrix))
    assert np.any(off > 0)


def test_stored_scalars_are_fp16_values_on_the_row_grid() -> None:
    weight, hessian = layer(6, 200, seed=6)
    found = fitted("billm", weight, known(hessian), billm.Config())
    matrix = quantized("billm", weight, hessian).matrix
    high, low = ([block.zones[at] for block in found] for at in (0, 1))
    wanted = {
        "scale_mean": [(h.scales[0] + o.scales[0]) / 2 for h, o in zip(high, low, strict=True)],
        "scale_difference": [(h.scales[0] - o.scales[0]) / 2 for h, o in zip(high, low, strict=True)],
        "offset_mean": [(h.offset + o.offset) / 2 for h, o in zip(high, low, strict=True)],
        "offset_difference": [(h.offset - o.offset) / 2 for h, o in zip(high, low, strict=True)],
        "salient_scale1": [block.high.scales[0] for block in found],
        "salient_scale2": [block.high.scales[1] for block in found],
        "salient_offset": [block.high.offset for block in found],
    }
    assert set(matrix.ints) == set(wanted)
    step = np.ldexp(1.0, matrix.exponent.values)
    for name, ints in matrix.ints.items():
        half = np.stack(wanted[name], axis=1).astype(np.float16).astype(np.float64)
        assert np.all(np.abs(ints.values * step - half) <= step / 2), name
        assert ints.bits == 16
        assert ints.signed
    peak = np.max([np.abs(ints.values).max(axis=1) for ints in matrix.ints.values()], axis=0)
    assert np.all(peak >= 1 << 14)  # no finer grid holds the row's largest scalar
    assert np.all(peak < 1 << 15)


@pytest.mark.parametrize("cgb", [False, True])
@pytest.mark.parametrize("method", ["billm", "arb", "arb-x"])
def test_no_mask_but_the_column_flags_is_read_and_the_third_plane_is_computed(method: str, cgb: bool) -> None:
    matrix = quantized(method, *layer(6, 200, seed=7), cgb=cgb).matrix
    assert {term.mask for term in matrix.terms} == {"salient", "~salient"}
    zone = "zone" if cgb else "second"
    assert set(matrix.planes) == {"salient", "sign", "second"} | ({"zone"} if cgb else set())
    outside = [term.planes for term in matrix.terms if term.mask == "~salient"]
    assert outside == [("sign",), (f"~(sign ^ {zone})",), (zone,)]
    flags = matrix.planes["salient"]
    assert isinstance(flags, Plane)
    assert flags.words.shape == (1, 4)
    assert isinstance(matrix.planes["second"], Gathered if cgb else Plane)


@pytest.mark.parametrize("method", ["billm", "arb", "arb-x", "arb-rc"])
def test_zones_follow_the_metric_and_the_flags_are_the_reported_columns(method: str) -> None:
    weight, hessian = layer(6, 200, seed=7)
    result = quantized(method, weight, hessian)
    flags = words.unpack(result.matrix.dense("salient"), 200)
    assert flags.shape == (1, 200)
    assert result.salient_columns == (int(flags[0, :128].sum()), int(flags[0, 128:].sum()))
    metric = (weight / curvature(hessian, 200, 0.01).diagonal) ** 2
    zone = words.unpack(result.matrix.words_of("second & ~salient"), 200)[:, :128]
    low = words.unpack(result.matrix.words_of("~second & ~salient"), 200)[:, :128]
    np.testing.assert_array_equal(zone ^ low, np.broadcast_to(~flags[:, :128], (6, 128)))
    # Of the first block, which no compensation has reached: one threshold for all rows.
    assert metric[:, :128][zone].min() > metric[:, :128][low].max()


@pytest.mark.parametrize("size", [128, 256])
@pytest.mark.parametrize("limit", [1, 3, 49])
@pytest.mark.parametrize("method", ["billm", "arb-x"])
def test_storage_is_two_planes_and_seven_scalars_whatever_the_salient_columns(
    method: str, limit: int, size: int
) -> None:
    options: dict[str, Any] = {"iterations": 1} if method != "billm" else {}
    result = quantized(method, *layer(size, size, seed=8), salient_limit=limit, **options)
    counted = breakdown(result.matrix)
    assert counted["sign planes"] == 1
    assert counted["extra planes"] == 1  # zone or second sign
    assert counted["masks"] == 1 / size  # a flag per column for all rows
    assert counted["scales"] + counted["offsets"] == 7 * 16 / 128
    assert counted["exponents"] == 16 / size
    assert bits_per_weight(result.matrix) == 2.875 + 1 / size + 16 / size
    assert result.published_bits == 1 + sum(result.salient_columns) / size
    assert max(result.salient_columns) <= limit


def test_a_bitmap_costs_a_plane_of_the_salient_columns_and_three_scalars() -> None:
    result = quantized("arb-x", *layer(192, 256, seed=9), cgb=True, iterations=1)
    share = sum(result.salient_columns) / 256
    assert bits_per_weight(result.matrix) == pytest.approx(3.25 + share + 1 / 192 + 16 / 256, abs=1e-12)
    assert result.published_bits == 1 + share


def test_row_and_column_scales_cost_four_scalars_and_two_streams() -> None:
    weight, hessian = layer(192, 256, seed=9)
    plain = quantized("arb-rc", weight, hessian, iterations=1)
    assert bits_per_weight(plain.matrix) == pytest.approx(2.5 + (32 + 1) / 192 + 16 / 256, abs=1e-12)
    assert plain.matrix.streams == ("column1", "column2")
    assert all(factor.dtype == np.float16 for factor in plain.matrix.factors.values())
    bitmap = quantized("arb-rc", weight, hessian, iterations=1, cgb=True)
    share = sum(bitmap.salient_columns) / 256
    expected = 2.75 + share + (64 + 1) / 192 + 16 / 256
    assert bits_per_weight(bitmap.matrix) == pytest.approx(expected, abs=1e-12)
    assert bitmap.matrix.streams == ("column1", "column2", "low_column1", "low_column2")


@pytest.mark.parametrize(
    ("nm", "index", "sum_of_all"), [("4:8", 7, 3.46), ("5:8", 6, 3.70), ("6:8", 5, 3.94)]
)
def test_sparse_storage_is_index_kept_bits_and_nine_scalars(nm: str, index: int, sum_of_all: float) -> None:
    rows, columns = 192, 256
    result = quantized("stbllm", *layer(rows, columns, seed=10), nm=nm)
    matrix = result.matrix
    kept, salient, both = (
        int(words.popcount(matrix.words_of(text)).sum()) for text in ("keep", "salient", "keep & salient")
    )
    share = int(nm[0]) / 8
    assert kept == share * rows * columns
    assert salient == rows * sum(result.salient_columns)
    full = [words.word_count(count) * 64 for count in (kept, both, kept - both)]
    bits = rows * columns * index / 8 + full[0] + full[1] + 2 * full[2] + rows * 2 * 9 * 16
    assert bits_per_weight(matrix) == pytest.approx(
        (bits + columns + 16 * rows) / (rows * columns), abs=1e-12
    )
    # The spread sheet of the layer: sign, zones and index by their shares, at whatever salient share it has.
    r = both / kept
    formula = share * (1 + r + 2 * (1 - r)) + index / 8 + 9 * 16 / 128
    assert bits_per_weight(matrix) == pytest.approx(formula + 1 / rows + 16 / columns, abs=0.01)
    assert share * (1 + 10 / 128 + 2 * (1 - 10 / 128)) + index / 8 + 1.125 == pytest.approx(
        sum_of_all, abs=0.01
    )
    assert result.published_bits == pytest.approx(share * (1 + sum(result.salient_columns) / columns))


@pytest.mark.parametrize("name", cases.ALL)
@pytest.mark.parametrize("nm", ["4:8", "5:8", "1:4", "3:5"])
def test_exactly_so_many_of_every_group_stay_and_all_others_are_zero(name: str, nm: str) -> None:
    weight, hessian, _ = cases.ALL[name]()
    kept, of = (int(part) for part in nm.split(":"))
    result = quantized("stbllm", weight, hessian, nm=nm)
    keep = words.unpack(result.matrix.words_of("keep"), weight.shape[1])
    stored = result.dequantize()
    for start in range(0, weight.shape[1], of):
        width = min(of, weight.shape[1] - start)
        assert np.all(keep[:, start : start + of].sum(axis=1) == min(kept, width))
    assert not np.any(stored[~keep])
    assert isinstance(result.matrix.planes["keep"], Pattern)
    live = np.where(np.diagonal(hessian) == 0, 0.0, weight)
    np.testing.assert_array_equal(
        keep, keep_mask(importance(live, np.sqrt(np.diagonal(hessian) / 2)), kept, of)
    )
    alive = live.any(axis=1) & (np.ptp(live, axis=1) > 0)
    assert np.mean(stored[alive][keep[alive]] != 0) > 0.99


def output_error(weight: Array, stored: Array, x: Array) -> float:
    return float(np.sum((x @ (weight - stored).T) ** 2) / np.sum((x @ weight.T) ** 2))


@pytest.mark.parametrize(("method", "cgb"), FORMS)
def test_compensation_lowers_the_output_error_and_exact_lowers_it_further(method: str, cgb: bool) -> None:
    rng = np.random.default_rng(9)
    weight = rng.standard_normal((32, 384))
    x = rng.standard_normal((800, 384)) @ (np.eye(384) + rng.standard_normal((384, 384)) / 384**0.5)
    options: dict[str, Any] = {"cgb": True} if cgb else {}
    if method == "stbllm":  # half of a whole block pruned at once is more than "diag" can answer for
        options["group"] = 32
    error = {}
    for mode in ("none", "diag", "exact"):
        stored = quantized(method, weight, 2 * x.T @ x, compensation=mode, **options).dequantize()
        error[mode] = output_error(weight, stored, x)
    assert error["exact"] < error["diag"] < error["none"]


def test_alternation_follows_the_weights_and_data_aware_scales_the_output_closer() -> None:
    weight, hessian, _ = cases.gauss()
    weights, outputs = {}, {}
    for method in ("billm", "arb", "arb-x"):
        stored = quantized(method, weight, hessian, compensation="none", metric="magnitude").dequantize()
        weights[method] = float(np.sum((weight - stored) ** 2))
        outputs[method] = blocks.output_error(weight, stored, hessian)
    assert weights["arb"] < weights["billm"]
    assert outputs["arb-x"] < outputs["arb"]


def test_no_iteration_leaves_billm() -> None:
    weight, hessian = layer(5, 140, seed=11)
    np.testing.assert_array_equal(
        quantized("arb", weight, hessian, iterations=0).dequantize(),
        quantized("billm", weight, hessian).dequantize(),
    )


def test_an_entry_equal_to_its_mean_takes_plus_one() -> None:
    # Of 1, 2, 3 the mean is 2 and the scale 2/3: the middle entry has no sign of its own.
    weight = np.array([[3.0, 1.0, 2.0, 9.0]])
    mask = np.array([[True, True, True, False]])
    np.testing.assert_allclose(binarized(weight, mask, 1), [[8 / 3, 4 / 3, 8 / 3, 0]])
    config = billm.Config(metric="magnitude", compensation="none", salient_limit=1)
    stored = billm.quantize(np.array([[3.0, 3.0, 1.0, 2.0, 9.0, 2.0]]), None, config).dequantize()
    assert stored[0, 4] == 9
    assert stored[0, 3] == stored[0, 5]


@pytest.mark.parametrize("module", [billm, arb, arb_rc])
def test_without_a_hessian_magnitudes_alone_can_be_binarized(module: Any) -> None:
    weight, _ = layer(5, 70, seed=10)
    config = module.Config(metric="magnitude", compensation="none")
    assert not module.needs_calibration(config)
    assert module.needs_calibration(module.Config())
    assert module.needs_calibration(module.Config(metric="magnitude"))
    assert module.needs_calibration(module.Config(compensation="none"))
    expected = module.quantize(weight, known(np.eye(70)), config).dequantize()
    np.testing.assert_array_equal(module.quantize(weight, None, config).dequantize(), expected)


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
@pytest.mark.parametrize("method", METHODS)
def test_a_config_refuses_what_makes_no_sense(
    method: str, change: dict[str, object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        dataclasses.replace(config_of(method), **change)


@pytest.mark.parametrize("method", ["billm", "arb", "arb-x", "arb-rc"])
def test_a_bitmap_is_asked_for_or_not(method: str) -> None:
    with pytest.raises(TypeError, match=r"^cgb must be true or false, not 1$"):
        config_of(method, cgb=1)


@pytest.mark.parametrize("method", ["arb", "arb-x", "arb-rc"])
def test_iterations_are_a_count(method: str) -> None:
    with pytest.raises(ValueError, match=r"^iterations must be at least 0, not -1$"):
        config_of(method, iterations=-1)
    with pytest.raises(TypeError, match=r"^iterations must be an integer, not 1\.5$"):
        config_of(method, iterations=1.5)


@pytest.mark.parametrize("nm", ["0:8", "9:8", "4", "4:65", "-1:4", "4:8 ", 0.5, None])
def test_a_ratio_that_is_none_is_refused(nm: object) -> None:
    message = f"nm must be kept:of with 1 <= kept <= of <= 64, such as 4:8, not {nm!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        config_of("stbllm", nm=nm)


@pytest.mark.parametrize("method", METHODS)
def test_a_hessian_that_is_none_is_refused(method: str) -> None:
    module, weight = family.load("algo.methods", method), np.ones((3, 4))
    needed = f"for {method}" if method in ("arb-x", "stbllm") else "for metric hessian and compensation diag"
    for hessian, message in (
        (None, f"calibration must be given {needed}, not None"),
        (known(np.eye(5)), "hessian must have shape [4, 4], not [5, 5]"),
        (
            known(np.ones((4, 4)) - 3 * np.eye(4)),
            "hessian must be positive definite at damping 1, not indefinite: is it a sum of x x^T?",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            module.quantize(weight, hessian)


@pytest.mark.parametrize("options", [{}, {"metric": "magnitude", "compensation": "none"}])
def test_data_aware_scales_and_importance_need_calibration_whatever_else_is_chosen(
    options: dict[str, str],
) -> None:
    for module, name in ((arb_x, "arb-x"), (stbllm, "stbllm")):
        config = module.Config(**options)
        assert module.needs_calibration(config)
        with pytest.raises(ValueError, match=f"^calibration must be given for {name}, not None$"):
            module.quantize(np.ones((3, 4)), None, config)


def test_a_scalar_that_fp16_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^scale must fit fp16 \(at most 65504\), not 70000\.0$"):
        billm.quantize(np.full((1, 1), 70000.0), known(np.eye(1)))
