"""Bit-exact agreement of every engine with the judge, on tiles of real layers.

The judge is torch in int64 on unpacked digits. Software engines compute whole layers; engines that execute
the PE's RTL compute as large a tile as their speed allows, all layers in one run, and their clocks are held
against the compute contract.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import decode
from algo.bitplane.activations import Activations
from algo.bitplane.matrix import PackedMatrix

if TYPE_CHECKING:
    from hw.beats import Beats, Run
    from hw.spec import PeSpec

JUDGE = "torch"
SOFTWARE = ("numba", "integer")
#: Beats an engine gets in one verification: a few seconds of its own speed.
BUDGET = {
    "amaranth": 4_000,
    "cxxrtl": 1_000_000,
    "icarus": 8_000,
    "verilator": 60_000,
    "netlist": 100_000,
}
ENGINES = (JUDGE, *SOFTWARE, *BUDGET)
DEFAULT_ENGINES = tuple(name for name in ENGINES if name != "netlist")

Int = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One matrix on activations to compare the engines on."""

    name: str
    matrix: PackedMatrix
    activations: Sequence[Activations]

    @cached_property
    def judged(self) -> Int:
        """The judge's sums, int64 [streams, tokens, rows]; computed once."""
        from sim import judge

        return judge.integer_sums(self.matrix, self.activations)

    def part(self, tokens: Int) -> Case:
        """The same matrix on some of the tokens."""
        fewer = [
            replace(
                act,
                values=act.values[tokens],
                scale=act.scale[tokens],
                mantissa=None if act.mantissa is None else act.mantissa[tokens],
            )
            for act in self.activations
        ]
        return replace(self, activations=fewer)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one engine computed, and how it compares."""

    engine: str
    layers: int = 0
    outputs: int = 0  #: integer sums compared
    macs: int = 0  #: multiply-accumulates (weight times activation) behind them
    mismatches: int = 0
    cycles: int | None = None  #: clocks measured, for engines that run RTL
    cycles_model: int | None = None  #: clocks the compute contract says
    seconds: float = 0.0
    failure: str = ""  #: why the engine did not run

    @property
    def agrees(self) -> bool:
        """Every sum equal, and every clock as the contract counts it."""
        return not self.failure and not self.mismatches and self.cycles == self.cycles_model


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Some outputs of a case: every pair of ``tokens`` and ``rows``."""

    case: Case
    tokens: Int
    rows: Int

    def judged(self) -> Int:
        """The judge's sums, int64 [streams, tokens, rows]."""
        return self.case.judged[:, self.tokens][:, :, self.rows]

    @property
    def outputs(self) -> int:
        """Sums of the tile, over all streams."""
        return len(self.case.activations) * len(self.tokens) * len(self.rows)


def runner(engine: str) -> Callable[[PeSpec, Beats], Run]:
    """The function that executes a PE's RTL under ``engine``."""
    if engine == "amaranth":
        from hw import pysim

        return pysim.run
    if engine == "cxxrtl":
        from hw import cxxrtl

        return cxxrtl.run
    if engine == "netlist":
        from hw import netlist

        return netlist.run
    from hw import verilog_sim

    return lambda spec, beats: verilog_sim.run(spec, beats, engine)


def verify(
    cases: Sequence[Case],
    engines: Sequence[str] = DEFAULT_ENGINES,
    pe: PeSpec | None = None,
    *,
    seed: int = 0,
    progress: Callable[[float, str], None] = lambda share, doing: None,
) -> list[Outcome]:
    """Compare engines with the judge.

    Raises ValueError for an unknown engine or RTL that none executes; an engine that cannot run says so in
    its outcome.
    """
    from planeforge.hardware import pe as default_pe

    for engine in engines:
        if engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    spec = pe or default_pe()
    if any(engine in BUDGET for engine in engines):
        require_executable(spec)
    outcomes = []
    for index, engine in enumerate(engines):
        progress(index / len(engines), engine)
        try:
            if engine in BUDGET:
                outcomes.append(_hardware(engine, cases, spec, seed))
            else:
                outcomes.append(software(engine, cases))
        except (RuntimeError, OSError) as error:
            outcomes.append(Outcome(engine=engine, failure=str(error)))
    return outcomes


def require_executable(spec: PeSpec) -> None:
    """Raise ValueError for a PE whose RTL is too wide, or of one FPGA family's cells."""
    from hw.pipeline import require_ports

    require_ports(spec)
    if spec.primitives:
        raise ValueError(f"pe must be of plain logic to be executed, not of {spec.primitives} cells")


