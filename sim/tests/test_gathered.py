"""N:M matrices on the PE that stores kept columns alone: its items assemble to the judge's sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.bitplane import words
from algo.bitplane.activations import quantize_activations
from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit, Format
from algo.bitplane.ints import Ints
from algo.bitplane.planes import Pattern, Plane
from algo.bitplane.tests.strategies import n_of_m
from hw.pe.gather import Gather
from sim import judge, operands, schedule
from sim.tests.test_engines import activations_for

FORMATS = (
    Format(name="sign", digit=Digit.BIPOLAR, coefs=(1,), group=64, published_bits=1.0, source="test"),
    Format(name="trit", digit=Digit.UNIPOLAR, coefs=(1, -1), group=64, published_bits=1.6, source="test"),
    Format(name="int4", digit=Digit.UNIPOLAR, coefs=(1, 2, 4, -8), group=32, published_bits=4, source="test"),
)
#: Patterns, and lanes of the PE that has their name.
LANES = {(2, 4): 10, (4, 8): 64, (5, 8): 15, (6, 8): 102}


@st.composite
def sparse(draw, keep: int, of: int):
    """A matrix whose mask is an N:M pattern, or part of one; a zero point makes a second item a group."""
    fmt = draw(st.sampled_from(FORMATS))
    rows, columns = draw(st.integers(1, 4)), draw(st.sampled_from([1, 7, 63, 64, 100, 130]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    digits = rng.choice(fmt.values(), (rows, columns))
    groups = -(-columns // min(fmt.group, columns))
    matrix = from_digits(fmt, digits, rng.random((rows, groups)))
    planes = {
        **matrix.planes,
        "n": Pattern.of_bits(n_of_m(rng, rows, columns, keep, of), keep, of),
        "c": Plane(words.pack(rng.random((1, columns)) < 0.3)),
    }
    z = Ints(rng.integers(0, 4, (rows, groups)), 2, False)
    mask, zero = draw(st.sampled_from(["n", "n & ~c", "n & c"])), draw(st.sampled_from([None, "z"]))
    term = replace(matrix.terms[0], mask=mask, zero=zero)
    return replace(matrix, terms=(term,), planes=planes, ints={**matrix.ints, "z": z})


@pytest.mark.parametrize(("keep", "of"), LANES)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_items_by_the_definition_assemble_to_the_judges_sums(keep, of, data):
    matrix = data.draw(sparse(keep, of))
    activations = data.draw(activations_for(matrix))
    pe = Gather(lanes=LANES[keep, of], keep=keep, of=of, acc_width=40)
    tokens, rows = np.arange(len(activations[0].values)), np.arange(matrix.rows)[::-1]
    work = schedule.work(matrix, activations, pe, tokens, rows)
    expected = judge.integer_sums(matrix, activations)[:, tokens][:, :, rows]
    np.testing.assert_array_equal(schedule.assemble(work, np.array(pe.items(work.beats))), expected)
    shape = schedule.shape(matrix, activations[0].bits, 1)
    per_output = sum(segment.count * pe.beats(segment) for segment in shape.segments)
    assert len(work.beats) == per_output * len(tokens) * len(rows)


def a_sign_matrix(mask: np.ndarray) -> tuple:
    rows, columns = mask.shape
    rng = np.random.default_rng(0)
    matrix = from_digits(
        replace(FORMATS[0], group=columns), rng.choice([-1, 1], mask.shape), np.ones((rows, 1))
    )
    planes = {**matrix.planes, "n": Plane(words.pack(mask))}
    masked = replace(matrix, terms=(replace(matrix.terms[0], mask="n"),), planes=planes)
    return masked, quantize_activations(rng.normal(size=(1, columns)))


def test_half_the_beats_of_a_dense_pe_do_for_two_of_four():
    matrix, act = a_sign_matrix(np.tile([True, False, False, True], (1, 32)))
    slot = next(schedule.slots(matrix))
    one = replace(schedule.segment(matrix, slot, act), kept=(2, 4))
    pe = Gather(lanes=64)
    (w, x, mask), flags = operands.item(matrix, slot, act, one, pe, np.array([[0]]), np.array([[0]]))
    assert len(flags) == 8
    assert (w.shape, x.shape, mask.shape) == ((1, 1, 8, 3), (1, 1, 8, 2), (1, 1, 8, 1))
    assert words.unpack(mask[0, 0], 64).all()


def test_a_mask_of_another_pattern_than_the_segment_says_is_refused():
    matrix, act = a_sign_matrix(np.tile([True, True, False, True], (1, 3)))
    slot = next(schedule.slots(matrix))
    one = replace(schedule.segment(matrix, slot, act), kept=(2, 4))
    with pytest.raises(ValueError, match=r"^mask must keep at most 2 of every 4 columns, not 3$"):
        operands.item(matrix, slot, act, one, Gather(lanes=64), np.array([[0]]), np.array([[0]]))


def test_a_mask_that_is_no_pattern_is_refused_before_anything_is_packed():
    matrix, act = a_sign_matrix(np.ones((1, 20), np.bool_))
    with pytest.raises(ValueError, match=r"^segment must keep at most 2 of every 4 columns, not all$"):
        schedule.work(matrix, [act], Gather(lanes=64), np.array([0]), np.array([0]))
