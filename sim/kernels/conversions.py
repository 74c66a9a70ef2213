"""What stands before and behind the integers of a layer, compiled: the bits of the definitions in one pass.

`algo.bitplane.activations.quantize_activations` and `algo.bitplane.decode.outputs` are the definitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.activations import Activations, quantize_activations
from algo.bitplane.matrix import PackedMatrix
from algo.compiled import kernel

_INFINITY = np.float32(np.inf).view(np.int32)


@kernel
def _quantized(x, bits, top, values, scale, scale_bits):  # type: ignore[no-untyped-def]
    """Integers and scales of activations [tokens, columns]; False where one is not finite.

    Parameters: bits and scale_bits, int32, those of x and scale: without their sign they rise with the
    magnitude, and vectors of integers have a maximum that does not depend on its order.
    """
    for token in range(len(x)):
        row, pattern, out = x[token], bits[token], values[token]
        largest = np.int32(0)
        for k in range(len(row)):
            largest = max(largest, pattern[k] & np.int32(0x7FFFFFFF))
        if largest >= _INFINITY:
            return False
        scale_bits[token] = largest
        step = scale[token] / np.float32(top)
        if not step > 0:
            step = np.float32(1)
        for k in range(len(row)):
            out[k] = min(max(np.int64(np.rint(row[k] / step)), -top), top)
        scale[token] = step
    return True


def quantized(x: NDArray[np.float32], bits: int, factor: NDArray[np.floating] | None = None) -> Activations:
    """`quantize_activations` of contiguous float32 [tokens, columns], from two bits on in one pass.

    Raises ValueError as it does.
    """
    if bits == 1:
        return quantize_activations(x, bits, factor)
    values, scale = np.empty(x.shape, np.int64), np.empty(len(x), np.float32)
    scaled = x if factor is None else x * factor.astype(np.float32)
    top = (1 << (bits - 1)) - 1
    if not _quantized(scaled, scaled.view(np.int32), top, values, scale, scale.view(np.int32)):
        return quantize_activations(x, bits, factor)  # which says what is wrong
    return Activations(values=values, bits=bits, scale=scale, in_range=True)


@kernel
def _outputs(sums, factor, scales, out):  # type: ignore[no-untyped-def]
    """``float32(sum of float64(S) * factor * scale)`` of streams in their order."""
    streams, tokens, rows = sums.shape
    total = np.empty(rows)
    for token in range(tokens):
        total[:] = 0.0
        for stream in range(streams):
            line, scale = sums[stream, token], scales[stream, token]
            for m in range(rows):
                total[m] += np.float64(line[m]) * factor[m] * scale
        done = out[token]
        for m in range(rows):
            done[m] = np.float32(total[m])


class Outputs:
    """The one conversion of a matrix's integer sums, with what depends on the matrix alone made once."""

    def __init__(self, matrix: PackedMatrix) -> None:
        # Products with a power of two are exact, so the row's factor may take it in first.
        row = np.ones(matrix.rows) if matrix.row is None else matrix.row.astype(np.float64)
        #: What a sum of a row is multiplied by before its token's scale; float64 [rows].
        self.factor = np.ldexp(row, np.broadcast_to(matrix.exponent.values, (matrix.rows, 1))[:, 0])

    def of(self, activations: Sequence[Activations], sums: NDArray[np.int64]) -> NDArray[np.float32]:
        """``y``, float32 [tokens, rows], of ``S``, int64 [streams, tokens, rows]."""
        scales = np.stack([act.scale.astype(np.float64) for act in activations])
        out = np.empty(sums.shape[1:], np.float32)
        _outputs(np.ascontiguousarray(sums), self.factor, scales, out)
        return out
