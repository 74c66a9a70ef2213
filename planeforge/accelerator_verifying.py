"""Layers through an accelerator's driver and RTL against the judge, and bit flips on the way that must show.

As `planeforge.verifying`, with the driver's packets, buffers, scale units and drain in between; clocks are
those of the whole session, held against `hw.accelerator.clocks`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from planeforge.accelerator_tiles import commands, rows_of
from planeforge.verifying import JUDGE, SOFTWARE, Case, Outcome, Tile, software

if TYPE_CHECKING:
    from hw.accelerator.session import Backend
    from hw.accelerator.spec import AcceleratorSpec

#: Clocks an engine gets in one verification: a few seconds of its own speed.
BUDGET = {"model": 40_000, "amaranth": 6_000, "cxxrtl": 500_000, "icarus": 12_000}
ENGINES = (JUDGE, *SOFTWARE, *BUDGET)
DEFAULT_ENGINES = (JUDGE, *BUDGET)


def backend(engine: str) -> Backend:
    """What executes a session under ``engine``: the plain definition, or the RTL."""
    from hw.accelerator import bulk, icarus, reference, simulate

    known: dict[str, Backend] = {
        "model": reference.run,
        "amaranth": simulate.run,
        "cxxrtl": bulk.run,
        "icarus": icarus.run,
    }
    return known[engine]


def verify(
    cases: Sequence[Case],
    engines: Sequence[str],
    spec: AcceleratorSpec,
    *,
    seed: int = 0,
    progress: Callable[[float, str], None] = lambda share, doing: None,
) -> list[Outcome]:
    """Compare engines with the judge; the accelerator's compute as much of each layer as their speed allows.

    Raises ValueError for an unknown engine, or a matrix that does not fit the accelerator; an engine that
    cannot run says so in its outcome.
    """
    for engine in engines:
        if engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    outcomes = []
    for index, engine in enumerate(engines):
        progress(index / len(engines), engine)
        try:
            outcomes.append(
                _accelerator(engine, cases, spec, seed) if engine in BUDGET else software(engine, cases)
            )
        except (RuntimeError, OSError) as error:
            outcomes.append(Outcome(engine=engine, failure=str(error)))
    return outcomes


def _accelerator(engine: str, cases: Sequence[Case], spec: AcceleratorSpec, seed: int) -> Outcome:
    from hw.accelerator import clocks
    from planeforge import accelerating

    timed = engine != "model"
    found = Outcome(engine=engine, cycles=0 if timed else None, cycles_model=0 if timed else None)
    for index, case in enumerate(cases):
        tile = cut(case, spec, BUDGET[engine] // len(cases), seed + index)
        part = part_of(tile)
        began = time.perf_counter()
        report = accelerating.sums(part.matrix, part.activations, spec, backend(engine))
        seconds = time.perf_counter() - began
        model = clocks.cycles(spec, commands(part.matrix, part.activations, spec)) if timed else 0
        found = replace(
            found,
            layers=found.layers + 1,
            outputs=found.outputs + tile.outputs,
            macs=found.macs + tile.outputs * case.matrix.columns,
            mismatches=found.mismatches + int(np.count_nonzero(report.sums != tile.judged())),
            cycles=None if found.cycles is None else found.cycles + report.clocks,
            cycles_model=None if found.cycles_model is None else found.cycles_model + model,
            seconds=found.seconds + seconds,
        )
    return found


def part_of(tile: Tile) -> Case:
    """The tile as a case of its own."""
    case = tile.case.part(tile.tokens)
    return replace(case, matrix=rows_of(case.matrix, tile.rows))


def cut(case: Case, spec: AcceleratorSpec, budget: int, seed: int) -> Tile:
    """Rows and tokens, drawn at random, whose packets take about ``budget`` clocks; one tile at least.

    Raises ValueError, naming the matrix, if it does not fit the accelerator.
    """
    from hw.accelerator import clocks

    rng = np.random.default_rng(seed)
    tokens, rows = len(case.activations[0].values), case.matrix.rows

    def drawn(tokens_wanted: int, rows_wanted: int) -> Tile:
        return Tile(
            case=case,
            tokens=np.sort(rng.choice(tokens, min(tokens, tokens_wanted), replace=False)),
            rows=np.sort(rng.choice(rows, min(rows, rows_wanted), replace=False)),
        )

    one = drawn(spec.columns, spec.rows)
    try:
        part = part_of(one)
        each = clocks.cycles(spec, commands(part.matrix, part.activations, spec))
    except ValueError as error:
        raise ValueError(f"{error} (matrix {case.name})") from None
    tiles = max(1, budget // max(1, each))
    of_tokens = min(tiles, -(-tokens // spec.columns))
    return drawn(of_tokens * spec.columns, max(1, tiles // of_tokens) * spec.rows) if tiles > 1 else one
