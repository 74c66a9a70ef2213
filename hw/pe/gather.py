"""N:M sparse PE: weights stored for the kept columns alone, activations picked for them by an index.

Of every ``of`` columns ``keep`` take a lane. The activation word holds all of them, and each lane selects
its own; behind the selects the PE is the bit-serial one. Kept columns stand in order, so number n of a block
is one of its columns n to n + of - keep: the index counts from there, takes fewer bits, and the select has
fewer inputs (for 6:8 two bits and three inputs instead of three and eight).

Sources: Mishra et al., "Accelerating Sparse Deep Neural Networks", arXiv:2104.08378 (2:4, an index per kept
weight); Liu et al., S2TA, HPCA 2022 (select before the multiplier). Differs in: indices that use the order,
any N:M, bit-serial operands, and a mask, for blocks that keep fewer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from amaranth import Cat, Module, Signal

from hw.pe.bitserial import BitSerial, BitSerialPE
from hw.pipeline import chosen, controls, selects
from hw.spec import Beat, Resources, Segment, Step, require_int


@dataclass(frozen=True, kw_only=True)
class Gather(BitSerial):
    """`BitSerial` on lanes that each select one of ``of - keep + 1`` activations."""

    keep: int = 2  #: columns of a block that take lanes
    of: int = 4  #: columns of a block

    def __post_init__(self) -> None:
        require_int("of", self.of, 2, 64)
        require_int("keep", self.keep, 1, self.of - 1)
        super().__post_init__()
        if self.lanes % self.keep:
            raise ValueError(f"lanes must be a multiple of keep={self.keep!r}, not {self.lanes!r}")

    @property
    def kept(self) -> tuple[int, int]:
        return self.keep, self.of

    @property
    def choices(self) -> int:
        """Columns that a lane may select."""
        return self.of - self.keep + 1

    @property
    def index_bits(self) -> int:
        """Planes of the index."""
        return (self.choices - 1).bit_length()

    def words(self) -> dict[str, int]:
        columns = self.lanes * self.of // self.keep
        return {"w": self.lanes * (1 + self.index_bits), "x": columns, "mask": self.lanes}

    def column(self, lane: int, index: int) -> int:
        """Activation that a lane selects; an index past the last choice means the last.

        >>> [Gather(lanes=4).column(lane, index) for lane in range(4) for index in range(3)]
        [0, 1, 2, 1, 2, 3, 4, 5, 6, 5, 6, 7]
        """
        block, number = divmod(lane, self.keep)
        return block * self.of + number + min(index, self.choices - 1)

    def golden(self, acc: int, beat: Beat, output: int = 0) -> int:
        x = 0
        for lane in range(self.lanes):
            planes = [beat.w >> (1 + p) * self.lanes + lane & 1 for p in range(self.index_bits)]
            index = sum(bit << p for p, bit in enumerate(planes))
            x |= (beat.x >> self.column(lane, index) & 1) << lane
        return super().golden(acc, replace(beat, w=beat.w & (1 << self.lanes) - 1, x=x), output)

    def steps(self, segment: Segment) -> tuple[Step, ...]:
        """The pairs of planes, each weight plane with the planes of the index.

        Raises ValueError if a block may keep more columns than it has lanes.
        """
        if self._most(*segment.kept) > self.keep:
            keep, of = segment.kept
            kept = "all" if keep == of else f"{keep} of every {of}"
            raise ValueError(f"segment must keep at most {self.keep} of every {self.of} columns, not {kept}")
        index = tuple(range(len(segment.weight), len(segment.weight) + self.index_bits))
        return tuple(
            step if step.bubble else replace(step, w=(*step.w, *index)) for step in super().steps(segment)
        )

    def _most(self, keep: int, of: int) -> int:
        """Columns that a block may keep of a segment that keeps so many of every so many."""
        blocks = [range(start, start + self.of) for start in range(0, of * self.of, self.of)]
        shares = [Counter(column // of for column in block) for block in blocks]
        return max(sum(min(keep, columns) for columns in share.values()) for share in shares)

    def resources(self) -> Resources:
        """As of `BitSerial`, with the selects."""
        return super().resources()

    def parts(self) -> dict[str, Resources]:
        return super().parts() | {"select": Resources(mux2=self.lanes * selects(self.choices))}

    def shared(self) -> dict[str, str]:
        return {"weights": "row"}

    def create(self) -> GatherPE:
        return GatherPE(self)


class GatherPE(BitSerialPE):
    """RTL of `Gather`: selects before the lanes of `BitSerialPE`."""

    spec: Gather

    def take(self, m: Module, moves: Any) -> tuple[list[Any], Any]:
        """Selected operands to registered lane bits."""
        beat, lanes = self.i.payload, self.spec.lanes
        w, x, base = beat.w[:lanes], Signal(lanes), Signal(lanes)
        m.d.comb += [
            x.eq(Cat(self.selected(beat, lane) for lane in range(lanes))),
            base.eq(
                beat.mask & (w | beat.w_bipolar.replicate(lanes)) & (x | beat.x_bipolar.replicate(lanes))
            ),
        ]
        idle = Signal(lanes, reset_less=True)
        hit = Signal(lanes, reset_less=True)
        with m.If(moves):
            m.d.sync += [idle.eq(~base), hit.eq(base & ~(w ^ x))]
        return [idle, hit], controls(m, moves, self.i)

    def selected(self, beat: Any, lane: int) -> Any:
        """A lane's activation."""
        spec = self.spec
        options = [beat.x[spec.column(lane, index)] for index in range(spec.choices)]
        return chosen(options, Cat(beat.w[(1 + p) * spec.lanes + lane] for p in range(spec.index_bits)))


SPEC = Gather

SAMPLES = (
    Gather(lanes=2, acc_width=3, levels=0),
    Gather(lanes=15, acc_width=12, levels=1, keep=5, of=8),
    Gather(lanes=64, acc_width=40, keep=4, of=8),
    Gather(lanes=102, acc_width=34, levels=2, keep=6, of=8),
    Gather(lanes=9, acc_width=33, keep=3, of=8),
)
