"""Table look-up PE: sums of a few activations are made once, and the weights of many rows pick from them.

Lanes are taken in groups. A weight bit means -1 or +1, so a group's dot product with a plane of weights is
one of ``2**group`` signed sums of its activations, in pairs of equal magnitude: a table of half as many, made
each clock from integer activations and shared by ``row_count`` rows, whose bits are the index and the sign.

Planes of signs alone make odd integers. Where a weight may be even, twice the weight is computed, with one
plane more that makes it odd: ``2 v = +-1 + sum_j 2**j b_j`` with every ``b_j`` -1 or +1; a masked entry is 0
in the same way. So signs, trits and integers run without a mask and without a beat that is negated.

Sources: Wei et al., T-MAC, EuroSys 2025 (groups of four, tables of one-bit planes); Mo et al., LUT Tensor
Core, ISCA 2025 (bits read as -1 and +1, half a table, shared by many columns). Differs in: own circuit, exact
integers, even weights by one plane more instead of a bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring

from hw.counts import accumulator, summing, total
from hw.pipeline import (
    CONTROL_OF_DOT,
    accumulate,
    carry_cells,
    carry_trees,
    chosen,
    controls,
    hand_over,
    handshake,
    paired,
    ports,
    registered,
    selects,
    settled,
    tree_registers,
)
from hw.spec import Beat, PeSpec, Resources, Segment, Step, require_int, signed_bits, wrap


@dataclass(frozen=True, kw_only=True)
class Table(PeSpec):
    """acc[r] <- (0 if first else 2 acc[r] if shift else acc[r]) + sum over lanes of +x or -x, by row r."""

    lanes: int = 16
    act_bits: int = 8  #: of an activation, two's complement
    group: int = 4  #: lanes of a table
    row_count: int = 8  #: rows that share the tables
    levels: int = 2  #: a register after every so many levels of a row's tree behind the first; 0: none

    def __post_init__(self) -> None:
        require_int("act_bits", self.act_bits, 2, 16)
        require_int("group", self.group, 2, 6)
        require_int("row_count", self.row_count, 1)
        require_int("levels", self.levels, 0)
        super().__post_init__()
        if self.lanes % self.group:
            raise ValueError(f"lanes must be a multiple of group={self.group!r}, not {self.lanes!r}")

    @property
    def rows(self) -> int:
        return self.row_count

    @property
    def groups(self) -> int:
        """Tables."""
        return self.lanes // self.group

    @property
    def entries(self) -> int:
        """Sums in a table."""
        return 1 << self.group - 1

    @property
    def entry_bits(self) -> int:
        """Width of a sum in a table."""
        most = self.group << self.act_bits - 1
        return signed_bits(-most, most - 1)

    def beat_range(self) -> tuple[int, int]:
        most = self.lanes << self.act_bits - 1
        return -most, most

    def words(self) -> dict[str, int]:
        return {"w": self.lanes * self.row_count, "x": self.lanes * self.act_bits}

    def flags(self) -> tuple[str, ...]:
        return "first", "shift", "last"

    def golden(self, acc: int, beat: Beat, output: int = 0) -> int:
        total = 0
        for lane in range(self.lanes):
            x = [beat.x >> p * self.lanes + lane & 1 for p in range(self.act_bits)]
            value = sum(bit << p for p, bit in enumerate(x)) - (x[-1] << self.act_bits)
            total += value if beat.w >> output * self.lanes + lane & 1 else -value
        start = 0 if beat.first else 2 * acc if beat.shift else acc
        return wrap(start + total, self.acc_width)

    def _plan(self, segment: Segment) -> tuple[int, bool]:
        """Planes of bits of rising place, and whether they and one plane more make twice the digit."""
        digits = {*segment.w_digits, *([0] if segment.masked else [])}
        most = max(map(abs, digits))
        if all(digit % 2 for digit in digits):
            return most.bit_length(), False
        return 1 + max(0, most - 1).bit_length(), True

    def w_code(self, segment: Segment) -> Mapping[int, int]:
        planes, doubled = self._plan(segment)
        most = (1 << planes) - 1  # the integers of these planes are the odd ones of -most to most
        code = {}
        for digit in {*segment.w_digits, *([0] if segment.masked else [])}:
            odd, up = digit, False
            if doubled:
                up = 2 * digit + 1 > most
                odd = 2 * digit + (-1 if up else 1)
            code[digit] = (odd + most) // 2 | up << planes
        return code

    def x_code(self, segment: Segment) -> Mapping[int, int]:
        low, high = segment.x_range
        return {x: x % (1 << self.act_bits) for x in range(low, high + 1)}

    def steps(self, segment: Segment) -> tuple[Step, ...]:
        """A beat for each plane, the highest first, and one for the plane that makes the weight odd."""
        (w_low, w_high), (low, high) = segment.w_range, segment.x_range
        most = 1 << self.act_bits - 1
        if low < -most or high >= most:
            raise ValueError(f"activation must be within {-most} to {most - 1}, not {low} to {high}")
        planes, doubled = self._plan(segment)
        reach = (1 + doubled) * segment.columns * max(-w_low, w_high) * max(-low, high)
        if self.acc_width < signed_bits(-reach, reach):
            raise ValueError(
                f"acc_width must be at least {signed_bits(-reach, reach)} for {1 + doubled} times "
                f"{segment.columns} columns of digits {w_low} to {w_high}, not {self.acc_width!r}"
            )
        acts = tuple(range(self.act_bits))
        steps = [Step((plane,), acts, plane < planes - 1, False) for plane in reversed(range(planes))]
        return (*steps, Step((planes,), acts, False, False)) if doubled else tuple(steps)

    def dot(self, items: Any, segment: Segment) -> Any:
        return items // 2 if self._plan(segment)[1] else items

    def latency(self) -> int:
        """One clock each for tables, first sums, the registers of the rows' trees and the accumulators."""
        return 2 + tree_registers(-(-self.groups // 2), self.levels) + 1

    def resources(self) -> Resources:
        """Cells of the structure below, none shared or simplified; see `hw.pe.bitserial`."""
        return total(self.parts())

    def parts(self) -> dict[str, Resources]:
        width, bits = self._sums(self.group)
        sums, flops = carry_cells(self.groups, width, self.levels)
        indexes = self.row_count * self.groups
        registers = 2 + tree_registers(-(-self.groups // 2), self.levels)
        dot = width + (self.groups - 1).bit_length()
        ends = accumulator(dot, self.acc_width, carry=1)
        return {
            "table sums": Resources(adder_bit=self.groups * (bits - self._adders(self.group))),
            "table ends": Resources(adder_bit=self.groups * self._adders(self.group)),
            "tables": Resources(flop=self.groups * self.entries * width),
            # An index counts from the sign.
            "index signs": Resources(gate2=indexes * (self.group - 1)),
            "indexes": Resources(flop=indexes * self.group),
            f"picks of {self.entries}": Resources(mux2=indexes * selects(self.entries) * width),
            "signs": Resources(gate2=indexes * width),
            **summing(self.row_count * sums, self.row_count * (self.groups - 1), carries=True),
            "cuts": Resources(flop=self.row_count * flops),
            **{name: cells * self.row_count for name, cells in ends.items()},
            # Valid, last and ready take a gate each.
            "control": Resources(gate2=3, flop=4 * registers + 1),
        }

    def merged(self) -> dict[str, Resources]:
        # Signed sums of the same activations are all odd or all even: one lowest bit, which nothing chooses.
        return {
            "tables": Resources(flop=self.groups * (self.entries - 1)),
            f"picks of {self.entries}": Resources(mux2=self.row_count * self.groups * selects(self.entries)),
        }

    def shared(self) -> dict[str, str]:
        return {"table sums": "column", "table ends": "column", "index signs": "row"}

    def _sums(self, lanes: int) -> tuple[int, int]:
        """Width of the signed sums of so many activations, and bits of the adders that make them."""
        if lanes == 1:
            return self.act_bits, 0
        (left, left_bits), (right, right_bits) = self._sums(lanes // 2), self._sums(lanes - lanes // 2)
        width = max(left, right) + 1
        return width, left_bits + right_bits + (width << lanes - 1)

    def _adders(self, lanes: int) -> int:
        """Adders of the sums of so many activations."""
        half = lanes // 2
        return 0 if lanes == 1 else self._adders(half) + self._adders(lanes - half) + (1 << lanes - 1)

    def create(self) -> TablePE:
        return TablePE(self)


def signed_sums(values: list[Any]) -> list[Any]:
    """``values[0] +- values[1] +- ..``: bit i - 1 of a sum's index is 1 where value i is added.

    >>> signed_sums([1, 10, 100])
    [-109, -89, 91, 111]
    """
    if len(values) == 1:
        return values
    half = len(values) // 2
    left, right = signed_sums(values[:half]), signed_sums(values[half:])
    # Where the first of the right half is subtracted, its sum of all opposite signs is: counted from the end.
    return [a + right[e >> 1] if e & 1 else a - right[~e >> 1] for e in range(2 * len(right)) for a in left]


class TablePE(wiring.Component):
    """RTL of `Table`: streams ``i`` (beats) and ``o`` (items); all stages move together or not at all."""

    def __init__(self, spec: Table) -> None:
        self.spec = spec
        super().__init__(ports(spec))

    def elaborate(self, platform: object) -> Module:
        m, spec = Module(), self.spec
        moves = handshake(m, self)
        tables = [self.table(m, moves, group) for group in range(spec.groups)]
        picks = [
            [self.index(m, moves, row, group) for group in range(spec.groups)]
            for row in range(spec.row_count)
        ]
        control = registered(m, moves, controls(m, moves, self.i, CONTROL_OF_DOT), "looked_up")
        trees = []
        for row, indexes in enumerate(picks):
            terms = [self.pick(table, *one) for table, one in zip(tables, indexes, strict=True)]
            trees.append(settled(m, moves, paired(terms), f"row{row}"))
        dots, control = carry_trees(m, moves, trees, control, spec.levels)
        for row, (dot, carry) in enumerate(dots):
            acc = self.o.payload[row] if spec.outputs > 1 else self.o.payload
            accumulate(m, moves, acc, dot, control, carry)
        hand_over(m, moves, self, control)
        return m

    def table(self, m: Module, moves: Any, group: int) -> list[Any]:
        """Registered sums of a group's activations."""
        spec = self.spec
        lanes = range(group * spec.group, (group + 1) * spec.group)
        values = [
            Cat(self.i.payload.x[p * spec.lanes + lane] for p in range(spec.act_bits)).as_signed()
            for lane in lanes
        ]
        return [registered(m, moves, s, f"table{group}_{e}") for e, s in enumerate(signed_sums(values))]

    def index(self, m: Module, moves: Any, row: int, group: int) -> tuple[Any, Any]:
        """Registered index of a row into a table, and whether what stands there is to be negated."""
        first = row * self.spec.lanes + group * self.spec.group
        sign, *rest = self.i.payload.w[first : first + self.spec.group]
        index = Signal(len(rest), name=f"index{row}_{group}", reset_less=True)
        negated = Signal(name=f"negated{row}_{group}", reset_less=True)
        with m.If(moves):
            # A table holds the sums that add the first activation; the others are their negatives.
            m.d.sync += [index.eq(Cat(rest) ^ (~sign).replicate(len(rest))), negated.eq(~sign)]
        return index, negated

    def pick(self, table: list[Any], index: Any, negated: Any) -> tuple[Any, Any]:
        """The sum of a group, less the one that a negated sum lacks, and that one."""
        value = chosen(table, index)
        return value ^ negated.replicate(len(value)).as_signed(), negated


SPEC = Table

SAMPLES = (
    Table(lanes=2, acc_width=5, act_bits=2, group=2, row_count=1, levels=0),
    Table(lanes=15, acc_width=18, act_bits=5, group=3, row_count=2, levels=1),
    Table(lanes=16, acc_width=32),
    Table(lanes=68, acc_width=34, row_count=3, levels=3),
)
