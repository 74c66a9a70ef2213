"""Packing: where each column's bit lies, and that nothing is lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.bitplane import words

WIDTHS = st.sampled_from([1, 2, 63, 64, 65, 127, 128, 129, 200])


def test_column_k_is_bit_k_mod_64_of_word_k_div_64():
    for column in (0, 1, 63, 64, 70, 129):
        bits = np.zeros(130, np.bool_)
        bits[column] = True
        packed = words.pack(bits)
        assert packed.tolist() == [1 << (column % 64) if w == column // 64 else 0 for w in range(3)]


@given(st.integers(0, 2**32 - 1), WIDTHS, st.integers(1, 4))
def test_unpack_gives_back_what_was_packed_and_pads_are_zero(seed, columns, rows):
    bits = np.random.default_rng(seed).random((rows, columns)) < 0.5
    packed = words.pack(bits)
    np.testing.assert_array_equal(words.unpack(packed, columns), bits)
    np.testing.assert_array_equal(words.popcount(packed), bits.sum(axis=1))
    assert not np.any(packed & ~words.valid(columns))


def test_arrays_of_other_types_and_widths_are_refused():
    with pytest.raises(TypeError, match=r"^bits must be boolean, not int64$"):
        words.pack(np.zeros(3, np.int64))
    with pytest.raises(ValueError, match=r"^words must hold 2 words a row, not 1$"):
        words.unpack(np.zeros((1, 1), np.uint64), 65)
