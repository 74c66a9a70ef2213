"""A packed matrix on real activations: exact integers, outputs, cycles, activity."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from algo.bitplane.activations import Activations
    from algo.bitplane.matrix import PackedMatrix
    from hw.spec import Activity, ArraySpec


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What the hardware would compute and do."""

    sums: NDArray[np.int64]  #: [streams, tokens, rows], before the last conversion
    outputs: NDArray[np.float32]  #: [tokens, rows]
    cycles: int  #: clocks of the array
    utilisation: float  #: share of lane slots that did a one-bit multiply-accumulate
    activity: Activity

    def figures(self) -> dict[str, Any]:
        """The numbers `planeforge simulate --json` prints."""
        tokens, rows = self.outputs.shape
        return {
            "tokens": tokens,
            "rows": rows,
            "cycles": self.cycles,
            "utilisation": self.utilisation,
            "activity": asdict(self.activity),
        }


def streams(matrix: PackedMatrix, x: ArrayLike, act_bits: int) -> list[Activations]:
    """The quantized activation streams a matrix reads of float activations [tokens, columns]."""
    from algo.bitplane.activations import quantize_activations

    factors = [None if name is None else matrix.factors[name] for name in matrix.streams]
    return [quantize_activations(x, act_bits, factor) for factor in factors]


def simulate(
    matrix: PackedMatrix,
    x: ArrayLike,
    *,
    act_bits: int = 8,
    engine: str = "numba",
    array: ArraySpec | None = None,
) -> Simulation:
    """Run a packed matrix on activations, float [tokens, columns].

    Raises ValueError for an unknown engine, or activations that do not fit.
    """
    from algo.bitplane.decode import outputs
    from planeforge.hardware import array as default_array
    from sim.activity import activity
    from sim.engines import ENGINES
    from sim.schedule import shape

    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    acts = streams(matrix, x, act_bits)
    sums = ENGINES[engine](matrix, acts)
    spec = array or default_array()
    work = shape(matrix, act_bits, len(acts[0].values))
    return Simulation(
        sums=sums,
        outputs=outputs(matrix, acts, sums),
        cycles=spec.cycles(work),
        utilisation=spec.utilisation(work),
        activity=activity(matrix, acts, spec),
    )
