"""The mutation run as a command: which share of all mutants the verification kills, and why the rest live."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw.beats import Beats
from hw.grid import Grid
from hw.mutation.drive import PHASES
from hw.mutation.equivalence import reason
from hw.mutation.run import outcomes
from hw.pe.bitserial import BitSerial
from hw.pe.gather import Gather
from hw.pe.mac import Mac
from hw.pe.popcount import Popcount
from hw.pe.selectadd import SelectAdd
from hw.pe.ternary import Ternary
from hw.pe.twoplane import TwoPlane
from hw.spec import ArraySpec, PeSpec
from hw.verilog import design

#: Least share of all mutants to be killed, equivalent ones among those that live [1].
LEAST = 0.95

SMALL = BitSerial(lanes=5, acc_width=9, levels=1)
#: What is mutated, by name: sizes small enough that a build takes seconds, no multiple of a power of two.
DESIGNS: Mapping[str, PeSpec] = {
    "bitserial": BitSerial(lanes=9, acc_width=12, levels=1),
    "popcount": Popcount(lanes=10, acc_width=9, levels=1),
    "ternary": Ternary(lanes=6, acc_width=9, levels=1),
    "selectadd": SelectAdd(lanes=5, acc_width=14, act_bits=4, levels=1),
    "gather": Gather(lanes=15, acc_width=12, levels=1, keep=5, of=8),
    "twoplane": TwoPlane(lanes=5, acc_width=7, levels=1),
    "mac": Mac(lanes=5, acc_width=16, w_bits=4, act_bits=5, levels=1),
    "array": Grid(array=ArraySpec(pe=SMALL, rows=1, columns=2)),
    "systolic": Grid(array=ArraySpec(pe=SMALL, rows=1, columns=2, network="systolic")),
}


@dataclass(frozen=True, kw_only=True)
class Survivor:
    """A mutant that no check saw."""

    design: str
    what: str
    where: str
    reason: str  #: why it is no fault; empty if that is not proven


@dataclass(frozen=True, kw_only=True)
class Result:
    """The mutants of one design."""

    design: str
    mutants: int
    groups: dict[str, int]
    killed: dict[str, int]  #: by the phase that killed
    survivors: list[Survivor]
    seconds: float


def vectors(spec: PeSpec, beats: int, resets: int, seed: int) -> list[Any]:
    """Runs at full rate and with stalls, then short ones that resets cut off."""
    sizes = [beats, beats, *[max(20, beats // 10)] * resets]
    return [design(spec, Beats.random(spec, size, seed + run)) for run, size in enumerate(sizes)]


def run(name: str, *, beats: int = 300, resets: int = 40, seed: int = 0) -> Result:
    """Every mutant of a design, and the survivors with reasons.

    Parameters: beats of the runs at full rate and with stalls; resets, runs that end in one.
    """
    began, spec = time.monotonic(), DESIGNS[name]
    everything, found = outcomes(vectors(spec, beats, resets, seed), seed)
    survivors = [
        Survivor(
            design=name,
            what=one.mutant.what,
            where=one.mutant.where,
            reason=reason(spec, everything, one.number),
        )
        for one in found
        if not one.killed
    ]
    return Result(
        design=name,
        mutants=len(found),
        groups=dict(Counter(one.mutant.group for one in found)),
        killed=dict(Counter(PHASES[one.phase] for one in found if one.killed)),
        survivors=survivors,
        seconds=time.monotonic() - began,
    )


def share(results: Sequence[Result]) -> float:
    """Killed mutants over all."""
    return sum(sum(r.killed.values()) for r in results) / sum(r.mutants for r in results)


def told(results: Sequence[Result]) -> list[str]:
    """The report, line by line."""
    lines = ["| design | mutants | killed | equivalent, proven | alive | s |", "|---|---|---|---|---|---|"]
    for one in results:
        proven = sum(bool(s.reason) for s in one.survivors)
        killed = sum(one.killed.values())
        cells = [one.design, one.mutants, killed, proven, len(one.survivors) - proven, f"{one.seconds:.0f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    for live in (s for r in results for s in r.survivors):
        lines.append(f"{live.design}: {live.what}, {live.where}: {live.reason or 'not proven harmless'}")
    return [*lines, f"killed {share(results):.2%} of {sum(r.mutants for r in results)} mutants"]


def main(
    names: Sequence[str], output: Path | None, print_line: Callable[[str], None] = print, **given: int
) -> int:
    """Run, report, and return the exit status: 1 if too few die, equivalent ones counted as alive."""
    unknown = [name for name in names if name not in DESIGNS]
    if unknown:
        print(f"designs must be among {', '.join(DESIGNS)}, not {unknown[0]!r}", file=sys.stderr)
        return 2
    results = []
    for name in names or DESIGNS:
        results.append(run(name, **given))
        print_line(f"{name}: {results[-1].mutants} mutants, {len(results[-1].survivors)} survive")
    for line in told(results):
        print_line(line)
    if output is not None:
        output.write_text(
            json.dumps([r.__dict__ | {"survivors": [s.__dict__ for s in r.survivors]} for r in results])
        )
    return 1 if share(results) < LEAST else 0
