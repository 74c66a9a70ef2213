"""A quantized layer on the accelerator: its planes, masks and mantissas as the driver's parts.

Sums come back as design's ``S``: integer, exact, the same as every other engine's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import lcm

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.activations import Activations
from algo.bitplane.decode import SUM_LIMIT, check_fit, sum_bound
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.words import Words
from hw.accelerator import driver
from hw.accelerator.commands import step_entry
from hw.accelerator.driver import Report
from hw.accelerator.planner import Entries, Part
from hw.accelerator.session import Backend
from hw.accelerator.spec import AcceleratorSpec
from hw.grid import Grid
from hw.spec import Segment, Step, signed_bits
from sim import schedule
from sim.operands import Slot, item

Int = NDArray[np.int64]

#: An item to try a PE's `dot` with: a multiple of any factor that one divides by.
PROBE = 1 << 10


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Chunks of one slot's columns."""

    slot: Slot
    segment: Segment
    chunks: range


def sums(
    matrix: PackedMatrix, activations: Sequence[Activations], spec: AcceleratorSpec, backend: Backend
) -> Report:
    """``S``, int64 [streams, tokens, rows], by the accelerator's RTL as ``backend`` executes it.

    Raises ValueError if the matrix does not fit the accelerator: its PE, its mantissas, its buffers; and what
    `hw.accelerator.driver.multiply` raises.
    """
    lowering = Lowering(matrix, activations, spec)
    tokens = len(activations[0].values)
    report = driver.multiply(spec, lowering.parts(), tokens, matrix.rows, backend)
    return replace(report, sums=report.sums // lowering.divisor + lowering.bias)


@dataclass
class Lowering:
    """A matrix and its activations as parts."""

    matrix: PackedMatrix
    activations: Sequence[Activations]
    spec: AcceleratorSpec

    def __post_init__(self) -> None:
        if self.spec.sum_bits != 64:
            raise ValueError(f"sum_bits must be 64 for exact sums, not {self.spec.sum_bits!r}")
        check_fit(self.matrix, self.activations)
        self.grid = Grid(array=self.spec.array)
        schedule.check_pe(self.matrix, self.activations, self.grid)
        self.tokens = len(self.activations[0].values)
        self.cache: dict[object, tuple[Words, Words, Words]] = {}
        #: what the accelerator's sums are divided by
        self.divisor = self.common()
        #: what a PE's items lack to dot products, times the mantissas: int64 [streams, tokens, rows]
        self.bias = np.zeros((len(self.matrix.streams), self.tokens, self.matrix.rows), np.int64)

    def parts(self) -> list[Part]:
        """Pieces of one step table and one number of chunks together."""
        alike: dict[tuple[object, ...], list[Piece]] = {}
        factors: dict[tuple[object, ...], list[Int]] = {}
        for slot in schedule.slots(self.matrix):
            stream = self.matrix.streams.index(slot.term.col)
            segment, factor = self.segment(slot), self.factor(slot)
            for chunks in self.cut(segment):
                key = (stream, self.table(segment), len(chunks), *self.planes(segment))
                alike.setdefault(key, []).append(Piece(slot=slot, segment=segment, chunks=chunks))
                factors.setdefault(key, []).append(factor)
        return [self.part(pieces, np.stack(factors[key])) for key, pieces in alike.items()]

    def table(self, segment: Segment) -> tuple[int, ...]:
        """The segment's steps as the accelerator holds them."""
        steps = self.grid.steps(segment)
        w, x = self.tuples(segment)
        return tuple(
            step_entry(
                step,
                0 if step.bubble else w.index(step.w),
                0 if step.bubble else x.index(step.x),
                first=at == 0,
                last=at == len(steps) - 1,
                **step.kinds(segment),
            )[0]
            for at, step in enumerate(steps)
        )

    def tuples(self, segment: Segment) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """The planes that steps take together, each once: the entries of a chunk."""
        steps = [step for step in self.grid.steps(segment) if not step.bubble]
        return list(dict.fromkeys(s.w for s in steps)), list(dict.fromkeys(s.x for s in steps))

    def planes(self, segment: Segment) -> tuple[int, int]:
        """Weight and activation entries of a chunk."""
        w, x = self.tuples(segment)
        return len(w), len(x)

    def cut(self, segment: Segment) -> list[range]:
        """Chunks of a segment in pieces that fit a half."""
        chunks = -(-segment.columns // self.grid.columns(segment))
        w, x = self.planes(segment)
        room = [self.spec.w_depth // w, self.spec.x_depth // x]
        room += [self.spec.mask_depth] if self.spec.masked else []
        size = max(1, min(room))
        return [range(begin, min(begin + size, chunks)) for begin in range(0, chunks, size)]

    def line(self, segment: Segment) -> tuple[Fraction, int]:
        """A segment's dot product of an item is this factor times the item, plus this constant.

        A PE may count, say, equal bits, or twice the sum.
        """
        low, base, high = (int(self.grid.dot(np.int64(item), segment)) for item in (-PROBE, 0, PROBE))
        if high - base != base - low:
            raise ValueError(f"pe must hand over items linear in the dot product, not {self.grid.array.pe!r}")
        return Fraction(high - base, PROBE), base

    def common(self) -> int:
        """What sums are multiplied by, so that every mantissa stays an integer. Raises ValueError."""
        divisor = lcm(*(self.line(self.segment(slot))[0].denominator for slot in schedule.slots(self.matrix)))
        bound = divisor * sum_bound(self.matrix, self.activations)
        if bound >= SUM_LIMIT:
            raise ValueError(f"integer sums times {divisor} must stay below 2**63, not reach {bound:.3g}")
        return divisor

    def segment(self, slot: Slot) -> Segment:
        """The dot product that a slot is."""
        return schedule.segment(self.matrix, slot, self.activations[self.matrix.streams.index(slot.term.col)])

    def factor(self, slot: Slot) -> Int:
        """What items of a slot are multiplied by, int64 [tokens, rows]; what they lack goes into the bias."""
        slope, base = self.line(self.segment(slot))
        stream = self.matrix.streams.index(slot.term.col)
        mantissa = self.mantissa(slot, self.activations[stream])
        self.bias[stream] += base * mantissa
        factor = int(slope * self.divisor) * mantissa
        needed = signed_bits(int(factor.min(initial=0)), int(factor.max(initial=0)))
        if needed > self.spec.scale_bits:
            raise ValueError(
                f"scale_bits must be at least {needed} for the matrix's mantissas, "
                f"not {self.spec.scale_bits!r}"
            )
        return factor

    def mantissa(self, slot: Slot, act: Activations) -> Int:
        """A slot's part of ``S`` is this times its dot product, int64 [tokens, rows]."""
        ints, term = self.matrix.ints, slot.term

        def of(name: str | None) -> Int:
            if name is None:
                return np.zeros(self.matrix.rows, np.int64)
            return np.broadcast_to(ints[name].values[:, slot.group], self.matrix.rows)

        rows = of(term.scale) if slot.digits else of(term.offset) - of(term.scale) * of(term.zero)
        tokens = np.ones(self.tokens, np.int64) if act.mantissa is None else act.mantissa[:, slot.group]
        return np.multiply.outer(tokens, rows)

    def part(self, pieces: list[Piece], factors: Int) -> Part:
        """Pieces that are alike."""
        one = pieces[0]
        w_planes, x_planes = self.planes(one.segment)
        stream = self.matrix.streams.index(one.slot.term.col)

        def entries(which: int, piece: int, tile: int) -> Entries:
            return self.entries(pieces[piece], which, tile)

        return Part(
            stream=stream,
            table=self.table(one.segment),
            chunks=len(one.chunks),
            w_planes=w_planes,
            x_planes=x_planes,
            pieces=len(pieces),
            w=lambda piece, tile: entries(0, piece, tile),
            x=lambda piece, tile: entries(1, piece, tile),
            mask=(lambda piece, tile: entries(2, piece, tile)) if self.spec.masked else None,
            mantissas=factors,
        )

    def entries(self, piece: Piece, which: int, tile: int) -> Entries:
        """A piece's entries of the weights (0), activations (1) or masks (2) of a tile."""
        elements = self.spec.buffers()[("w", "x", "mask")[which]]
        words = self.words(piece, which == 1)[which][tile].astype("<u8")
        mask = (1 << elements.bits) - 1
        found = []
        for beat in self.beats(piece, which):
            value = int.from_bytes(words[beat].tobytes(), "little")
            found.append([value >> at * elements.bits & mask for at in range(elements.elements)])
        return found

    def words(self, piece: Piece, of_tokens: bool) -> tuple[Words, Words, Words]:
        """Operands w, x, mask of a slot's beats for every tile of tokens or rows, [tiles, beats, words]."""
        key = (piece.slot, of_tokens)
        if key not in self.cache:
            rows = self.blocks(self.matrix.rows, self.grid.rows)
            tokens = self.blocks(self.tokens, self.grid.tokens)
            if of_tokens:
                rows = rows[:1]
            else:
                tokens = tokens[:1]
            act = self.activations[self.matrix.streams.index(piece.slot.term.col)]
            operands, _ = item(self.matrix, piece.slot, act, piece.segment, self.grid, tokens, rows)
            w, x, mask = (words[:, 0] if of_tokens else words[0] for words in operands)
            self.cache[key] = w, x, mask
        return self.cache[key]

    @staticmethod
    def blocks(total: int, together: int) -> Int:
        """Indices tile by tile, [tiles, together]; the last one fills up the last tile."""
        return np.minimum(np.arange(-(-total // together) * together), total - 1).reshape(-1, together)

    def beats(self, piece: Piece, which: int) -> Iterator[int]:
        """Which of a slot's beats hold a piece's entries, in order."""
        steps = self.grid.steps(piece.segment)
        chunks = -(-piece.segment.columns // self.grid.columns(piece.segment))
        begin: dict[tuple[int, ...], int] = {}
        position = 0
        for step in steps:
            planes = self.of_step(step, which)
            if not step.bubble:
                begin.setdefault(planes, position)
            position += 1 if step.bubble else chunks
        for chunk in piece.chunks:
            for position in begin.values():
                yield position + chunk

    @staticmethod
    def of_step(step: Step, which: int) -> tuple[int, ...]:
        """What tells a step's operands from those of others: all masks are alike."""
        return ((step.w, step.x, ()))[which]