def software(engine: str, cases: Sequence[Case]) -> Outcome:
    """The judge against the plain definition, or another software engine against the judge, whole layers."""
    from sim.engines import ENGINES as FUNCTIONS

    outputs = macs = mismatches = 0
    seconds = 0.0
    for case in cases:
        # The judge itself is held against the plain definition, on fewer tokens: that one is slow.
        shown = case.part(np.arange(min(2, len(case.activations[0].values)))) if engine == JUDGE else case
        began = time.perf_counter()
        sums = FUNCTIONS[engine](shown.matrix, shown.activations)
        seconds += time.perf_counter() - began
        expected = decode.integer_sums(shown.matrix, shown.activations) if engine == JUDGE else case.judged
        mismatches += int(np.count_nonzero(sums != expected))
        mismatches += _output_mismatches(shown, sums)
        outputs += sums.size
        macs += sums.size * case.matrix.columns
    return Outcome(
        engine=engine, layers=len(cases), outputs=outputs, macs=macs, mismatches=mismatches, seconds=seconds
    )


def _output_mismatches(case: Case, sums: Int) -> int:
    """Float outputs of ``sums`` whose bits differ between the judge's conversion and the definition's."""
    from sim import judge

    ours = decode.outputs(case.matrix, case.activations, sums)
    theirs = np.asarray(judge.outputs(case.matrix, case.activations, sums))
    return int(np.count_nonzero(ours.view(np.uint32) != theirs.view(np.uint32)))


def _hardware(engine: str, cases: Sequence[Case], pe: PeSpec, seed: int) -> Outcome:
    from hw.beats import Beats
    from sim import tiles

    parts = [cut(case, pe, BUDGET[engine] // len(cases), seed + i) for i, case in enumerate(cases)]
    works = [tiles.work(t.case.matrix, t.case.activations, pe, t.tokens, t.rows) for t in parts]
    beats = Beats.concatenate([work.beats for work in works])
    began = time.perf_counter()
    run = runner(engine)(pe, beats)
    seconds = time.perf_counter() - began
    at = mismatches = 0
    for tile, work in zip(parts, works, strict=True):
        count = int(work.beats.lasts.sum())
        mismatches += mismatched(work, run.items[at : at + count], tile.judged())
        at += count
    return Outcome(
        engine=engine,
        layers=len(parts),
        outputs=sum(tile.outputs for tile in parts),
        macs=sum(tile.outputs * tile.case.matrix.columns for tile in parts),
        mismatches=mismatches,
        cycles=run.cycles,
        cycles_model=len(beats) + pe.latency(),
        seconds=seconds,
    )


def mismatched(work: Any, items: Int, expected: Int) -> int:
    """Sums that differ, all of them if the engine handed over another number of items."""
    from sim import tiles

    if len(items) != int(work.beats.lasts.sum()):
        return int(expected.size)
    return int(np.count_nonzero(tiles.assemble(work, items) != expected))


def cut(case: Case, pe: PeSpec, budget: int, seed: int) -> Tile:
    """A tile of at most ``budget`` beats (one output at least), tokens and rows drawn at random."""
    from sim import tiles

    bits = case.activations[0].bits
    per_output = len(case.activations) and _beats(tiles.shape(case.matrix, bits, 1, pe), pe)
    outputs = max(1, budget // max(1, per_output)) * pe.outputs
    tokens = len(case.activations[0].values)
    rows = min(case.matrix.rows, max(1, round(outputs**0.5)), outputs)
    rng = np.random.default_rng(seed)
    return Tile(
        case=case,
        tokens=np.sort(rng.choice(tokens, min(tokens, max(1, outputs // rows)), replace=False)),
        rows=np.sort(rng.choice(case.matrix.rows, rows, replace=False)),
    )


def _beats(shape: Any, pe: PeSpec) -> int:
    return sum(segment.count * pe.beats(segment) for segment in shape.segments)


def summary(outcomes: Sequence[Outcome]) -> list[Mapping[str, Any]]:
    """Outcomes as rows of a table."""
    return [
        {
            "engine": o.engine + (" (judge)" if o.engine == JUDGE else ""),
            "layers": o.layers,
            "outputs": o.outputs,
            "macs": o.macs,
            "mismatches": o.mismatches,
            "cycles": o.cycles,
            "cycles_model": o.cycles_model,
            "seconds": round(o.seconds, 3),
            "result": "agrees" if o.agrees else (o.failure or "DIFFERS"),
        }
        for o in outcomes
    ]
