"""Every software engine against the judge, and the judge against the plain definition."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.bitplane import decode
from algo.bitplane.activations import Activations, quantize_activations
from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit, Format
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Plane
from algo.bitplane.tests.strategies import matrices
from sim import judge
from sim.engines import ENGINES
from sim.integer import EXACT, Prepared, _bound

SIGN = Format(name="s", digit=Digit.BIPOLAR, coefs=(1,), group=128, published_bits=1.0, source="test")


@st.composite
def activations_for(draw, matrix: PackedMatrix) -> list[Activations]:
    """A stream for each the matrix reads; extremes are likely, groups may have mantissas of their own."""
    bits, tokens = draw(st.integers(1, 9)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low = -(1 << (bits - 1))
    mantissa = rng.integers(-9, 10, (tokens, matrix.groups)) if draw(st.booleans()) else None
    made = []
    for _ in matrix.streams:
        shape = (tokens, matrix.columns)
        values = rng.choice([-1, 1], shape) if bits == 1 else rng.integers(low, -low, shape)
        if draw(st.booleans()) and bits > 1:
            values[:] = low
        scale = rng.random(tokens).astype(np.float32)
        made.append(Activations(values=values, bits=bits, scale=scale, mantissa=mantissa))
    return made


@st.composite
def products(draw):
    matrix = draw(matrices())
    return matrix, draw(activations_for(matrix))


@settings(deadline=None, max_examples=150)
@given(products())
def test_every_engine_equals_the_judge_and_the_definition(product):
    matrix, activations = product
    expected = decode.integer_sums(matrix, activations)
    for name, engine in ENGINES.items():
        sums = engine(matrix, activations)
        assert sums.dtype == np.int64
        np.testing.assert_array_equal(sums, expected, err_msg=name)


@settings(deadline=None)
@given(products())
def test_the_judge_and_the_definition_convert_to_the_same_float_bits(product):
    matrix, activations = product
    sums = decode.integer_sums(matrix, activations)
    ours = decode.outputs(matrix, activations, sums)
    theirs = judge.outputs(matrix, activations, sums)
    np.testing.assert_array_equal(ours.view(np.uint32), theirs.view(np.uint32))


def extreme(columns: int, bits: int) -> PackedMatrix:
    """One row of the largest digits times the largest mantissas."""
    ones = np.full((1, columns // 64), 2**64 - 1, np.uint64)
    top = (1 << (bits - 1)) - 1
    coefs = tuple(1 << place for place in range(8))
    return PackedMatrix(
        rows=1,
        columns=columns,
        group=64,
        terms=(Term(planes=("p",) * 8, coefs=coefs, digit=Digit.UNIPOLAR, scale="s"),),
        planes={"p": Plane(ones)},
        ints={"s": Ints(np.full((1, columns // 64), top), bits, True)},
        exponent=Ints(np.array([[0]]), 16, True),
    )


@pytest.mark.parametrize("bits", [16, 32])
def test_worst_case_sums_are_exact_and_beyond_float64_they_still_are(bits):
    matrix = extreme(256, bits)
    act = Activations(values=np.full((1, 256), -(2**15)), bits=16, scale=np.ones(1, np.float32))
    exact = -(2**15) * 255 * ((1 << (bits - 1)) - 1) * 256
    for name, engine in ENGINES.items():
        assert engine(matrix, [act]).tolist() == [[[exact]]], name
    whole = _bound(act.values, Prepared.of(matrix).weights[0])
    assert (whole >= EXACT) == (bits == 32)  # the split path is what ran


def wide(scale_bits: int, zero_bits: int) -> PackedMatrix:
    """Odd mantissas and zero points whose products are integers no float64 holds."""
    scale = Ints(np.array([[(1 << (scale_bits - 1)) - 1]]), scale_bits, True)
    zero = Ints(np.array([[(1 << zero_bits) - 1]]), zero_bits, False)
    return PackedMatrix(
        rows=1,
        columns=3,
        group=3,
        terms=(Term(planes=("p",), coefs=(1,), digit=Digit.UNIPOLAR, scale="s", zero="z"),),
        planes={"p": Plane(np.zeros((1, 1), np.uint64))},
        ints={
            "s": scale,
            "z": zero,
        },
        exponent=Ints(np.array([[0]]), 16, True),
    )


@pytest.mark.parametrize(("scale_bits", "zero_bits"), [(24, 30), (30, 24), (30, 30), (16, 32)])
def test_integer_weights_beyond_float64_are_multiplied_exactly(scale_bits, zero_bits):
    act = Activations(values=np.array([[1, -1, 1]]), bits=2, scale=np.ones(1, np.float32))
    exact = -((1 << (scale_bits - 1)) - 1) * ((1 << zero_bits) - 1)
    for name, engine in ENGINES.items():
        assert engine(wide(scale_bits, zero_bits), [act]).tolist() == [[[exact]]], name


def test_activation_mantissas_beyond_float64_are_multiplied_exactly():
    matrix = from_digits(SIGN, np.array([[1]]), np.array([[1.0]]), scale_bits=2)
    mantissa = np.array([[(1 << 40) + 1]])
    act = Activations(values=np.array([[32767]]), bits=16, scale=np.ones(1, np.float32), mantissa=mantissa)
    for name, engine in ENGINES.items():
        assert engine(matrix, [act]).tolist() == [[[32767 * ((1 << 40) + 1)]]], name


def test_sums_past_int64_are_refused_by_every_engine():
    matrix = extreme(256, 32)
    act = Activations(
        values=np.full((1, 256), -(2**15)),
        bits=16,
        scale=np.ones(1, np.float32),
        mantissa=np.full((1, 4), 2**12),
    )
    for name in ENGINES:
        with pytest.raises(ValueError, match=r"^integer sums must stay below 2\*\*63 for int64, not reach "):
            ENGINES[name](matrix, [act])


def test_activations_of_another_width_are_refused():
    matrix = from_digits(SIGN, np.ones((2, 70), np.int64), np.ones((2, 1)))
    message = "activations must have 70 columns and one token count in all streams, not shape [1, 69]"
    one = quantize_activations(np.ones((1, 69)))
    for name in ("numba", "integer"):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            ENGINES[name](matrix, [one])
    with pytest.raises(ValueError, match=r"^activations must have 70 columns, not 69$"):
        judge.integer_sums(matrix, [one])
    for engine in ENGINES.values():
        with pytest.raises(ValueError, match=r"^activations must be 1 streams, not 2$"):
            engine(matrix, [one, one])
