"""What every quantization method owes, whichever it is: the tests walk the family."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from algo.bitplane import family, store
from algo.bitplane.decode import dequantize
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.storage import bits_per_weight, breakdown, stored_bytes
from algo.formats import catalog
from algo.formats.quantized import Calibration, Quantized

METHODS = family.names("algo.methods")
COLUMNS = (1, 63, 64, 65, 128, 200, 300)

#: Every method with every format it takes.
CASES = [
    pytest.param(module, module.Config(**({"format": name} if name else {})), id=f"{method}-{name or 'own'}")
    for method in METHODS
    for module in [family.load("algo.methods", method)]
    for name in module.FORMATS or (None,)
]
every_case = pytest.mark.parametrize(("module", "config"), CASES)
#: One bit with a zero point: 0 and the group's extreme are the levels, and hardly follow any weights.
COARSE = "rtn-int1-g128"
grouped_case = pytest.mark.parametrize(
    ("module", "config"), [case for case in CASES if hasattr(case.values[1], "group") and case.id != COARSE]
)

#: Of these an N:M mask takes a share of every row, whatever its weights are.
SPARSE = ("stbllm", "stbllm_plus")
#: Units 1, i, -1, -i under two scales a matrix: none is 0, and a constant is half of either algebra.
UNITS = ("ifairy",)
#: What may be left of the squares beside rows of zeros, by methods that leave more than most of any weights.
LEFT = {COARSE: 1.0, "gptq-int2-g128": 0.7, "nanoquant-own": 0.8}


def calibration_of(columns: int) -> Calibration:
    return Calibration.of(np.random.default_rng(columns).standard_normal((columns + 20, columns)))


def weight_of(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng([rows, columns]).standard_normal((rows, columns))


def quantized(module: ModuleType, weight: np.ndarray, config: Any) -> Quantized:
    known = calibration_of(weight.shape[1]) if module.needs_calibration(config) else None
    result = module.quantize(weight, known, config)
    assert isinstance(result, Quantized)
    return result


def error(module: ModuleType, weight: np.ndarray, config: Any) -> float:
    stored = quantized(module, weight, config).dequantize()
    return float(np.sum((weight - stored) ** 2) / np.sum(weight**2))


def output_error(module: ModuleType, weight: np.ndarray, config: Any) -> float:
    """Of a calibrated method that on its calibration; errors of its blocks are pushed on, not made small."""
    wrong = weight - quantized(module, weight, config).dequantize()
    columns = weight.shape[1]
    known = calibration_of(columns).hessian if module.needs_calibration(config) else np.eye(columns)
    return float(np.trace(wrong @ known @ wrong.T) / np.trace(weight @ known @ weight.T))


def same(first: Quantized, second: Quantized) -> None:
    assert len(first.stages) == len(second.stages)
    for one, other in zip(first.stages, second.stages, strict=True):
        same_matrix(one, other)


def same_matrix(first: PackedMatrix, second: PackedMatrix) -> None:
    assert first.terms == second.terms
    assert (first.rows, first.columns, first.group) == (second.rows, second.columns, second.group)
    for name in {**first.planes, **second.planes}:
        np.testing.assert_array_equal(first.dense(name), second.dense(name))
        assert first.planes[name].role == second.planes[name].role
    for name in {**first.ints, **second.ints}:
        np.testing.assert_array_equal(first.ints[name].values, second.ints[name].values)
        assert first.ints[name].bits == second.ints[name].bits
    np.testing.assert_array_equal(first.exponent.values, second.exponent.values)


def test_the_family_holds_the_first_release() -> None:
    assert set(METHODS) >= {"billm", "rtn", "sign", "ternary"}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_says_where_it_comes_from_and_what_it_takes(method: str) -> None:
    module = family.load("algo.methods", method)
    assert "arXiv:" in module.SOURCE
    assert isinstance(module.needs_calibration(module.Config()), bool)
    assert all(name in catalog.ALL for name in module.FORMATS)
    assert module.Config.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(module.Config))
    if module.FORMATS:
        assert module.Config().format == module.FORMATS[0]
    assert module.quantize.__doc__
    assert "differs in:" in module.quantize.__doc__


@every_case
@pytest.mark.parametrize("columns", COLUMNS)
def test_any_width_is_quantized_stored_and_read_back(
    module: ModuleType, config: Any, columns: int, tmp_path: Path
) -> None:
    weight = weight_of(5, columns)
    kept = weight.copy()
    result = quantized(module, weight, config)
    np.testing.assert_array_equal(weight, kept)
    stored = result.dequantize()
    assert stored.shape == (5, columns)
    assert np.all(np.isfinite(stored))
    assert 0 < result.published_bits <= 8 * result.stored_bytes() / weight.size

    path = tmp_path / "m.safetensors"
    named = dict(zip(("layer", "more"), result.stages, strict=False))
    store.save(path, named, store.Provenance(method="m"))
    for name, read in store.load(path)[0].items():
        same_matrix(read, named[name])
        np.testing.assert_array_equal(dequantize(read), dequantize(named[name]))


@every_case
def test_storage_counts_the_bytes_that_are_written(module: ModuleType, config: Any, tmp_path: Path) -> None:
    from safetensors import safe_open

    result = quantized(module, weight_of(6, 200), config)
    total = 0
    for matrix in result.stages:
        path = tmp_path / "m.safetensors"
        store.save(path, {"layer": matrix}, store.Provenance(method="m"))
        with safe_open(path, framework="numpy") as file:
            sizes = {key.removeprefix("layer/"): file.get_tensor(key).nbytes for key in file.keys()}  # noqa: SIM118
        assert stored_bytes(matrix) == sizes
        assert bits_per_weight(matrix) == 8 * sum(sizes.values()) / (matrix.rows * matrix.columns)
        assert math.isclose(sum(breakdown(matrix).values()), bits_per_weight(matrix))
        total += sum(sizes.values())
    assert result.stored_bytes() == total


@every_case
def test_the_same_input_gives_the_same_planes(module: ModuleType, config: Any) -> None:
    weight = weight_of(7, 200)
    same(quantized(module, weight, config), quantized(module, weight, config))


@every_case
@pytest.mark.parametrize("columns", COLUMNS)
def test_one_row_is_a_matrix(module: ModuleType, config: Any, columns: int) -> None:
    stored = quantized(module, weight_of(1, columns), config).dequantize()
    assert stored.shape == (1, columns)
    assert np.all(np.isfinite(stored))


@every_case
def test_rows_of_zeros_stay_zero_and_spoil_no_other_row(
    module: ModuleType, config: Any, request: pytest.FixtureRequest
) -> None:
    if module.__name__.endswith(UNITS):
        pytest.skip("no unit is 0")
    weight = weight_of(6, 200)
    weight[[0, 3]] = 0
    stored = quantized(module, weight, config).dequantize()
    assert not np.any(stored[[0, 3]])
    left = LEFT.get(request.node.callspec.id, 0.6)
    assert np.sum((weight - stored) ** 2) < left * np.sum(weight**2)
    assert not np.any(quantized(module, np.zeros((3, 200)), config).dequantize())


@every_case
def test_a_group_of_zeros_stays_zero_and_does_not_coarsen_its_row(module: ModuleType, config: Any) -> None:
    if module.__name__.endswith(UNITS):
        pytest.skip("no unit is 0")
    weight = 1e-4 * weight_of(4, 256)
    expected = error(module, weight[:, :128], config)
    weight[:, 128:] = 0
    stored = quantized(module, weight, config).dequantize()
    if not module.needs_calibration(config):  # compensation moves errors of the first block there
        assert not np.any(stored[:, 128:])
        assert error(module, weight, config) == pytest.approx(expected, rel=0.05, abs=1e-6)
    assert np.all(np.isfinite(stored))


@every_case
@pytest.mark.parametrize("value", [0.37, -2.5])
def test_constant_rows_are_kept_up_to_the_rounding_of_one_scale(
    module: ModuleType, config: Any, value: float
) -> None:
    if module.__name__.endswith(SPARSE):
        pytest.skip("a pruned weight is 0, not the row's constant")
    if module.__name__.endswith(UNITS):
        pytest.skip("equal parts are no real form of one algebra")
    weight = np.full((3, 200), value)
    # fp16 keeps a scale to 2^-11 of itself; a grid with room for half as much again, to 1.5 of its last bit.
    step = 1.5 * 2.0 ** (1 - getattr(config, "scale_bits", 16))
    assert error(module, weight, config) < max(2.0**-21, step**2)


@every_case
def test_tiny_magnitudes_lose_little_more_than_ordinary_ones(module: ModuleType, config: Any) -> None:
    weight = weight_of(6, 200)
    # fp16 ends at 2^-24 = 6e-8: scales near 1e-6 keep a few bits, and none may vanish.
    assert output_error(module, 1e-6 * weight, config) < 1.5 * output_error(module, weight, config) + 1e-3


@every_case
def test_a_scale_of_two_to_a_power_changes_the_result_by_that_power(module: ModuleType, config: Any) -> None:
    weight = weight_of(5, 130)
    np.testing.assert_array_equal(
        quantized(module, 0.25 * weight, config).dequantize(),
        0.25 * quantized(module, weight, config).dequantize(),
    )


@grouped_case
def test_smaller_groups_follow_the_weights_closer(module: ModuleType, config: Any) -> None:
    # Every row has sizes of its own: no factor of a column can follow them.
    sizes = np.random.default_rng(0).permuted(np.tile([1.0, 5.0, 0.2, 3.0, 1.0, 0.5], (8, 1)), axis=1)
    weight = weight_of(8, 288) * np.repeat(sizes, 48, axis=1)
    smaller = dataclasses.replace(config, group=48)  # a multiple of 8, as N:M masks need it
    assert output_error(module, weight, smaller) < output_error(module, weight, config)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), r"^weight must have two axes \[rows, columns\], not shape \[3\]$"),
        (np.ones((2, 3, 4)), r"^weight must have two axes \[rows, columns\], not shape \[2, 3, 4\]$"),
        (np.ones((0, 4)), r"^weight must have at least one row and one column, not shape \[0, 4\]$"),
        (np.ones((4, 0)), r"^weight must have at least one row and one column, not shape \[4, 0\]$"),
        (np.full((2, 3), np.nan), "^weight must be finite, not NaN or infinity$"),
        (np.full((2, 3), np.inf), "^weight must be finite, not NaN or infinity$"),
    ],
)
def test_what_is_no_weight_is_refused(method: str, weight: np.ndarray, message: str) -> None:
    module = family.load("algo.methods", method)
    with pytest.raises(ValueError, match=message):
        module.quantize(weight, Calibration.of(np.eye(3)), module.Config())


@pytest.mark.parametrize(
    "method", [m for m in METHODS if hasattr(family.load("algo.methods", m).Config(), "group")]
)
def test_a_group_of_no_columns_is_refused(method: str) -> None:
    module = family.load("algo.methods", method)
    with pytest.raises(ValueError, match=r"^group must be at least 1, not 0$"):
        module.Config(group=0)
    with pytest.raises(ValueError, match=r"^group must be at least 1, not -128$"):
        module.Config(group=-128)
    with pytest.raises(TypeError, match=r"^group must be an integer, not '64'$"):
        module.Config(group="64")


@pytest.mark.parametrize("method", [m for m in METHODS if family.load("algo.methods", m).FORMATS])
def test_a_format_the_method_does_not_take_is_refused_with_those_it_takes(method: str) -> None:
    module = family.load("algo.methods", method)
    listed = ", ".join(module.FORMATS)
    with pytest.raises(ValueError, match=f"^format must be one of {listed}, not 'fp4'$"):
        module.Config(format="fp4")


def test_formats_of_another_kind_are_not_offered() -> None:
    offered = {m: set(family.load("algo.methods", m).FORMATS) for m in ("rtn", "sign", "ternary")}
    assert offered["rtn"] >= {"int8-g128", "int4-g128", "int3-g128", "int2-g128"}
    assert "sign-g128" in offered["sign"]
    assert "ternary-g128" in offered["ternary"]
    assert not offered["rtn"] & offered["sign"]
    assert not offered["rtn"] & offered["ternary"]
    assert not offered["sign"] & offered["ternary"]
