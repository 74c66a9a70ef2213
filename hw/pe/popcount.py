"""Popcount PE: the bits of ``w AND x`` or of ``w XOR x`` counted each clock, shifted, accumulated; no mask.

A product of integers is the AND of two planes, counted; one of signs is the number of lanes less twice that
of those where the signs differ, which `Popcount.dot` takes off the items afterwards. A lane that is 0 in
both words counts nothing either way. Wider numbers are sums over plane pairs, from the highest place down
(`hw.spec.horner`); signs that meet integers, or a mask, are read as two's complement by AND.

Source: Umuroglu et al., "Optimizing Bit-Serial Matrix Multiplication for Reconfigurable Computing", ACM TRETS
2019 (BISMO: count, shift-accumulate, compressors of 6-input tables). Differs in: XOR; lanes and counters
share look-up tables; the adder that makes the number inverts it, the accumulator's carry in completes that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import and_, xor
from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring

from hw.counts import accumulator, total
from hw.pipeline import CONTROL, hand_over, handshake, ports, registered
from hw.popcount import plan, tree
from hw.popcount.cells import Behaviour, Primitives
from hw.spec import Beat, PeSpec, Resources, Segment, Step, horner, require_int, signed_bits, wrap

OPS = {"and": and_, "xor": xor}


def complement(digits: tuple[int, ...]) -> dict[int, int]:
    """Two's complement code of every integer of ``digits``, and of 0.

    >>> complement((-1, 1))
    {-1: 3, 0: 0, 1: 1}
    """
    width = signed_bits(min(digits), max(digits))
    return {digit: digit % (1 << width) for digit in sorted({0, *digits})}


def places(code: Mapping[int, int]) -> tuple[int, ...]:
    """What the bits of a `complement` are worth, the lowest first.

    >>> places({-1: 3, 0: 0, 1: 1})
    (1, -2)
    """
    width = signed_bits(min(code), max(code))
    return (*(1 << bit for bit in range(width - 1)), -1 << width - 1)


@dataclass(frozen=True, kw_only=True)
class Popcount(PeSpec):
    """acc <- (0 if first else 2 acc if shift else acc) -+ the number of ones of ``w op x``."""

    op: str = "and"  #: one of `OPS`
    levels: int = 1  #: a register after every so many levels of counters; 0: none
    form: str = "portable"  #: one of `plan.FORMS`: for any fabric, or for tables of 6 inputs and carry chains
    instances: bool = False  #: "lut6" in Xilinx primitives, for synthesis, in place of what these do

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("levels", self.levels, 0)
        for name, known in {"op": OPS, "form": plan.FORMS}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.instances and self.form != "lut6":
            raise ValueError(f"form must be lut6 where cells are instances, not {self.form!r}")

    @property
    def primitives(self) -> str:
        return "xilinx" if self.instances else ""

    def beat_range(self) -> tuple[int, int]:
        return 0, self.lanes

    def words(self) -> dict[str, int]:
        return {"w": self.lanes, "x": self.lanes}

    def flags(self) -> tuple[str, ...]:
        return "first", "shift", "neg", "last"

    def golden(self, acc: int, beat: Beat, output: int = 0) -> int:
        number = (OPS[self.op](beat.w, beat.x)).bit_count()
        start = 0 if beat.first else 2 * acc if beat.shift else acc
        return wrap(start - number if beat.neg else start + number, self.acc_width)

    def w_code(self, segment: Segment) -> Mapping[int, int] | None:
        return complement(segment.w_digits) if segment.w_bipolar and self.op == "and" else None

    def x_code(self, segment: Segment) -> Mapping[int, int] | None:
        low, high = segment.x_range
        return complement((low, *range(low, high + 1))) if segment.x_bipolar and self.op == "and" else None

    def steps(self, segment: Segment) -> tuple[Step, ...]:
        """One step for each pair of planes, of two's complement where AND meets signs.

        Raises ValueError if XOR is to multiply anything but signs and signs.
        """
        if self.op == "xor":
            if not (segment.w_bipolar and segment.x_bipolar) or segment.masked:
                raise ValueError(f"segment must be of signs on both sides without a mask, not {segment!r}")
            return horner(segment.weight, segment.activation)
        w, x = self.w_code(segment), self.x_code(segment)
        return horner(
            segment.weight if w is None else places(w), segment.activation if x is None else places(x)
        )

    def dot(self, items: Any, segment: Segment) -> Any:
        if self.op == "and":
            return items
        return segment.columns * sum(segment.weight) * sum(segment.activation) - 2 * items

    @property
    def width(self) -> int:
        """Bits of the number of ones of a beat."""
        return self.lanes.bit_length()

    def columns_after(self) -> list[plan.Heights]:
        """Bits per column after each level: the lanes', then the counters'."""
        first = tree.after_lanes(self.lanes, self.form)
        return [first, *(after for _, after in plan.plan(first, self.form))]

    def cuts(self) -> list[plan.Heights]:
        """Bits per column at each register inside the tree."""
        return self.columns_after()[self.levels - 1 :: self.levels] if self.levels else []

    def latency(self) -> int:
        """One clock each for the cuts, the number and the accumulator."""
        return len(self.cuts()) + 2

    def resources(self) -> Resources:
        """Cells of the structure below, none shared or simplified; see `hw.pe.bitserial`.

        A counter that replaces n bits by their number is n - 1 adders of bits; as many of them are full ones
        as there are bits fewer after it. Look-up tables hold several, and so `hw.synth` counts fewer of them.
        """
        return total(self.parts())

    def parts(self) -> dict[str, Resources]:
        levels = plan.plan(tree.after_lanes(self.lanes, self.form), self.form)
        counters = [counter.adders() for placed, _ in levels for counter in placed]
        first, last = self.columns_after()[0], self.columns_after()[-1]
        lanes = self.lanes - sum(first), sum(first[1:]) - (self.lanes - sum(first))
        portable = self.form == "portable"
        negated = sum(last) if portable else 2 * self.width
        control = 5 * (len(self.cuts()) + 1) + 1
        tables = f"tree of {self.form} counters"
        return {
            f"{self.op} lanes": Resources(gate2=self.lanes),
            tables: Resources(
                full_adder=lanes[0] + sum(full for full, _ in counters) + sum(bits == 3 for bits in last),
                half_adder=lanes[1] + sum(half for _, half in counters) + last.count(2) * (not portable),
            ),
            "cuts": Resources(flop=sum(map(sum, self.cuts()))),
            # The number, and its inversion.
            "count": Resources(gate2=negated, adder_bit=self.width, flop=self.width),
            **accumulator(self.width, self.acc_width),
            # Valid, last and ready take a gate each.
            "control": Resources(gate2=3, flop=control),
        }

    def create(self) -> PopcountPE:
        return PopcountPE(self)


class PopcountPE(wiring.Component):
    """RTL of `Popcount`: streams ``i`` (beats) and ``o`` (items); all stages move together or not at all."""

    def __init__(self, spec: Popcount) -> None:
        self.spec = spec
        self.cells: tree.Cells = Primitives() if spec.instances else Behaviour()
        super().__init__(ports(spec))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        moves = handshake(m, self)
        columns, control = self.count(m, moves)
        number = Signal(self.spec.width, reset_less=True)
        made = self.number(m, columns, control.neg)
        with m.If(moves):
            m.d.sync += number.eq(made)
        control = registered(m, moves, control, "control_of_number")
        if self.spec.form == "lut6":
            self.accumulate_in_tables(m, moves, number, control)
        else:
            self.accumulate(m, moves, number, control)
        return m

    def count(self, m: Module, moves: Any) -> tuple[tree.Columns, Any]:
        """Operands to columns of a few bits, registered where the spec says."""
        spec, beat = self.spec, self.i.payload
        control: Any = Signal(CONTROL, name="control")
        m.d.comb += [
            control.valid.eq(self.i.valid),
            control.last.eq(self.i.valid & beat.last),
            *(getattr(control, flag).eq(getattr(beat, flag)) for flag in ("first", "shift", "neg")),
        ]
        m.submodules.lanes = lanes = Module()
        columns = tree.LANES[spec.form](lanes, self.cells, OPS[spec.op], beat.w, beat.x, spec.width)
        levels = plan.plan(tree.heights(columns), spec.form)
        for at, (placed, _) in enumerate([([], ()), *levels], 1):
            if placed:
                m.submodules[f"level{at}"] = level = Module()
                columns = tree.count(level, self.cells, columns, placed)
            if spec.form == "portable" and at == 1 + len(levels):
                # Before a register, inverting takes no table of its own.
                columns = [[bit ^ control.neg for bit in bits] for bits in columns]
            columns, control = self.cut(m, moves, columns, control, at)
        return columns, control

    def cut(
        self, m: Module, moves: Any, columns: tree.Columns, control: Any, level: int
    ) -> tuple[tree.Columns, Any]:
        """The columns after level number ``level``, registered if the spec says so."""
        if not self.spec.levels or level % self.spec.levels:
            return columns, control
        later = [
            list(registered(m, moves, Cat(*bits), f"cut{level}_{k}")) if bits else []
            for k, bits in enumerate(columns)
        ]
        return later, registered(m, moves, control, f"control{level}")

    def number(self, m: Module, columns: tree.Columns, neg: Any) -> Any:
        """How many lanes count, inverted where the beat is subtracted."""
        if self.spec.form == "lut6":
            m.submodules.total = total = Module()
            return Cat(*tree.total(total, self.cells, columns, neg))
        rows = [Cat(*(bits[row] if len(bits) > row else neg for bits in columns)) for row in (0, 1)]
        # ~(a + b) = ~a + ~b + 1: the carry in that makes it costs no adder of its own.
        return (Cat(1, rows[0]) + Cat(neg, rows[1]))[1 : self.spec.width + 1]

    def accumulate_in_tables(self, m: Module, moves: Any, number: Any, control: Any) -> None:
        """What the accumulator starts from, and the number: a table a bit."""
        acc, neg = self.o.payload, control.neg
        m.submodules.accumulator = inner = Module()
        addend = Cat(number, neg.replicate(len(acc) - len(number)))
        inputs = [addend, *(flag.replicate(len(acc)) for flag in (control.first, control.shift)), acc]
        # The carry in takes the pin of the lowest position's data, which so come by its table.
        lowest, data = self.cells.lut2(inner, _start_plus, lambda bit, *_: bit, [word[:1] for word in inputs])
        others = self.cells.lut(inner, _start_plus, [*(word[1:] for word in inputs), acc[:-1]])
        after, _ = self.cells.chain(inner, [lowest, *others], [data, *addend[1:]], neg)
        with m.If(moves & control.valid):
            m.d.sync += acc.eq(Cat(*after))
        hand_over(m, moves, self, control)

    def accumulate(self, m: Module, moves: Any, number: Any, control: Any) -> None:
        """The same for any fabric."""
        acc, neg = self.o.payload, control.neg
        start = Signal(len(acc))
        m.d.comb += start.eq(Mux(control.first, 0, Mux(control.shift, acc << 1, acc)))
        addend = Cat(number, neg.replicate(len(acc) - len(number)))
        # addend + start + neg as addend - ~start - (1 - neg), with the last of these below the lowest bit. Of
        # what is subtracted from, no function is needed beside the sums: one table a bit, not two.
        with m.If(moves & control.valid):
            m.d.sync += acc.eq((Cat(neg, addend) - Cat(1, ~start))[1:])
        hand_over(m, moves, self, control)


def _start_plus(addend: Any, first: Any, shift: Any, bit: Any, below: Any = 0) -> Any:
    """Sum without carry of a bit of the number and the accumulator's start: 0, twice it, or itself."""
    start = bit ^ (shift & (bit ^ below))
    return addend ^ start ^ (first & start)


SPEC = Popcount

SAMPLES = (
    Popcount(lanes=1, acc_width=2, levels=0),
    Popcount(lanes=10, acc_width=9, op="xor", form="lut6"),
    Popcount(lanes=64, acc_width=32, op="xor"),
    Popcount(lanes=100, acc_width=40, levels=2, form="lut6"),
)
