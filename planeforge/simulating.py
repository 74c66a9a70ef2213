"""A packed matrix on real activations: exact integers, outputs, cycles, activity.

Rows and tokens go through an engine in parts, so that a run holds its inputs, its outputs and a bounded rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from algo.bitplane.activation_formats import ActFormat
    from algo.bitplane.activations import Activations
    from algo.bitplane.matrix import PackedMatrix
    from hw.beats import Beats
    from hw.spec import Activity, ArraySpec, PeSpec
    from sim.activity import PlaneActivity
    from sim.cycles.run import Run

TOKEN_ENTRIES = 1 << 18  #: activations quantized at once: about 30 bytes each while it lasts
ROW_BITS = 1 << 25  #: plane bits the packed engine is given at once: it may hold some copies of 4 MiB
ENTRIES = 1 << 20  #: entries the engines that unpack are given at once: some copies of 8 bytes each
SUMS = 1 << 20  #: sums converted at once


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What the hardware would compute and do."""

    sums: NDArray[np.int64]  #: [streams, tokens, rows], before the last conversion
    outputs: NDArray[np.float32]  #: [tokens, rows]
    cycles: int  #: clocks of compute, as the RTL counts them
    utilisation: float  #: share of lane slots that did a one-bit multiply-accumulate
    schedule: Run  #: the same with buffers, memory port and scale units: clocks, stalls, bits moved
    activity: Activity | None  #: None where the array's schedule is not the one that is counted
    planes: tuple[PlaneActivity, ...]  #: the activity by plane; each side adds up to the whole
    sampled: bool  #: register toggles are scaled up from a sample of rows and tokens

    def figures(self) -> dict[str, Any]:
        """The numbers `planeforge simulate --json` prints."""
        tokens, rows = self.outputs.shape
        return {
            "tokens": tokens,
            "rows": rows,
            "cycles": self.cycles,
            "utilisation": self.utilisation,
            "schedule": self.schedule.figures(),
            "activity": None if self.activity is None else asdict(self.activity),
            "registers_sampled": self.sampled,
            "by_plane": [asdict(plane) for plane in self.planes],
        }


def streams(
    matrix: PackedMatrix, x: ArrayLike, act_bits: int, act: ActFormat | None = None
) -> list[Activations]:
    """The quantized activation streams a matrix reads of float activations [tokens, columns], unrotated.

    Parameters: act, a format in place of ``act_bits``; the matrix is then one that it has regrouped.
    """
    from algo.bitplane.activation_formats import entering
    from algo.bitplane.activations import quantize_activations

    if act is not None:
        return act.streams(matrix, x)
    factors = [None if name is None else matrix.factors[name] for name in matrix.streams]
    x = entering(matrix, x)
    return [quantize_activations(x, act_bits, factor) for factor in factors]


def simulate(
    matrix: PackedMatrix,
    x: ArrayLike,
    *,
    act_bits: int = 8,
    engine: str = "numba",
    array: ArraySpec | None = None,
    sample: int | None = None,
    act: ActFormat | None = None,
) -> Simulation:
    """Run a packed matrix on activations, real [tokens, columns].

    Parameters: sample, rows and tokens whose registers' toggles are followed; None: all (`sim.activity`);
    act, a format of the activations in place of ``act_bits``.

    Raises ValueError for an unknown engine, activations that do not fit, or a PE whose accumulator may not
    hold an item; TypeError for activations that are no real numbers.
    """
    import numpy as np

    from planeforge.hardware import array as default_array
    from sim.activity import Batches, countable, measure
    from sim.cycles.product import of_matrix
    from sim.cycles.run import simulate as scheduled
    from sim.cycles.skips import Skips
    from sim.engines import ENGINES
    from sim.schedule import check_pe, shape

    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    x = _checked(matrix, x)
    if act is not None:
        matrix, act_bits = act.regrouped(matrix), act.bits
    spec = array or default_array()
    check_pe(matrix, streams(matrix, x[:1], act_bits, act), spec.pe)
    sums = np.empty((len(matrix.streams), len(x), matrix.rows), np.int64)
    outputs = np.empty((len(x), matrix.rows), np.float32)
    for rows, part in _parts(matrix, engine):
        for tokens in _token_parts(x):
            acts = streams(part, x[tokens], act_bits, act)
            sums[:, tokens, rows] = ENGINES[engine](part, acts)
            _convert(part, acts, sums[:, tokens, rows], outputs[tokens, rows])
    batches = Batches(
        tokens=len(x),
        bits=act_bits,
        each=lambda: (streams(matrix, x[tokens], act_bits, act) for tokens in _token_parts(x)),
    )
    counted = measure(matrix, batches, spec, sample=sample) if countable(spec) else None
    work = shape(matrix, act_bits, len(x))
    return Simulation(
        sums=sums,
        outputs=outputs,
        cycles=spec.cycles(work),
        utilisation=spec.utilisation(work),
        schedule=scheduled(of_matrix(matrix, act_bits, len(x)), spec, Skips(matrix)),
        activity=None if counted is None else counted.activity,
        planes=() if counted is None else counted.planes,
        sampled=counted is not None and counted.sampled,
    )


