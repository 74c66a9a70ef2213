"""Speed of the popcount engine beside plain loops and torch's float32 product, in one run.

CPU time of one thread, contenders interleaved in an order that turns with every repetition, medians printed.
Every contender's result is checked first: integers against the judge, float32 against the dequantized matrix.

    python benchmarks/bench_engines.py --size 4096 --repetitions 7
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numba import njit

from algo.bitplane import words
from algo.bitplane.activations import Activations, quantize_activations
from algo.bitplane.build import from_digits
from algo.bitplane.decode import dequantize
from algo.bitplane.format import Digit, Format
from algo.bitplane.matrix import PackedMatrix
from sim import judge
from sim.integer import Prepared
from sim.numba_engine import Lowered

#: What the libraries read when they are imported.
THREADS = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
PEER = "torch fp32"  #: what ratios are against
GROUP = 128  #: columns that share a scale

SIGN = Format(
    name="sign", digit=Digit.BIPOLAR, coefs=(1,), group=GROUP, published_bits=1.0, source="one sign plane"
)


@njit
def plain_loops(bits, scale, group, values, out):  # type: ignore[no-untyped-def]
    """Sums of signs times activations, entry by entry: what the engine must beat."""
    tokens, columns = values.shape
    for token in range(tokens):
        for row in range(bits.shape[0]):
            total = 0
            for first in range(0, columns, group):
                partial = 0
                for k in range(first, min(first + group, columns)):
                    value = values[token, k]
                    partial += value if bits[row, k] else -value
                total += scale[row, first // group] * partial
            out[token, row] = total


def contenders(matrix: PackedMatrix, act: Activations) -> Mapping[str, Callable[[], Any]]:
    """Functions to time. Weights are prepared outside, activations inside, as a layer meets them."""
    lowered, prepared = Lowered.of(matrix), Prepared.of(matrix)
    bits = words.unpack(matrix.planes["plane0"].words, matrix.columns)
    scale = np.ascontiguousarray(np.broadcast_to(matrix.ints["scale"].values, (matrix.rows, matrix.groups)))
    out = np.zeros((len(act.values), matrix.rows), np.int64)
    weight = torch.from_numpy(dequantize(matrix).astype(np.float32)).T
    x = torch.from_numpy(act.values.astype(np.float32))

    def loops() -> Any:
        plain_loops(bits, scale, matrix.group, act.values, out)
        return out[None]

    return {
        PEER: lambda: x @ weight,
        "numba": lambda: lowered.integer_sums([act]),
        "plain loops": loops,
        "integer (fp64 BLAS)": lambda: prepared.integer_sums([act]),
    }


def check(matrix: PackedMatrix, act: Activations, functions: Mapping[str, Callable[[], Any]]) -> None:
    """Refuse to time a wrong result."""
    expected = judge.integer_sums(matrix, [act])
    for name, function in functions.items():
        if name == PEER:
            real = act.values.astype(np.float64) @ dequantize(matrix).T
            if not np.allclose(function().numpy(), real, rtol=1e-3, atol=1e-3 * np.abs(real).max()):
                raise RuntimeError(f"{name} must be close to the dequantized product, and is not")
        elif not np.array_equal(function(), expected):
            raise RuntimeError(f"{name} must equal the judge, and does not")


def medians(functions: Mapping[str, Callable[[], Any]], repetitions: int) -> dict[str, float]:
    """Median CPU seconds of each function."""
    names = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repetitions):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            began = time.process_time()
            functions[name]()
            seconds[name].append(time.process_time() - began)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="engines side by side, CPU time of one thread")
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of the layer")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--act-bits", type=int, nargs="+", default=[8, 1])
    parser.add_argument("--repetitions", type=int, default=7)
    given = parser.parse_args()
    if any(os.environ.get(name) != count for name, count in THREADS.items()):
        os.execve(sys.executable, sys.orig_argv, os.environ | THREADS)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    shape = (given.size, given.size)
    scales = rng.random((given.size, -(-given.size // GROUP))) + 0.5
    matrix = from_digits(SIGN, rng.choice([-1, 1], shape), scales)
    print(f"{given.size} x {given.size}, scales per {GROUP} columns, {given.repetitions} repetitions")
    for bits in given.act_bits:
        for tokens in given.tokens:
            act = quantize_activations(rng.normal(size=(tokens, given.size)), bits)
            functions = contenders(matrix, act)
            check(matrix, act, functions)
            taken = medians(functions, given.repetitions)
            print(f"W1A{bits} N={tokens}")
            for name, seconds in taken.items():
                ratio = taken[PEER] / seconds
                print(f"  {name:20s} {seconds * 1e9:14,.0f} ns  {ratio:7.2f} x {PEER}")


if __name__ == "__main__":
    main()
