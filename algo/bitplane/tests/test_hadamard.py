"""The rotation against the matrix written out, and what it is for: it cancels, exactly."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import hadamard

from algo.bitplane.hadamard import rotated

BLOCKS = st.sampled_from([2, 4, 16, 128])


@given(BLOCKS, st.integers(1, 3), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_it_is_the_product_with_sylvesters_matrix(block, rows, blocks, seed):
    values = np.random.default_rng(seed).integers(-1000, 1000, (rows, blocks * block))
    wanted = (values.reshape(rows, blocks, block) @ hadamard(block)).reshape(values.shape)
    np.testing.assert_array_equal(rotated(values, block), wanted)


@given(BLOCKS, st.integers(0, 2**32 - 1))
def test_rotating_both_operands_multiplies_every_product_by_the_block(block, seed):
    rng = np.random.default_rng(seed)
    x, w = rng.integers(-127, 128, (3, 2 * block)), rng.integers(-8, 8, (5, 2 * block))
    np.testing.assert_array_equal(rotated(x, block) @ rotated(w, block).T, block * (x @ w.T))
    np.testing.assert_array_equal(rotated(rotated(x, block), block), block * x)


def test_int8_rotated_by_16_has_twelve_bits():
    assert np.abs(rotated(np.full((1, 16), 127), 16)).max() == 2032


def test_the_order_in_memory_does_not_matter():
    values = np.random.default_rng(0).normal(size=(8, 16))
    np.testing.assert_array_equal(rotated(np.asfortranarray(values), 8), rotated(values, 8))
    np.testing.assert_array_equal(rotated(values.T, 4), rotated(np.ascontiguousarray(values.T), 4))


def test_values_given_stay_as_they_are():
    values = np.ones((1, 4))
    rotated(values, 4)
    np.testing.assert_array_equal(values, np.ones((1, 4)))


@pytest.mark.parametrize(
    ("columns", "block", "message"),
    [
        (8, 3, "rotate must be a power of two above 1, not 3"),
        (8, 1, "rotate must be a power of two above 1, not 1"),
        (24, 16, "rotate must divide the 24 columns, not 16"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(columns, block, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        rotated(np.zeros((1, columns)), block)
