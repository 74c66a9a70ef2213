"""Compiled conversions have the definitions' own bits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.bitplane import decode
from algo.bitplane.activations import quantize_activations
from sim.kernels.conversions import Outputs, quantized
from sim.tests.test_activity import layer


def activations_of(tokens: int, columns: int, kind: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((tokens, columns)).astype(np.float32)
    if kind == "halves":  # many quotients end in one half
        x = rng.integers(-14, 15, (tokens, columns)).astype(np.float32) / 2
    if kind == "tiny":
        x *= np.float32(1e-44)
    if kind == "zeros":
        x[:] = 0
    return x


@settings(deadline=None)
@given(
    tokens=st.integers(0, 5),
    columns=st.integers(1, 140),
    kind=st.sampled_from(["normal", "halves", "tiny", "zeros"]),
    bits=st.sampled_from([1, 2, 4, 8, 13, 16]),
    factor=st.booleans(),
    seed=st.integers(0, 99),
)
def test_quantized_activations_are_the_definitions(
    tokens: int, columns: int, kind: str, bits: int, factor: bool, seed: int
) -> None:
    x = activations_of(tokens, columns, kind, seed)
    col = np.linspace(0.3, 3, columns).astype(np.float16) if factor else None
    got, wanted = quantized(x, bits, col), quantize_activations(x, bits, col)
    np.testing.assert_array_equal(got.values, wanted.values)
    np.testing.assert_array_equal(got.scale, wanted.scale)
    assert (got.values.dtype, got.scale.dtype, got.bits) == (np.int64, np.float32, bits)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_as_by_the_definition(value: float) -> None:
    x = np.ones((3, 70), np.float32)
    x[1, 69] = value
    with pytest.raises(ValueError, match=r"^activations must be finite, not NaN or infinity$"):
        quantized(x, 8)


@pytest.mark.parametrize("row_scaled", [False, True])
@pytest.mark.parametrize("streams", [1, 2])
def test_outputs_are_the_definitions_to_the_last_bit(streams: int, row_scaled: bool) -> None:
    matrix, _ = layer()
    rng = np.random.default_rng(3)
    if row_scaled:
        matrix = replace(matrix, row=rng.standard_normal(matrix.rows).astype(np.float32))
    acts = [quantize_activations(rng.standard_normal((7, 70)), 8) for _ in range(streams)]
    sums = rng.integers(-(1 << 62), 1 << 62, (streams, 7, matrix.rows))
    np.testing.assert_array_equal(Outputs(matrix).of(acts, sums), decode.outputs(matrix, acts, sums))
