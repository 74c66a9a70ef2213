"""Speed of the stream-toggle pass beside a plain read of the same bytes and numpy's own, in one run.

CPU time of one thread, contenders interleaved in an order that turns with every repetition, medians printed.
All toggle counts are checked against each other first. The read pass adds the words up and does nothing else,
so its speed is what the memory and one thread allow.

    python benchmarks/bench_toggles.py --megabytes 1 16 256 --bits 1024 --repetitions 15
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

import numpy as np
from numba import njit
from numpy.typing import NDArray
from timing import medians, one_thread

from sim import toggles

Words = NDArray[np.uint64]

PEER = "read"  #: what ratios are against


@njit
def read(words: Words) -> int:
    """Sum of a flat array."""
    total = np.uint64(0)
    for i in range(len(words)):
        total += words[i]
    return total


def numpy_toggles(words: Words) -> int:
    """The same count by numpy alone."""
    return int(np.bitwise_count(words[1:] ^ words[:-1]).sum(dtype=np.int64))


def contenders(words: Words) -> Mapping[str, Callable[[], int]]:
    """Functions to time, by name."""
    flat = words.reshape(-1)
    return {
        PEER: lambda: read(flat),
        "toggles.stream": lambda: toggles.stream(words),
        "numpy": lambda: numpy_toggles(words),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 16, 256], help="stream sizes [MiB]")
    parser.add_argument("--bits", type=int, default=1024, help="width of the bus, a multiple of 64")
    parser.add_argument("--repetitions", type=int, default=15)
    given = parser.parse_args()
    if given.bits < 64 or given.bits % 64:
        parser.error(f"bits must be a positive multiple of 64, not {given.bits}")
    one_thread()
    rng = np.random.default_rng(0)
    print(f"{'stream':>10} {'contender':>16} {'GB/s':>8} {'of read':>8}")
    for megabytes in given.megabytes:
        words = rng.integers(0, 1 << 64, ((megabytes << 20) * 8 // given.bits, given.bits // 64), np.uint64)
        if toggles.stream(words) != numpy_toggles(words):
            raise SystemExit("the contenders do not count alike")
        found = medians(contenders(words), given.repetitions)
        for name, taken in found.items():
            speed = words.nbytes / taken / 1e9
            print(f"{megabytes:>6} MiB {name:>16} {speed:>8.1f} {found[PEER] / taken:>8.2f}")


if __name__ == "__main__":
    main()
