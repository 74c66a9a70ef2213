"""Planes that are not stored whole: what they stand for, what they cost, what is refused."""

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.bitplane import words
from algo.bitplane.format import Digit
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Gathered, Pattern, Plane, gather
from algo.bitplane.tests.strategies import n_of_m


@given(
    st.integers(1, 4),
    st.integers(1, 150),
    st.sampled_from([(0, 1), (1, 1), (2, 4), (4, 8), (6, 8), (13, 64), (32, 64), (7, 63)]),
    st.integers(0, 2**32 - 1),
)
def test_a_pattern_gives_back_its_bits_through_its_stream(rows, columns, ratio, seed):
    kept, of = ratio
    bits = n_of_m(np.random.default_rng(seed), rows, columns, kept, of)
    pattern = Pattern.of_bits(bits, kept, of)
    np.testing.assert_array_equal(words.unpack(pattern.spread(columns), columns), bits)
    stream = pattern.stream()
    assert stream.nbytes == pattern.nbytes == -(-rows * -(-columns // of) * pattern.bits // 8)
    again = Pattern.from_stream(stream, pattern.codes.shape, kept, of, pattern.role)
    np.testing.assert_array_equal(again.codes, pattern.codes)


@pytest.mark.parametrize(("kept", "of"), [(2, 4), (4, 8), (3, 5)])
def test_the_codes_of_all_patterns_are_all_numbers_below_their_count(kept, of):
    bits = np.zeros((math.comb(of, kept), of), np.bool_)
    for row, places in enumerate(itertools.combinations(range(of), kept)):
        bits[row, list(places)] = True
    codes = Pattern.of_bits(bits, kept, of).codes[:, 0]
    assert sorted(codes.tolist()) == list(range(math.comb(of, kept)))


@pytest.mark.parametrize(
    ("ratio", "bits"), [((4, 8), 7), ((5, 8), 6), ((6, 8), 5), ((2, 4), 3), ((13, 64), 44)]
)
def test_a_pattern_costs_the_logarithm_of_its_count(ratio, bits):
    assert Pattern(np.zeros((1, 1), np.uint64), *ratio).bits == bits


@given(st.integers(1, 5), st.integers(1, 200), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_gathered_bits_return_to_their_places(rows, columns, seed, share):
    rng = np.random.default_rng(seed)
    bits, mask = rng.random((rows, columns)) < 0.5, rng.random((rows, columns)) < share
    plane = gather(bits, mask, "m")
    assert plane.nbytes == 8 * -(-int(mask.sum()) // 64)
    spread = words.unpack(plane.spread(words.pack(mask), columns), columns)
    np.testing.assert_array_equal(spread, bits & mask)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pattern(np.zeros((1, 1), np.uint64), 4, 65), "of must be at least 1 and at most 64, not 65"),
        (lambda: Pattern(np.zeros((1, 1), np.uint64), 5, 4), "kept must be at least 0 and at most 4, not 5"),
        (lambda: Pattern(np.full((1, 1), 6, np.uint64), 2, 4), "codes must be below 6, not 6"),
        (lambda: Pattern(np.zeros(1, np.uint64), 2, 4), "codes must be uint64 of two axes, not uint64 (1,)"),
        (lambda: Pattern(np.zeros((1, 1), np.uint64), 2, 4, "x"), "role must be one of "),
        (
            lambda: Pattern.of_bits(np.ones((1, 4), np.bool_), 2, 4),
            "bits must hold 2 of every 4 columns, not 4",
        ),
        (
            lambda: Pattern.from_stream(np.zeros(3, np.uint8), (2, 2), 4, 8, "indices"),
            "stream must be 4 bytes for (2, 2) codes, not 3",
        ),
        (
            lambda: Gathered(np.zeros((1, 1), np.uint64), "m"),
            "words must be uint64 of one axis, not uint64 (1, 1)",
        ),
        (
            lambda: Gathered(np.zeros(2, np.uint64), "m").spread(words.pack(np.ones((1, 3), np.bool_)), 3),
            "words must be 1 for the 3 entries of 'm', not 2",
        ),
    ],
)
def test_planes_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


def matrix(planes):
    return PackedMatrix(
        rows=2,
        columns=10,
        group=10,
        terms=(Term(planes=("a",), coefs=(1,), digit=Digit.BIPOLAR, scale="s"),),
        planes=planes,
        ints={"s": Ints(np.ones((2, 1), np.int64), 16, True)},
        exponent=Ints(np.zeros((2, 1), np.int64), 16, True),
    )


def test_a_matrix_refuses_planes_that_do_not_fit_it():
    whole = Plane(words.pack(np.ones((2, 10), np.bool_)))
    later = {"a": Gathered(np.zeros(1, np.uint64), "m"), "m": whole}
    with pytest.raises(ValueError, match=r"^plane a must be gathered on planes stored before it, not 'm'$"):
        matrix(later)
    with pytest.raises(ValueError, match=r"^plane g: words must be 1 for the 20 entries of 'a', not 2$"):
        matrix({"a": whole, "g": Gathered(np.zeros(2, np.uint64), "a")})
    with pytest.raises(ValueError, match=r"^plane a must have 3 codes a row, not 2$"):
        matrix({"a": Pattern(np.zeros((2, 2), np.uint64), 2, 4)})
    with pytest.raises(ValueError, match=r"^plane name must be an identifier and no function, not 'even'$"):
        matrix({"a": whole, "even": whole})
