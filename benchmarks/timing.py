"""CPU time of contenders, side by side in one process, each library on one thread."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

#: What the libraries read when they are imported.
THREADS = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
SAMPLE = 0.01  #: seconds of one measurement, at least: a quick function is called several times in a row


def one_thread() -> None:
    """Begin this program again where a library might use more threads than one."""
    if any(os.environ.get(name) != count for name, count in THREADS.items()):
        os.execve(sys.executable, sys.orig_argv, os.environ | THREADS)


def medians(functions: Mapping[str, Callable[[], Any]], repetitions: int) -> dict[str, float]:
    """Median CPU seconds of a call of each, in an order that turns with every repetition."""
    names = list(functions)
    calls = {name: max(1, int(SAMPLE / max(_once(functions[name]), 1e-6))) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repetitions):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            began = time.process_time()
            for _ in range(calls[name]):
                functions[name]()
            seconds[name].append((time.process_time() - began) / calls[name])
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def _once(function: Callable[[], Any]) -> float:
    """Seconds of the second call; the first may compile."""
    function()
    began = time.process_time()
    function()
    return time.process_time() - began
