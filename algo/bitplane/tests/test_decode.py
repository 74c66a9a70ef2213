"""The definition against loops over entries in Python integers and fractions."""

import ast
import itertools
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.bitplane import decode
from algo.bitplane.activations import Activations, quantize_activations
from algo.bitplane.format import Digit
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Pattern, Plane
from algo.bitplane.tests.strategies import matrices


def bit(matrix: PackedMatrix, name: str, m: int, k: int) -> int:
    """One bit of a stored plane, found by counting through what lies before it."""
    plane = matrix.planes[name]
    if isinstance(plane, Plane):
        return int(plane.words[m % len(plane.words), k // 64]) >> (k % 64) & 1
    if isinstance(plane, Pattern):
        code = int(plane.codes[m % len(plane.codes), k // plane.of])
        alike = itertools.combinations(range(plane.of), plane.kept)
        # The rank orders patterns by their last position, then the one before it, and so on.
        return k % plane.of in sorted(alike, key=lambda places: places[::-1])[code]
    if not truth(matrix, plane.on, m, k):
        return 0
    before = [(i, j) for i in range(m + 1) for j in range(matrix.columns if i < m else k)]
    at = sum(truth(matrix, plane.on, i, j) for i, j in before)
    return int(plane.words[at // 64]) >> (at % 64) & 1


def truth(matrix: PackedMatrix, text: str | None, m: int, k: int) -> int:
    return 1 if text is None else walk(matrix, ast.parse(text, mode="eval").body, m, k)


def walk(matrix: PackedMatrix, node: ast.AST, m: int, k: int) -> int:
    if isinstance(node, ast.Name):
        return int(bit(matrix, node.id, m, k)) if k < matrix.columns else 0
    if isinstance(node, ast.UnaryOp):
        return 1 - walk(matrix, node.operand, m, k) if k < matrix.columns else 0
    if isinstance(node, ast.Call):
        places = {"even": (m, k & ~1), "odd": (m, k | 1), "upper": (m & ~1, k)}
        places["lower"] = (min(m | 1, matrix.rows - 1), k)
        return walk(matrix, node.args[0], *places[node.func.id])
    one, other = walk(matrix, node.left, m, k), walk(matrix, node.right, m, k)
    return {ast.BitAnd: one & other, ast.BitOr: one | other, ast.BitXor: one ^ other}[type(node.op)]


def entry(matrix: PackedMatrix, term: Term, m: int, k: int) -> int:
    """Integer weight of one entry: mantissa times digit, plus offset."""
    if not truth(matrix, term.mask, m, k):
        return 0

    def at(name: str | None) -> int:
        values = None if name is None else matrix.ints[name].values
        return 0 if values is None else int(values[m % len(values), k // matrix.group])

    digit = 0
    for text, coef in zip(term.planes, term.coefs, strict=True):
        one = truth(matrix, text, m, k)
        digit += coef * (one if term.digit is Digit.UNIPOLAR else 2 * one - 1)
    return at(term.scale) * (digit - at(term.zero)) + at(term.offset)


@given(matrices())
def test_dequantize_is_the_sum_of_terms_entry_by_entry(matrix):
    real = decode.dequantize(replace(matrix, rotate=None))
    for m in range(matrix.rows):
        for k in range(0, matrix.columns, 13):
            exact = Fraction(0)
            for term in matrix.terms:
                factor = 1 if term.col is None else Fraction(float(matrix.factors[term.col][k]))
                exact += entry(matrix, term, m, k) * factor
            exact *= Fraction(2) ** int(matrix.exponent.values[m, 0])
            exact *= 1 if matrix.row is None else Fraction(float(matrix.row[m]))
            assert real[m, k] == pytest.approx(float(exact), rel=1e-12, abs=1e-300)


@given(matrices(), st.integers(1, 9), st.integers(0, 2**32 - 1), st.booleans())
def test_integer_sums_equal_python_integers(matrix, bits, seed, grouped):
    rng = np.random.default_rng(seed)
    mantissa = rng.integers(-7, 8, (3, matrix.groups)) if grouped else None
    streams = []
    for _ in matrix.streams:
        values = (
            rng.choice([-1, 1], (3, matrix.columns))
            if bits == 1
            else rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (3, matrix.columns))
        )
        scale = rng.random(3).astype(np.float32)
        streams.append(Activations(values=values, bits=bits, scale=scale, mantissa=mantissa))
    sums = decode.integer_sums(matrix, streams)
    bound = decode.sum_bound(matrix, streams)
    for s, (name, act) in enumerate(zip(matrix.streams, streams, strict=True)):
        for n in range(3):
            for m in range(matrix.rows):
                exact = sum(
                    entry(matrix, term, m, k)
                    * int(act.values[n, k])
                    * (1 if mantissa is None else int(mantissa[n, k // matrix.group]))
                    for term in matrix.terms
                    if term.col == name
                    for k in range(matrix.columns)
                )
                assert sums[s, n, m] == exact
                assert abs(exact) <= bound


def one_row(columns: int, mantissa: int, **term: object) -> PackedMatrix:
    ones = np.full((1, -(-columns // 64)), 2**64 - 1, np.uint64)
    if columns % 64:
        ones[0, -1] = (1 << columns % 64) - 1
    return PackedMatrix(
        rows=1,
        columns=columns,
        group=columns,
        terms=(Term(planes=("p",), coefs=(1,), digit=Digit.BIPOLAR, scale="s", **term),),  # type: ignore[arg-type]
        planes={"p": Plane(ones)},
        ints={"s": Ints(np.array([[mantissa]]), 32, True)},
        exponent=Ints(np.array([[-3]]), 16, True),
    )


def test_one_rounding_stands_between_the_integers_and_the_output():
    matrix = one_row(3, 2**24 + 1)
    act = Activations(values=np.array([[1, 1, 1]]), bits=8, scale=np.array([0.1], np.float32))
    sums = decode.integer_sums(matrix, [act])
    assert sums.tolist() == [[[3 * (2**24 + 1)]]]
    exact = float(np.float64(sums[0, 0, 0]) * 2.0**-3 * np.float64(np.float32(0.1)))
    assert decode.outputs(matrix, [act], sums)[0, 0] == np.float32(exact)


def test_sums_that_int64_might_not_hold_are_refused():
    matrix = one_row(64, 2**31 - 1)
    act = Activations(
        values=np.full((1, 64), -(2**15)), bits=16, scale=np.ones(1, np.float32), mantissa=np.array([[2**12]])
    )
    with pytest.raises(
        ValueError, match=r"^integer sums must stay below 2\*\*63 for int64, not reach 1\.84e\+19$"
    ):
        decode.integer_sums(matrix, [act])


def test_activations_of_another_width_or_stream_count_are_refused():
    matrix = one_row(64, 1)
    act = quantize_activations(np.ones((2, 63)))
    with pytest.raises(ValueError, match=r"must have 64 columns and one token count .* not shape \[2, 63\]$"):
        decode.check_fit(matrix, [act])
    with pytest.raises(ValueError, match=r"^activations must be 1 streams, not 2$"):
        decode.check_fit(matrix, [act, act])


@given(st.integers(2, 20), st.integers(0, 2**32 - 1))
def test_activation_planes_sum_back_to_the_integers(bits, seed):
    rng = np.random.default_rng(seed)
    act = quantize_activations(rng.normal(size=(3, 70)), bits)
    planes = act.planes()
    total = np.zeros((3, 70), np.int64)
    for place, plane in zip(act.places, planes, strict=True):
        for k in range(70):
            total[:, k] += place * ((plane[:, k // 64] >> np.uint64(k % 64)) & np.uint64(1)).astype(np.int64)
    np.testing.assert_array_equal(total, act.values)
    assert np.abs(act.values).max() == (1 << (bits - 1)) - 1


def test_quantized_activations_are_within_half_a_step():
    x = np.random.default_rng(0).normal(size=(4, 33)).astype(np.float32)
    act = quantize_activations(x, 8)
    assert np.all(np.abs(act.values * act.scale[:, None] - x) <= act.scale[:, None] * 0.5000001)


def test_one_bit_activations_are_signs_and_zero_counts_as_plus_one():
    act = quantize_activations([[0.0, -2.0, 1.0]], 1)
    assert (act.values.tolist(), act.scale.tolist(), act.places) == ([[1, -1, 1]], [1.0], (1,))
    assert quantize_activations(np.zeros((1, 3)), 8).values.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("x", "bits", "message"),
    [
        ([1.0], 8, "activations must have two axes [tokens, columns], not shape [1]"),
        ([[float("inf")]], 8, "activations must be finite, not NaN or infinity"),
        ([[1.0]], 21, "act-bits must be an integer from 1 to 20, not 21"),
        ([[1.0]], 0, "act-bits must be an integer from 1 to 20, not 0"),
    ],
)
def test_bad_activations_are_refused(x, bits, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        quantize_activations(x, bits)
