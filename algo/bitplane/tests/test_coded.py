"""Integers behind codes, and planes of a bit per group: what is stored, and that it comes back."""

from __future__ import annotations

import json
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from algo.bitplane import rows, store, words
from algo.bitplane.build import coded_scales, from_digits
from algo.bitplane.decode import dequantize
from algo.bitplane.format import Digit, Format
from algo.bitplane.ints import Coding, Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import PerGroup, Plane


def fmt(**changes: object) -> Format:
    table = (0, 1, 2, 3, None, -3, -2, -1)
    given_: dict[str, object] = {
        "name": "t", "digit": Digit.UNIPOLAR, "coefs": (1, 2, -4), "group": 16, "published_bits": 3.0,
        "source": "test", "tables": (table,),
    }  # fmt: skip
    return Format(**(given_ | changes))  # type: ignore[arg-type]


def values_of(kind: str, size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, Coding]:
    if kind == "affine":
        steps = rng.integers(0, 1000, -(-size[0] * size[1] // 256))
        coding = Coding(kind, steps=steps, offset=int(rng.integers(-99, 10**6)))
        codes = rng.integers(-127, 128, size)
    else:
        coding, codes = Coding(kind), rng.integers(0, 30, size)
    return coding.mantissas(codes), coding


@settings(deadline=None)
@given(
    kind=st.sampled_from(["power", "ue4m3", "ue5m3", "affine"]),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 20)),
    seed=st.integers(0, 999),
)
def test_mantissas_come_back_from_their_codes(kind: str, shape: tuple[int, int], seed: int) -> None:
    values, coding = values_of(kind, shape, np.random.default_rng(seed))
    ints = Ints.coded(values, coding)
    stream = ints.stream()
    reals = -(-values.size // 256) + 1 if kind == "affine" else 0
    assert len(stream) == ints.nbytes == values.size + 4 * reals
    assert ints.stored_bits == 8 * ints.nbytes / values.size
    back = Ints.from_stream(stream, shape, ints.bits, ints.signed, Coding(kind))
    np.testing.assert_array_equal(back.values, values)


def test_codes_of_floats_are_those_of_ml_dtypes() -> None:
    codes = np.arange(127)
    real = codes.astype(np.uint8).view(ml_dtypes.float8_e4m3fn).astype(float)
    np.testing.assert_array_equal(Coding("ue4m3").mantissas(codes[None])[0], real * 512)
    wide = Coding("ue5m3").mantissas(np.arange(255)[None])[0]
    assert wide[:10].tolist() == list(range(10))
    assert np.ldexp(float(wide[-1]), -17) == 114_688
    assert np.ldexp(float(wide[8]), -17) == 2.0**-14


def test_a_row_of_codes_serves_a_tile_of_rows() -> None:
    values = np.repeat(np.array([[1, 2], [4, 8], [16, 1]]), 16, axis=0)[:37]
    ints = Ints.coded(values, Coding("power", tile=16))
    assert ints.nbytes == 6
    back = Ints.from_stream(ints.stream(), (37, 2), ints.bits, False, Coding("power", tile=16))
    np.testing.assert_array_equal(back.values, values)
    values[3, 1] = 4
    with pytest.raises(ValueError, match=r"^values must be equal in every 16 rows, and are not$"):
        Ints.coded(values, Coding("power", tile=16))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Coding("e9"), "coding must be one of power, ue4m3, ue5m3, affine, not 'e9'"),
        (lambda: Coding("power", tile=0), "tile must be at least 1, not 0"),
        (lambda: Coding("power", span=0), "span must be at least 1, not 0"),
        (lambda: Ints.coded(np.array([[3]]), Coding("power")), "values must have a power code, not 3"),
        (lambda: Ints.coded(np.array([[17]]), Coding("ue4m3")), "values must have a ue4m3 code, not 17"),
        (
            lambda: Ints.coded(np.array([[4]]), Coding("affine", steps=np.array([2]), offset=1)),
            "values must have a affine code, not 4",
        ),
        (lambda: Coding("ue4m3").mantissas(np.array([[127]])), "codes must be below 127 for ue4m3, not 127"),
        (
            lambda: Ints.from_stream(np.zeros(3, np.uint8), (2, 2), 4, False, Coding("power")),
            "stream must be 4 bytes for (2, 2) of 8 bits, not 3",
        ),
    ],
)
def test_what_has_no_code_is_refused(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


@given(rows_=st.integers(1, 5), groups=st.integers(1, 9), group=st.integers(1, 70), seed=st.integers(0, 99))
def test_group_bits_are_read_by_all_columns_of_their_group(
    rows_: int, groups: int, group: int, seed: int
) -> None:
    bits = np.random.default_rng(seed).random((rows_, groups)) < 0.5
    plane = PerGroup(bits)
    assert plane.nbytes == len(plane.stream()) == -(-bits.size // 8)
    np.testing.assert_array_equal(PerGroup.from_stream(plane.stream(), bits.shape, "indices").bits, bits)
    columns = groups * group - group // 2
    np.testing.assert_array_equal(
        words.unpack(plane.spread(columns, group), columns), np.repeat(bits, group, axis=1)[:, :columns]
    )


def test_group_bits_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^bits must be boolean of two axes, not int64 \(2,\)$"):
        PerGroup(np.zeros(2, np.int64))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^stream must be 2 bytes for \(3, 5\) bits, not 1$"):
        PerGroup.from_stream(np.zeros(1, np.uint8), (3, 5), "indices")
    with pytest.raises(ValueError, match=r"^index must have shape \[2 or 1, 3\], not \[2, 4\]$"):
        grouped(np.zeros((2, 4), np.bool_))


def grouped(bits: np.ndarray) -> PackedMatrix:
    """Two rows of 40 columns in groups of 16: the digit is 1 where its group's bit says so."""
    one = Ints(np.ones((2, 3), np.int64), 2, False)
    return PackedMatrix(
        rows=2, columns=40, group=16,
        terms=(Term(planes=("a & index",), coefs=(1,), digit=Digit.UNIPOLAR, scale="scale"),),
        planes={"a": Plane(words.pack(np.ones((2, 40), np.bool_))), "index": PerGroup(bits)},
        ints={"scale": one}, exponent=Ints(np.zeros((1, 1), np.int64), 4, True),
    )  # fmt: skip


def test_a_plane_of_group_bits_is_stored_read_and_split_by_rows(tmp_path: Path) -> None:
    bits = np.array([[True, False, True], [False, True, True]])
    matrix = grouped(bits)
    expected = np.repeat(bits, 16, axis=1)[:, :40].astype(float)
    np.testing.assert_array_equal(dequantize(matrix), expected)
    store.save(tmp_path / "m", {"w": matrix}, store.Provenance(method="m"))
    np.testing.assert_array_equal(dequantize(store.load(tmp_path / "m")[0]["w"]), expected)
    parts = [part for _, part in rows.split(matrix)]
    np.testing.assert_array_equal(np.concatenate([dequantize(part) for part in parts]), expected)


@pytest.mark.parametrize("schema", ["planeforge.packed/2", "planeforge.packed/3"])
def test_files_of_the_versions_before_are_read(tmp_path: Path, schema: str) -> None:
    matrix = from_digits(fmt(), np.ones((3, 70), np.int64), np.ones((3, 5)))
    store.save(tmp_path / "m", {"w": matrix}, store.Provenance(method="m"))
    with safe_open(tmp_path / "m", framework="numpy") as file:
        header = json.loads(file.metadata()["planeforge"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert header["schema"] == "planeforge.packed/4"
    header["schema"] = schema
    del header["matrices"]["w"]["rotate"]
    save_file(tensors, tmp_path / "old", metadata={"planeforge": json.dumps(header)})
    np.testing.assert_array_equal(dequantize(store.load(tmp_path / "old")[0]["w"]), np.ones((3, 70)))


def test_coded_blocks_of_rows_are_not_put_together() -> None:
    matrix = from_digits(fmt(scale="e8m0", rule="ceil"), np.ones((3, 16), np.int64), np.ones((3, 1)))
    with pytest.raises(ValueError, match=r"^parts must hold their integers as they are, and have codes"):
        rows.stacked([matrix, matrix])


@pytest.mark.parametrize("scale", ["e8m0", "ue4m3", "ue5m3"])
def test_digits_under_coded_scales_take_eight_bits_a_group(scale: str) -> None:
    rng = np.random.default_rng(0)
    digits = rng.integers(-3, 4, (5, 48))
    real = np.ldexp(1.0, rng.integers(-6, 6, (5, 3)))
    matrix = from_digits(fmt(scale=scale, unit=-2), digits, real)
    np.testing.assert_array_equal(dequantize(matrix), digits * np.repeat(real, 16, axis=1) / 4)
    assert matrix.ints["scale"].nbytes == 15
    assert set(matrix.planes) == {"code0", "code1", "code2"}


def test_powers_far_apart_have_an_exponent_a_row_and_near_ones_share_it() -> None:
    near, exponent = coded_scales(fmt(scale="e8m0"), np.array([[1.0, 2.0**14], [4.0, 0.0]]))
    assert exponent.values.shape == (1, 1)
    assert near.values.tolist() == [[1, 2**14], [4, 1]]
    far, exponent = coded_scales(fmt(scale="e8m0"), np.array([[1.0, 2.0], [2.0**40, 0.0]]), unit=-1)
    assert exponent.values.tolist() == [[-1], [39]]
    assert far.values.tolist() == [[1, 2], [1, 1]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tables": ((0, 1, 2),)},
            "tables must be a power of two, each of one size that is one, not sizes [3]",
        ),
        (
            {"tables": ((0, 1),) * 3},
            "tables must be a power of two, each of one size that is one, not sizes [2]",
        ),
        ({"coefs": (1, 2)}, "coefs must be (1, 2, -4) for these tables, without zero, not (1, 2)"),
        ({"tile": 0}, "tile must be at least 1, not 0"),
        ({"rule": "big"}, "rule must be one of absmax, floor, ceil, four_thirds, mse, not 'big'"),
        (
            {"coefs": tuple(1 << p for p in range(25)), "tables": ()},
            "planes must be at most 24 for t unless allow_wide is set, not 25",
        ),
    ],
)
def test_impossible_formats_of_tables_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fmt(**changes)


def test_bits_of_several_tables_are_for_who_knows_the_table() -> None:
    two = fmt(tables=((0, 1, 2, 3, None, -3, -2, -1),) * 2)
    with pytest.raises(ValueError, match=r"^format must have one table, not the 2 of t$"):
        two.bits([0])
    assert (two.index_bits, two.code_bits, len(two.values())) == (1, 3, 14)
