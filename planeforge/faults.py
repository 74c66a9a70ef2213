"""Single-bit faults planted in what an engine reads: a comparison that misses one proves nothing.

A fault in a plane, mask or scale is planted in the stored matrix; a fault in a counter flips one control
bit of one beat, which is what a sequencer's wrong count does to a PE. A fault that leaves the judge's own
sums on the tile unchanged cannot be seen by anyone; it is drawn again and counted as silent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from algo.bitplane.expression import plane_names
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.planes import Plane
from planeforge.verifying import BUDGET, JUDGE, Case, Int, Tile, cut, mismatched, runner

if TYPE_CHECKING:
    from hw.beats import Beats
    from hw.spec import PeSpec

KINDS = ("planes", "masks", "scales", "counters")
TILE_BEATS = 600  #: a tile small enough for the slowest simulator, with every kind of item in it
DRAWS = 200  #: draws before a kind of fault counts as impossible on a tile


@dataclass(frozen=True, kw_only=True)
class Planted:
    """One fault, and whether the comparison saw it."""

    engine: str
    layer: str
    kind: str
    where: str
    caught: bool  #: the engine's sums differ from the judge's on the sound matrix
    explained: bool  #: and equal what the judge (or the PE's definition) makes of the fault
    silent_draws: int  #: faults drawn before this one that nobody could have seen


def inject(
    cases: Sequence[Case],
    engines: Sequence[str],
    pe: PeSpec,
    count: int,
    *,
    seed: int = 0,
    progress: Callable[[float, str], None] = lambda share, doing: None,
) -> list[Planted]:
    """Plant ``count`` faults, engines and kinds in turn.

    Raises ValueError if no engine but the judge is given, or count is negative.
    """
    if count < 0:
        raise ValueError(f"inject must be at least 0, not {count!r}")
    rng = np.random.default_rng(seed)
    tested = [engine for engine in engines if engine != JUDGE]
    if not tested:
        raise ValueError(f"engines must hold one to plant faults in besides {JUDGE}, not {list(engines)!r}")
    planted = []
    for index in range(count):
        engine = tested[index % len(tested)]
        progress(index / count, f"fault {index + 1} of {count}, {engine}")
        case = cases[int(rng.integers(len(cases)))]
        tile = cut(case, pe, TILE_BEATS, int(rng.integers(2**31)))
        kinds = [kind for kind in KINDS if _possible(kind, case.matrix, engine)]
        # Round by round the kinds move on by one engine, so every engine meets every kind.
        kind = kinds[(index // len(tested) + index % len(tested)) % len(kinds)]
        plant = _in_counter if kind == "counters" else _in_matrix
        planted.append(plant(kind, tile, engine, pe, rng))
    return planted


def _possible(kind: str, matrix: PackedMatrix, engine: str) -> bool:
    if kind == "masks":
        return any(term.mask is not None for term in matrix.terms)
    # Only engines that run RTL have a sequencer whose counters can go wrong.
    return kind != "counters" or engine in BUDGET


def _in_matrix(kind: str, tile: Tile, engine: str, pe: PeSpec, rng: np.random.Generator) -> Planted:
    sound = tile.judged()
    for silent in range(DRAWS):
        matrix, where = flip(tile.case.matrix, kind, tile.rows, rng)
        faulty = replace(tile, case=replace(tile.case, matrix=matrix))
        expected = faulty.judged()
        if np.array_equal(expected, sound):
            continue
        got = _computed(faulty, engine, pe)
        return Planted(
            engine=engine,
            layer=tile.case.name,
            kind=kind,
            where=where,
            caught=not np.array_equal(got, sound),
            explained=np.array_equal(got, expected),
            silent_draws=silent,
        )
    raise RuntimeError(f"no fault in {kind} of {tile.case.name} changes the sums of the tile")


def _in_counter(kind: str, tile: Tile, engine: str, pe: PeSpec, rng: np.random.Generator) -> Planted:
    from hw.beats import FIRST, LAST, NEG, SHIFT
    from sim import tiles

    work = tiles.work(tile.case.matrix, tile.case.activations, pe, tile.tokens, tile.rows)
    sound = _items(pe, work.beats)
    known = {"first": FIRST, "shift": SHIFT, "neg": NEG, "last": LAST}
    names = {known[name]: name for name in pe.flags() if name in known}
    for silent in range(DRAWS):
        at, bit = int(rng.integers(len(work.beats) - 1)), int(rng.choice(list(names)))
        beats = _flipped(work.beats, at, bit)
        expected = _items(pe, beats)
        if expected == sound:
            continue
        items = runner(engine)(pe, beats).items
        return Planted(
            engine=engine,
            layer=tile.case.name,
            kind=kind,
            where=f"{names[bit]} of beat {at}",
            caught=mismatched(work, items, tile.judged()) > 0,
            explained=items.reshape(-1, pe.outputs).T.tolist() == expected,
            silent_draws=silent,
        )
    raise RuntimeError(f"no fault in {kind} of {tile.case.name} changes the items of the tile")


def _items(pe: PeSpec, beats: Beats) -> list[list[int]]:
    """Items by the PE's definition, a list for each of its outputs."""
    listed = beats.to_list()
    return [pe.items(listed, output) for output in range(pe.outputs)]


