"""Bit-parallel integer PE: a multiplier a lane, the baseline that every other PE is weighed against.

Weights and activations are two's complement, each as wide as the multiplier; numbers of fewer bits cost the
same. How a multiplier is built is the synthesizer's choice (a DSP block, where a target has them), or it is
radix-4 Booth: every two bits of a weight select 0, 1 or 2 activations, added or subtracted.

Sources: Booth, "A Signed Binary Multiplication Technique", Q. J. Mech. Appl. Math. 1951; MacSorley,
"High-Speed Arithmetic in Binary Computers", Proc. IRE 1961 (two bits a step). Differs in: Booth's rows of all
lanes meet in a tree for each place, with no product of a lane between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring

from hw.counts import accumulator, summing, total
from hw.pipeline import (
    CONTROL_OF_DOT,
    accumulate,
    carried,
    carry_cells,
    carry_trees,
    controls,
    hand_over,
    handshake,
    paired,
    ports,
    registered,
    settled,
    sum_tree,
    tree_registers,
    tree_widths,
    unread,
)
from hw.spec import Beat, PeSpec, Resources, Segment, Step, require_int, signed_bits, wrap


@dataclass(frozen=True, kw_only=True)
class Mac(PeSpec):
    """acc <- (0 if first else acc) + sum over lanes of w x, both two's complement."""

    lanes: int = 16  #: columns of a beat; every lane holds a multiplier
    w_bits: int = 8  #: of a weight
    act_bits: int = 8  #: of an activation
    booth: bool = False  #: multipliers are rows of radix-4 digits, else the synthesizer's
    levels: int = 2  #: a register after every so many levels of the adder tree; 0: none

    def __post_init__(self) -> None:
        require_int("w_bits", self.w_bits, 2, 16)
        require_int("act_bits", self.act_bits, 2, 16)
        if not isinstance(self.booth, bool):
            raise TypeError(f"booth must be True or False, not {self.booth!r}")
        require_int("levels", self.levels, 0)
        super().__post_init__()

    def beat_range(self) -> tuple[int, int]:
        w, x = 1 << self.w_bits - 1, 1 << self.act_bits - 1
        return -self.lanes * max(w * (x - 1), (w - 1) * x), self.lanes * w * x

    def words(self) -> dict[str, int]:
        return {"w": self.lanes * self.w_bits, "x": self.lanes * self.act_bits}

    def flags(self) -> tuple[str, ...]:
        return "first", "last"

    def golden(self, acc: int, beat: Beat, output: int = 0) -> int:
        dot = sum(
            self.lane(beat.w, lane, self.w_bits) * self.lane(beat.x, lane, self.act_bits)
            for lane in range(self.lanes)
        )
        return wrap(dot if beat.first else acc + dot, self.acc_width)

    def lane(self, word: int, lane: int, bits: int) -> int:
        """The integer in a lane of a word of so many planes."""
        return wrap(sum((word >> p * self.lanes + lane & 1) << p for p in range(bits)), bits)

    def steps(self, segment: Segment) -> tuple[Step, ...]:
        """One step: all bits of both. Raises ValueError if either has too many for the multiplier."""
        digits = segment.w_digits
        for name, bits, (low, high) in (
            ("weight", self.w_bits, (digits[0], digits[-1])),
            ("activation", self.act_bits, segment.x_range),
        ):
            most = 1 << bits - 1
            if low < -most or high >= most:
                raise ValueError(
                    f"{name} must be of integers from {-most} to {most - 1}, not {low} to {high}"
                )
        return (Step(tuple(range(self.w_bits)), tuple(range(self.act_bits)), False, False),)

    def w_code(self, segment: Segment) -> Mapping[int, int]:
        return {digit: digit % (1 << self.w_bits) for digit in {0, *segment.w_digits}}

    def x_code(self, segment: Segment) -> Mapping[int, int]:
        low, high = segment.x_range
        return {x: x % (1 << self.act_bits) for x in range(low, high + 1)}

    def latency(self) -> int:
        """One clock each for the products (or first sums of rows), the cuts, the dot and the item."""
        terms = -(-self.lanes // 2) if self.booth else self.lanes
        return 1 + tree_registers(terms, self.levels) + 1 + 1

    @property
    def digits(self) -> int:
        """Radix-4 digits of a weight."""
        return -(-self.w_bits // 2)

    def resources(self) -> Resources:
        """Cells of the structure below, none shared or simplified; see `hw.pe.bitserial`.

        A multiplier that is not Booth's counts as Baugh and Wooley's array: a gate for every pair of bits,
        and an adder row for each but one of the weight's.
        """
        return total(self.parts())

    def parts(self) -> dict[str, Resources]:
        width = signed_bits(*self.beat_range())
        cuts = tree_registers(-(-self.lanes // 2) if self.booth else self.lanes, self.levels)
        return (self._booth(width) if self.booth else self._products()) | {
            "dot": Resources(flop=width + self.booth),
            **accumulator(width, self.acc_width, carry=self.booth, doubles=False),
            # Valid, last and ready take a gate each.
            "control": Resources(gate2=3, flop=3 * (2 + cuts) + 1),
        }

    def _products(self) -> dict[str, Resources]:
        tree = tree_widths(self.lanes, self.w_bits + self.act_bits)
        cuts = tree[self.levels :: self.levels] if self.levels else ()
        sums = sum(sum(after[: len(before) // 2]) for before, after in pairwise(tree))
        return {
            "products": Resources(gate2=self.lanes * self.w_bits * self.act_bits, flop=sum(tree[0])),
            "product rows": Resources(adder_bit=self.lanes * (self.w_bits - 1) * self.act_bits),
            **summing(sums, self.lanes - 1),
            "cuts": Resources(flop=sum(map(sum, cuts))),
        }

    def _booth(self, width: int) -> dict[str, Resources]:
        row = self.act_bits + 1
        adders, flops = carry_cells(self.lanes, row, self.levels)
        total = tree_widths(self.lanes, row)[-1][0]
        joints, joint = 0, total
        for _ in range(self.digits - 1):
            joint = min(joint + 3, width)
            joints += joint + 1
        sums = self.lanes - 1
        short = self.w_bits % 2  # the highest digit is a sign alone: no bit of its row chooses twice anything
        return {
            # Three gates read a digit; a bit of a row is 0 or 1 activation, a choice of 2, and a flip.
            "digits": Resources(gate2=3 * self.lanes * self.digits),
            "digit rows": Resources(gate2=2, mux2=1) * (self.lanes * (self.digits - short) * (row - 2)),
            # Of a row's lowest and highest bit the choice is simpler.
            "row ends": Resources(gate2=2, mux2=1) * (self.lanes * (self.digits - short) * 2),
            "sign rows": Resources(gate2=2 * (row - 1)) * (self.lanes * short),
            # The highest bits of such rows, and of their sums, are two copies of one.
            "copies": Resources(gate2=2 * self.lanes, adder_bit=sums) * short,
            "cuts": Resources(flop=flops * self.digits),
            **summing(adders * self.digits - short * sums, sums * self.digits, carries=True),
            "places": Resources(adder_bit=joints),
        }

    def merged(self) -> dict[str, Resources]:
        # Of an odd number of bits the highest digit is a sign: see "copies".
        if self.booth:
            return {"cuts": Resources(flop=-(-self.lanes // 2) * (self.w_bits % 2))}
        tree = tree_widths(self.lanes, self.w_bits + self.act_bits)
        return {"cuts": Resources(flop=unread(tree, self.levels, signed_bits(*self.beat_range())))}

    def passed(self) -> int:
        # The highest bit of a digit is its row's carry: behind the first sums, each cut and the last sum.
        if not self.booth:
            return 0
        tree = tree_widths(self.lanes, self.act_bits + 1)
        behind = tree[min(1, len(tree) - 1) :]
        kept = behind[:1] + (behind[self.levels :: self.levels] if self.levels else ())
        return self.digits * sum(map(len, kept)) + 1

    def shared(self) -> dict[str, str]:
        return {"digits": "row"} if self.booth else {}

    def create(self) -> MacPE:
        return MacPE(self)


class MacPE(wiring.Component):
    """RTL of `Mac`: streams ``i`` (beats) and ``o`` (items); all stages move together or not at all."""

    def __init__(self, spec: Mac) -> None:
        self.spec = spec
        super().__init__(ports(spec))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        moves = handshake(m, self)
        control = controls(m, moves, self.i, CONTROL_OF_DOT)
        shape = signed(signed_bits(*self.spec.beat_range()))
        dot = Signal(shape, reset_less=True)
        carry = None
        if self.spec.booth:
            total, flips, control = self.rows(m, moves, control, len(dot))
            carry = registered(m, moves, flips, "carry")
        else:
            products = [
                registered(m, moves, w * x, f"product{lane}") for lane, (w, x) in enumerate(self.operands())
            ]
            total, control = sum_tree(m, moves, products, control, self.spec.levels)
        with m.If(moves):
            m.d.sync += dot.eq(total)
        control = registered(m, moves, control, "control_of_dot")
        accumulate(m, moves, self.o.payload, dot, control, carry)
        hand_over(m, moves, self, control)
        return m

    def operands(self) -> list[tuple[Any, Any]]:
        """Weight and activation of every lane."""
        beat, lanes = self.i.payload, self.spec.lanes
        return [
            (Cat(beat.w[lane::lanes]).as_signed(), Cat(beat.x[lane::lanes]).as_signed())
            for lane in range(lanes)
        ]

    def rows(self, m: Module, moves: Any, control: Any, width: int) -> tuple[Any, Any, Any]:
        """The dot product of Booth's digits: a tree for each place, then the places together.

        Returns it, a bit to be added to it, and the control that belongs to it.
        """
        lanes = [
            [self.row(m, bits, x, f"row{lane}_{place}") for place, bits in enumerate(overlapping(w))]
            for lane, (w, x) in enumerate(self.operands())
        ]
        trees = [
            settled(m, moves, paired(list(rows)), f"place{place}")
            for place, rows in enumerate(zip(*lanes, strict=True))
        ]
        ends, control = carry_trees(m, moves, trees, control, self.spec.levels)
        total, carry = ends[-1]
        for place, lower in reversed(ends[:-1]):
            # 4 (total + carry) is total with the carry in both places below it, and the carry once more.
            total = carried(place, Cat(carry, carry, total).as_signed(), carry)[:width].as_signed()
            carry = lower
        return total, carry, control

    def row(self, m: Module, bits: tuple[Any, Any, Any], x: Any, name: str) -> tuple[Any, Any]:
        """A digit of -2 to 2 times ``x``, less the one that a negative row lacks, and that one."""
        below, low, high = bits
        # Named, since an expression that many bits read is evaluated for every one of them in simulation.
        one, two, negative = (Signal(name=f"{name}_{what}") for what in ("one", "two", "negative"))
        value = Signal(signed(len(x) + 1), name=name)
        size = Mux(two, x << 1, Mux(one, x, 0))[: len(value)]
        m.d.comb += [
            one.eq(low ^ below),
            two.eq((high ^ low) & ~one),
            negative.eq(high),
            value.eq(size ^ negative.replicate(len(value))),
        ]
        return value, negative


def overlapping(w: Any) -> list[tuple[Any, Any, Any]]:
    """Of every two bits of a signed value, the lowest first: the bit below, the lower one, the higher one."""
    bits = [Const(0, 1), *w]
    bits += [w[-1]] * (len(bits) % 2 == 0)
    return list(zip(bits[::2], bits[1::2], bits[2::2], strict=False))


SPEC = Mac

SAMPLES = (
    Mac(lanes=1, acc_width=5, w_bits=2, act_bits=3, levels=0),
    Mac(lanes=5, acc_width=16, w_bits=4, act_bits=5, levels=1),
    Mac(lanes=16),
    Mac(lanes=3, acc_width=24, booth=True, levels=0),
    Mac(lanes=7, acc_width=20, w_bits=5, act_bits=4, booth=True, levels=1),
    Mac(lanes=66, acc_width=16, w_bits=3, act_bits=2, levels=3),
)
