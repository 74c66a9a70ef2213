"""Select-add PE: every lane adds an integer activation, subtracts it, or adds nothing; no multiplier.

A lane's weight is a trit (that it is not 0, that it is negative) or, narrower, a sign. Integers run place by
place, from the highest down: as trits the bits of a magnitude under one sign; as signs whatever sums of +1
and -1 make, twice over if not all of them are odd, which `SelectAdd.dot` halves: 0 is half of +1 and -1.

Sources: Courbariaux et al., BinaryConnect, arXiv:1511.00363 (a product with a sign is a sum); Ma et al.,
BitNet b1.58, arXiv:2402.17764 (ternary weights, 8-bit activations). Differs in: no lane negates. A sum takes
its second term negated relative to its first, ``a + (b ^ r) + r`` on one carry chain, where r says that their
signs differ, so that only the last sum takes a sign; and a weight of 0 clears the operand register.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring

from hw.counts import accumulator, summing, total
from hw.pe.ternary import trit_steps, trits
from hw.pipeline import (
    CONTROL_OF_DOT,
    accumulate,
    carried,
    controls,
    hand_over,
    handshake,
    ports,
    registered,
    settled,
    tree_registers,
    tree_widths,
)
from hw.spec import Beat, PeSpec, Resources, Segment, Step, horner, require_int, signed_bits, wrap


@dataclass(frozen=True, kw_only=True)
class SelectAdd(PeSpec):
    """acc <- (0 if first else 2 acc if shift else acc) + sum over lanes of x, -x or (ternary) 0."""

    act_bits: int = 8  #: of an activation, two's complement
    ternary: bool = True  #: weights are trits, of two planes; else signs (bit 1 = negative)
    levels: int = 2  #: a register after every so many levels of the adder tree; 0: none

    def __post_init__(self) -> None:
        require_int("act_bits", self.act_bits, 2, 16)
        if not isinstance(self.ternary, bool):
            raise TypeError(f"ternary must be True or False, not {self.ternary!r}")
        require_int("levels", self.levels, 0)
        super().__post_init__()

    def beat_range(self) -> tuple[int, int]:
        most = self.lanes << self.act_bits - 1
        return -most, most

    def words(self) -> dict[str, int]:
        return {"w": self.lanes * (1 + self.ternary), "x": self.lanes * self.act_bits}

    def flags(self) -> tuple[str, ...]:
        return "first", "shift", "last"

    def golden(self, acc: int, beat: Beat, output: int = 0) -> int:
        total = 0
        for lane in range(self.lanes):
            w = [beat.w >> plane * self.lanes + lane & 1 for plane in range(1 + self.ternary)]
            x = [beat.x >> plane * self.lanes + lane & 1 for plane in range(self.act_bits)]
            value = sum(bit << place for place, bit in enumerate(x)) - (x[-1] << self.act_bits)
            counts = w[0] if self.ternary else 1
            total += counts * (-value if w[-1] else value)
        start = 0 if beat.first else 2 * acc if beat.shift else acc
        return wrap(start + total, self.acc_width)

    def steps(self, segment: Segment) -> tuple[Step, ...]:
        """One step a place of the weights, with all bits of the activations.

        Raises ValueError if the activations are wider, or if twice the sum may not fit the accumulator where
        signs make it up.
        """
        low, high = segment.x_range
        most = 1 << self.act_bits - 1
        if low < -most or high >= most:
            raise ValueError(
                f"activation must be of integers from {-most} to {most - 1}, not {low} to {high}"
            )
        digits = _digits(segment)
        steps = trit_steps(digits, (1,)) if self.ternary else self._sign_steps(segment, digits)
        acts = tuple(range(self.act_bits))
        return tuple(step if step.bubble else replace(step, x=acts) for step in steps)

    def _sign_steps(self, segment: Segment, digits: tuple[int, ...]) -> tuple[Step, ...]:
        count = sign_places(digits)
        steps = horner(tuple(1 << place for place in range(count)), (1,))
        if not _halved(digits):
            return steps
        reach = 2 * segment.columns * max(map(abs, digits)) * max(map(abs, segment.x_range))
        needed = signed_bits(-reach, reach)
        if self.acc_width < needed:
            raise ValueError(f"acc_width must be at least {needed} for sums of signs, not {self.acc_width!r}")
        return (*steps, Step((count,), (0,), False, False))

    def w_code(self, segment: Segment) -> Mapping[int, int]:
        digits = _digits(segment)
        return trits(digits) if self.ternary else signs(digits)

    def x_code(self, segment: Segment) -> Mapping[int, int]:
        low, high = segment.x_range
        return {x: x % (1 << self.act_bits) for x in range(low, high + 1)}

    def dot(self, items: Any, segment: Segment) -> Any:
        return items if self.ternary or not _halved(_digits(segment)) else items >> 1

    def latency(self) -> int:
        """One clock each for the operands, the cuts of the tree, its sum and the accumulator."""
        return 1 + tree_registers(self.lanes, self.levels) + 1 + 1

    def resources(self) -> Resources:
        """Cells of the structure below, none shared or simplified; see `hw.pe.bitserial`.

        A clear of operand registers counts as a gate a bit, which is wiring where a flip-flop has one.
        """
        return total(self.parts())

    def parts(self) -> dict[str, Resources]:
        tree = tree_widths(self.lanes, self.act_bits)
        cuts = tree[self.levels :: self.levels] if self.levels else ()
        sums = [bits for a, b in pairwise(tree) for bits in b[: len(a) // 2]]
        dot = tree[-1][0]
        adders = summing(sum(sums) + len(sums), len(sums), carries=True)
        return {
            "lanes": Resources(
                # Clears.
                gate2=self.ternary * self.lanes * self.act_bits,
                flop=sum(tree[0]) + len(tree[0]),
            ),
            # Of a sum the flips of its second term, and the sign that it takes.
            **{
                f"flipped {name}": cells + Resources(gate2=gates)
                for (name, cells), gates in zip(
                    adders.items(), (sum(sums) - len(sums), len(sums)), strict=True
                )
            },
            "cuts": Resources(flop=sum(sum(terms) + len(terms) for terms in cuts)),
            "dot": Resources(gate2=dot, flop=dot + 1),
            **accumulator(dot, self.acc_width, carry=1),
            "control": Resources(gate2=3, flop=4 * (2 + len(cuts)) + 1),
        }

    def passed(self) -> int:
        # Signs of lanes, of the terms behind each cut, and of the sum: those of their first lanes.
        tree = tree_widths(self.lanes, self.act_bits)
        return sum(map(len, tree[:: self.levels] if self.levels else tree[:1])) + 1

    def create(self) -> SelectAddPE:
        return SelectAddPE(self)


def _digits(segment: Segment) -> tuple[int, ...]:
    """Integers that a lane may have to stand for, 0 for what a mask takes out."""
    return tuple(sorted({0, *segment.w_digits})) if segment.masked else segment.w_digits


def _halved(digits: tuple[int, ...]) -> bool:
    """Whether signs make ``digits`` up only twice over."""
    return any(digit % 2 == 0 for digit in digits)


def sign_places(digits: tuple[int, ...]) -> int:
    """Places 1, 2, 4 .. of signs that make up ``digits``.

    If not all are odd, they make up twice the digits, with one more sign of place 1.

    >>> [sign_places(digits) for digits in ((-1, 1), (-3, -1, 1, 3), (0, 1), tuple(range(-8, 8)))]
    [1, 2, 1, 4]
    """
    most = max(map(abs, digits))
    return 1 + max(0, most - 1).bit_length() if _halved(digits) else most.bit_length()


def signs(digits: tuple[int, ...]) -> dict[int, int]:
    """Code of each of ``digits``: bit p that the sign of place p is -1; see `sign_places`.

    >>> signs((-1, 1)), signs((-1, 0, 1))
    ({-1: 1, 1: 0}, {-1: 3, 0: 2, 1: 0})
    """
    count = sign_places(digits)
    every = (1 << count) - 1
    if not _halved(digits):
        return {digit: every - digit >> 1 for digit in digits}
    # The sign that is one too many is the digit's own, so the rest is within reach.
    rest = {digit: 2 * digit - (1 if digit > 0 else -1) for digit in digits}
    return {digit: (every - rest[digit] >> 1) + (every + 1) * (digit <= 0) for digit in digits}


class SelectAddPE(wiring.Component):
    """RTL of `SelectAdd`: streams ``i`` (beats) and ``o`` (items); all stages move together or not at all."""

    def __init__(self, spec: SelectAdd) -> None:
        self.spec = spec
        super().__init__(ports(spec))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        moves = handshake(m, self)
        control = controls(m, moves, self.i, CONTROL_OF_DOT)
        terms = [self.term(m, moves, lane) for lane in range(self.spec.lanes)]
        level = 0
        while len(terms) > 1:
            level += 1
            terms = joined(terms)
            if self.spec.levels and level % self.spec.levels == 0:
                terms = settled(m, moves, terms, f"sum{level}")
                control = registered(m, moves, control, f"control{level}")
        [(total, sign)] = terms
        dot = registered(m, moves, total ^ sign.replicate(len(total)).as_signed(), "dot")
        carry = registered(m, moves, sign, "carry")
        control = registered(m, moves, control, "control_of_dot")
        accumulate(m, moves, self.o.payload, dot, control, carry)
        hand_over(m, moves, self, control)
        return m

    def term(self, m: Module, moves: Any, lane: int) -> tuple[Any, Any]:
        """A lane's registered activation, cleared where the weight is 0, and its sign."""
        beat, spec = self.i.payload, self.spec
        x = Cat(beat.x[lane :: spec.lanes]).as_signed()
        if spec.ternary:
            x = Mux(beat.w[lane], x, 0)
        operand = Signal(signed(spec.act_bits), name=f"operand{lane}", reset_less=True)
        with m.If(moves):
            m.d.sync += operand.eq(x)
        return operand, registered(m, moves, beat.w[spec.ternary * spec.lanes + lane], f"sign{lane}")


def joined(terms: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Half as many terms, each a signed value and a bit that negates it: a sum takes its first term's."""
    pairs = zip(terms[::2], terms[1::2], strict=False)
    sums = []
    for (a, sign), (b, other) in pairs:
        differ = sign ^ other
        sums.append((carried(a, b ^ differ.replicate(len(b)).as_signed(), differ), sign))
    return sums + terms[2 * len(sums) :]


SPEC = SelectAdd

SAMPLES = (
    SelectAdd(lanes=1, acc_width=3, act_bits=2, ternary=False, levels=0),
    SelectAdd(lanes=5, acc_width=14, act_bits=4, levels=1),
    SelectAdd(lanes=16),
    SelectAdd(lanes=21, acc_width=28, ternary=False, levels=0),
    SelectAdd(lanes=70, acc_width=40, levels=3),
)
