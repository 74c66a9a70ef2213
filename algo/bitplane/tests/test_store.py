"""The file: everything comes back, every byte is counted, every damage is named."""

import json
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from safetensors import safe_open
from safetensors.numpy import save_file

from algo.bitplane import decode, storage, store
from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit, Format
from algo.bitplane.planes import ROLES
from algo.bitplane.tests.strategies import matrices

INT2 = Format(
    name="int2", digit=Digit.UNIPOLAR, coefs=(1, 2), group=64, zero=True, published_bits=2.0, source="test"
)
MADE = store.Provenance(method="test", config={"group": 64}, seed=3, sources={"w": "ab"}, published_bits=2.0)


def small():
    rng = np.random.default_rng(0)
    return from_digits(INT2, rng.integers(0, 4, (3, 70)), rng.random((3, 2)), rng.integers(0, 4, (3, 2)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(matrices())
def test_a_matrix_comes_back_from_its_file_to_the_last_bit(tmp_path, matrix):
    store.save(tmp_path / "m.safetensors", {"w": matrix}, MADE)
    loaded, provenance = store.load(tmp_path / "m.safetensors")
    assert provenance == MADE
    assert loaded["w"].terms == matrix.terms
    np.testing.assert_array_equal(decode.dequantize(loaded["w"]), decode.dequantize(matrix))
    for name, plane in matrix.planes.items():
        assert type(loaded["w"].planes[name]) is type(plane)
        np.testing.assert_array_equal(loaded["w"].dense(name), matrix.dense(name))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(matrices())
def test_the_bill_equals_the_bytes_of_the_file_less_its_header(tmp_path, matrix):
    path = tmp_path / "m.safetensors"
    store.save(path, {"w": matrix}, MADE)
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    assert sum(storage.stored_bytes(matrix).values()) == path.stat().st_size - header
    assert sum(storage.breakdown(matrix).values()) == pytest.approx(storage.bits_per_weight(matrix))
    assert set(storage.breakdown(matrix)) <= set(ROLES)


def test_the_bill_by_hand():
    # 3 rows of 2 words, two planes; 6 scales of 16 bits; 6 zeros of 2 bits; 3 exponents of 16 bits.
    bits = {
        "sign planes": 3 * 128,
        "extra planes": 3 * 128,
        "scales": 96,
        "zeros": 16,
        "exponents": 48,
    }
    assert storage.breakdown(small()) == {role: count / 210 for role, count in bits.items()}


def test_packing_gives_back_the_digits_and_refuses_missing_zero_points():
    digits = np.random.default_rng(1).integers(0, 4, (2, 65))
    scale, zero = np.array([[0.5, 0.25]] * 2), np.array([[0, 3], [1, 2]])
    matrix = from_digits(INT2, digits, scale, zero)
    wanted = scale.repeat([64, 1], axis=1) * (digits - zero.repeat([64, 1], axis=1))
    np.testing.assert_array_equal(decode.dequantize(matrix), wanted)
    with pytest.raises(ValueError, match=r"^zero must be given for int2$"):
        from_digits(INT2, digits, scale)


def rewritten(tmp_path, change):
    """A packed file whose metadata or tensors ``change`` has spoilt."""
    path = tmp_path / "m.safetensors"
    store.save(path, {"w": small()}, MADE)
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["planeforge"])
        names = list(file.keys())
        tensors = {name: file.get_tensor(name) for name in names}
    change(header, tensors)
    save_file(tensors, path, metadata={"planeforge": json.dumps(header)})
    return path


DAMAGE = {
    "schema": (
        lambda h, t: h.update(schema="x/9"),
        "must have schema planeforge.packed/2, planeforge.packed/3 or planeforge.packed/4, not 'x/9'",
    ),
    "missing": (lambda h, t: t.pop("w/plane0"), "matrix w: tensor w/plane0 must be in the file"),
    "stray": (lambda h, t: t.update(x=np.zeros(1)), "must hold only tensors its metadata names, not 'x'"),
    "shape": (
        lambda h, t: t.update({"w/plane0": t["w/plane0"][:, :1].copy()}),
        "matrix w: plane plane0 must have shape [3 or 1, 2], not [3, 1]",
    ),
    "stream": (
        lambda h, t: t.update({"w/zero": t["w/zero"][:1].copy()}),
        "tensor w/zero: stream must be 2 bytes for (3, 2) of 2 bits, not 1",
    ),
    "type": (
        lambda h, t: t.update({"w/scale": t["w/scale"].astype(np.int16)}),
        "tensor w/scale must be uint8 of one axis, not int16 [12]",
    ),
    "pads": (
        lambda h, t: t.update({"w/plane1": t["w/plane1"] | np.uint64(2**63)}),
        "plane plane1 must have pad bits 0 beyond column 70, not 1",
    ),
    "field": (lambda h, t: h["matrices"]["w"].pop("group"), "its metadata lacks 'group'"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_refused_with_the_file_the_tensor_and_the_shapes(tmp_path, damage):
    change, message = DAMAGE[damage]
    path = rewritten(tmp_path, change)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}.*{re.escape(message)}"):
        store.load(path)


def test_files_that_are_no_packed_file_are_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(ValueError, match=r"^packed file must exist, not "):
        store.load(path)
    path.write_text("hello, this is text")
    with pytest.raises(ValueError, match=r"must be a whole safetensors file, but "):
        store.load(path)
    save_file({"a": np.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"must be a packed file \(planeforge quantize\), not another"):
        store.load(path)
    store.save(path, {"w": small()}, MADE)
    whole = path.read_bytes()
    for length in (4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"must be a whole safetensors file, but "):
            store.load(path)
    save_file({"a": np.zeros(1)}, path, metadata={"planeforge": "{"})
    with pytest.raises(ValueError, match=r"must have JSON metadata, not '\{'$"):
        store.load(path)


def test_nothing_is_left_behind_when_a_file_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        store.save(path, {"w": small()}, MADE)
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]
    assert path.read_text() == "old"
    with pytest.raises(ValueError, match=r"^output folder must exist, not "):
        store.save(tmp_path / "no" / "m.safetensors", {"w": small()}, MADE)
    with pytest.raises(ValueError, match=r"^matrix name must hold no '/', not 'a/b'$"):
        store.save(path, {"a/b": small()}, MADE)


def test_the_same_matrix_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        store.save(tmp_path / name, {"w": small()}, MADE)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
