"""What a mutant is judged by: inputs clock by clock, and the outputs the contract demands for them.

Nothing here reads RTL. Items are those of the PE's definition, and when they come follows
`hw.spec.PeSpec.stalled_cycles`: the pipeline moves as one, halting while an item waits and is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw.stimulus import SPARE_CLOCKS
from hw.verilog import Design

PHASES = ("full rate", "stalls", "resets")


@dataclass(frozen=True, kw_only=True)
class Clock:
    """One clock's inputs, and the outputs they demand (of a reset's clock, none)."""

    reset: bool
    offered: bool  #: ``i.valid``
    payload: int  #: ``i.payload``; of no meaning where nothing is offered
    takes: bool  #: ``o.ready``
    ready: bool  #: demanded ``i.ready``
    item: int | None  #: demanded ``o.payload``; None: ``o.valid`` must be 0
    phase: int  #: index into `PHASES`


def drive(designs: Sequence[Design], seed: int) -> list[Clock]:
    """The first design's vectors at full rate, the second's with stalls; each further run ends in a reset.

    The designs differ in vectors alone. Every run begins with a reset, and from an accumulator of 0.
    """
    rng = np.random.default_rng(seed)
    clocks: list[Clock] = []
    for number, design in enumerate(designs):
        phase = min(number, len(PHASES) - 1)
        share = (1.0, 0.6, 0.7)[phase]
        whole = len(design.beats) + design.latency + SPARE_CLOCKS
        length = (whole, 3 * whole, int(rng.integers(1, whole)))[phase]
        clocks += _run(design, length, share, phase, rng)
    return clocks


def _run(design: Design, length: int, share: float, phase: int, rng: np.random.Generator) -> list[Clock]:
    """A reset, in whose clock a beat is offered that must be forgotten, and ``length`` clocks."""
    beats, items = design.beats, iter(design.items)
    garbage = design.beats[int(rng.integers(len(beats)))]
    out = [Clock(reset=True, offered=True, payload=garbage, takes=True, ready=True, item=None, phase=phase)]
    pipeline: list[int | None] = [None] * design.latency
    position, waiting = 0, False
    for _ in range(length):
        takes = bool(rng.random() < share)
        waiting = position < len(beats) and (waiting or bool(rng.random() < share))
        payload = beats[position if waiting else int(rng.integers(len(beats)))]
        item = pipeline[-1]
        moves = takes or item is None
        out.append(
            Clock(
                reset=False,
                offered=waiting,
                payload=payload,
                takes=takes,
                ready=moves,
                item=item,
                phase=phase,
            )
        )
        if moves:
            finishes = waiting and design.lasts[position]
            pipeline = [next(items) if finishes else None, *pipeline[:-1]]
            position += waiting
            waiting = False
    return out


def words(values: Sequence[int], width: int) -> NDArray[np.uint32]:
    """[n, words]: each value modulo 2**``width``, low word first."""
    count = -(-width // 32)
    data = b"".join((value % (1 << width)).to_bytes(4 * count, "little") for value in values)
    return np.frombuffer(data, "<u4").reshape(len(values), count).astype(np.uint32)
