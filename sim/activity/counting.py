"""All counts of one product, put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.activations import Activations
from algo.bitplane.matrix import PackedMatrix
from hw.pe.bitserial import BitSerial
from hw.spec import Activity, ArraySpec
from sim import schedule
from sim.activity import closed, planes, registers, traffic
from sim.activity.contents import Content, Source, Survey
from sim.activity.planes import PlaneActivity
from sim.activity.program import Program
from sim.activity.tables import Batches, Tables, TokenTables, row_tables

if TYPE_CHECKING:
    import pandas as pd

Int = NDArray[np.int64]

SAMPLE = 1024  #: rows, and tokens, whose registers are followed unless more are asked for

#: The one schedule whose steps are counted: that of `sim.schedule` and the RTL.
SCHEDULE = {
    "dataflow": "output-stationary",
    "outer": "rows",
    "planes": "outermost",
    "skip": "none",
    "pack_kept": False,
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a product did, in all and by plane."""

    activity: Activity
    planes: tuple[PlaneActivity, ...]  #: of either side; each side adds up to the whole
    sampled: bool  #: register toggles were scaled up from a sample; all else is exact


def countable(array: ArraySpec) -> bool:
    """Whether an array follows the one schedule, of the one kind of PE, whose steps `measure` counts."""
    return isinstance(array.pe, BitSerial) and all(
        getattr(array, name) == wanted for name, wanted in SCHEDULE.items()
    )


def check_countable(array: ArraySpec) -> None:
    """Raise ValueError if an array's PE or schedule is not the one whose steps are counted."""
    if not isinstance(array.pe, BitSerial):
        raise ValueError(f"pe must be a BitSerial to count activity, not {array.pe!r}")
    for name, wanted in SCHEDULE.items():
        if getattr(array, name) != wanted:
            raise ValueError(f"{name} must be {wanted!r} to count activity, not {getattr(array, name)!r}")


def activity(
    matrix: PackedMatrix,
    activations: Sequence[Activations],
    array: ArraySpec,
    *,
    sample: int | None = SAMPLE,
) -> Activity:
    """Counts of one product on an array; see `measure`."""
    return measure(matrix, Batches.whole(activations), array, sample=sample).activity


def by_plane(
    matrix: PackedMatrix,
    activations: Sequence[Activations],
    array: ArraySpec,
    *,
    sample: int | None = SAMPLE,
) -> pd.DataFrame:
    """One row per plane of either side, columns as `PlaneActivity`; see `measure`."""
    from dataclasses import asdict

    import pandas as pd

    found = measure(matrix, Batches.whole(activations), array, sample=sample)
    return pd.DataFrame([asdict(plane) for plane in found.planes])


def measure(
    matrix: PackedMatrix, batches: Batches, array: ArraySpec, *, sample: int | None = SAMPLE
) -> Measured:
    """Count a product of ``matrix`` with a batch on an array.

    Parameters: sample, rows and tokens (evenly spread) whose dot product and accumulator registers are
    followed, as if they were the whole product, and scaled up; None: all of them. Every other count is exact.

    Raises ValueError if the array's schedule is not `SCHEDULE`, the activations do not fit, a coefficient is
    no signed power of two, or an item may not fit the accumulator; TypeError or ValueError if ``sample`` is
    no positive integer.
    """
    _check(matrix, batches, array, sample)
    schedule.shape(matrix, batches.bits, batches.tokens)  # refuses coefficients a shifter cannot make
    if not batches.tokens:
        return Measured(activity=Activity(), planes=(), sampled=False)
    first = next(iter(batches.each()))
    places = first[0].places
    program = Program.of(matrix, places, first[0].bipolar, array.pe.lanes)
    tokens = TokenTables(matrix, batches, program)
    counter = _Counter(matrix, program, array, lambda: row_tables(matrix, program), lambda: iter(tokens))
    toggles, weight, activation = counter.exact(batches.tokens)
    found, sampled = counter.registers(batches.tokens, sample)
    toggles |= found
    toggles["beats"] = np.full(len(program.w), batches.tokens * matrix.rows, np.int64)
    toggles["zero_beats"] = counter.zero_beats(weight, activation, batches.tokens)
    by_entry = {name: _by_entry(program, counts) for name, counts in toggles.items()}
    total = {name: int(counts.sum()) for name, counts in by_entry.items()}
    return Measured(
        activity=_activity(matrix, program, array, batches, total),
        planes=planes.table(matrix, program, places, by_entry, weight, activation),
        sampled=sampled,
    )


