"""Numba kernels over packed words. Rows lie side by side, so that one instruction counts many of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray


@intrinsic
def popcount(typing_context: Any, word: Any) -> Any:
    """Ones in a uint64; Numba has none of its own."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count = builder.module.declare_intrinsic("llvm.ctpop", [ir.IntType(64)])
        return builder.call(count, arguments)

    return types.int64(types.uint64), generate


@njit(cache=True)
def add_sums(
    words: NDArray[np.uint64],
    multipliers: NDArray[np.int64],
    segments: NDArray[np.int64],
    masks: NDArray[np.uint64],
    groups: NDArray[np.int64],
    x: NDArray[np.uint64],
    signed: bool,
    out: NDArray[np.int64],
) -> None:
    """Add the products of one activation stream to ``out``.

    Parameters: words, uint64 [ops, words, rows]; multipliers, int64 [ops, groups, rows]; segments, int64 [s],
    the word each segment of columns lies in; masks, uint64 [s], its columns there; groups, int64 [s + 1], its
    group, then a group of its own for the end; x, uint64 [bits, tokens, words], plane i of place 2**i;
    signed, whether the top plane's place is negative; out, int64 [tokens, rows].
    """
    bits, tokens, _ = x.shape
    ops, _, rows = words.shape
    partial = np.zeros(rows, np.int64)
    for token in range(tokens):
        sums = out[token]
        for op in range(ops):
            partial[:] = 0
            for s in range(len(segments)):
                column = words[op, segments[s]]
                for bit in range(bits):
                    plane = x[bit, token, segments[s]] & masks[s]
                    if plane == 0:
                        continue
                    if signed and bit == bits - 1:
                        for row in range(rows):
                            partial[row] -= popcount(column[row] & plane) << bit
                    else:
                        for row in range(rows):
                            partial[row] += popcount(column[row] & plane) << bit
                if groups[s + 1] != groups[s]:
                    scale = multipliers[op, groups[s]]
                    for row in range(rows):
                        sums[row] += partial[row] * scale[row]
                        partial[row] = 0
