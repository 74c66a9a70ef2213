"""Block formats: printed vectors, a slow reference for every format, the file and back, engines, GPTQ."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.bitplane import store
from algo.bitplane.activations import Activations, quantize_activations
from algo.bitplane.decode import dequantize, integer_sums
from algo.bitplane.format import Format
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.storage import bits_per_weight, breakdown, stored_bytes
from algo.formats import blocks, catalog, scaling
from algo.formats.quantized import Calibration
from algo.methods import gptq, rtn

#: Of the grammar, beside the published ones: every scale, floats of every exponent width.
NAMED = (
    "e4m3-row", "e3m4-g48", "e1m2-g16", "e3m0-g32", "e2m5-g64-bf16", "e4m3-g128-fp32-rha", "e2m1-g16-ue5m3",
    "sint2-g32", "sint4-row", "sint8-g128-e8m0", "sint3full-g40-rtl", "sint6-row-fp32", "e3m2-g32-e8m0-mse",
)  # fmt: skip
EVERY = (*blocks.ALL, *NAMED)


def db(weight: np.ndarray, stored: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(weight**2) / np.sum((weight - stored) ** 2)))


def stored(weight: np.ndarray, name: str) -> np.ndarray:
    return rtn.quantize(weight, config=rtn.Config(format=name)).dequantize()


X = (np.arange(32) - 15.5) / 4
X[5] = 7.3
A = np.arange(32) - 16
MX = [
    ("mxfp4", 0.095293, 18.520, 587.0),
    ("mxfp4-ceil", 0.089043, 18.815, 567.0),
    ("mxfp6-e2m3", 0.008574, 28.979, 573.0),
    ("mxfp6-e3m2", 0.014043, 26.836, 579.0),
    ("mxfp8-e4m3", 0.010137, 28.252, 578.5),
    ("mxint8", 0.000005, 61.424, 572.6875),
    ("mxint4", 0.076543, 19.472, 578.0),
    ("nvfp4", 0.058347, 20.651, 573.4845238),
    ("nvint4", 0.052908, 21.076, 567.9846939),
]


@pytest.mark.parametrize(("name", "error", "decibels", "product"), MX)
def test_one_block_of_each_standard_format_is_the_printed_vector(
    name: str, error: float, decibels: float, product: float
) -> None:
    found = stored(X[None], name)[0]
    assert np.mean((X - found) ** 2) == pytest.approx(error, abs=5e-7)
    assert db(X, found) == pytest.approx(decibels, abs=5e-4)
    # 7.3 as float32 and the factor of the matrix as float32: two roundings of 2**-24.
    assert found @ A == pytest.approx(product, rel=1e-7)


def integers(name: str) -> tuple[np.ndarray, PackedMatrix]:
    matrix = rtn.quantize(X[None], config=rtn.Config(format=name)).matrix
    scale = np.ldexp(matrix.ints["scale"].values.astype(float), matrix.exponent.values)
    row = 1.0 if matrix.row is None else float(matrix.row[0])
    return np.rint(dequantize(matrix)[0] / (scale[0] * row)[matrix.group_of]).astype(int), matrix


def plain(values: np.ndarray) -> Activations:
    return Activations(values=values[None], bits=8, scale=np.ones(1, np.float32))


def test_codes_and_scales_of_the_printed_vectors() -> None:
    halves = [-4, -4, -3, -3, -3, 6, -2, -2, -2, -1.5, -1.5, -1, -1, -0.5, -0.5, 0]
    halves += [0, 0.5, 0.5, 1, 1, 1.5, 1.5, 2, 2, 2, 3, 3, 3, 3, 4, 4]
    found, _ = integers("mxfp4")
    assert (found / 2).tolist() == halves
    found, matrix = integers("mxint8")
    expected = 4 * np.arange(32) - 62
    expected[5] = 117
    assert found.tolist() == expected.tolist()
    assert int(matrix.exponent.values[0, 0]) == -4
    found, matrix = integers("nvfp4")
    nv = [-3, -3, -3, -3, -2, 6, -2, -1.5, -1.5, -1.5, -1, -1, -0.5, -0.5, -0.5, 0]
    nv += [0, 0.5, 1, 1.5, 1.5, 2, 2, 3, 3, 4, 4, 4, 4, 6, 6, 6]
    assert (found / 2).tolist() == nv
    assert matrix.ints["scale"].values.tolist() == [[229_376, 122_880]]
    assert matrix.row is not None
    assert float(matrix.row[0]) == pytest.approx(0.00271577381, rel=1e-7)
    assert [int(found[:16] @ A[:16]), int(found[16:] @ A[16:])] == [407, 1000]
    assert integer_sums(matrix, [plain(A)]).tolist() == [[[216_236_032]]]
    found, matrix = integers("nvint4")
    assert [int(found[:16] @ A[:16]), int(found[16:] @ A[16:])] == [235, 578]
    assert integer_sums(matrix, [plain(A)]).tolist() == [[[124_928_000]]]
    assert float(matrix.row[0]) == pytest.approx(0.00232780612, rel=1e-7)  # type: ignore[index]


def test_four_thirds_lands_the_largest_in_3_to_6_and_mse_is_the_best_of_four() -> None:
    weight = np.random.default_rng(0).standard_normal((40, 320))
    matrix = rtn.quantize(weight, config=rtn.Config(format="mxfp4-four_thirds")).matrix
    assert matrix.row is not None
    scale = (
        np.ldexp(matrix.ints["scale"].values.astype(float), matrix.exponent.values + 1) * matrix.row[:, None]
    )
    peak = np.abs(weight).reshape(40, 10, 32).max(axis=2) / scale
    assert 3 - 1e-6 <= peak.min() <= peak.max() < 6
    errors = {}
    for rule in ("", "-ceil", "-mse"):
        off = (weight - stored(weight, "mxfp4" + rule)) ** 2
        errors[rule] = off.reshape(40, 10, 32).sum(axis=2)
    assert np.all(errors["-mse"] <= errors[""] * (1 + 1e-12))
    assert np.all(errors["-mse"] <= errors["-ceil"] * (1 + 1e-12))
    assert all(np.any(errors["-mse"] < errors[rule]) for rule in ("", "-ceil"))


#: Decibels on 2**18 normal numbers in rows of 4096, as printed, and how far a sample may be off.
NORMAL = [
    ("sint4-g128", 18.59), ("fp4-g128", 19.25), ("bitmod4er-g128", 20.02), ("bitmod4ea-g128", 19.38),
    ("bitmod4-g128", 20.18), ("ant4-g128", 18.77), ("int4-g128", 19.94), ("sint3-g128", 11.22),
    ("int3-g128", 13.32), ("fp3-g128", 12.43), ("bitmod3-g128", 14.19), ("e2m1-g64", 19.518),
    ("sint4-g64", 19.333), ("nf4-g64", 20.705), ("bnb_fp4-g64", 18.271), ("e3m2-row", 25.54),
    ("e2m3-row", 30.90), ("sint6-row", 28.98), ("sint4-row", 16.04), ("sint5-row", 22.68), ("fp6-row", 25.54),
    ("mxint8-ceil", 41.62), ("mxfp8-e4m3-ceil", 31.53), ("mxint6-ceil", 29.40), ("mxfp6-e2m3-ceil", 30.95),
    ("mxint4-ceil", 16.80), ("mxfp4-ceil", 18.71), ("nvint4", 21.27), ("nvfp4", 20.41),
]  # fmt: skip


@pytest.fixture(scope="module")
def normal() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((64, 4096))


@pytest.mark.parametrize(("name", "decibels"), NORMAL)
def test_normal_weights_are_kept_as_well_as_printed(normal: np.ndarray, name: str, decibels: float) -> None:
    # One scale a row has 64 samples of a maximum here: the mean moves by more.
    assert db(normal, stored(normal, name)) == pytest.approx(decibels, abs=0.35 if "row" in name else 0.06)


LAPLACE = [
    ("sint4-g128", 15.92), ("int4-g128", 17.70), ("fp4-g128", 18.35), ("bitmod4er-g128", 18.87),
    ("bitmod4ea-g128", 19.03), ("bitmod4-g128", 19.44), ("ant4-g128", 17.35), ("sint3-g128", 8.98),
    ("int3-g128", 11.28), ("fp3-g128", 10.67), ("bitmod3-g128", 12.98),
]  # fmt: skip


@pytest.mark.parametrize(("name", "decibels"), LAPLACE)
def test_laplace_weights_are_kept_as_well_as_printed(name: str, decibels: float) -> None:
    weight = np.random.default_rng(1).laplace(size=(64, 4096))
    assert db(weight, stored(weight, name)) == pytest.approx(decibels, abs=0.12)


def test_only_ue5m3_reaches_small_weights_without_a_factor_of_the_matrix() -> None:
    weight = np.random.default_rng(0).standard_normal((32, 2048))
    found = {
        (name, sigma): db(sigma * weight, stored(sigma * weight, f"nvfp4-{name}"))
        for name in ("ue4m3", "ue5m3")
        for sigma in (1e-2, 1e-3, 1e-4, 1e-5)
    }
    assert found["ue4m3", 1e-2] == pytest.approx(17.91, abs=0.15)
    assert all(found["ue4m3", sigma] < 0.5 for sigma in (1e-3, 1e-4, 1e-5))
    printed = {1e-2: 20.4, 1e-3: 20.4, 1e-4: 20.1, 1e-5: 2.2}
    assert all(found["ue5m3", s] == pytest.approx(d, abs=0.25) for s, d in printed.items())


def test_scales_of_square_tiles_quantize_the_transpose_to_the_transpose() -> None:
    weight = np.random.default_rng(0).standard_normal((70, 45))
    np.testing.assert_array_equal(stored(weight, "nvfp4-2d").T, stored(weight.T, "nvfp4-2d"))
    assert np.any(stored(weight.T, "nvfp4") != stored(weight, "nvfp4").T)


def test_symmetric_clipping_has_no_bias_and_the_full_range_has_one() -> None:
    half = np.random.default_rng(0).standard_normal((200, 320)).astype(np.float32)
    # A scale of bfloat16 may be too small for its largest weight: 127.5 and beyond.
    weight = np.concatenate([half, -half]).astype(float)
    means = {}
    for name in ("sint8-g32-bf16", "sint8full-g32-bf16"):
        fmt = blocks.get(name)
        scales = scaling.fit(weight, fmt)
        digits = np.rint(stored(weight, name) / np.repeat(scales.worth, 32, axis=1)[:, :320])
        means[name] = digits.mean(), digits.min(), digits.max()
    assert means["sint8-g32-bf16"] == (0, -127, 127)
    assert means["sint8full-g32-bf16"][1:] == (-128, 127)
    assert means["sint8full-g32-bf16"][0] < 0


def reference(weight: np.ndarray, matrix: PackedMatrix, fmt: Format) -> np.ndarray:
    """Each weight's nearest value of its group's stored grid, and how far off it may be: by a search."""
    out = np.empty(weight.shape)
    scale = np.ldexp(matrix.ints["scale"].values.astype(float), matrix.exponent.values)
    row = np.ones(len(weight)) if matrix.row is None else matrix.row.astype(float)
    tables = [np.array(sorted({v for v in t if v is not None})) for t in fmt.tables]
    chosen = sum(
        (matrix.planes[f"index{p}"].bits.astype(int) << p for p in range(fmt.index_bits)),  # type: ignore[union-attr]
        np.zeros((len(weight), matrix.groups), int),
    )
    for r in range(len(weight)):
        for c in range(weight.shape[1]):
            g = c // matrix.group
            values = tables[chosen[r, g]] * (scale[r, g] * row[r])
            out[r, c] = values[np.argmin(np.abs(values - weight[r, c]))]
    return out


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(EVERY),
    rows=st.integers(1, 5),
    columns=st.integers(1, 140),
    seed=st.integers(0, 9999),
)
def test_every_weight_becomes_the_nearest_value_of_its_groups_grid(
    name: str, rows: int, columns: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((rows, columns)) * 0.02).astype(np.float32).astype(float)
    weight[rng.random(weight.shape) < 0.05] = 0
    fmt = blocks.get(name)
    matrix = rtn.quantize(weight, config=rtn.Config(format=name)).matrix
    expected = reference(weight, matrix, fmt)
    found = dequantize(matrix)
    # A tie may go either way, and float32 division makes ties of what is near one.
    off, least = np.abs(found - weight), np.abs(expected - weight)
    assert np.all(off <= least + 2.0**-22 * np.abs(weight) + 1e-300)


@pytest.mark.parametrize("name", EVERY)
def test_every_format_goes_to_the_file_and_back(name: str, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((37, 131))
    result = rtn.quantize(weight, config=rtn.Config(format=name))
    path = tmp_path / "m.safetensors"
    store.save(path, {"w": result.matrix}, store.Provenance(method="rtn"))
    read = store.load(path)[0]["w"]
    np.testing.assert_array_equal(dequantize(read), result.dequantize())
    assert stored_bytes(read) == stored_bytes(result.matrix)
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        sizes = {key.removeprefix("w/"): file.get_tensor(key).nbytes for key in file.keys()}  # noqa: SIM118
    assert sizes == stored_bytes(read)
    assert sum(breakdown(read).values()) == pytest.approx(bits_per_weight(read))


@pytest.mark.parametrize("name", EVERY)
def test_engines_agree_on_every_format(name: str) -> None:
    from sim.engines import ENGINES

    rng = np.random.default_rng(0)
    weight = 0.02 * rng.standard_normal((9, 131))
    matrix = rtn.quantize(weight, config=rtn.Config(format=name)).matrix
    acts = [quantize_activations(rng.standard_normal((3, 131)), 8)]
    expected = integer_sums(matrix, acts)
    for engine in ("torch", "numba"):
        np.testing.assert_array_equal(ENGINES[engine](matrix, acts), expected)


@pytest.mark.parametrize("name", EVERY)
def test_whole_groups_and_words_store_what_is_published(name: str) -> None:
    fmt = blocks.get(name)
    rows, columns = 256, 6144 if "48" in name or "40" in name else 4096
    weight = 0.02 * np.random.default_rng(0).standard_normal((rows, columns), dtype=np.float32)
    if "40" in name:
        weight = np.ascontiguousarray(weight[:, :5120])
    matrix = rtn.quantize(weight, config=rtn.Config(format=name)).matrix  # type: ignore[arg-type]
    # Beyond the formula: of a row an exponent of 16 bits, a real factor of 32, a scale of 32.
    over = bits_per_weight(matrix) - fmt.published_bits
    assert 0 <= over <= (16 + 32 + (32 if fmt.group > columns else 0)) / matrix.columns + 1e-3


@pytest.mark.parametrize("name", EVERY)
def test_zeros_stay_zeros(name: str) -> None:
    weight = np.random.default_rng(0).standard_normal((20, 200))
    weight[[0, 3]] = 0
    weight[:, 128:192] = 0
    found = stored(weight, name)
    assert not np.any(found[[0, 3]])
    assert not np.any(found[:, 128:192])
    assert not np.any(stored(np.zeros((3, 70)), name))


def test_scales_too_far_apart_for_a_row_are_refused() -> None:
    weight = np.ones((1, 64))
    weight[0, 32:] = 2.0**-40
    message = "e8m0 scales of a row must lie within 2**31 of each other, not 2**40"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        stored(weight, "mxfp4")
    weight[0, 32:] = 2.0**-20
    np.testing.assert_array_equal(stored(weight, "mxfp4"), weight)


def test_what_is_too_small_for_a_factor_of_float32_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^weight must be above float32's smallest, not at most 1e-45$"):
        stored(np.full((1, 3), 1e-45), "nvfp4")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mxfp8-e5m2", "planes must be at most 24 for mxfp8-e5m2 unless allow_wide is set, not 33"),
        ("e5m1-row", "planes must be at most 24 for e5m1-row unless allow_wide is set, not 33"),
    ],
)
def test_wide_formats_are_refused_unless_asked_for(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        rtn.Config(format=name)
    weight = 0.02 * np.random.default_rng(0).standard_normal((5, 70))
    matrix = rtn.quantize(weight, config=rtn.Config(format=name, allow_wide=True)).matrix
    assert len(matrix.terms[0].coefs) == 33
    assert db(weight, dequantize(matrix)) > 18
    acts = [quantize_activations(weight[:2], 8)]
    from sim.engines import ENGINES

    np.testing.assert_array_equal(ENGINES["torch"](matrix, acts), ENGINES["numba"](matrix, acts))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("e2m1-g32-fp16-ceil", "rule must be absmax for scale fp16, not 'ceil'"),
        ("e2m1-g32-e8m0-absmax", "rule must be floor, ceil, four_thirds or mse for scale e8m0, not 'absmax'"),
        ("e9m9-g32", "minifloat must have an exponent bit and 3 to 8 bits, not e9m9"),
    ],
)
def test_names_that_make_no_format_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        blocks.get(name)
    assert not blocks.is_name(name)


def test_the_catalog_finds_block_formats_and_lists_none_that_are_not() -> None:
    assert catalog.get("nvfp4") is blocks.ALL["nvfp4"]
    assert catalog.get("e3m2-row").group > 1 << 20
    assert all(name == fmt.name and fmt.source for name, fmt in blocks.ALL.items())
    assert all(name in rtn.FORMATS for name in EVERY)
    assert "e2m1-g32-sr" in rtn.FORMATS
    assert "e2m1-g32-sr" not in gptq.FORMATS
    assert "mxfp5" not in rtn.FORMATS
    assert 7 not in rtn.FORMATS
    with pytest.raises(ValueError, match=r"^format must be one of mxfp8-e4m3, .*, not 'mxfp5'$"):
        blocks.get("mxfp5")
    with pytest.raises(ValueError, match=r"^bits must be 4 for format mxfp4, not 3$"):
        rtn.Config(format="mxfp4", bits=3)


def test_stochastic_rounding_follows_its_seed_and_keeps_the_mean() -> None:
    weight = np.full((64, 320), 0.023)
    weight[:, ::32] = 0.06

    def made(seed: int) -> np.ndarray:
        config = rtn.Config(format="e2m1-g32-fp32-sr", seed=seed)
        return rtn.quantize(weight, config=config).dequantize()

    np.testing.assert_array_equal(made(0), made(0))
    assert np.any(made(0) != made(1))
    inner = weight < 0.05
    # 0.02 or 0.03 with variance 0.21e-4 over 19840 weights
    assert made(0)[inner].mean() == pytest.approx(0.023, abs=5 * np.sqrt(0.21e-4 / inner.sum()))


GPTQ = [name for name in EVERY if name in gptq.FORMATS]


@pytest.fixture(scope="module")
def layer() -> tuple[np.ndarray, Calibration, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 130)) @ rng.standard_normal((130, 130))
    return rng.standard_normal((24, 130)), Calibration.of(x), x


@pytest.mark.parametrize("name", GPTQ)
def test_gptq_keeps_outputs_better_than_rounding_in_every_format(
    layer: tuple[np.ndarray, Calibration, np.ndarray], name: str
) -> None:
    weight, known, x = layer
    result = gptq.quantize(weight, known, gptq.Config(format=name))
    found = result.dequantize()

    def lost(values: np.ndarray) -> float:
        return float(np.sum((x @ (weight - values).T) ** 2))

    assert lost(found) < lost(stored(weight, name))
    hessian = known.hessian + 0.01 * np.mean(np.diagonal(known.hessian)) * np.eye(130)
    off = weight - found
    assert result.notes["loss"] == pytest.approx(np.sum(off @ hessian * off), rel=1e-9)


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4-2d", "bitmod4-g128", "nf4-g64-dq"])
def test_gptq_without_correlation_is_rounding_to_nearest(name: str) -> None:
    weight = np.random.default_rng(0).standard_normal((33, 200)).astype(np.float32).astype(float)
    known = Calibration(np.eye(200), np.ones(200))
    found = gptq.quantize(weight, known, gptq.Config(format=name)).dequantize()
    np.testing.assert_array_equal(found, stored(weight, name))


def test_gptq_crosses_blocks_and_groups_that_are_no_multiples_of_each_other() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((700, 300)) @ rng.standard_normal((300, 300))
    weight, known = rng.standard_normal((6, 300)), Calibration.of(x)
    result = gptq.quantize(weight, known, gptq.Config(format="e2m1-g100"))
    hessian = known.hessian + 0.01 * np.mean(np.diagonal(known.hessian)) * np.eye(300)
    off = weight - result.dequantize()
    assert result.notes["loss"] == pytest.approx(np.sum(off @ hessian * off), rel=1e-9)
