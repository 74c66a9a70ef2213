"""Bit-serial PE: the dot product of a weight word and an activation word each clock, shifted, accumulated.

Each side's digits are 0/1 (unipolar) or -1/+1 (bipolar), chosen beat by beat, so one PE serves integers
(AND and count), signs (XNOR and count) and signs against integer planes; a mask takes lanes out. Wider
numbers are sums over plane pairs, from the highest place down (`hw.spec.horner`).

Sources: Umuroglu et al., BISMO, FPL 2018 (AND, count, shift-accumulate); Rastegari et al., XNOR-Net,
arXiv:1603.05279 (a dot product of signs is an XNOR and a bit count); Wallace, "A Suggestion for a Fast
Multiplier", IEEE Trans. EC 1964 (the tree). Differs in: mask, digits of either kind on either side.

Per lane ``base`` says that the product is not 0, ``hit`` that it is +1; a lane contributes ``2 hit - base``,
which the tree counts as ``2 hit + (1 - base)``, ``lanes`` too much: no borrow in the tree, and the surplus
leaves in the adder that also negates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring

from hw.counts import accumulator, total
from hw.pipeline import CONTROL_OF_DOT, accumulate, controls, hand_over, handshake, ports, registered
from hw.spec import Beat, PeSpec, Resources, require_int, signed_bits, wrap


def compress(column_bits: tuple[int, ...]) -> tuple[int, ...]:
    """Bits per column after one level of full adders: three bits of a column become one, and one beside it.

    A carry out of the top column falls off: the count is exact modulo 2**columns.

    >>> compress((5, 4, 0))
    (3, 3, 1)
    """
    adders = [bits // 3 for bits in column_bits]
    return tuple(
        bits - 2 * own + carried
        for bits, own, carried in zip(column_bits, adders, [0, *adders], strict=False)
    )


def tree(lanes: int) -> tuple[tuple[int, ...], ...]:
    """Bits per column before each level of the tree, and after the last: at most two, for a final adder.

    Column 0 begins with a bit per lane (1 - base), column 1 with another (hit).
    """
    width = signed_bits(-lanes, lanes)
    columns: tuple[int, ...] = (lanes, lanes, *[0] * (width - 2))
    levels = [columns]
    while max(columns) > 2:
        columns = compress(columns)
        levels.append(columns)
    return tuple(levels)


@dataclass(frozen=True, kw_only=True)
class BitSerial(PeSpec):
    """acc <- (0 if first else 2 acc if shift else acc) -+ sum of digit(w) digit(x) over masked lanes."""

    levels: int = 3  #: a register after every so many levels of the tree; 0: none

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("levels", self.levels, 0)

    def golden(self, acc: int, beat: Beat, output: int = 0) -> int:
        base = beat.mask
        if not beat.w_bipolar:
            base &= beat.w
        if not beat.x_bipolar:
            base &= beat.x
        if beat.w_bipolar and beat.x_bipolar:
            hit = beat.mask & ~(beat.w ^ beat.x)
        else:
            hit = beat.mask & beat.w & beat.x
        dot = 2 * hit.bit_count() - base.bit_count()
        start = 0 if beat.first else 2 * acc if beat.shift else acc
        return wrap(start - dot if beat.neg else start + dot, self.acc_width)

    def cuts(self) -> tuple[tuple[int, ...], ...]:
        """Bits per column at each register inside the tree."""
        return tree(self.lanes)[self.levels :: self.levels] if self.levels else ()

    def latency(self) -> int:
        """One clock each for the lanes, the cuts, the dot product and the accumulator."""
        return 1 + len(self.cuts()) + 1 + 1

    def resources(self) -> Resources:
        """Cells of the structure below, none shared or simplified.

        A flop's clock enable is part of the flop (fabrics and gated clocks have it), a select between two
        constants is wiring, and a full adder without carry out is two gates.
        """
        return total(self.parts())

    def parts(self) -> dict[str, Resources]:
        levels, width = tree(self.lanes), signed_bits(-self.lanes, self.lanes)
        adders = sum(bits // 3 for columns in levels[:-1] for bits in columns)
        carryless = sum(columns[-1] // 3 for columns in levels[:-1])
        lowest = levels[-1].index(2) if 2 in levels[-1] else width
        control = 5 * (1 + len(self.cuts())) + 4 + 1
        return {
            # Which lanes count by mask and weight, by activation, and by both.
            "weights": Resources(gate2=2 * self.lanes),
            "activations": Resources(gate2=self.lanes),
            "lanes": Resources(gate2=3 * self.lanes, flop=2 * self.lanes),
            "tree": Resources(gate2=2 * carryless, full_adder=adders - carryless),
            "cuts": Resources(flop=sum(map(sum, self.cuts()))),
            # Two rows to one, then the negation.
            "count": Resources(adder_bit=width - lowest),
            "dot": Resources(gate2=width, adder_bit=width, flop=width),
            **accumulator(width, self.acc_width),
            # Valid, last and ready take a gate each.
            "control": Resources(gate2=3, flop=control),
        }

    def shared(self) -> dict[str, str]:
        return {"weights": "row", "activations": "column"}

    def create(self) -> BitSerialPE:
        return BitSerialPE(self)


class BitSerialPE(wiring.Component):
    """RTL of `BitSerial`: streams ``i`` (beats) and ``o`` (items); all stages move together or not at all."""

    def __init__(self, spec: BitSerial) -> None:
        self.spec = spec
        self.width = signed_bits(-spec.lanes, spec.lanes)
        super().__init__(ports(spec))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        moves = handshake(m, self)
        columns, control = self.take(m, moves)
        columns, control = self.count(m, moves, columns, control)
        dot, control = self.resolve(m, moves, columns, control)
        self.accumulate(m, moves, dot, control)
        return m

    def take(self, m: Module, moves: Any) -> tuple[list[Any], Any]:
        """Operands to registered lane bits."""
        beat = self.i.payload
        base = Signal(self.spec.lanes)
        lanes = self.spec.lanes
        counts_w = beat.w | beat.w_bipolar.replicate(lanes)
        counts_x = beat.x | beat.x_bipolar.replicate(lanes)
        m.d.comb += base.eq(beat.mask & counts_w & counts_x)
        idle = Signal(lanes, reset_less=True)
        hit = Signal(lanes, reset_less=True)
        with m.If(moves):
            m.d.sync += [
                idle.eq(~base),
                # Where base is 1, a unipolar digit is 1: equal bits mean +1 whatever the digits.
                hit.eq(base & ~(beat.w ^ beat.x)),
            ]
        return [idle, hit], controls(m, moves, self.i)

    def count(self, m: Module, moves: Any, columns: list[Any], control: Any) -> tuple[list[Any], Any]:
        """Levels of full adders until no column holds more than two bits, registered where the spec says."""
        level = 0
        while max(map(len, columns)) > 2:
            level += 1
            columns = self.add(m, columns, level)
            if self.spec.levels and level % self.spec.levels == 0:
                columns = [registered(m, moves, bits, f"cut{level}_{k}") for k, bits in enumerate(columns)]
                control = registered(m, moves, control, f"control{level}")
        return columns, control

    def add(self, m: Module, columns: list[Any], level: int) -> list[Any]:
        """One level: thirds of a column are the three inputs of its full adders, side by side."""
        # A module of its own that reads nothing but the level before it: an event-driven simulator then
        # evaluates each level once a clock instead of the whole tree once a level.
        m.submodules[f"level{level}"] = adders = Module()
        added, carry = [], Cat()
        for k, bits in enumerate([*columns, Cat()][: self.width]):
            n = len(bits) // 3
            a, b, c = bits[:n], bits[n : 2 * n], bits[2 * n : 3 * n]
            total = Cat(a ^ b ^ c, bits[3 * n :], carry)
            if len(total):  # a signal without bits has two in Verilog
                added.append(Signal(len(total), name=f"column{level}_{k}"))
                adders.d.comb += added[-1].eq(total)
            carry = (a & b) | ((a ^ b) & c)
        return added

    def resolve(self, m: Module, moves: Any, columns: list[Any], control: Any) -> tuple[Any, Any]:
        """Two rows to the signed dot product of the beat, negated if asked."""
        lanes, width = self.spec.lanes, self.width
        rows = [[bits[row] if len(bits) > row else 0 for bits in columns] for row in (0, 1)]
        lowest = next((k for k, bits in enumerate(columns) if len(bits) == 2), width)
        counted = Signal(width)
        low, high = Cat(*rows[0][:lowest]), [Cat(*row[lowest:]) for row in rows]
        m.d.comb += counted.eq(Cat(low, high[0] + high[1]))
        # counted - lanes, or lanes - counted = ~counted + 1 + lanes: one adder for both.
        dot = Signal(signed(width), reset_less=True)
        control_of_dot = Signal(CONTROL_OF_DOT)
        flipped = counted ^ control.neg.replicate(width)
        with m.If(moves):
            m.d.sync += [
                dot.eq(flipped + Mux(control.neg, lanes + 1, -lanes)),
                *(
                    getattr(control_of_dot, flag).eq(getattr(control, flag))
                    for flag in CONTROL_OF_DOT.members
                ),
            ]
        return dot, control_of_dot

    def accumulate(self, m: Module, moves: Any, dot: Any, control: Any) -> None:
        """The item, and that it is one."""
        accumulate(m, moves, self.o.payload, dot, control)
        hand_over(m, moves, self, control)


SPEC = BitSerial

SAMPLES = (
    BitSerial(lanes=1, acc_width=2, levels=0),
    BitSerial(lanes=5, acc_width=7, levels=1),
    BitSerial(lanes=64, acc_width=32),
    BitSerial(lanes=100, acc_width=40, levels=2),
)
