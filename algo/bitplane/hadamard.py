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


def check_block(columns: int, block: int) -> None:
    """Raises ValueError unless ``block`` is a power of two above 1 that divides the columns."""
    if block < 2 or block & (block - 1):
        raise ValueError(f"rotate must be a power of two above 1, not {block!r}")
    if columns % block:
        raise ValueError(f"rotate must divide the {columns} columns, not {block!r}")


def rotated(values: NDArray[Number], block: int) -> NDArray[Number]:
    """``x H`` of every block of each row, [rows, columns]; ``log2 block`` steps of sums and differences.

    Twice of it is ``block`` times the values. Raises ValueError as `check_block`.
    """
    rows, columns = values.shape
    check_block(columns, block)
    found = np.array(values)
    half = 1
    while half < block:
        pairs = found.reshape(rows, -1, 2, half)
        low, high = pairs[:, :, 0].copy(), pairs[:, :, 1]
        pairs[:, :, 0] += high
        np.subtract(low, high, out=pairs[:, :, 1])
        half *= 2
    return found
