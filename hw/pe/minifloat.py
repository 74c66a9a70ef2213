"""Parallel small-float PE: weights E2M1, E3M0, E2M3, E3M2, E4M3 .. times integers, or times small floats.

Every finite float format is a set of integers over its smallest positive value: E2M1 is 0, 1, 2, 3, 4, 6, 8
and 12 with signs. The PE reads the float's own code, multiplies significands and shifts the product by the
exponents, so a lane costs the significand's few bits and not the planes of the integer; sums are exact
integers. The scale of a block (E8M0 of OCP MX, E4M3 of NVFP4) is a mantissa that multiplies the item outside
the PE: a block is an item. Codes that a standard keeps for NaN (E4M3's last) are plain values here, and stand
in no packed matrix.

Sources: OCP Microscaling Formats (MX) v1.0, 2023 (elements, blocks); Micikevicius et al., FP8 Formats for
Deep Learning, arXiv:2209.05433 (E4M3). Differs in: exact sums, where both leave the accumulation open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring

from hw.counts import accumulator, summing, total
from hw.pipeline import (
    CONTROL_OF_DOT,
    accumulate,
    carry_tree,
    controls,
    hand_over,
    handshake,
    ports,
    registered,
    tree_registers,
    unread,
)
from hw.spec import Beat, PeSpec, Resources, Segment, Step, require_int, signed_bits, wrap


@dataclass(frozen=True)
class Code:
    """How an operand's bits stand for an integer: sign, exponent, mantissa; without exponent, as they are."""

    exponent: int  #: bits; 0: two's complement, of ``mantissa`` + 1 bits
    mantissa: int  #: bits, the lowest of a code

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return 1 + self.exponent + self.mantissa

    @property
    def significand(self) -> int:
        """Bits of the unsigned factor that the exponent shifts; of an integer, of its magnitude."""
        return self.mantissa + 1

    @property
    def shift(self) -> int:
        """Largest shift of the significand."""
        return max(0, (1 << self.exponent) - 2)

    @property
    def reach(self) -> int:
        """Largest magnitude: of floats, over the smallest positive value."""
        if not self.exponent:
            return 1 << self.mantissa
        return ((2 << self.mantissa) - 1) << self.shift

    def integer(self, code: int) -> int:
        """The integer that ``code`` stands for.

        >>> [Code(2, 1).integer(code) for code in (*range(8), 15)], Code(0, 7).integer(0x80)
        ([0, 1, 2, 3, 4, 6, 8, 12, -12], -128)
        """
        if not self.exponent:
            return wrap(code, self.bits)
        fraction = code % (1 << self.mantissa)
        exponent = (code >> self.mantissa) % (1 << self.exponent)
        size = (fraction + (1 << self.mantissa)) << (exponent - 1) if exponent else fraction
        return -size if code >> (self.bits - 1) else size


@cache
def codes(kind: Code) -> Mapping[int, int]:
    """Code of every integer of a kind; of the two zeros, +0.

    >>> sorted(codes(Code(2, 0)).items())
    [(-4, 7), (-2, 6), (-1, 5), (0, 0), (1, 1), (2, 2), (4, 3)]
    """
    return {kind.integer(code): code for code in reversed(range(1 << kind.bits))}


