"""Outputs that a kernel converts as it sums are those of the definition, to the sign of a zero."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.bitplane import decode
from algo.bitplane.activations import Activations, quantize_activations
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix
from sim import judge
from sim.kernels.contract import kernels, unchanging
from sim.kernels.conversions import quantized
from sim.numba_engine import Lowered
from sim.tests.test_kernels import draw_activations, sign_matrix, tall

CONVERTING = ("dots", "folded")


def same_bits(got: np.ndarray, wanted: np.ndarray) -> None:
    assert got.dtype == wanted.dtype == np.float32
    np.testing.assert_array_equal(got.view(np.int32), wanted.view(np.int32))


def scaled(matrix: PackedMatrix, seed: int) -> PackedMatrix:
    """Rows with exponents and factors of their own, some negative."""
    rng = np.random.default_rng(seed)
    return replace(
        matrix,
        exponent=Ints(rng.integers(-40, 9, (matrix.rows, 1)), 16, True),
        row=rng.standard_normal(matrix.rows).astype(np.float32),
    )


@st.composite
def cases(draw) -> tuple[PackedMatrix, list[Activations]]:
    matrix = scaled(draw(tall(bits=draw(st.sampled_from([4, 10, 16])))), draw(st.integers(0, 99)))
    return matrix, draw_activations(draw, matrix, draw(st.sampled_from([2, 8, 11])))


@settings(deadline=None, max_examples=60)
@given(cases())
def test_converted_outputs_are_the_definitions_to_the_last_bit(case):
    matrix, activations = case
    lowered, sums = Lowered.of(matrix), judge.integer_sums(matrix, activations)
    wanted = decode.outputs(matrix, activations, sums)
    same_bits(lowered.outputs(activations), wanted)
    if len(activations) > 1:
        return
    for name in CONVERTING:
        prepared = lowered.prepared(matrix.streams[0], name)
        act = activations[0]
        if prepared is None or prepared.cost(act.bits, len(act.values), act.mantissa is not None) is None:
            continue
        got = np.full(wanted.shape, np.nan, np.float32)
        if prepared.convert(act, lowered._conversion.factor, got):
            same_bits(got, wanted)
        else:
            assert np.isnan(got).all()


@pytest.mark.parametrize("rows", [1, 47, 48, 50, 101])
@pytest.mark.parametrize("tokens", [1, 2, 8, 11])
def test_nothing_beside_the_outputs_is_written(rows: int, tokens: int) -> None:
    matrix = scaled(sign_matrix(rows, 130, 64), rows)
    act = quantize_activations(np.random.default_rng(tokens).standard_normal((tokens, 130)), 8)
    guarded = np.full(tokens * rows + 64, np.nan, np.float32)
    out = guarded[: tokens * rows].reshape(tokens, rows)
    lowered = Lowered.of(matrix)
    assert lowered.prepared(None, "dots").convert(act, lowered._conversion.factor, out)
    same_bits(out, decode.outputs(matrix, [act], judge.integer_sums(matrix, [act])))
    assert np.isnan(guarded[tokens * rows :]).all()


def test_bytes_of_activations_are_kept_only_for_those_that_do_not_change() -> None:
    matrix, other = sign_matrix(70, 130, 64), sign_matrix(33, 130, 130, seed=1)
    act = quantized(np.random.default_rng(0).standard_normal((9, 130)).astype(np.float32), 8)
    layers = [Lowered.of(matrix), Lowered.of(other)]
    for _ in range(2):
        for layer in layers:
            sums = layer.integer_sums([act], kernel="dots")
            np.testing.assert_array_equal(sums, judge.integer_sums(layer.matrix, [act]))
        act.values[:] = -act.values
    unchanging.add(act)
    for layer in layers * 2:  # of two layouts, in turn
        sums = layer.integer_sums([act], kernel="dots")
        np.testing.assert_array_equal(sums, judge.integer_sums(layer.matrix, [act]))


def test_kernels_that_convert_are_among_the_kernels() -> None:
    assert set(CONVERTING) <= set(kernels())
