"""Datapaths that are compared dense against N:M: the same columns a clock, operands and index in registers.

A datapath takes ``columns`` activations and the weights of the kept ones, and adds their dot product to an
accumulator. One-bit operands are counted (AND, carry-save counters, doubling accumulator); wider ones are
multiplied. Every PE of a weight-stationary or systolic array holds its operands like this; where one index
serves a whole row of PEs, it stands outside of them (``index="outside"``).

Sources: Mishra et al., arXiv:2104.08378 (2:4, an index a kept weight); Liu et al., S2TA, HPCA 2022.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from amaranth import Array, Cat, Const, Elaboratable, Module, Mux, Signal, signed

INDEXES = ("beside", "outside")


@dataclass(frozen=True, kw_only=True)
class Datapath:
    """Sizes of a datapath; ``keep == of`` is dense."""

    columns: int  #: of the dense matrix, a clock
    w_bits: int
    act_bits: int
    keep: int = 1
    of: int = 1
    index: str = "beside"  #: one of `INDEXES`: registered in the PE, or held for a row of PEs
    ordered: bool = False  #: the index counts from a kept column's first possible place: fewer choices
    order: int = 0  #: seed of the order in which lanes meet in the adders: the tool's noise

    def __post_init__(self) -> None:
        if self.index not in INDEXES:
            raise ValueError(f"index must be one of {', '.join(INDEXES)}, not {self.index!r}")
        if not 1 <= self.keep <= self.of:
            raise ValueError(f"keep must be from 1 to of={self.of!r}, not {self.keep!r}")
        if self.columns < 1 or self.columns % self.of:
            raise ValueError(f"columns must be a multiple of of={self.of!r}, not {self.columns!r}")

    @property
    def name(self) -> str:
        """Such as ``w8a8 2:4 16``."""
        dense = self.keep == self.of
        kind = "dense" if dense else f"{self.keep}:{self.of}"
        more = "" if dense else (" ordered" if self.ordered else "") + f" index {self.index}"
        return f"w{self.w_bits}a{self.act_bits} {kind} {self.columns}{more}"

    @property
    def lanes(self) -> int:
        """Weights a clock."""
        return self.columns * self.keep // self.of

    @property
    def choices(self) -> int:
        """Columns that a lane selects from."""
        return self.of - self.keep + 1 if self.ordered else self.of

    @property
    def index_bits(self) -> int:
        """Of a lane."""
        return 0 if self.keep == self.of else (self.choices - 1).bit_length()

    @property
    def acc_width(self) -> int:
        """Bits of the accumulator."""
        return 24 if self.one_bit else 32

    @property
    def one_bit(self) -> bool:
        """Whether lanes are ANDed and counted."""
        return self.w_bits == self.act_bits == 1

    def column(self, lane: int, index: int) -> int:
        """Column that a lane selects."""
        block, number = divmod(lane, self.keep)
        first = number if self.ordered or self.keep == self.of else 0
        return block * self.of + first + min(index, self.choices - 1)

    def golden(self, acc: int, w: list[int], x: list[int], index: list[int], first: bool) -> int:
        """Accumulator after a clock, of lane weights, column activations and lane indices; exact integers."""
        dot = sum(w[lane] * x[self.column(lane, index[lane])] for lane in range(self.lanes))
        base = 0 if first else 2 * acc if self.one_bit else acc
        wide = 1 << self.acc_width
        return (base + dot + wide // 2) % wide - wide // 2

    def create(self) -> Component:
        """The circuit."""
        return Component(self)


class Component(Elaboratable):
    """RTL of a `Datapath`; operands in one clock, their sum in the accumulator two later."""

    def __init__(self, spec: Datapath) -> None:
        self.spec = spec
        self.w = Signal(spec.lanes * spec.w_bits)
        self.x = Signal(spec.columns * spec.act_bits)
        self.index = Signal(max(1, spec.lanes * spec.index_bits))
        self.first = Signal()
        self.enable = Signal()
        self.acc = Signal(signed(spec.acc_width))

    @property
    def ports(self) -> list[Signal]:
        """All of them."""
        return [self.w, self.x, self.index, self.first, self.enable, self.acc]

    def elaborate(self, platform: object) -> Module:
        m, spec = Module(), self.spec
        w, x, index = (Signal.like(port, reset_less=True) for port in (self.w, self.x, self.index))
        first, enable = Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [w.eq(self.w), x.eq(self.x), first.eq(self.first), enable.eq(self.enable)]
        if spec.index == "beside":
            m.d.sync += index.eq(self.index)
        else:
            m.d.comb += index.eq(self.index)
        lanes = [self.lane(w, x, index, lane) for lane in range(spec.lanes)]
        random.Random(spec.order).shuffle(lanes)
        dot = _count(m, lanes) if spec.one_bit else _sum([a * b for a, b in lanes])
        base = self.acc << 1 if spec.one_bit else self.acc
        with m.If(enable):
            m.d.sync += self.acc.eq(Mux(first, 0, base) + dot)
        return m

    def lane(self, w: Any, x: Any, index: Any, lane: int) -> Any:
        """The weight and the selected activation; of one bit, their AND."""
        spec = self.spec
        options = [
            x.word_select(spec.column(lane, choice), spec.act_bits)
            for choice in range(1 if spec.keep == spec.of else spec.choices)
        ]
        taken = options[0]
        if len(options) > 1:
            taken = Array(options)[index.word_select(lane, spec.index_bits)]
        weight = w.word_select(lane, spec.w_bits)
        if spec.one_bit:
            return weight & taken
        return weight.as_signed(), Cat(taken).as_signed()


def _sum(terms: list[Any]) -> Any:
    while len(terms) > 1:
        odd = terms[-1:] if len(terms) % 2 else []
        terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)] + odd
    return terms[0]


def _count(m: Module, bits: list[Any]) -> Any:
    """The number of ones, by carry-save counters: n - bit_length(n) full adders."""
    columns = [list(bits)]
    place = 0
    while place < len(columns):
        column = columns[place]
        while len(column) > 1:
            taken, column[:3] = column[:3], []
            a, b, c = (*taken, Const(0, 1))[:3]
            total = Signal(2, name=f"count{place}_{len(column)}")
            m.d.comb += total.eq(a + b + c)
            column.append(total[0])
            if place + 1 == len(columns):
                columns.append([])
            columns[place + 1].append(total[1])
        place += 1
    return Cat(column[0] for column in columns)