@dataclass(frozen=True, kw_only=True)
class Minifloat(PeSpec):
    """acc <- (0 if first else acc) + sum of integer(w) integer(x) over the lanes, each by its `Code`."""

    lanes: int = 16  #: columns of a beat; every lane holds a multiplier
    exponent: int = 2  #: exponent bits of a weight
    mantissa: int = 1  #: mantissa bits of a weight
    act_bits: int = 8  #: bits of an integer activation; unread with ``x_exponent``
    x_exponent: int = 0  #: exponent bits of an activation; 0: activations are integers
    x_mantissa: int = 0  #: mantissa bits of an activation that has an exponent
    levels: int = 2  #: a register after every so many levels of the adder tree; 0: none

    def __post_init__(self) -> None:
        for name, low, high in (
            ("exponent", 1, 5),
            ("mantissa", 0, 7),
            ("act_bits", 2, 16),
            ("x_exponent", 0, 5),
            ("x_mantissa", 0, 7),
            ("levels", 0, None),
        ):
            require_int(name, getattr(self, name), low, high)
        super().__post_init__()

    @property
    def w(self) -> Code:
        """The weights' code."""
        return Code(self.exponent, self.mantissa)

    @property
    def x(self) -> Code:
        """The activations' code."""
        return Code(self.x_exponent, self.x_mantissa) if self.x_exponent else Code(0, self.act_bits - 1)

    def beat_range(self) -> tuple[int, int]:
        reach = self.lanes * self.w.reach * self.x.reach
        return -reach, reach

    def words(self) -> dict[str, int]:
        return {"w": self.lanes * self.w.bits, "x": self.lanes * self.x.bits}

    def flags(self) -> tuple[str, ...]:
        return ("first", "last")

    def golden(self, acc: int, beat: Beat, output: int = 0) -> int:
        dot = sum(
            self.w.integer(self.lane(beat.w, lane, self.w)) * self.x.integer(self.lane(beat.x, lane, self.x))
            for lane in range(self.lanes)
        )
        return wrap(dot if beat.first else acc + dot, self.acc_width)

    def lane(self, word: int, lane: int, kind: Code) -> int:
        """The code of a lane: bit p of it is the lane's bit of plane p."""
        return sum((word >> (p * self.lanes + lane) & 1) << p for p in range(kind.bits))

    def steps(self, segment: Segment) -> tuple[Step, ...]:
        """One step: all bits of both codes.

        Planes may be able to make other digits than a matrix has; those are held against the codes one by
        one, where the segment does not list what its planes make.
        """
        for digit in segment.digits:
            if digit not in codes(self.w):
                raise ValueError(f"digits must be values of E{self.exponent}M{self.mantissa}, not {digit}")
        low, high = segment.x_range
        if not self.x_exponent and (low < -self.x.reach or high >= self.x.reach):
            raise ValueError(
                f"activation must be integers of at most {self.act_bits} bits, not places "
                f"{segment.activation!r}"
            )
        return (Step(tuple(range(self.w.bits)), tuple(range(self.x.bits)), False, False),)

    def w_code(self, segment: Segment) -> Mapping[int, int]:
        return codes(self.w)

    def x_code(self, segment: Segment) -> Mapping[int, int]:
        return codes(self.x)

    @property
    def product(self) -> int:
        """Bits of a lane's product of significands; signed where the activation is an integer."""
        if self.x_exponent:
            return self.mantissa + 1 + self.x_mantissa + 1
        return signed_bits(-self.x.reach * ((2 << self.mantissa) - 1), self.x.reach)

    @property
    def places(self) -> int:
        """Largest shift of a lane's product."""
        return self.w.shift + self.x.shift

    def widths(self) -> tuple[tuple[int, ...], ...]:
        """Bits of the terms before each level of the adder tree, and after the last."""
        reach = self.w.reach * self.x.reach
        terms = (signed_bits(-reach, reach),) * self.lanes
        levels = [terms]
        while len(terms) > 1:
            odd = terms[-1:] if len(terms) % 2 else ()
            terms = (*(max(pair) + 1 for pair in zip(terms[::2], terms[1::2], strict=False)), *odd)
            levels.append(terms)
        return tuple(levels)

    def latency(self) -> int:
        """One clock each for the products, the cuts of the tree, its sum and the accumulator."""
        return 1 + tree_registers(self.lanes, self.levels) + 1 + 1

    def resources(self) -> Resources:
        """Cells of the structure below: ripple rows for products, multiplexers for shifts."""
        return total(self.parts())

    def parts(self) -> dict[str, Resources]:
        tree, cuts = self.widths(), self.widths()[self.levels :: self.levels] if self.levels else ()
        adders = sum(sum(b) - (b[-1] if len(a) % 2 else 0) for a, b in pairwise(tree))
        rows, row = self.mantissa + 1, self.x.significand
        floats, shift = (self.w, self.x) if self.x_exponent else (self.w,), self.places.bit_length()
        dot, two = signed_bits(*self.beat_range()), len(floats) == 2
        # A term of the tree has a bit beside it.
        cut_bits = sum(sum(cut) + len(cut) for cut in cuts)
        lane = {
            # A hidden bit is an OR and takes 1 off the exponent, if not 0.
            "codes": Resources(gate2=sum(3 * kind.exponent for kind in floats) + two, adder_bit=two * shift),
            "products": Resources(
                gate2=rows * row, adder_bit=(rows - 1) * row, flop=self.product + shift + 1
            ),
            "shift": self._shifter(),
            "flips": Resources(gate2=tree[0][0]),
        }
        return {name: cells * self.lanes for name, cells in lane.items()} | {
            **summing(adders, self.lanes - 1),
            "cuts": Resources(flop=cut_bits),
            "dot": Resources(flop=dot + 1),
            **accumulator(dot, self.acc_width, doubles=False),
            # Valid, first and last travel, and one says that it is.
            "control": Resources(gate2=3, flop=3 * (2 + len(cuts)) + 1),
        }

    def merged(self) -> dict[str, Resources]:
        # Without a mantissa a product is the activation or its complement: its two highest bits are one.
        plain = not self.mantissa and not self.x_exponent
        top = unread(self.widths(), self.levels, signed_bits(*self.beat_range()))
        # An exponent of one bit is the hidden bit, and shifts nothing.
        bare = sum(kind.exponent == 1 for kind in ((self.w, self.x) if self.x_exponent else (self.w,)))
        return {
            "codes": Resources(gate2=3 * bare * self.lanes),
            "products": Resources(flop=self.lanes * plain),
            "cuts": Resources(flop=top),
        }

    def passed(self) -> int:
        # Signs of products, of the terms behind each cut, and of the sum; of two floats they are made here.
        tree = self.widths()
        return 0 if self.x_exponent else sum(map(len, tree[:: self.levels] if self.levels else tree[:1])) + 1

    def _shifter(self) -> Resources:
        """A lane's shifter, a level for each bit of the places, the lowest first.

        Of a level's bits the lowest are 0 where it shifts; those above the term are its sign, or 0.
        """
        wide, signed_product = self.widths()[0][0], not self.x_exponent
        gates = selects = 0
        bits = self.product
        for step in (1 << level for level in range(self.places.bit_length())):
            above = min(bits + step, wide) - step
            selects += max(0, above if signed_product else above - step)
            gates += step if signed_product else 2 * min(step, bits)
            bits = min(bits + step, wide)
        return Resources(gate2=gates, mux2=selects)

    def shared(self) -> dict[str, str]:
        return {} if self.x_exponent else {"codes": "row"}

    def create(self) -> MinifloatPE:
        return MinifloatPE(self)


