"""Rotated matrices: planes of ``W H`` and activations ``x H`` give the products of ``W`` and ``x``."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.linalg import hadamard

from algo.bitplane import activation_formats, decode, rows, store
from algo.bitplane.activations import Activations
from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit, Format
from algo.bitplane.hadamard import rotated, rotated_activations, rotated_weights
from algo.bitplane.tests.strategies import matrices

INT10 = Format(
    name="int10", digit=Digit.UNIPOLAR, coefs=(1, 2, 4, 8, 16, 32, 64, 128, 256, -512), group=70,
    published_bits=10.0, source="test",
)  # fmt: skip
BLOCKS = st.sampled_from([2, 4, 8, 32])


def rotated_matrix(w: np.ndarray, block: int):
    """Integers of a few bits, rotated and packed without loss."""
    digits = rotated(w.astype(np.int64), block)
    groups = -(-w.shape[1] // INT10.group)
    scale = np.full((len(w), groups), 2.0 ** -((block.bit_length() - 1) // 2))
    return replace(from_digits(INT10, digits, scale), rotate=block)


@given(BLOCKS, st.integers(0, 2**32 - 1))
def test_rotating_both_operands_cancels_exactly_in_integers(block, seed):
    # S of the planes and of rotated integers is the product of the integers themselves, times the block.
    rng = np.random.default_rng(seed)
    w, x = rng.integers(-8, 8, (5, 96)), rng.integers(-127, 128, (3, 96))
    matrix = rotated_matrix(w, block)
    bits = int(np.abs(rotated(x, block)).max()).bit_length() + 1
    half = -(-(block.bit_length() - 1) // 2)
    act = Activations(values=rotated(x, block), bits=bits, scale=np.full(3, 2.0**-half, np.float32))
    sums = decode.integer_sums(matrix, [act])
    mantissa = matrix.ints["scale"].values[:, :1].T
    np.testing.assert_array_equal(sums[0], block * (x @ w.T) * mantissa)
    np.testing.assert_array_equal(decode.outputs(matrix, [act], sums), x @ w.T)


@given(BLOCKS, st.integers(0, 2**32 - 1))
def test_dequantizing_gives_the_matrix_before_the_rotation(block, seed):
    w = np.random.default_rng(seed).integers(-8, 8, (4, 160))
    np.testing.assert_array_equal(decode.dequantize(rotated_matrix(w, block)), w)


@given(matrices())
def test_a_rotation_is_undone_by_the_written_out_matrix(matrix):
    if matrix.rotate is None:
        return
    planes = decode.dequantize(replace(matrix, rotate=None)).reshape(matrix.rows, -1, matrix.rotate)
    high = 2.0 ** -((matrix.rotate.bit_length()) // 2)
    wanted = (planes @ hadamard(matrix.rotate) * high).reshape(matrix.rows, matrix.columns)
    np.testing.assert_allclose(
        decode.dequantize(matrix), wanted, rtol=1e-12, atol=1e-12 * np.abs(planes).max()
    )


@given(BLOCKS, st.integers(0, 2**32 - 1))
def test_weights_and_activations_undo_each_other_to_the_bit_where_sums_are_exact(block, seed):
    values = np.random.default_rng(seed).integers(-99, 99, (3, 64)).astype(float)
    np.testing.assert_array_equal(rotated_activations(rotated_weights(values, block), block), values)
    np.testing.assert_array_equal(rotated_weights(rotated_activations(values, block), block), values)


def test_blocks_of_four_to_the_n_are_turned_without_stretching():
    x = np.random.default_rng(0).normal(size=(2, 64))
    for block in (4, 16, 64):
        for turn in (rotated_weights, rotated_activations):
            np.testing.assert_allclose(np.linalg.norm(turn(x, block)), np.linalg.norm(x))
    np.testing.assert_allclose(np.linalg.norm(rotated_weights(x, 8)), 2**0.5 * np.linalg.norm(x))


@pytest.mark.parametrize("name", ["int8", "mxfp4", "nvint4"])
def test_activations_are_rotated_before_they_are_quantized(name):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 64)).astype(np.float32)
    fmt = activation_formats.get(name)
    matrix = fmt.regrouped(rotated_matrix(rng.integers(-8, 8, (2, 64)), 32))
    (found,) = fmt.streams(matrix, x)
    turned = (x.reshape(3, 2, 32) @ hadamard(32).astype(np.float32) / 8).reshape(3, 64)
    wanted = fmt.quantize(turned)
    # One rounding more or less in float32 may move a value across the border between two integers.
    assert np.mean(found.values != wanted.values) < 0.02
    plain = fmt.streams(replace(matrix, rotate=None), x)[0]
    np.testing.assert_array_equal(plain.values, fmt.quantize(x).values)
    assert np.mean(found.values != plain.values) > 0.3


def test_a_rotation_is_stored_split_and_stacked(tmp_path):
    matrix = rotated_matrix(np.random.default_rng(0).integers(-8, 8, (5, 64)), 16)
    store.save(tmp_path / "m", {"w": matrix}, store.Provenance(method="test"))
    assert store.load(tmp_path / "m")[0]["w"].rotate == 16
    parts = [part for _, part in rows.split(matrix)]
    assert [part.rotate for part in parts] == [16]
    assert rows.stacked([matrix, matrix]).rotate == 16
    with pytest.raises(ValueError, match=r"^parts must have the same terms, columns, groups and rotation, "):
        rows.stacked([matrix, replace(matrix, rotate=8)])


def test_a_file_with_a_rotation_that_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "m"
    store.save(path, {"w": rotated_matrix(np.ones((2, 64)), 16)}, store.Provenance(method="test"))
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["planeforge"])
        tensors = {name: file.get_tensor(name) for name in list(file.keys())}
    header["matrices"]["w"]["rotate"] = 24
    save_file(tensors, path, metadata={"planeforge": json.dumps(header)})
    with pytest.raises(ValueError, match=r"matrix w: rotate must be a power of two above 1, not 24$"):
        store.load(path)


@pytest.mark.parametrize(
    ("rotate", "message"),
    [
        (True, "rotate must be a power of two above 1, not True"),
        (4.0, "rotate must be a power of two above 1, not 4.0"),
        (128, "rotate must divide the 64 columns, not 128"),
    ],
)
def test_rotations_that_do_not_fit_are_refused(rotate, message):
    matrix = rotated_matrix(np.ones((2, 64)), 16)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        replace(matrix, rotate=rotate)


def test_activations_that_do_not_fit_or_overflow_are_refused():
    matrix = rotated_matrix(np.ones((2, 64)), 16)
    with pytest.raises(ValueError, match=r"^activations must be \[tokens, 64\], not \[2, 32\]$"):
        activation_formats.entering(matrix, np.ones((2, 32)))
    message = "activations must be finite, sums of 16 of them too, not NaN or infinity"
    with pytest.raises(ValueError, match=f"^{message}$"):
        activation_formats.entering(matrix, np.full((1, 64), 3e38))
