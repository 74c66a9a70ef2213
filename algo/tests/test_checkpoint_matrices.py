"""Matrices from .npy and .safetensors files: exact where sound, refused in one line where not."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from algo import checkpoint

VALUES = np.array([[0.5, -1.25, 3.0], [2.0**-14, 0.0, -64.0]])  # exact in every type below


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_any_float_is_read_as_float32(tmp_path: Path, dtype: Any, order: Any) -> None:
    path = tmp_path / "w.npy"
    np.save(path, np.asarray(VALUES, dtype=dtype, order=order))
    found = checkpoint.read_tensor(path)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert found.flags.writeable
    np.testing.assert_array_equal(found, VALUES)


def test_npy_of_integers_is_read_as_float32(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.array([[-3, 5]], dtype=np.int8))
    np.testing.assert_array_equal(checkpoint.read_tensor(tmp_path / "w.npy"), [[-3.0, 5.0]])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_safetensors_of_any_float_is_read_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "w.safetensors"
    other = torch.ones(3)
    safetensors.torch.save_file({"a.weight": torch.tensor(VALUES, dtype=dtype), "bias": other}, path)
    for found in (
        checkpoint.read_tensor(path, "a.weight"),
        checkpoint.read_tensor(f"{path}::a.weight"),
        checkpoint.read_tensor(path),  # its only matrix
    ):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, VALUES)


@pytest.fixture
def several(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    tensors = {
        "a": torch.ones(2, 3),
        "b": torch.ones(3, 2),
        "bias": torch.ones(3),
        "codes": torch.ones(2, 2).int(),
    }
    safetensors.torch.save_file(tensors, path)
    return path


def unread(path: str | Path, tensor: str | None = None) -> str:
    """Returns the refusal's message, which is one line."""
    with pytest.raises(ValueError, match=r"^.+$") as caught:
        checkpoint.read_tensor(path, tensor)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_tensor_must_be_named_where_there_are_several(several: Path) -> None:
    assert unread(several) == (
        f"{several} must be given with a tensor name (FILE::NAME), having 2 float matrices: a, b, bias, codes"
    )
    assert unread(several, "c") == f"tensor of {several} must be one of a, b, bias, codes, not 'c'"
    assert unread(f"{several}::c") == f"tensor of {several} must be one of a, b, bias, codes, not 'c'"
    assert unread(f"{several}::") == f"tensor name must follow '::', and '{several}::' ends there"


def test_a_long_list_of_tensors_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({f"t{at:02}": torch.ones(1, 1) for at in range(20)}, path)
    names = ", ".join(f"t{at:02}" for at in range(12))
    assert unread(path, "x") == f"tensor of {path} must be one of {names}, ... (20 in all), not 'x'"


def test_tensors_that_are_no_float_matrix_are_refused(several: Path) -> None:
    assert unread(several, "bias") == f"{several}: tensor 'bias' must have 2 dimensions, not 1 (shape [3])"
    assert unread(several, "codes") == (
        f"{several}: tensor 'codes' must be one of BF16, F16, F32, F64, not I32"
    )


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.ones(5), "must have 2 dimensions, not 1 (shape [5])"),
        (np.float32(1), "must have 2 dimensions, not 0 (shape [])"),
        (np.ones((2, 3, 4)), "must have 2 dimensions, not 3 (shape [2, 3, 4])"),
        (np.ones((0, 4)), "must have at least one row and one column, not shape [0, 4]"),
        (np.ones((4, 0)), "must have at least one row and one column, not shape [4, 0]"),
        (np.array([[1.0, np.nan]]), "must be finite, and holds NaN or infinity"),
        (np.array([[np.inf]], dtype=np.float16), "must be finite, and holds NaN or infinity"),
        (np.array([[1e39]]), "must fit float32 (at most 3.4e38), and does not"),
        (np.array([["a"]]), "must hold real numbers, not <U1"),
        (np.array([[1j]]), "must hold real numbers, not complex128"),
        (np.array([[True]]), "must hold real numbers, not bool"),
        (
            np.array([[None]]),
            "must be a whole .npy file of numbers (Array can't be memory-mapped: Python objects in dtype.)",
        ),
    ],
)
def test_arrays_that_are_no_finite_matrix_are_refused(tmp_path: Path, array: Any, reason: str) -> None:
    path = tmp_path / "w.npy"
    np.save(path, array, allow_pickle=True)
    assert unread(path) == f"{path} {reason}"


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    assert unread(tmp_path / "w.npy") == f"{tmp_path / 'w.npy'} must be a file, and there is none"
    assert (
        unread(tmp_path / "w.safetensors")
        == f"{tmp_path / 'w.safetensors'} must be a file, and there is none"
    )
    assert unread("w.bin") == "tensor file must end in .npy or .safetensors, not 'w.bin'"
    path = tmp_path / "w.npy"
    path.write_text("1 2 3\n")
    assert unread(path) == f"{path} must be a .npy file as numpy.save writes it, and does not begin like one"
    np.save(path, VALUES)
    assert unread(path, "a") == f"{path} must be named alone, not with tensor 'a': it holds one array"


@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_but_nothing_else(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    suffix = data.draw(st.sampled_from([".npy", ".safetensors"]))
    path = tmp_path_factory.mktemp("damaged") / f"w{suffix}"
    if suffix == ".npy":
        np.save(path, VALUES)
    else:
        safetensors.torch.save_file({"w": torch.tensor(VALUES)}, path)
    content = bytearray(path.read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(bytes(content[:cut]))
    refusal, found = "", None
    try:
        found = checkpoint.read_tensor(path)
    except ValueError as error:
        refusal = str(error)
    if found is None:
        assert str(path) in refusal
        assert "\n" not in refusal
    else:
        assert found.ndim == 2
        assert np.isfinite(found).all()


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".npy":
        np.save(path, VALUES)
    else:
        safetensors.torch.save_file({"w": torch.tensor(VALUES)}, path)
    content = path.read_bytes()
    for kept in range(len(content)):
        path.write_bytes(content[:kept])
        assert str(path) in unread(path)


# Activations


def test_activations_are_read_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, VALUES)
    found = checkpoint.read_activations(path, 3, "calibration")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, VALUES)


@pytest.mark.parametrize("name", ["calibration", "holdout"])
def test_activations_of_another_width_are_refused_with_both_widths(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.npy"
    np.save(path, VALUES)
    message = f"{name} {path} must have 200 columns, as the weight has, not 3 (its shape is [2, 3])"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        checkpoint.read_activations(path, 200, name)


def test_activations_that_are_no_finite_matrix_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.array([[np.nan, 1.0]]))
    with pytest.raises(
        ValueError, match=rf"^activations {re.escape(str(path))} must be finite, and holds NaN or"
    ):
        checkpoint.read_activations(path, 2)
    message = r"^activations must be a \.npy file of shape \[tokens, 2\], not 'x\.safetensors'$"
    with pytest.raises(ValueError, match=message):
        checkpoint.read_activations("x.safetensors", 2)
