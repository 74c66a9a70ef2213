"""Plane-parallel PE: several weight planes times several activation planes each clock, counted by place.

What `hw.pe.bitserial` does in a beat for one plane of either side, this one does for a few, in one compressor
tree of as many places: 4 x 1 takes INT4 weights whole and activations bit by bit, 1 x 4 the other way round.
Digits of every kind run as integers: two's complement, of as many planes as the largest needs.

Sources: Umuroglu et al., BISMO, FPL 2018 (planes, count, shift-accumulate); Sharma et al., Bit Fusion, ISCA
2018 (few bits by few bits as the unit of wider products); Baugh and Wooley, "A Two's Complement Parallel
Array Multiplication Algorithm", IEEE Trans. Computers 1973 (a subtracted bit is its complement, and a
constant). Differs in: products of all lanes meet in one tree, the dot product's, place by place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data

from hw.counts import accumulator, total
from hw.pe.bitserial import BitSerial, BitSerialPE, compress
from hw.pipeline import CONTROL_OF_DOT, controls
from hw.spec import Beat, Resources, Segment, Step, horner, require_int, signed_bits, wrap

#: What travels beside a beat's bits: kinds of digits up to the adder that corrects for them.
CONTROL = data.StructLayout({**CONTROL_OF_DOT.members, "w_bipolar": 1, "x_bipolar": 1})


@dataclass(frozen=True, kw_only=True)
class PlaneParallel(BitSerial):
    """acc <- (0 if first else 2 acc if shift else acc) + sum over lanes of w x.

    Both are of a few bits, unsigned, or with the flags ``w_bipolar`` and ``x_bipolar`` two's complement: that
    of a side's planes the highest has the other kind of digit, and counts negative.
    """

    w_planes: int = 4  #: weight planes of a beat
    x_planes: int = 1  #: activation planes of a beat

    def __post_init__(self) -> None:
        require_int("w_planes", self.w_planes, 1, 16)
        require_int("x_planes", self.x_planes, 1, 16)
        super().__post_init__()

    def beat_range(self) -> tuple[int, int]:
        w, x = 1 << self.w_planes, 1 << self.x_planes
        return -self.lanes * max(w // 2 * (x - 1), (w - 1) * (x // 2)), self.lanes * (w - 1) * (x - 1)

    def words(self) -> dict[str, int]:
        return {"w": self.lanes * self.w_planes, "x": self.lanes * self.x_planes}

    def flags(self) -> tuple[str, ...]:
        return "w_bipolar", "x_bipolar", "first", "shift", "last"

    def golden(self, acc: int, beat: Beat, output: int = 0) -> int:
        dot = sum(
            self.lane(beat.w, lane, self.w_planes, beat.w_bipolar)
            * self.lane(beat.x, lane, self.x_planes, beat.x_bipolar)
            for lane in range(self.lanes)
        )
        start = 0 if beat.first else 2 * acc if beat.shift else acc
        return wrap(start + dot, self.acc_width)

    def lane(self, word: int, lane: int, planes: int, negative: bool) -> int:
        """The integer in a lane of a word of so many planes; ``negative``: two's complement."""
        value = sum((word >> p * self.lanes + lane & 1) << p for p in range(planes))
        return wrap(value, planes) if negative else value

    def steps(self, segment: Segment) -> tuple[Step, ...]:
        """One step for each group of weight planes and group of activation planes, by falling place.

        The planes are those of `w_code` and `x_code`.
        """
        w = groups(*_reach(segment.w_digits), self.w_planes)
        x = groups(*segment.x_range, self.x_planes)
        pairs = horner(
            tuple(1 << at * self.w_planes for at in range(len(w))),
            tuple(1 << at * self.x_planes for at in range(len(x))),
        )
        steps = []
        for step in pairs:
            if not step.bubble:
                (planes, top), (acts, act_top) = w[step.w_plane], x[step.x_plane]
                step = replace(step, w=planes, x=acts, w_bipolar=top, x_bipolar=act_top)
            steps.append(step)
        return tuple(steps)

    def w_code(self, segment: Segment) -> Mapping[int, int]:
        every = 1 << plane_count(*_reach(segment.w_digits))
        return {digit: digit % every for digit in {0, *segment.w_digits}}

    def x_code(self, segment: Segment) -> Mapping[int, int]:
        low, high = segment.x_range
        return {x: x % (1 << plane_count(low, high)) for x in range(low, high + 1)}

    def tree(self) -> tuple[tuple[int, ...], ...]:
        """Bits per column before each level of full adders, and after the last: at most two."""
        width = signed_bits(*self.beat_range())
        places = [i + j for i, j in product(range(self.w_planes), range(self.x_planes))]
        levels = [tuple(self.lanes * places.count(place) for place in range(width))]
        while max(levels[-1]) > 2:
            levels.append(compress(levels[-1]))
        return tuple(levels)

    def cuts(self) -> tuple[tuple[int, ...], ...]:
        return self.tree()[self.levels :: self.levels] if self.levels else ()

    def resources(self) -> Resources:
        """Cells of the structure below, none shared or simplified; see `hw.pe.bitserial`."""
        return total(self.parts())

    def parts(self) -> dict[str, Resources]:
        levels, width = self.tree(), signed_bits(*self.beat_range())
        adders = sum(bits // 3 for columns in levels[:-1] for bits in columns)
        carryless = sum(columns[-1] // 3 for columns in levels[:-1])
        lowest = levels[-1].index(2) if 2 in levels[-1] else width
        control = 6 * (1 + len(self.cuts())) + 4 + 1
        pairs = self.w_planes * self.x_planes
        return {
            # A product a pair of planes, and a flip where one is the highest.
            "lanes": Resources(gate2=self.lanes * pairs, flop=sum(levels[0])),
            "flips": Resources(gate2=self.lanes * (self.w_planes + self.x_planes - 1)),
            "tree": Resources(gate2=2 * carryless, full_adder=adders - carryless),
            "cuts": Resources(flop=sum(map(sum, self.cuts()))),
            "count": Resources(adder_bit=width - lowest),
            "dot": Resources(adder_bit=width, flop=width),
            **accumulator(width, self.acc_width),
            # That both planes are the highest; valid, last and ready.
            "control": Resources(gate2=4, flop=control),
        }

    def merged(self) -> dict[str, Resources]:
        most = self.lanes * ((1 << self.w_planes) - 1) * ((1 << self.x_planes) - 1)
        idle = signed_bits(*self.beat_range()) - most.bit_length()
        return {
            # A count is no wider than its largest value.
            "count": Resources(adder_bit=min(idle, self.parts()["count"].adder_bit)),
            # What complements count too much ends in as many zeros as the number of lanes: nothing to add.
            "dot": Resources(adder_bit=(self.lanes & -self.lanes).bit_length() - 1),
        }

    def shared(self) -> dict[str, str]:
        return {}

    def create(self) -> PlaneParallelPE:
        return PlaneParallelPE(self)


def _reach(digits: tuple[int, ...]) -> tuple[int, int]:
    return min(0, *digits), max(0, *digits)


def plane_count(low: int, high: int) -> int:
    """Planes of the integers from ``low`` to ``high``: two's complement if some are negative.

    >>> plane_count(-8, 7), plane_count(0, 7), plane_count(-1, 1), plane_count(0, 0)
    (4, 3, 2, 1)
    """
    return signed_bits(low, high) if low < 0 else max(1, high.bit_length())


def groups(low: int, high: int, together: int) -> list[tuple[tuple[int, ...], bool]]:
    """Planes of integers from ``low`` to ``high`` in groups, and whether a group's highest counts negative.

    The highest group fills up with copies of the sign, or with planes beyond the highest, which are 0.

    >>> groups(-4, 3, 2), groups(0, 7, 4)
    ([((0, 1), False), ((2, 2), True)], [((0, 1, 2, 3), False)])
    """
    count = plane_count(low, high)
    top = count - 1 if low < 0 else count
    starts = range(0, count, together)
    return [
        (tuple(min(plane, top) for plane in range(at, at + together)), low < 0 and at == starts[-1])
        for at in starts
    ]


class PlaneParallelPE(BitSerialPE):
    """RTL of `PlaneParallel`: `hw.pe.bitserial.BitSerialPE` with products of several places."""

    spec: PlaneParallel

    def __init__(self, spec: PlaneParallel) -> None:
        super().__init__(spec)
        self.width = signed_bits(*spec.beat_range())

    def take(self, m: Module, moves: Any) -> tuple[list[Any], Any]:
        """Operands to registered products by place, complemented where they count negative."""
        beat, spec, lanes = self.i.payload, self.spec, self.spec.lanes
        places: list[list[Any]] = [[] for _ in range(spec.w_planes + spec.x_planes - 1)]
        for i, j in product(range(spec.w_planes), range(spec.x_planes)):
            hits = beat.w[i * lanes : (i + 1) * lanes] & beat.x[j * lanes : (j + 1) * lanes]
            negative = Const(0, 1)
            if i == spec.w_planes - 1:
                negative = negative ^ beat.w_bipolar
            if j == spec.x_planes - 1:
                negative = negative ^ beat.x_bipolar
            places[i + j].append(hits ^ negative.replicate(lanes))
        columns = []
        for place, bits in enumerate(places):
            column = Signal(lanes * len(bits), name=f"place{place}", reset_less=True)
            with m.If(moves):
                m.d.sync += column.eq(Cat(bits))
            columns.append(column)
        return columns, controls(m, moves, self.i, CONTROL)

    def resolve(self, m: Module, moves: Any, columns: list[Any], control: Any) -> tuple[Any, Any]:
        """Two rows to the signed dot product of the beat, less what the complements count too much."""
        width = self.width
        lowest = next((k for k, bits in enumerate(columns) if len(bits) == 2), len(columns))
        low, high = columns[:lowest], columns[lowest:]
        rows = [Cat(bits[row] if len(bits) > row else Const(0, 1) for bits in high) for row in (0, 1)]
        counted = Signal(width)
        m.d.comb += counted.eq(Cat(*low, rows[0] + rows[1]))
        by_x = [
            [Const(-self.surplus(w, x) % (1 << width), width) for x in (False, True)] for w in (False, True)
        ]
        of_w = [Mux(control.x_bipolar, signed_x, plain) for plain, signed_x in by_x]
        dot = Signal(signed(width), reset_less=True)
        control_of_dot = Signal(CONTROL_OF_DOT)
        with m.If(moves):
            m.d.sync += [
                dot.eq(counted + Mux(control.w_bipolar, of_w[1], of_w[0])),
                *(
                    getattr(control_of_dot, flag).eq(getattr(control, flag))
                    for flag in CONTROL_OF_DOT.members
                ),
            ]
        return dot, control_of_dot

    def surplus(self, w_negative: bool, x_negative: bool) -> int:
        """What the complements count too much: a 1 for every one of them, at its place."""
        w_top, x_top = self.spec.w_planes - 1, self.spec.x_planes - 1
        return self.spec.lanes * sum(
            1 << i + j
            for i, j in product(range(w_top + 1), range(x_top + 1))
            if (w_negative and i == w_top) != (x_negative and j == x_top)
        )


SPEC = PlaneParallel

SAMPLES = (
    PlaneParallel(lanes=1, acc_width=3, w_planes=2, levels=0),
    PlaneParallel(lanes=5, acc_width=9, w_planes=1, x_planes=4, levels=1),
    PlaneParallel(lanes=9, acc_width=24, w_planes=2, x_planes=4, levels=2),
    PlaneParallel(lanes=64, acc_width=32),
    PlaneParallel(lanes=70, acc_width=40, w_planes=2, levels=2),
)
