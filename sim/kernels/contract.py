"""What a kernel module offers, and how the engine finds the modules that do.

A module of this package that defines `NAME`, `GOLDEN` and `prepare` is a kernel; one file adds one:

- ``NAME``: str, what `Lowered.integer_sums` and the benchmarks call it;
- ``GOLDEN``: str, dotted name of the definition its sums must equal;
- ``prepare(matrix, stream)``: the weights that read one activation stream as `Prepared`; None where they do
  not suit the algorithm. Every kernel is asked, so what is large is laid out when first multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.activations import Activations
from algo.bitplane.matrix import PackedMatrix

Sums = NDArray[np.int64]

#: Activations that nobody writes to any more: kernels may keep what they made of them while they live.
unchanging: WeakSet[Activations] = WeakSet()

SCRATCH = 64 << 20  #: bytes a call may hold beside its inputs, its outputs and the prepared weights


class Prepared(Protocol):
    """The weights of one activation stream of a matrix, for one algorithm; made once."""

    def cost(self, bits: int, tokens: int, mantissas: bool) -> float | None:
        """Estimated nanoseconds on this CPU, an estimate for choosing; None: it cannot take these.

        Parameters: bits of the activations; tokens; mantissas, whether their groups have scales of their own.
        """
        ...

    def add(self, act: Activations, out: Sums) -> None:
        """Add the stream's integer sums ``S`` to ``out``, int64 [tokens, rows], contiguous.

        The caller has checked that ``act`` fits the matrix and that no sum leaves int64.
        """
        ...


class Writes(Protocol):
    """A `Prepared` that can also write sums where nothing is yet, which spares zeros and a pass over them."""

    def put(self, act: Activations, out: Sums) -> None:
        """As `Prepared.add`, with whatever stands in ``out`` taken as 0."""
        ...


class Converts(Protocol):
    """A `Prepared` that can also end in outputs, which spares the integer sums a way through memory."""

    def convert(self, act: Activations, factor: NDArray[np.float64], out: NDArray[np.float32]) -> bool:
        """Write ``float32(float64(S) * factor * scale)`` to ``out``, [tokens, rows], contiguous.

        Parameters: factor, [rows], of the matrix. False, with nothing written, where sums of several passes
        would have to meet first.
        """
        ...


class Kernel(Protocol):
    """A kernel module."""

    NAME: str
    GOLDEN: str

    def prepare(self, matrix: PackedMatrix, stream: str | None) -> Prepared | None:
        """See this module's head."""
        ...


def aligned(size: int) -> NDArray[np.uint8]:
    """Bytes that begin where a cache line does: a vector then never lies in two."""
    whole = np.empty(size + 64, np.uint8)
    start = -whole.ctypes.data % 64
    return whole[start : start + size]


@cache
def kernels() -> Mapping[str, Kernel]:
    """Every kernel of the package by its name, in the order of file names."""
    package = __name__.rpartition(".")[0]
    found: dict[str, Kernel] = {}
    for module in iter_modules(import_module(package).__path__):
        loaded = import_module(f"{package}.{module.name}") if not module.ispkg else None
        if hasattr(loaded, "NAME") and hasattr(loaded, "prepare"):
            found[loaded.NAME] = loaded  # type: ignore[union-attr,assignment]
    return found
