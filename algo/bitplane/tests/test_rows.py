"""Blocks of rows stand for the rows of the whole."""

import re

import numpy as np
import pytest
from hypothesis import given

from algo.bitplane import decode, rows
from algo.bitplane.tests.strategies import matrices


@given(matrices())
def test_a_split_matrix_stacks_to_what_it_was(matrix):
    found = [part for _, part in rows.split(matrix)]
    again = rows.stacked(found)
    np.testing.assert_array_equal(decode.dequantize(again), decode.dequantize(matrix))
    assert again.terms == matrix.terms


def test_blocks_part_no_pair_of_rows_and_leave_none_out(monkeypatch):
    monkeypatch.setattr(rows, "ENTRIES", 700)
    for count, columns in ((1, 100), (7, 100), (8, 100), (61, 100), (5, 1000), (9, 2)):
        found = list(rows.blocks(count, columns))
        assert [here.start for here in found[1:]] == [here.stop for here in found[:-1]]
        assert (found[0].start, found[-1].stop) == (0, count)
        assert all(here.start % 2 == 0 for here in found)
        assert all(here.stop - here.start <= max(2, 700 // columns) for here in found)


@given(matrices())
def test_small_blocks_decode_like_the_whole(matrix):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "ENTRIES", 2 * matrix.columns)
        blocks = decode.dequantize(matrix)
        stacked = rows.stacked([part for _, part in rows.split(matrix)])
    np.testing.assert_array_equal(blocks, decode.dequantize(matrix))
    np.testing.assert_array_equal(decode.dequantize(stacked), blocks)


@given(matrices(), matrices())
def test_what_does_not_belong_together_is_not_stacked(one, other):
    if (one.terms, one.columns, one.group) == (other.terms, other.columns, other.group):
        return
    message = "parts must have the same terms, columns, groups and rotation, and have not"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        rows.stacked([one, other])