def _activity(
    matrix: PackedMatrix, program: Program, array: ArraySpec, batches: Batches, counted: dict[str, int]
) -> Activity:
    """What was counted beat by beat, with what follows from shapes alone."""
    tokens, bits = batches.tokens, batches.bits
    outputs = tokens * matrix.rows
    items = outputs * int(np.count_nonzero(program.lasts))
    reading = tokens * int(np.count_nonzero(~program.bubbles))  # a bubble brings no word
    return Activity(
        cycles=array.cycles(schedule.shape(matrix, bits, tokens)),
        **counted,
        bubbles=outputs * int(np.count_nonzero(program.bubbles)),
        shared_sum_beats=outputs * int(np.count_nonzero(program.shared)),
        items=items,
        scale_products=items,
        weight_buffer_bits=traffic.weight_reads(matrix, array, tokens, bits),
        activation_buffer_bits=reading * array.pe.lanes * traffic.tiles(matrix.rows, array.rows),
        result_bits=outputs * traffic.RESULT_BITS,
        dram_bits=traffic.dram_bits(matrix, array, tokens, bits),
    )


def _check(matrix: PackedMatrix, batches: Batches, array: ArraySpec, sample: int | None) -> None:
    if sample is not None:
        if not isinstance(sample, int) or isinstance(sample, bool):
            raise TypeError(f"sample must be an integer or None, not {sample!r}")
        if sample < 1:
            raise ValueError(f"sample must be at least 1, not {sample!r}")
    check_countable(array)
    for activations in batches.each():
        schedule.check_pe(matrix, activations, array.pe)
        return


@dataclass(frozen=True, eq=False)
class _Counter:
    """The passes over a product's words."""

    matrix: PackedMatrix
    program: Program
    array: ArraySpec
    rows: Callable[[], Tables]
    tokens: Callable[[], Tables]

    def exact(self, batch: int) -> tuple[dict[str, Int], Content, Content]:
        """Toggles by beat of operands and products, and what the words of either side hold."""
        program, height = self.program, self.matrix.rows
        weight = Survey(program, planes.sources(self.matrix, program).values())
        activation = Survey(
            program, [Source(i, None, program.x_bipolar) for i in range(len(program.x_planes))]
        )
        row_ends = closed.ends(program, _surveyed(self.rows, weight), height, program.w, program.mask)
        token_ends = closed.ends(program, _surveyed(self.tokens, activation), batch, program.x, program.x)
        steps = closed.count(program, self.rows, self.tokens, height, batch)
        between = closed.between(program, row_ends, token_ends, self.array)
        toggles = {}
        for name in ("w", "x", "mask", "product"):
            counts = getattr(steps, name)
            counts[0] += getattr(between, name)[0]
            toggles[f"{name}_toggles"] = counts
        return toggles, weight.content(), activation.content()

    def registers(self, batch: int, sample: int | None) -> tuple[dict[str, Int], bool]:
        """Toggles by beat of the registers, and whether they come from a sample."""
        row_at, token_at = _spread(self.matrix.rows, sample), _spread(batch, sample)
        found = registers.count(self.program, self.rows, self.tokens, self.array, row_at, token_at)
        whole = self.matrix.rows * batch
        counted = len(row_at) * len(token_at)
        toggles = {"dot_toggles": found.dot, "accumulator_toggles": found.accumulator}
        if counted == whole:
            return toggles, False
        scaled = {name: np.rint(counts * (whole / counted)) for name, counts in toggles.items()}
        return {name: counts.astype(np.int64) for name, counts in scaled.items()}, True

    def zero_beats(self, weight: Content, activation: Content, batch: int) -> Int:
        """Beats of all outputs, by beat, whose word of either side has no lane that counts."""
        program, height = self.program, self.matrix.rows
        order = {key: at for at, key in enumerate(planes.sources(self.matrix, program))}
        found = np.zeros(len(program.w), np.int64)
        beats = np.flatnonzero(~program.bubbles)
        by_entry = np.array([order.get((entry.term, entry.w_plane), -1) for entry in program.entries])
        source = by_entry[program.entry[beats]]
        chunk = program.w[beats] % program.chunks
        rows = weight.zero_words[source, chunk]
        tokens = activation.zero_words[program.x[beats] // program.chunks, chunk]
        found[beats] = rows * batch + tokens * height - rows * tokens
        return found


def _surveyed(tables: Callable[[], Tables], survey: Survey) -> Callable[[], Tables]:
    """The same tables, each surveyed as it passes."""

    def each() -> Tables:
        for here, table in tables():
            survey.add(table)
            yield here, table

    return each


def _spread(count: int, sample: int | None) -> Int:
    chosen = count if sample is None else min(count, sample)
    return np.unique(np.linspace(0, count - 1, chosen).astype(np.int64))


def _by_entry(program: Program, counts: Int) -> Int:
    total = np.zeros(len(program.entries), np.int64)
    np.add.at(total, program.entry, counts)
    return total
