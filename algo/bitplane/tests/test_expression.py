"""Planes by expression: the operators, the pad bits, and what is kept out."""

import doctest

import numpy as np
import pytest

from algo.bitplane import expression, words

A = np.array([0, 0, 1, 1], np.bool_)
B = np.array([0, 1, 0, 1], np.bool_)
PLANES = {"a": words.pack(A), "b": words.pack(B)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", A),
        ("~a", ~A),
        ("a & ~b", A & ~B),
        ("a | b", A | B),
        ("~(a ^ b)", ~(A ^ B)),
        ("a & b & a", A & B),
    ],
)
def test_expressions_equal_boolean_algebra_and_leave_pad_bits_clear(text, expected):
    got = expression.evaluate(text, PLANES, words.valid(4))
    np.testing.assert_array_equal(words.unpack(got, 4), expected)
    assert int(got[0]) >> 4 == 0


def test_the_examples_hold():
    assert doctest.testmod(expression).failed == 0


@pytest.mark.parametrize(
    "text", ["a +", "a + b", "-a", "f(a)", "a.b", "1", "a & 1", "a if b else a", "not a", ""]
)
def test_anything_but_planes_and_bit_operators_is_refused(text):
    with pytest.raises(
        ValueError, match=r"^expression must be planes joined by ~ & \| \^ even odd upper lower, not "
    ):
        expression.plane_names(text)


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("columns", [1, 2, 63, 64, 65, 130])
def test_pair_functions_repeat_one_member_of_each_pair(rows, columns):
    bits = np.random.default_rng(columns).random((rows, columns)) < 0.5

    def at(text, m, k):
        i, j = {
            "even": (m, k - k % 2),
            "odd": (m, k - k % 2 + 1),
            "upper": (m - m % 2, k),
            "lower": (min(m - m % 2 + 1, rows - 1), k),
        }[text]
        return bool(bits[i, j]) if j < columns else False

    for text in expression.PAIRS:
        wanted = [[at(text, m, k) for k in range(columns)] for m in range(rows)]
        got = expression.evaluate(f"{text}(a)", {"a": words.pack(bits)}, words.valid(columns))
        np.testing.assert_array_equal(words.unpack(got, columns), wanted)


@pytest.mark.parametrize("text", ["even(a, b)", "even()", "even(x=a)", "even", "abs(a)", "(a)(b)"])
def test_functions_take_one_plane_and_are_no_planes(text):
    with pytest.raises(ValueError, match=r"^expression must be planes joined by "):
        expression.plane_names(text)