def first_beats(
    matrix: PackedMatrix, x: ArrayLike, act_bits: int, pe: PeSpec, count: int, act: ActFormat | None = None
) -> Beats:
    """The first ``count`` beats of the first token's first output, or all if there are fewer.

    Raises ValueError and TypeError as `simulate`, if there is no token, or if ``count`` is not positive.
    """
    import numpy as np

    from algo.bitplane.rows import split
    from hw.beats import Beats
    from hw.spec import require_int
    from sim.schedule import work

    require_int("beats", count, 1)
    x = _checked(matrix, x)
    if not len(x):
        raise ValueError("activations must have at least 1 token to trace, not 0")
    _, part = next(iter(split(matrix if act is None else act.regrouped(matrix))))
    at = np.zeros(1, np.int64)
    beats = work(part, streams(part, x[:1], act_bits, act), pe, at, at).beats
    kept = {name: getattr(beats, name)[:count] for name in ("w", "x", "mask", "flags")}
    return Beats(lanes=beats.lanes, **kept)


def _checked(matrix: PackedMatrix, x: ArrayLike) -> NDArray[Any]:
    """Activations as a real array that fits the matrix, uncopied where it is one."""
    import numpy as np

    array = np.asarray(x)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"activations must be real numbers, not {array.dtype}")
    if array.ndim != 2 or array.shape[1] != matrix.columns:
        raise ValueError(f"activations must be [tokens, {matrix.columns}], not {list(array.shape)}")
    limit = float(np.finfo(np.float32).max)
    for tokens in _token_parts(array):
        part = array[tokens]
        if not np.all(np.isfinite(part)):
            raise ValueError("activations must be finite, not NaN or infinity")
        peak = max((float(part.max()), float(part.min())), key=abs)
        if abs(peak) > limit:
            raise ValueError(f"activations must be at most {limit:.4g} in magnitude, not {peak:.4g}")
    return array


def _token_parts(x: NDArray[Any]) -> Iterator[slice]:
    """Tokens in parts of about `TOKEN_ENTRIES`; none for none."""
    step = max(1, TOKEN_ENTRIES // x.shape[1])
    return (slice(at, min(at + step, len(x))) for at in range(0, len(x), step))


def _parts(matrix: PackedMatrix, engine: str) -> Iterator[tuple[slice, PackedMatrix]]:
    """Rows in parts an engine can take at once, each a matrix; the matrix itself if it is no larger."""
    from algo.bitplane.rows import split, stacked

    planes = sum(len(term.planes) + 1 for term in matrix.terms)
    most = (ROW_BITS // planes if engine == "numba" else ENTRIES) // matrix.columns
    if matrix.rows <= most:
        yield slice(0, matrix.rows), matrix
        return
    held: list[PackedMatrix] = []
    first = 0
    for here, part in split(matrix):
        if held and here.stop - first > most:
            yield slice(first, here.start), stacked(held)
            held, first = [], here.start
        held.append(part)
    yield slice(first, matrix.rows), stacked(held)


def _convert(
    matrix: PackedMatrix, acts: list[Activations], sums: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    """Outputs of a part's sums, some tokens at a time."""
    from dataclasses import replace

    from algo.bitplane.decode import outputs

    step = max(1, SUMS // matrix.rows)
    for first in range(0, len(out), step):
        at = slice(first, first + step)
        some = [
            replace(
                act,
                values=act.values[at],
                scale=act.scale[at],
                mantissa=None if act.mantissa is None else act.mantissa[at],
            )
            for act in acts
        ]
        out[at] = outputs(matrix, some, sums[:, at])


def write_waves(path: Path, pe: PeSpec, beats: Beats) -> None:
    """Write the waves of a PE on ``beats``, neither side stalling, as VCD, whole or not at all."""
    from algo.bitplane.store import write_whole
    from sim.vcd import dump

    write_whole(path, dump(pe, beats).encode())