class MinifloatPE(wiring.Component):
    """RTL of `Minifloat`: streams ``i`` (beats) and ``o`` (items); all stages move together or not at all."""

    def __init__(self, spec: Minifloat) -> None:
        self.spec = spec
        super().__init__(ports(spec))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        moves = handshake(m, self)
        beat, spec = self.i.payload, self.spec
        terms = [
            self.term(m, moves, beat.w[lane :: spec.lanes], beat.x[lane :: spec.lanes], lane)
            for lane in range(spec.lanes)
        ]
        control = controls(m, moves, self.i, CONTROL_OF_DOT)
        (total, flips), control = carry_tree(m, moves, terms, control, spec.levels)
        dot = Signal(signed(signed_bits(*spec.beat_range())), reset_less=True)
        with m.If(moves):
            m.d.sync += dot.eq(total)
        carry = registered(m, moves, flips, "carry")
        control = registered(m, moves, control, "control_of_dot")
        accumulate(m, moves, self.o.payload, dot, control, carry)
        hand_over(m, moves, self, control)
        return m

    def term(self, m: Module, moves: Any, w: Any, x: Any, lane: int) -> tuple[Any, Any]:
        """A lane's product, of significands, registered, then shifted; and a bit that says it is flipped."""
        spec = self.spec
        sign, factor, shift = _parts(w, spec.w)
        kind, other = signed, x.as_signed()
        if spec.x_exponent:
            x_sign, other, x_shift = _parts(x, spec.x)
            kind, sign, shift = unsigned, sign ^ x_sign, shift + x_shift
        # Rows instead of a multiplication sign: no tool takes a DSP block for two or three bits.
        rows = [Mux(bit, other, 0) << k for k, bit in enumerate(factor)]
        product = Signal(kind(spec.product), name=f"product_{lane}", reset_less=True)
        places = Signal(spec.places.bit_length(), name=f"places_{lane}", reset_less=True)
        flip = Signal(name=f"flip_{lane}", reset_less=True)
        with m.If(moves):
            m.d.sync += [product.eq(sum(rows)), places.eq(shift), flip.eq(sign)]
        term = Signal(signed(spec.widths()[0][0]), name=f"term_{lane}")
        m.d.comb += term.eq((product << places) ^ flip.replicate(len(term)).as_signed())
        return term, flip


def _parts(code: Any, kind: Code) -> tuple[Any, Any, Any]:
    """Sign, unsigned significand and shift of a float's code."""
    exponent = code[kind.mantissa : -1]
    normal = exponent.any()
    return (
        code[-1],
        Cat(code[: kind.mantissa], normal),
        Mux(normal, exponent - 1, 0)[: kind.shift.bit_length()],
    )


SPEC = Minifloat

SAMPLES = (
    Minifloat(lanes=1, acc_width=13, levels=0),
    Minifloat(lanes=5, exponent=3, mantissa=0, act_bits=5, acc_width=20, levels=1),
    Minifloat(lanes=16),
    Minifloat(lanes=7, x_exponent=2, x_mantissa=1, acc_width=16, levels=1),
    Minifloat(lanes=3, exponent=4, mantissa=3, x_exponent=4, x_mantissa=3, acc_width=44),
    Minifloat(lanes=66, act_bits=2, acc_width=24, levels=3),
)