def _flipped(beats: Beats, at: int, bit: int) -> Beats:
    flags = beats.flags.copy()
    flags[at] ^= bit
    return replace(beats, flags=flags)


def _computed(tile: Tile, engine: str, pe: PeSpec) -> Int:
    """The engine's own sums of the tile, int64 [streams, tokens, rows]."""
    from sim import tiles
    from sim.engines import ENGINES

    if engine not in BUDGET:
        part = tile.case.part(tile.tokens)
        return ENGINES[engine](part.matrix, part.activations)[:, :, tile.rows]
    work = tiles.work(tile.case.matrix, tile.case.activations, pe, tile.tokens, tile.rows)
    return tiles.assemble(work, runner(engine)(pe, work.beats).items)


def flip(matrix: PackedMatrix, kind: str, rows: Int, rng: np.random.Generator) -> tuple[PackedMatrix, str]:
    """The matrix with one bit of a plane, mask or scale flipped, and where; in one of ``rows``."""
    row = int(rng.choice(rows))
    if kind == "scales":
        return _flip_scale(matrix, row, rng)
    texts = [
        text
        for term in matrix.terms
        for text in ([term.mask] if kind == "masks" else term.planes)
        if text is not None
    ]
    name = str(rng.choice(sorted({name for text in texts for name in plane_names(text)})))
    column = int(rng.integers(matrix.columns))
    words = matrix.dense(name).copy()
    words[row % len(words), column // 64] ^= np.uint64(1 << column % 64)
    # All planes whole: a flipped mask must not move the bits of planes that are gathered on it.
    whole = {key: Plane(matrix.dense(key), plane.role) for key, plane in matrix.planes.items()}
    changed = {**whole, name: Plane(words, matrix.planes[name].role)}
    return replace(matrix, planes=changed), f"{name}[{row % len(words)}, {column}]"


def _flip_scale(matrix: PackedMatrix, row: int, rng: np.random.Generator) -> tuple[PackedMatrix, str]:
    name = str(rng.choice(sorted(matrix.ints)))
    ints = matrix.ints[name]
    group, bit = int(rng.integers(ints.values.shape[1])), int(rng.integers(ints.bits))
    values = ints.values.copy()
    at = (row % len(values), group)
    # Flipping the top bit of a two's-complement number moves it by minus its weight.
    weight = (1 << bit) * (-1 if ints.signed and bit == ints.bits - 1 else 1)
    values[at] += -weight if (values[at] >> bit) & 1 else weight
    changed = {**matrix.ints, name: Ints(values, ints.bits, ints.signed)}
    return replace(matrix, ints=changed), f"{name}[{at[0]}, {group}] bit {bit}"
