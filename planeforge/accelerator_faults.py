"""Single bits flipped in words on their way to an accelerator: each must show in tiles, errors or counts.

What a flip means is said by the definition in plain Python, which reads the same words. A flip that it finds
without effect (a tag of a load, a lane beyond the columns) nobody can see: another bit is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from planeforge.accelerator_tiles import commands
from planeforge.accelerator_verifying import BUDGET, backend, cut, part_of
from planeforge.faults import DRAWS, Planted
from planeforge.verifying import Case

if TYPE_CHECKING:
    from hw.accelerator.session import Outcome, Session
    from hw.accelerator.spec import AcceleratorSpec

#: Reads of a register that nobody looks at: all behind the last tile has ended then.
SETTLE = 64
#: A flip may make a run longer; one that makes it so much longer is drawn again, as too slow to execute.
LONGER = 8


def inject(
    cases: Sequence[Case],
    engines: Sequence[str],
    spec: AcceleratorSpec,
    count: int,
    *,
    seed: int = 0,
    progress: Callable[[float, str], None] = lambda share, doing: None,
) -> list[Planted]:
    """Plant ``count`` faults, engines in turn.

    Raises ValueError if no engine but software is given, or count is negative.
    """
    if count < 0:
        raise ValueError(f"inject must be at least 0, not {count!r}")
    tested = [engine for engine in engines if engine in BUDGET]
    if not tested:
        raise ValueError(f"engines must hold one of {', '.join(BUDGET)} to plant faults in, not {engines!r}")
    rng = np.random.default_rng(seed)
    planted = []
    for index in range(count):
        engine = tested[index % len(tested)]
        progress(index / count, f"fault {index + 1} of {count}, {engine}")
        case = cases[int(rng.integers(len(cases)))]
        planted.append(_plant(case, engine, spec, rng))
    return planted


def _plant(case: Case, engine: str, spec: AcceleratorSpec, rng: np.random.Generator) -> Planted:
    from hw.accelerator import reference

    sound = session_of(case, spec, int(rng.integers(2**31)))
    expected = reference.run(spec, sound)
    for silent in range(DRAWS):
        at, bit = int(rng.integers(len(sound.words))), int(rng.integers(spec.bus))
        words = list(sound.words)
        words[at] ^= 1 << bit
        means = reference.run(spec, replace(sound, words=words))
        if _shown(means) == _shown(expected) or _beats(means) > LONGER * _beats(expected):
            continue
        faulty = replace(sound, words=words, tiles=len(means.tiles), limit=LONGER * sound.limit)
        got = backend(engine)(spec, faulty)
        return Planted(
            engine=engine,
            layer=case.name,
            kind="stream",
            where=f"bit {bit} of word {at} of {len(words)}",
            caught=_shown(got) != _shown(expected),
            explained=_shown(got) == _shown(means) and _beats(got) == _beats(means),
            silent_draws=silent,
        )
    raise RuntimeError(f"no flip in the packets of {case.name} changes what comes out")


def session_of(case: Case, spec: AcceleratorSpec, seed: int) -> Session:
    """A tile of the case as a session that goes on whatever happens; its end reads errors and counts."""
    from hw.accelerator import registers
    from hw.accelerator.commands import Run
    from hw.accelerator.driver import session_of as driven

    part = part_of(cut(case, spec, 1, seed))
    packets = commands(part.matrix, part.activations, spec)
    tiles = sum(command.tiles for command in packets if isinstance(command, Run) and command.drain)
    session = driven(spec, packets, tiles)
    auto = (registers.offset("CONTROL"), registers.encode("CONTROL", auto=1, clear=1, quiet=1))
    status = (registers.offset("STATUS"), None)
    return replace(session, writes=[auto], finish=[*[status] * SETTLE, *session.finish])


def _shown(outcome: Outcome) -> tuple[list[bytes], int, int]:
    """What a driver sees: tiles, errors, completed runs."""
    errors, completed = outcome.reads[SETTLE : SETTLE + 2]
    return outcome.tiles, errors, completed


def _beats(outcome: Outcome) -> int:
    low, high = outcome.reads[SETTLE + 2 : SETTLE + 4]
    return low | high << 32
