"""Term-serial PE: one signed power of two of a weight each clock, times an integer activation.

A weight is a sum of few signed powers of two, so one datapath serves numbers of many kinds, each in as many
clocks as its values take terms: INT8 four, INT5 and INT6 three, INT4, FP4, flint4 and FP3 with special values
two. A lane shifts its activation by an exponent of few bits; what its reach lacks, a doubling of the
accumulator between the slots makes up for, once an item and not once a lane.

Sources: Booth, "A Signed Binary Multiplication Technique", Q. J. Mech. Appl. Math. 1951, and MacSorley,
"High-Speed Arithmetic in Binary Computers", Proc. IRE 1961 (radix-4 digits); Reitwiesner, "Binary
Arithmetic", Adv. Comput. 1960 (fewest terms); Chen et al., BitMoD, HPCA 2025 (number formats, one PE for
all of them by terms). Differs in: own code and circuit, places chosen per set of digits, integer activations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import combinations_with_replacement, pairwise, product
from operator import or_
from typing import Any

from amaranth import Cat, Module, Mux
from amaranth.lib import wiring

from hw.counts import accumulator, summing, total
from hw.pipeline import (
    CONTROL_OF_DOT,
    accumulate,
    carry_cells,
    carry_tree,
    controls,
    hand_over,
    handshake,
    paired,
    ports,
    settled,
    tree_registers,
)
from hw.spec import Beat, PeSpec, Resources, Segment, Step, require_int, wrap

#: A term: 0, or sign (-1 or 1) and exponent above the slot's base.
Signed = tuple[int, int]


@dataclass(frozen=True)
class Slots:
    """How digits are coded: slot i adds a term of magnitude ``2**(bases[i] + exponent)``, or none."""

    bases: tuple[int, ...]  #: highest first; the last one is 0
    terms: Mapping[int, tuple[Signed, ...]]  #: by digit, one for each slot, (0, 0) for none


def naf_weight(value: int) -> int:
    """Fewest signed powers of two that sum up to ``value``: those of its non-adjacent form.

    >>> [naf_weight(v) for v in (0, 7, 11, -128, 85, 171)]
    [0, 2, 3, 1, 4, 5]
    """
    return (abs(value) ^ 3 * abs(value)).bit_count()


@lru_cache(maxsize=64)
def slots_for(digits: tuple[int, ...], most: int, reach: int) -> Slots:
    """The fewest slots for all ``digits``, and of these the bases with the fewest doublings without a term.

    Parameters: most, slots there may be; reach, exponents that a slot has.
    Raises ValueError naming a digit that no choice of bases codes.

    >>> slots_for(tuple(range(-128, 128)), 4, 2).bases
    (6, 4, 2, 0)
    >>> slots_for((0, 1, 2, 3, 4, 6, 8, 10, 12, 16), 4, 4).bases
    (0, 0)
    """
    top = max(map(abs, digits)).bit_length()
    missed = [digit for digit in digits if naf_weight(digit) > most]
    for count in range(max(1, *map(naf_weight, digits)), most + 1):
        choices = combinations_with_replacement(range(top, -1, -1), count - 1)
        for bases in sorted(((*above, 0) for above in choices), key=lambda bases: (bubbles(bases), bases)):
            missing = _missing(digits, bases, reach)
            if not missing:
                return Slots(bases, _terms(digits, bases, reach))
            missed = min(missed or missing, missing, key=len)
    worst = min(missed, key=lambda digit: (abs(digit), digit))
    raise ValueError(f"weight must be of digits that {most} terms of {reach} exponents make up, not {worst}")


def bubbles(bases: tuple[int, ...]) -> int:
    """Doublings between slots that no term comes with.

    >>> bubbles((6, 4, 2, 0)), bubbles((1, 0)), bubbles((0, 0))
    (3, 0, 0)
    """
    return bases[0] - sum(a > b for a, b in pairwise(bases))


def _missing(digits: tuple[int, ...], bases: tuple[int, ...], reach: int) -> list[int]:
    """Those of ``digits`` that slots of these bases do not make."""
    zero = sum(1 << base + reach - 1 for base in bases)
    made = 1 << zero  # bit ``zero + v``: v can be made
    for base in bases:
        steps = [1 << base + exponent for exponent in range(reach)]
        made |= reduce(or_, (made << step | made >> step for step in steps))
    return [digit for digit in digits if abs(digit) > zero or not made >> zero + digit & 1]


def _terms(digits: tuple[int, ...], bases: tuple[int, ...], reach: int) -> dict[int, tuple[Signed, ...]]:
    """A term for each slot, by digit, as few as can be."""
    options: list[Signed] = [(0, 0), *((sign, e) for sign in (1, -1) for e in range(reach))]
    best: dict[int, tuple[Signed, ...]] = {0: ()}
    for base in reversed(bases):
        grown: dict[int, tuple[Signed, ...]] = {}
        for rest, (sign, exponent) in product(sorted(best), options):
            value, made = rest + (sign << base + exponent), ((sign, exponent), *best[rest])
            if value not in grown or _used(made) < _used(grown[value]):
                grown[value] = made
        best = grown
    return {digit: best[digit] for digit in digits}


def _used(terms: tuple[Signed, ...]) -> int:
    return sum(sign != 0 for sign, _ in terms)


@dataclass(frozen=True, kw_only=True)
class Term(PeSpec):
    """acc <- (0 if first else 2 acc if shift else acc) + sum over lanes of +-x 2**exponent, or nothing.

    A lane's weight planes are: that there is a term, that it is negative, and its exponent.
    """

    lanes: int = 16
    act_bits: int = 8  #: of an activation, two's complement
    exponent_bits: int = 2  #: exponents of a slot are 0 to ``2**exponent_bits - 1``
    slots: int = 4  #: most terms of a weight
    levels: int = 2  #: a register after every so many levels of the tree behind the first; 0: none

    def __post_init__(self) -> None:
        require_int("act_bits", self.act_bits, 2, 16)
        require_int("exponent_bits", self.exponent_bits, 1, 4)
        require_int("slots", self.slots, 1, 8)
        require_int("levels", self.levels, 0)
        super().__post_init__()

    @property
    def reach(self) -> int:
        """Exponents of a slot."""
        return 1 << self.exponent_bits

    @property
    def planes(self) -> int:
        """Weight planes of a beat."""
        return 2 + self.exponent_bits

    def beat_range(self) -> tuple[int, int]:
        most = self.lanes << self.act_bits - 1 + self.reach - 1
        return -most, most

    def words(self) -> dict[str, int]:
        return {"w": self.lanes * self.planes, "x": self.lanes * self.act_bits}

    def flags(self) -> tuple[str, ...]:
        return "first", "shift", "last"

    def golden(self, acc: int, beat: Beat, output: int = 0) -> int:
        total = 0
        for lane in range(self.lanes):
            w = [beat.w >> p * self.lanes + lane & 1 for p in range(self.planes)]
            x = [beat.x >> p * self.lanes + lane & 1 for p in range(self.act_bits)]
            exponent = sum(bit << p for p, bit in enumerate(w[2:]))
            value = sum(bit << p for p, bit in enumerate(x)) - (x[-1] << self.act_bits)
            total += w[0] * (-1 if w[1] else 1) * (value << exponent)
        start = 0 if beat.first else 2 * acc if beat.shift else acc
        return wrap(start + total, self.acc_width)

    def coded(self, segment: Segment) -> Slots:
        """How the digits of ``segment`` are coded; 0 among them, for what a mask takes out.

        Raises ValueError naming a digit that has no code.
        """
        return slots_for(tuple(sorted({0, *segment.w_digits})), self.slots, self.reach)

    def w_code(self, segment: Segment) -> Mapping[int, int]:
        return {
            digit: sum(
                (abs(sign) | (sign < 0) << 1 | exponent << 2) << self.planes * slot
                for slot, (sign, exponent) in enumerate(terms)
            )
            for digit, terms in self.coded(segment).terms.items()
        }

    def x_code(self, segment: Segment) -> Mapping[int, int]:
        low, high = segment.x_range
        return {x: x % (1 << self.act_bits) for x in range(low, high + 1)}

    def steps(self, segment: Segment) -> tuple[Step, ...]:
        """One beat a slot, the highest first, and a bubble for each doubling more than one between them."""
        low, high = segment.x_range
        most = 1 << self.act_bits - 1
        if low < -most or high >= most:
            raise ValueError(f"activation must be within {-most} to {most - 1}, not {low} to {high}")
        acts, steps = tuple(range(self.act_bits)), []
        bases = self.coded(segment).bases
        for slot, (above, base) in enumerate(zip((bases[0], *bases), bases, strict=False)):
            steps += [Step((), (), True, False)] * (above - base - 1)
            weights = tuple(range(slot * self.planes, (slot + 1) * self.planes))
            steps.append(Step(weights, acts, above > base, False))
        return tuple(steps)

    def latency(self) -> int:
        """One clock each for the lanes and their first sums, the tree's registers and the accumulator."""
        return 1 + tree_registers(-(-self.lanes // 2), self.levels) + 1

    def resources(self) -> Resources:
        """Cells of the structure below, none shared or simplified; see `hw.pe.bitserial`.

        A sum that takes in a bit is an adder of one bit more.
        """
        return total(self.parts())

    def parts(self) -> dict[str, Resources]:
        shifts = [self.act_bits + (2 << bit) - 2 for bit in range(self.exponent_bits)]
        sums, flops = carry_cells(self.lanes, self.act_bits + self.reach - 1, self.levels)
        registers = 1 + tree_registers(-(-self.lanes // 2), self.levels)
        dot = self.act_bits + self.reach - 1 + (self.lanes - 1).bit_length()
        return {
            # A lane's sign, whether it counts, and both for its bit.
            "lanes": Resources(gate2=self.lanes * (2 * (self.act_bits + 1) + 1)),
            "shift": Resources(mux2=self.lanes * sum(shifts)),
            **summing(sums, self.lanes - 1, carries=True),
            "cuts": Resources(flop=flops),
            **accumulator(dot, self.acc_width, carry=1),
            # Valid, last and ready take a gate each.
            "control": Resources(gate2=3, flop=4 * registers + 1),
        }

    def create(self) -> TermPE:
        return TermPE(self)


class TermPE(wiring.Component):
    """RTL of `Term`: streams ``i`` (beats) and ``o`` (items); all stages move together or not at all."""

    def __init__(self, spec: Term) -> None:
        self.spec = spec
        super().__init__(ports(spec))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        moves = handshake(m, self)
        control = controls(m, moves, self.i, CONTROL_OF_DOT)
        terms = paired([self.term(lane) for lane in range(self.spec.lanes)])
        terms = settled(m, moves, terms, "lanes")
        (dot, carry), control = carry_tree(m, moves, terms, control, self.spec.levels)
        accumulate(m, moves, self.o.payload, dot, control, carry)
        hand_over(m, moves, self, control)
        return m

    def term(self, lane: int) -> tuple[Any, Any]:
        """A lane's activation times its term, less the one that a negative term lacks, and that one."""
        beat, lanes = self.i.payload, self.spec.lanes
        counts, negative, *exponent = (beat.w[p * lanes + lane] for p in range(self.spec.planes))
        x = Cat(beat.x[p * lanes + lane] for p in range(self.spec.act_bits)).as_signed()
        one = counts & negative
        # The sign is taken with the first shift: both, and whether the lane counts, are five inputs a bit.
        x = Mux(exponent[0], x << 1, x)
        value = (x ^ negative.replicate(len(x)).as_signed()) & counts.replicate(len(x)).as_signed()
        for bit, wanted in enumerate(exponent[1:], 1):
            value = Mux(wanted, Cat(one.replicate(1 << bit), value).as_signed(), value)
        return value, one


SPEC = Term

SAMPLES = (
    Term(lanes=1, acc_width=6, act_bits=3, exponent_bits=1, slots=2, levels=0),
    Term(lanes=5, acc_width=14, act_bits=4, exponent_bits=3, slots=3, levels=1),
    Term(lanes=16, acc_width=32),
    Term(lanes=70, acc_width=40, exponent_bits=1, levels=3),
)
