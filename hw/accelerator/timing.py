"""Clocks of runs whose operands are in the buffers, exact: a few recurrences over items and rows.

Nothing outside stalls: the descriptors wait in the queue, and what comes out is taken at once. Clock 0 is the
one in which the sequencer takes the first descriptor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hw.accelerator.commands import Run
from hw.accelerator.model import unpack
from hw.accelerator.spec import STEP_FIELDS, AcceleratorSpec

#: Clocks from taking a descriptor to the array taking its first beat: it is issued, then its words are read.
FETCH = 2
#: Clocks from copying items out of the array to their first row at the scale units: its mantissas are read.
COLLECT = 2
#: Clocks from a sum leaving the adder to the drain: handed over, then read from the queue of rows.
HAND_OVER = 2
#: Clocks from a sum leaving the requantizer to its word being taken: packing.
PACK = 1


@dataclass(frozen=True, kw_only=True)
class Item:
    """Items of the array that are handed over in one clock."""

    beats: int
    rows: int
    columns: int
    finishes: bool  #: the tile's sums come out
    ends: bool  #: the run


def items_of(run: Run, table: Sequence[int]) -> list[Item]:
    """Items of a run in order, by the packed steps of its table."""
    beats, counted = [], 0
    for entry in table:
        step = unpack(entry, STEP_FIELDS)
        counted += 1 if step["bubble"] else run.chunks
        if step["last"]:
            beats.append(counted)
            counted = 0
    whole = beats * run.groups
    return [
        Item(
            beats=n,
            rows=run.rows,
            columns=run.columns,
            finishes=run.drain and at == len(whole) - 1,
            ends=at == len(whole) - 1 and tile == run.tiles - 1,
        )
        for tile in range(run.tiles)
        for at, n in enumerate(whole)
    ]


def cycles(spec: AcceleratorSpec, items: Sequence[Item]) -> int:
    """Clocks up to and including the one in which the last run completes; 0 without items."""
    interval, depth = spec.scale_unit().interval(), max(spec.rows, 2)
    copied = FETCH - 1 + spec.array.latency()  # the clock in which an item was copied out of the array
    goes = takes = leaves = 0  # of the row before: from the copy, into the scale unit, onto its sum
    handed = 0  # clock in which the row before it went into the queue of rows
    popped: list[int] = []  # clocks in which the drain was done with a row
    for item in items:
        copied = max(copied + item.beats, goes)
        for row in range(item.rows):
            goes = max(copied + 1 if row == 0 else goes + 1, takes)
            takes = max(goes + COLLECT - 1, leaves)
            leaves = max(takes + interval, handed)
            if not item.finishes and not (item.ends and row == item.rows - 1):
                continue
            handed = leaves + 1
            if len(popped) >= depth:
                handed = max(handed, popped[-depth] + 1)
            begins = max(handed + HAND_OVER - 1, popped[-1] + 1 if popped else 0)
            popped.append(begins + (item.columns if item.finishes else 1) - 1)
    return popped[-1] + spec.requantizer().latency() + PACK + 1 if popped else 0


def tile_cycles(spec: AcceleratorSpec, *, items: int, beats: int, rows: int, columns: int) -> int:
    """The same in closed form, for one tile of equal items.

    The first item fills the array; from then on the slower of array and scale units sets the pace; the last
    rows are drained, at the pace of the slower of scale units and drain.
    """
    interval = spec.scale_unit().interval()
    first = FETCH - 1 + beats + spec.array.latency() + COLLECT  # the first row reaches the scale units
    last = first + (items - 1) * max(beats, rows * interval)
    drained = last + interval + HAND_OVER + (rows - 1) * max(interval, columns) + columns - 1
    return drained + spec.requantizer().latency() + PACK + 1
