"""Columns of a block format rounded one by one, each one's error pushed into those behind it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from algo.compiled import kernel

Floats = NDArray[np.float64]


@kernel(error_model="numpy")
def round_columns(
    block: Floats,
    factor: Floats,
    step: Floats,
    worth: Floats,
    table: NDArray[np.int64],
    group_of: NDArray[np.int64],
    single: bool,
    digits: Floats,
    bounds: Floats,
    zero: NDArray[np.int64],
    codes: NDArray[np.uint8],
) -> tuple[Floats, NDArray[np.uint8]]:
    """Round the columns of a block from first to last, each one's error pushed into those behind it.

    Parameters: block, float64 [columns, rows], transposed, changed; factor, float64 [columns, columns], its
    square of the triangular factor; group_of, int64 [columns], of each its group.
    Returns: errors over the factor's diagonal, float64 [columns, rows], and codes, uint8 [columns, rows].
    """
    columns, rows = block.shape
    errors, found = np.empty((columns, rows)), np.empty((columns, rows), np.uint8)
    for j in range(columns):
        g = group_of[j]
        for r in range(rows):
            own = table[r, g]
            level = zero[own]
            if step[r, g] > 0:
                if single:
                    share = np.float64(np.float32(block[j, r]) / np.float32(step[r, g]))
                else:
                    share = block[j, r] / step[r, g]
                level = np.searchsorted(bounds[own], share, side="right")
            errors[j, r] = (block[j, r] - worth[r, g] * digits[own, level]) / factor[j, j]
            found[j, r] = codes[own, level]
        for k in range(j + 1, columns):
            push = factor[j, k]
            for r in range(rows):
                block[k, r] -= errors[j, r] * push
    return errors, found
