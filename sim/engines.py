"""Software engines by name: integer sums of a packed matrix on quantized activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.activations import Activations
from algo.bitplane.matrix import PackedMatrix

Engine = Callable[[PackedMatrix, Sequence[Activations]], NDArray[np.int64]]


def _engine(module: str) -> Engine:
    def integer_sums(matrix: PackedMatrix, activations: Sequence[Activations]) -> NDArray[np.int64]:
        # Imported when used: torch and Numba take seconds.
        sums: NDArray[np.int64] = import_module(module).integer_sums(matrix, activations)
        return sums

    return integer_sums


#: Every engine returns int64 [streams, tokens, rows].
ENGINES: Mapping[str, Engine] = {
    "torch": _engine("sim.judge"),
    "numba": _engine("sim.numba_engine"),
    "integer": _engine("sim.integer"),
}
