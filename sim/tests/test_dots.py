"""The byte kernel against the judge: every width, ragged shapes, the largest sums, and without VNNI."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.bitplane.activations import Activations
from algo.bitplane.build import from_digits
from algo.bitplane.decode import integer_weights
from algo.bitplane.format import Digit, Format
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Plane
from algo.bitplane.tests.strategies import matrices
from sim import judge
from sim.kernels import dots
from sim.kernels.codes import TOP, lower
from sim.kernels.dots_layout import RUN

SIGN = Format(name="s", digit=Digit.BIPOLAR, coefs=(1,), group=128, published_bits=1.0, source="test")
TRIT = replace(SIGN, name="t", digit=Digit.UNIPOLAR, coefs=(1, -1))


def unsigned(bits: int) -> Format:
    coefs = tuple(1 << place for place in range(bits))
    return replace(SIGN, name=f"u{bits}", digit=Digit.UNIPOLAR, coefs=coefs, zero=True)


def signed(bits: int) -> Format:
    coefs = (*(1 << place for place in range(bits - 1)), -(1 << (bits - 1)))
    return replace(SIGN, name=f"i{bits}", digit=Digit.UNIPOLAR, coefs=coefs)


FORMATS = [
    SIGN,
    TRIT,
    replace(SIGN, name="b3", coefs=(1, 2, 4)),
    unsigned(2),
    unsigned(8),
    signed(4),
    signed(8),
]


def random_matrix(fmt: Format, rows: int, columns: int, group: int, seed: int = 0) -> PackedMatrix:
    rng = np.random.default_rng(seed)
    shape = (rows, -(-columns // group))
    zero = rng.integers(0, 1 << len(fmt.coefs), shape) if fmt.zero else None
    digits = rng.choice(fmt.values(), (rows, columns))
    return from_digits(replace(fmt, group=group), digits, rng.random(shape) - 0.5, zero)


def random_activations(bits: int, tokens: int, matrix: PackedMatrix, mantissas: bool) -> Activations:
    rng = np.random.default_rng(bits)
    limit = 1 << (bits - 1)
    shape = (tokens, matrix.columns)
    values = rng.choice([-1, 1], shape) if bits == 1 else rng.integers(-limit, limit, shape)
    by_group = rng.integers(-99, 100, (tokens, matrix.groups)) if mantissas else None
    return Activations(values=values, bits=bits, scale=np.ones(tokens, np.float32), mantissa=by_group)


def sums(matrix: PackedMatrix, act: Activations, stream: str | None = None) -> np.ndarray:
    out = np.full((len(act.values), matrix.rows), 7, np.int64)  # what is there stays: add adds
    dots.prepare(matrix, stream).add(act, out)
    return out - 7


def check(matrix: PackedMatrix, act: Activations) -> None:
    np.testing.assert_array_equal(sums(matrix, act), judge.integer_sums(matrix, [act])[0])


@settings(deadline=None)
@given(matrices())
def test_codes_and_rest_are_the_integer_weights(matrix):
    for stream in matrix.streams:
        lowered = lower(matrix, stream)
        total = np.zeros((matrix.rows, matrix.columns), np.int64)
        for code in lowered.codes:
            values = code.values(matrix, slice(None)).astype(np.int64)
            assert values.max() <= code.top
            assert code.step * code.top <= TOP
            assert 0 <= code.zero <= TOP
            total += code.multiplier[:, matrix.group_of] * (code.step * values - code.zero)
        if lowered.rest is not None:
            total += lowered.rest[:, matrix.group_of]
        np.testing.assert_array_equal(total, integer_weights(matrix, stream))


@settings(deadline=None, max_examples=60)
@given(matrices(), st.integers(1, 16), st.integers(0, 9), st.booleans())
def test_sums_equal_the_judge_for_any_matrix(matrix, bits, tokens, mantissas):
    acts = [random_activations(bits, tokens, matrix, mantissas) for _ in matrix.streams]
    expected = judge.integer_sums(matrix, acts)
    for stream, act, wanted in zip(matrix.streams, acts, expected, strict=True):
        np.testing.assert_array_equal(sums(matrix, act, stream), wanted)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("tokens", [1, 3, 21])
def test_sums_are_exact_for_every_width_and_ragged_group(fmt, tokens):
    for rows, columns, group in ((50, 300, 128), (97, 515, 515), (7, 70, 3), (48, 256, 100), (1, 1, 1)):
        matrix = random_matrix(fmt, rows, columns, group)
        check(matrix, random_activations(8, tokens, matrix, mantissas=False))
        check(matrix, random_activations(5, tokens, matrix, mantissas=True))


@pytest.mark.parametrize("bits", [1, 2, 8, 9, 15, 16])
@pytest.mark.parametrize("tokens", [1, 6])
def test_activations_of_every_width_are_cut_into_exact_bytes(bits, tokens):
    matrix = random_matrix(unsigned(4), 20, 135, 32)
    check(matrix, random_activations(bits, tokens, matrix, mantissas=False))
    check(matrix, random_activations(bits, tokens, matrix, mantissas=True))


@pytest.mark.parametrize("fmt", [SIGN, TRIT, signed(4), signed(8)], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("columns", [14336, RUN + 3])
def test_the_largest_sums_do_not_wrap(fmt, columns):
    for bits, activation in ((8, -128), (8, 127), (16, -32768), (16, 32767)):
        digits = np.tile(np.array([[fmt.low], [fmt.high]]), (1, columns))
        matrix = from_digits(replace(fmt, group=columns), digits, np.ones((2, 1)))
        for tokens in (1, 2):
            values = np.full((tokens, columns), activation)
            check(matrix, Activations(values=values, bits=bits, scale=np.ones(tokens, np.float32)))


def test_the_bound_of_a_run_is_what_int32_holds():
    assert (TOP + TOP) * 128 * RUN <= 2**31 - 1  # codes and their zero, times -128


def test_sums_do_not_depend_on_how_tokens_are_blocked(monkeypatch):
    matrix = random_matrix(unsigned(3), 61, 200, 64)
    act = random_activations(8, 43, matrix, mantissas=True)
    whole = sums(matrix, act)
    monkeypatch.setattr(dots, "BLOCK_BYTES", 1)
    np.testing.assert_array_equal(sums(matrix, act), whole)
    one = replace(act, values=act.values[:1], scale=act.scale[:1], mantissa=act.mantissa[:1])
    np.testing.assert_array_equal(sums(matrix, one), whole[:1])


@pytest.mark.parametrize(("fmt", "bits"), [(SIGN, 1), (TRIT, 2), (unsigned(3), 4), (signed(5), 8)])
def test_a_weight_takes_no_more_than_its_rounded_width(fmt, bits):
    matrix = random_matrix(fmt, 96, 256, 128)
    (laid,) = dots.prepare(matrix, None).laid
    assert laid.codes.nbytes * 8 == 96 * 256 * bits


def test_multipliers_beyond_32_bits_are_left_to_other_kernels():
    def one(scale: int) -> PackedMatrix:
        term = Term(planes=("p",), coefs=(2,), digit=Digit.UNIPOLAR, scale="s")
        return PackedMatrix(
            rows=1,
            columns=3,
            group=3,
            terms=(term,),
            planes={"p": Plane(np.zeros((1, 1), np.uint64))},
            ints={"s": Ints(np.array([[scale]]), 32, True)},
            exponent=Ints(np.array([[0]]), 16, True),
        )

    assert dots.prepare(one(2**30 - 1), None) is not None
    assert dots.prepare(one(2**30), None) is None


def test_cost_grows_with_rows_tokens_and_wider_activations():
    small, large = (dots.prepare(random_matrix(SIGN, rows, 512, 128), None) for rows in (96, 960))
    assert 0 < small.cost(8, 1, False) < large.cost(8, 1, False)
    costs = [large.cost(8, tokens, False) for tokens in (1, 4, 16, 128, 2048)]
    assert costs == sorted(set(costs))
    assert large.cost(8, 16, False) < large.cost(9, 16, False) < large.cost(16, 16, False)
    assert large.cost(8, 16, False) < large.cost(8, 16, True)


SCRIPT = """
from sim.kernels.dots_tile import fast
from sim.tests import test_dots as t
assert not fast()
for fmt in t.FORMATS:
    for tokens in (1, 2, 13):
        matrix = t.random_matrix(fmt, 50, 300, 100)
        t.check(matrix, t.random_activations(8, tokens, matrix, False))
        t.check(matrix, t.random_activations(16, tokens, matrix, True))
    t.test_the_largest_sums_do_not_wrap(fmt, 14336) if not fmt.zero else None
"""


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("x86-64-v3", ""),
        pytest.param("generic", "", marks=pytest.mark.slow),
        pytest.param("x86-64-v4", "", marks=pytest.mark.slow),
    ],
)
def test_sums_are_the_same_on_a_cpu_without_vnni(name, features):
    forced = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=os.environ | forced, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
