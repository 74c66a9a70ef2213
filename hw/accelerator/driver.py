"""Driver: a matrix product as register writes and packets, and its sums from what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw.accelerator import registers
from hw.accelerator.commands import Command, Run
from hw.accelerator.planner import Part, Planner
from hw.accelerator.session import Backend, Session
from hw.accelerator.spec import AcceleratorSpec

Int = NDArray[np.int64]

#: Largest number of runs that the doorbell counts.
MOST_CREDITS = 0xFFFF
#: Clocks a run may take beyond its beats and the words that bring its operands, before it counts as hung.
PATIENCE = 4000


@dataclass(frozen=True, kw_only=True)
class Report:
    """A product's sums, and what the registers say of the way there."""

    sums: Int  #: [streams, tokens, rows]
    runs: int  #: descriptors
    beats: int  #: that the array took
    clocks: int  #: from the first word in to the last word out
    kinds: dict[str, int]  #: clocks by kind, see `registers.COUNTERS`


def session_of(spec: AcceleratorSpec, commands: Sequence[Command], tiles: int) -> Session:
    """Commands as a session that reads errors and counters at its end."""
    packets = [command.words(spec) for command in commands]
    runs = [command for command in commands if isinstance(command, Run)]
    beats = sum(run.groups * run.tiles * run.steps * run.chunks for run in runs)
    words = [word for packet in packets for word in packet]
    values = 8 * tiles * spec.rows * spec.columns
    auto = len(runs) > MOST_CREDITS
    writes = [
        ("IRQ_ENABLE", registers.encode("IRQ_ENABLE", error=1)),
        ("CONTROL", registers.encode("CONTROL", auto=int(auto), quiet=1, clear=1)),
    ]
    if not auto:
        writes.append(("DOORBELL", registers.encode("DOORBELL", count=len(runs))))
    finish: list[tuple[int, int | None]] = [
        (registers.offset("CONTROL"), registers.encode("CONTROL", auto=int(auto), quiet=1, snapshot=1)),
        (registers.offset("ERRORS"), None),
        (registers.offset("COMPLETED"), None),
    ]
    for name in registers.COUNTERS:
        finish += [(registers.offset(f"{name.upper()}_{part}"), None) for part in ("LO", "HI")]
    interval = spec.scale_unit().interval()
    slow = (1 + interval) * spec.rows * sum(run.groups * run.tiles for run in runs)
    return Session(
        writes=[(registers.offset(name), value) for name, value in writes],
        words=words,
        lasts=[at == len(packet) - 1 for packet in packets for at in range(len(packet))],
        tiles=tiles,
        finish=finish,
        limit=PATIENCE + 10 * (len(words) + beats + values + slow),
    )


def multiply(
    spec: AcceleratorSpec, parts: Sequence[Part], tokens: int, rows: int, backend: Backend
) -> Report:
    """A product on an accelerator: all its sums, exact.

    Raises ValueError if a piece does not fit the buffers; RuntimeError if the accelerator reports an error,
    or completes other runs than it was given.
    """
    planner = Planner(spec, parts, tokens, rows)
    commands = list(planner.commands())
    session = session_of(spec, commands, len(planner.tiles))
    outcome = backend(spec, session)
    errors, completed, *halves = outcome.reads
    if errors:
        raised = [name for name, flag in registers.decode("ERRORS", errors).items() if flag]
        raise RuntimeError(f"the accelerator must report no error, not {', '.join(raised)}")
    runs = sum(isinstance(command, Run) for command in commands)
    if completed != runs or len(outcome.tiles) != len(planner.tiles):
        raise RuntimeError(
            f"the accelerator must complete {runs} runs of {len(planner.tiles)} tiles, "
            f"not {completed} of {len(outcome.tiles)}"
        )
    kinds = {name: halves[2 * at] | halves[2 * at + 1] << 32 for at, name in enumerate(registers.COUNTERS)}
    streams = 1 + max(part.stream for part in parts)
    sums = np.zeros((streams, tokens, rows), np.int64)
    for tile, data in zip(planner.tiles, outcome.tiles, strict=True):
        shape = (tile.rows.stop - tile.rows.start, tile.tokens.stop - tile.tokens.start)
        values = np.frombuffer(data, f"<i{spec.sum_bits // 8}").reshape(shape)
        sums[tile.stream, tile.tokens, tile.rows] = values.T
    return Report(sums=sums, runs=runs, beats=kinds["run"], clocks=outcome.clocks, kinds=kinds)
