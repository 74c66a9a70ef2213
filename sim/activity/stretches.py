"""Stretches of the beats that the PEs of an array take for a product, in the order in which they take them.

A product of a real layer is millions of beats. Where only rates are wanted, evenly spread stretches stand for
all; a small product is taken whole, PE by PE. A stretch begins with its own last beats, which fill the PE's
pipeline and are not to be counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.activations import Activations
from algo.bitplane.matrix import PackedMatrix
from hw.beats import WORDS, Beats
from hw.spec import ArraySpec, PeSpec, require_int
from sim import tiles
from sim.activity.counting import SCHEDULE

Int = NDArray[np.int64]
#: Activations of tokens, by their indices.
Tokens = Callable[[Int], Sequence[Activations]]

STRETCHES = 24  #: of a product that is too large to be taken whole
BEATS = 256  #: of a stretch, unless a PE takes fewer in all
_GOLDEN = 0.6180339887498949  #: steps of this share of a range never meet: Weyl's sequence


@dataclass(frozen=True, kw_only=True, eq=False)
class Stretches:
    """Stretches one after the other."""

    beats: Beats
    windows: Int  #: [stretches, 2]: of each the first beat that counts, and the first behind it
    whole: bool  #: together they are all beats of all PEs


def check_schedule(array: ArraySpec) -> None:
    """Raise ValueError if an array's PEs do not take beats in the order that is known here."""
    for name, wanted in SCHEDULE.items():
        if getattr(array, name) != wanted:
            raise ValueError(f"{name} must be {wanted!r} to count activity, not {getattr(array, name)!r}")


def take(
    matrix: PackedMatrix,
    activations: Tokens,
    tokens: int,
    array: ArraySpec,
    *,
    stretches: int = STRETCHES,
    beats: int = BEATS,
) -> Stretches:
    """Beats of a product of ``matrix`` with ``tokens`` tokens.

    Parameters: stretches, beats, how many stretches of how many beats stand for a product that has more
    Raises ValueError if the array's schedule is not the one that is known, if there is no token, or as
    `sim.tiles.work`; TypeError or ValueError if ``tokens``, ``stretches``, ``beats`` is no positive integer.
    """
    check_schedule(array)
    for name, value in (("tokens", tokens), ("stretches", stretches), ("beats", beats)):
        require_int(name, value, 1)
    visits = _Visits(matrix, activations, tokens, array)
    first = visits.beats(0, 0)
    places = array.rows * array.columns
    whole = len(first) * visits.outputs <= stretches * beats
    every = [visits.all_of(pe) for pe in range(places)] if whole else []
    parts = [part for part in every if part is not None]
    for at in range(0 if whole else stretches):
        visit = int((at + 0.5) / stretches * visits.count)
        pe = int(at * _GOLDEN % 1 * places)
        part = visits.run(visit, pe, beats)
        start = int(at * _GOLDEN * _GOLDEN % 1 * (len(part) - beats + 1)) if len(part) > beats else 0
        parts.append(_slice(part, slice(start, start + beats)))
    return _joined(parts, array.pe, whole)


class _Visits:
    """Outputs that a PE makes one after the other: visit v is its output of the array's tile number v."""

    def __init__(self, matrix: PackedMatrix, activations: Tokens, tokens: int, array: ArraySpec) -> None:
        self.matrix, self.activations, self.array = matrix, activations, array
        self.blocks = -(-matrix.rows // array.pe.rows), -(-tokens // array.pe.tokens)
        self.tiles = -(-self.blocks[0] // array.rows), -(-self.blocks[1] // array.columns)
        self.tokens = tokens

    @property
    def count(self) -> int:
        """Tiles."""
        return self.tiles[0] * self.tiles[1]

    @property
    def outputs(self) -> int:
        """Visits of all PEs that make an output: a ragged tile leaves some idle."""
        return self.blocks[0] * self.blocks[1]

    def place(self, visit: int, pe: int) -> tuple[int, int]:
        """Blocks of rows and tokens that a PE works on; beyond the last if a ragged tile leaves it idle."""
        tile_row, tile_token = divmod(visit, self.tiles[1])
        row, column = divmod(pe, self.array.columns)
        return tile_row * self.array.rows + row, tile_token * self.array.columns + column

    def beats(self, row: int, token: int) -> Beats:
        """Beats of one output block."""
        spec = self.array.pe
        rows = np.arange(row * spec.rows, min((row + 1) * spec.rows, self.matrix.rows))
        tokens = np.arange(token * spec.tokens, min((token + 1) * spec.tokens, self.tokens))
        acts = self.activations(tokens)
        return tiles.work(self.matrix, acts, spec, np.arange(len(tokens)), rows).beats

    def all_of(self, pe: int) -> Beats | None:
        """All beats of a PE; None if it is never used."""
        places = [self.place(visit, pe) for visit in range(self.count)]
        used = [place for place in places if place[0] < self.blocks[0] and place[1] < self.blocks[1]]
        return Beats.concatenate([self.beats(*place) for place in used]) if used else None

    def run(self, visit: int, pe: int, beats: int) -> Beats:
        """At least so many beats of a PE from a visit on, or those of as many visits as there are tiles."""
        found: list[Beats] = []
        for at in range(self.count):
            row, token = self.place((visit + at) % self.count, pe)
            # A PE that is idle here is stood in for by another one of the tile.
            size = [
                min(n, b - p // n * n)
                for n, b, p in zip(
                    (self.array.rows, self.array.columns), self.blocks, (row, token), strict=True
                )
            ]
            row = row // self.array.rows * self.array.rows + row % self.array.rows % size[0]
            token = token // self.array.columns * self.array.columns + token % self.array.columns % size[1]
            found.append(self.beats(row, token))
            if sum(map(len, found)) >= beats:
                break
        return Beats.concatenate(found)


def _joined(parts: Sequence[Beats], spec: PeSpec, whole: bool) -> Stretches:
    """Stretches behind each other, each after its own last beats."""
    filled, windows, at = [], [], 0
    for part in parts:
        order = np.arange(-spec.latency() - 1, len(part)) % len(part)
        filled.append(_picked(part, order))
        windows.append((at + spec.latency() + 1, at + len(order)))
        at += len(order)
    return Stretches(beats=Beats.concatenate(filled), windows=np.array(windows, np.int64), whole=whole)


def _slice(beats: Beats, at: slice) -> Beats:
    return _picked(beats, np.arange(len(beats))[at])


def _picked(beats: Beats, order: Int) -> Beats:
    return replace(beats, **{name: getattr(beats, name)[order] for name in (*WORDS, "flags")})


def randomised(beats: Beats, seed: int = 0) -> Beats:
    """The same beats with random weights and activations: what toggles are where data is not looked at."""
    rng = np.random.default_rng(seed)
    words = {}
    for name in ("w", "x"):
        drawn = rng.integers(0, 1 << 64, getattr(beats, name).shape, np.uint64)
        bits = beats.bits(name)
        if bits % 64:
            drawn[:, -1] >>= np.uint64(-bits % 64)
        words[name] = drawn
    return replace(beats, **words)
