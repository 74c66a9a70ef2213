"""Block Hadamard rotation: sums and differences that spread an outlier over its block.

Rows of Sylvester's matrix ``H`` are orthogonal, ``H H = n I``: rotating weights and activations alike
multiplies their products by ``n`` and changes nothing else, to the last bit where both are integers. An
integer grows by ``log2 n`` bits. Source: Egiazarian et al., "Bridging the Gap Between Promise and
Performance for Microscaling FP4 Quantization", arXiv:2509.23202, section 4 (blocks of 16 to 128 columns,
activations rotated as they come).
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", np.int64, np.float32, np.float64)
Float = TypeVar("Float", np.float32, np.float64)


def check_block(columns: int, block: int) -> None:
    """Raises ValueError unless ``block`` is a power of two above 1 that divides the columns."""
    if not isinstance(block, int) or isinstance(block, bool) or block < 2 or block & (block - 1):
        raise ValueError(f"rotate must be a power of two above 1, not {block!r}")
    if columns % block:
        raise ValueError(f"rotate must divide the {columns} columns, not {block!r}")


def rotated(values: NDArray[Number], block: int) -> NDArray[Number]:
    """``x H`` of every block of each row, [rows, columns]; ``log2 block`` steps of sums and differences.

    Twice of it is ``block`` times the values. Raises ValueError as `check_block`.
    """
    rows, columns = values.shape
    check_block(columns, block)
    found = np.array(values, order="C")  # so that blocks are views
    half = 1
    while half < block:
        pairs = found.reshape(rows, -1, 2, half)
        low, high = pairs[:, :, 0].copy(), pairs[:, :, 1]
        pairs[:, :, 0] += high
        np.subtract(low, high, out=pairs[:, :, 1])
        half *= 2
    return found


def rotated_weights(values: NDArray[Float], block: int) -> NDArray[Float]:
    """``W H / 2**(log2 block // 2)``: what the planes of a rotated matrix stand for.

    With `rotated_activations` every product stays what it was. Both are divided by powers of two, which costs
    no bit; for a ``block`` of 4, 16, 64, ... the rotation is then orthogonal, else larger by sqrt(2) here and
    smaller there. Raises ValueError as `check_block`.
    """
    return np.ldexp(rotated(values, block), -((block.bit_length() - 1) // 2))


def rotated_activations(values: NDArray[Float], block: int) -> NDArray[Float]:
    """``x H / 2**(log2 block - log2 block // 2)``: what a rotated matrix reads; turns `rotated_weights` back.

    Raises ValueError as `check_block`, or if a sum is no finite number, or no longer one.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.ldexp(rotated(values, block), -(block.bit_length() // 2))
    if not np.all(np.isfinite(found)):
        raise ValueError(f"activations must be finite, sums of {block} of them too, not NaN or infinity")
    return found
