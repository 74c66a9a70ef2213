"""The beats of one output as indexes: every output of a product runs the same beats on other words.

`sim.schedule` says what the beats are; here a beat names a word of its row, one of its row's mask and one of
its token, so that counts over all outputs need no beats written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import expression
from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix
from hw.beats import FIRST, LAST, NEG, SHIFT, W_BIPOLAR, X_BIPOLAR
from hw.spec import Step, horner
from sim import operands, schedule

Int = NDArray[np.int64]

SUM, BUBBLE = -2, -1  #: in place of a weight plane: the activations alone, and a doubling without operands


@dataclass(frozen=True)
class Entry:
    """What beats of one plane pair of a term have in common."""

    term: int
    w_plane: int  #: index into the term's planes, `SUM` or `BUBBLE`
    stream: int
    x_plane: int  #: index of the activation plane, or `BUBBLE`
    shared: bool  #: the beats are the same for every row


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """``n`` beats of an output. A key past the last word of a side stands for a word of zeros."""

    lanes: int
    texts: tuple[str | None, ...]  #: plane and mask expressions; a row's word is ``text * chunks + chunk``
    x_planes: tuple[tuple[int, int], ...]  #: stream and plane; a token's word likewise
    starts: Int  #: first column of each chunk; a chunk never leaves its group
    sizes: Int  #: columns of each chunk
    group_starts: Int  #: first chunk of each group
    entries: tuple[Entry, ...]
    w: Int  #: [n] key of a row's word
    mask: Int  #: [n] likewise
    x: Int  #: [n] key of a token's word
    flags: NDArray[np.uint8]  #: [n] as in `hw.beats.Beats`
    entry: Int  #: [n] index into ``entries``

    @property
    def chunks(self) -> int:
        """Words of one plane of one row."""
        return len(self.starts)

    @property
    def words(self) -> int:
        """64-bit words in one word of ``lanes`` bits."""
        return -(-self.lanes // 64)

    @property
    def row_keys(self) -> int:
        """Keys of a row, the zero word among them."""
        return len(self.texts) * self.chunks + 1

    @property
    def token_keys(self) -> int:
        """Keys of a token, the zero word among them."""
        return len(self.x_planes) * self.chunks + 1

    @property
    def bubbles(self) -> NDArray[np.bool_]:
        """[n]: beats that only double."""
        return np.array([entry.w_plane == BUBBLE for entry in self.entries])[self.entry]

    @property
    def lasts(self) -> NDArray[np.bool_]:
        """[n]: beats that finish an item."""
        return (self.flags & LAST) != 0

    @property
    def x_bipolar(self) -> bool:
        """Activation digits are -1/+1."""
        return bool(self.flags[0] & X_BIPOLAR)

    @property
    def shared(self) -> NDArray[np.bool_]:
        """[n]: beats that are the same for every row."""
        return np.array([entry.shared for entry in self.entries])[self.entry]

    @classmethod
    def of(cls, matrix: PackedMatrix, places: tuple[int, ...], bipolar: bool, lanes: int) -> Program:
        """The beats of ``matrix`` on activations of planes with these place values.

        Raises ValueError for a coefficient that is no signed power of two.
        """
        return _Writer(matrix, places, bipolar, lanes).program()


class _Writer:
    """Collects beats slot by slot, in the order of `sim.schedule`."""

    def __init__(self, matrix: PackedMatrix, places: tuple[int, ...], bipolar: bool, lanes: int) -> None:
        self.matrix, self.places, self.bipolar, self.lanes = matrix, places, bipolar, lanes
        texts = [text for term in matrix.terms for text in (*term.planes, term.mask, None)]
        self.texts = tuple(dict.fromkeys(texts))
        self.x_planes = tuple((s, p) for s in range(len(matrix.streams)) for p in range(len(places)))
        per_group = [
            np.arange(first, min(first + matrix.group, matrix.columns), lanes)
            for first in range(0, matrix.columns, matrix.group)
        ]
        self.starts = np.concatenate(per_group)
        ends = np.repeat(
            np.minimum(np.arange(1, len(per_group) + 1) * matrix.group, matrix.columns),
            [len(group) for group in per_group],
        )
        self.sizes = np.minimum(ends - self.starts, lanes)
        self.firsts = np.cumsum([0, *map(len, per_group)])
        self.entries: dict[Entry, int] = {}
        self.term = -1
        self.columns: tuple[list[Int], ...] = ([], [], [], [], [])

    def program(self) -> Program:
        for slot in schedule.slots(self.matrix):
            self._slot(slot)
        w, mask, x, flags, entry = (np.concatenate(column) for column in self.columns)
        return Program(
            lanes=self.lanes,
            texts=self.texts,
            x_planes=self.x_planes,
            starts=self.starts,
            sizes=self.sizes,
            group_starts=self.firsts[:-1],
            entries=tuple(self.entries),
            w=w,
            mask=mask,
            x=x,
            flags=flags.astype(np.uint8),
            entry=entry,
        )

    def _slot(self, slot: operands.Slot) -> None:
        # Terms may be equal, so they are told apart by their place.
        self.term += slot.digits and slot.group == 0
        chunks = np.arange(*self.firsts[slot.group : slot.group + 2])
        steps = horner(slot.term.coefs if slot.digits else (1,), self.places)
        flags = [self._flags(slot, step, 1 if step.w_plane < 0 else len(chunks)) for step in steps]
        flags[0][0] |= FIRST
        flags[-1][-1] |= LAST
        for step, marks in zip(steps, flags, strict=True):
            self._step(slot, step, chunks, marks)

    def _flags(self, slot: operands.Slot, step: Step, beats: int) -> Int:
        bipolar = slot.digits and slot.term.digit is Digit.BIPOLAR
        each = (W_BIPOLAR if bipolar else 0) | (X_BIPOLAR if self.bipolar else 0) | (NEG if step.neg else 0)
        flags = np.full(beats, each, np.int64)
        flags[0] |= SHIFT if step.shift else 0
        return flags

    def _step(self, slot: operands.Slot, step: Step, chunks: Int, flags: Int) -> None:
        term, stream = slot.term, self.matrix.streams.index(slot.term.col)
        at = self.term
        if step.w_plane < 0:
            keys = [np.array([len(side) * len(self.starts)]) for side in (self.texts, self.texts)]
            keys.append(np.array([len(self.x_planes) * len(self.starts)]))
            made = Entry(at, BUBBLE, stream, BUBBLE, False)
        else:
            text = term.planes[step.w_plane] if slot.digits else None
            x = stream * len(self.places) + step.x_plane
            sources = (self.texts.index(text), self.texts.index(term.mask), x)
            keys = [source * len(self.starts) + chunks for source in sources]
            shared = not slot.digits and _same_in_every_row(self.matrix, term.mask)
            made = Entry(at, step.w_plane if slot.digits else SUM, stream, step.x_plane, shared)
        entry = np.full(len(flags), self.entries.setdefault(made, len(self.entries)))
        for column, values in zip(self.columns, (*keys, flags, entry), strict=True):
            column.append(values)


def _same_in_every_row(matrix: PackedMatrix, mask: str | None) -> bool:
    if mask is None:
        return True
    return all(len(matrix.dense(name)) == 1 for name in expression.plane_names(mask))


def transitions(before: Sequence[Int], after: Sequence[Int]) -> tuple[tuple[Int, ...], tuple[Int, ...], Int]:
    """Distinct steps between tuples of keys, and which of them each step is.

    Returns the keys before and after each distinct step, and int64 [steps] of indexes into them.
    """
    stacked = np.stack([*before, *after])
    distinct, index = np.unique(stacked, axis=1, return_inverse=True)
    half = len(before)
    return tuple(distinct[:half]), tuple(distinct[half:]), index.reshape(-1)
