"""The table kernel against the judge: one and two bits, ragged shapes, and sums at the edge of 16 bits."""

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
from algo.bitplane.format import Digit, Format
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.tests.strategies import matrices
from sim import judge
from sim.kernels import cpu, dots, tables
from sim.kernels.tables_kernels import CHUNK

SIGN = Format(name="s", digit=Digit.BIPOLAR, coefs=(1,), group=128, published_bits=1.0, source="test")
TRIT = replace(SIGN, name="t", digit=Digit.UNIPOLAR, coefs=(1, -1))
TWO = replace(SIGN, name="u2", digit=Digit.UNIPOLAR, coefs=(1, 2), zero=True)
SHAPES = [(50, 300, 128), (97, 515, 515), (193, 70, 3), (96, 256, 100), (1, 1, 1)]

pytestmark = pytest.mark.skipif(not cpu.has("avx512bw"), reason="needs a lookup of 16-bit lanes")


def random_matrix(fmt: Format, rows: int, columns: int, group: int) -> PackedMatrix:
    rng = np.random.default_rng(rows)
    shape = (rows, -(-columns // group))
    digits = rng.choice(fmt.values(), (rows, columns))
    zero = rng.integers(0, 4, shape) if fmt.zero else None
    return from_digits(replace(fmt, group=group), digits, rng.random(shape) - 0.5, zero)


def random_activations(bits: int, tokens: int, matrix: PackedMatrix, mantissas: bool) -> Activations:
    rng = np.random.default_rng(bits)
    limit = 1 << (bits - 1)
    shape = (tokens, matrix.columns)
    values = rng.choice([-1, 1], shape) if bits == 1 else rng.integers(-limit, limit, shape)
    by_group = rng.integers(-99, 100, (tokens, matrix.groups)) if mantissas else None
    return Activations(values=values, bits=bits, scale=np.ones(tokens, np.float32), mantissa=by_group)


def check(matrix: PackedMatrix, act: Activations) -> None:
    out = np.full((len(act.values), matrix.rows), 5, np.int64)  # what is there stays: add adds
    tables.prepare(matrix, None).add(act, out)
    np.testing.assert_array_equal(out - 5, judge.integer_sums(matrix, [act])[0])


@pytest.mark.parametrize("fmt", [SIGN, TRIT, TWO], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_are_exact_for_ragged_shapes_and_groups(fmt, shape):
    matrix = random_matrix(fmt, *shape)
    for bits, tokens, mantissas in ((8, 1, False), (8, 3, True), (5, 2, False), (1, 2, True)):
        check(matrix, random_activations(bits, tokens, matrix, mantissas))


@settings(deadline=None, max_examples=40)
@given(matrices(), st.integers(1, 8), st.integers(0, 3), st.booleans())
def test_sums_equal_the_judge_for_any_matrix_it_takes(matrix, bits, tokens, mantissas):
    acts = [random_activations(bits, tokens, matrix, mantissas) for _ in matrix.streams]
    expected = judge.integer_sums(matrix, acts)
    for stream, act, wanted in zip(matrix.streams, acts, expected, strict=True):
        prepared = tables.prepare(matrix, stream)
        if prepared is not None:
            out = np.zeros((tokens, matrix.rows), np.int64)
            prepared.add(act, out)
            np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize("fmt", [SIGN, TRIT], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("columns", [16 * CHUNK, 16 * CHUNK + 1, 14336])
@pytest.mark.parametrize("activation", [-128, 127])
def test_the_largest_sums_do_not_wrap(fmt, columns, activation):
    digits = np.tile(np.array([[fmt.low], [fmt.high]]), (1, columns))
    matrix = from_digits(replace(fmt, group=columns), digits, np.ones((2, 1)))
    values = np.full((1, columns), activation)
    check(matrix, Activations(values=values, bits=8, scale=np.ones(1, np.float32)))


def test_a_chunk_of_sums_fits_16_bits_and_one_more_would_not():
    assert 16 * CHUNK * 128 <= 2**15 < 16 * (CHUNK + 1) * 128 + 1


def test_what_it_does_not_take_it_says():
    prepared = tables.prepare(random_matrix(SIGN, 96, 256, 128), None)
    assert prepared.cost(9, 1, False) is None
    assert prepared.cost(8, tables.TOKENS + 1, False) is None
    wide = replace(TWO, name="u3", coefs=(1, 2, 4), zero=False)
    assert tables.prepare(random_matrix(wide, 96, 256, 128), None) is None


def test_cost_grows_with_rows_tokens_and_mantissas():
    small, large = (tables.prepare(random_matrix(SIGN, rows, 512, 128), None) for rows in (96, 960))
    assert 0 < small.cost(8, 1, False) < large.cost(8, 1, False) < large.cost(8, 2, False)
    assert large.cost(8, 1, False) < large.cost(8, 1, True)


def test_one_instruction_a_lookup_makes_it_the_choice_for_one_token(monkeypatch):
    matrix = random_matrix(SIGN, 960, 4096, 4096)
    monkeypatch.setattr(tables.cpu, "name", lambda: "znver4")
    assert tables.prepare(matrix, None).cost(8, 1, False) < dots.prepare(matrix, None).cost(8, 1, False)


def test_a_weight_takes_its_bits_alone():
    (looked,) = tables.prepare(random_matrix(TRIT, 192, 256, 128), None).looked
    assert looked.indices.nbytes * 8 == 192 * 256 * 2


def test_without_the_lookup_other_kernels_do_the_work():
    matrix = "t.random_matrix(t.SIGN, 3, 70, 3)"
    script = f"from sim.tests import test_tables as t\nassert t.tables.prepare({matrix}, None) is None"
    forced = os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run(
        [sys.executable, "-c", script], env=forced, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
