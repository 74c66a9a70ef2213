"""Beats of a tile: a PE's definition on them gives the judge's sums, in the clocks the contract counts."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.bitplane.activations import quantize_activations
from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit, Format
from algo.bitplane.tests.strategies import matrices
from hw.pe.bitserial import BitSerial
from sim import judge, schedule
from sim.tests.test_engines import activations_for


@st.composite
def tiles(draw):
    matrix = draw(matrices())
    activations = draw(activations_for(matrix))
    tokens = draw(
        st.lists(st.integers(0, len(activations[0].values) - 1), min_size=1, max_size=2, unique=True)
    )
    rows = draw(st.lists(st.integers(0, matrix.rows - 1), min_size=1, max_size=2, unique=True))
    return matrix, activations, np.array(tokens), np.array(rows), draw(st.sampled_from([1, 5, 64, 100]))


@settings(deadline=None, max_examples=60)
@given(tiles())
def test_items_by_the_definition_assemble_to_the_judges_sums(tile):
    matrix, activations, tokens, rows, lanes = tile
    pe = BitSerial(lanes=lanes, acc_width=48)
    work = schedule.work(matrix, activations, pe, tokens, rows)
    items = np.array(pe.items(work.beats.to_list()))
    expected = judge.integer_sums(matrix, activations)[:, tokens][:, :, rows]
    np.testing.assert_array_equal(schedule.assemble(work, items), expected)


@settings(deadline=None, max_examples=60)
@given(tiles())
def test_beats_are_as_many_as_the_contract_counts(tile):
    matrix, activations, tokens, rows, lanes = tile
    pe = BitSerial(lanes=lanes, acc_width=48)
    work = schedule.work(matrix, activations, pe, tokens, rows)
    shape = schedule.shape(matrix, activations[0].bits, 1)
    per_output = sum(segment.count * pe.beats(segment) for segment in shape.segments)
    assert len(work.beats) == per_output * len(tokens) * len(rows)
    assert work.beats.lasts.sum() == len(work.streams) * len(tokens) * len(rows)
    assert pe.stalled_cycles(work.beats.lasts.tolist()) == len(work.beats) + pe.latency()


def matrix_of(coefs, digits):
    fmt = Format(name="f", digit=Digit.UNIPOLAR, coefs=coefs, group=64, published_bits=1.0, source="test")
    return from_digits(fmt, digits, np.ones((len(digits), -(-digits.shape[1] // 64))))


def test_an_item_that_may_not_fit_the_accumulator_is_refused_with_the_width_it_needs():
    matrix = matrix_of((1, 2, 4, -8), np.full((1, 64), -8))
    act = quantize_activations(np.ones((1, 64)))
    at = np.array([0])
    message = "acc_width must be at least 18 for 64 columns of digits -8 to 7 at 8 activation bits, not 17"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        schedule.work(matrix, [act], BitSerial(acc_width=17), at, at)
    assert len(schedule.work(matrix, [act], BitSerial(acc_width=18), at, at).beats) == 4 * 8


def test_a_group_wider_than_the_matrix_needs_only_the_width_of_its_columns():
    matrix = replace(matrix_of((1,), np.ones((1, 3), np.int64)), group=64)
    act = quantize_activations(np.ones((1, 3)))
    at = np.array([0])
    assert schedule.work(matrix, [act], BitSerial(lanes=2, acc_width=10), at, at).rows == 1
    with pytest.raises(ValueError, match=r"^acc_width must be at least 10 for 3 columns "):
        schedule.work(matrix, [act], BitSerial(lanes=2, acc_width=9), at, at)


def test_activations_of_another_width_are_refused_even_in_as_many_words():
    matrix = matrix_of((1,), np.ones((1, 70), np.int64))
    at = np.array([0])
    with pytest.raises(ValueError, match=r"^activations must have 70 columns "):
        schedule.work(matrix, [quantize_activations(np.ones((1, 69)))], BitSerial(), at, at)


def test_coefficients_a_shifter_cannot_make_are_refused():
    matrix = matrix_of((1, 3), np.zeros((1, 5), np.int64))
    with pytest.raises(ValueError, match=r"^coefs must hold signed powers of two, not 3$"):
        schedule.shape(matrix, 8, 1)


def test_a_missing_item_is_refused():
    matrix = matrix_of((1,), np.ones((1, 5), np.int64))
    at = np.array([0])
    work = schedule.work(matrix, [quantize_activations(np.ones((1, 5)))], BitSerial(), at, at)
    with pytest.raises(ValueError, match=r"^items must be 1 for the tile, not 0$"):
        schedule.assemble(work, np.zeros(0, np.int64))
