"""Floating-point baseline: fp16 weights times fp16 activations, accumulated in fp32.

A product of two fp16 values is exact in fp32. Products of a beat are added two by two (lanes 0 and 1, 2 and
3, ..; an odd last one goes on as it is), and what results to the accumulator, each time by one fp32 addition
rounded to nearest, ties to even. So with one lane an item is what numpy's float32 sums up, beat after beat.
The item is the fp32 bit pattern, as the signed integer of these 32 bits.

Subnormal fp16 operands count as what they are. Infinities and NaN are refused at the front door
(`FpMac.beat`) and have no hardware: exponent 31 is an ordinary binade, as in Arm's alternative half
precision. fp32 needs no special numbers either: every sum is a multiple of 2**-48, so none is subnormal, and
none overflows in fewer than 2**90 beats. Zero is always +0; no sum that begins at +0 shows the difference.

Sources: IEEE 754-2019, 4.3.1 (rounding), 3.6 (binary16, binary32). Mixed fp16 / fp32 is what GPU tensor cores
take (NVIDIA, Volta whitepaper, 2017). Differs in: every addition rounds, where those truncate a common
alignment (Fasi et al., PeerJ Computer Science 7:e330, 2021).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring

from hw.counts import total
from hw.pipeline import CONTROL_OF_DOT, controls, hand_over, handshake, ports, registered
from hw.spec import Beat, PeSpec, Resources, Segment, Step, require_int, wrap

HALF = 16  #: bits of an operand: 1 sign, 5 exponent, 10 mantissa
SINGLE = 32  #: bits of an item: 1 sign, 8 exponent, 23 mantissa
UNIT = -149  #: fp32 values are integers times 2**UNIT; fp16 ones too


def half_integer(code: int) -> int:
    """The fp16 value of a bit pattern over 2**-24.

    >>> half_integer(0x0001), half_integer(0x3C00) == 1 << 24, half_integer(0xC000) == -2 << 24
    (1, True, True)
    """
    exponent, fraction = code >> 10 & 31, code & 1023
    size = fraction + 1024 << exponent - 1 if exponent else fraction
    return -size if code >> 15 else size


def single_integer(item: int) -> int:
    """The fp32 value of a bit pattern over 2**UNIT."""
    exponent, fraction = item >> 23 & 255, item & (1 << 23) - 1
    size = fraction + (1 << 23) << exponent - 1 if exponent else fraction
    return -size if item >> 31 & 1 else size


def rounded(value: int) -> int:
    """The fp32 bit pattern, signed, of an integer over 2**UNIT, ties to even.

    >>> rounded(single_integer(0x40490FDB)) == 0x40490FDB, hex(rounded((1 << 149) + (1 << 125)))
    (True, '0x3f800000')
    """
    size = abs(value)
    cut = max(0, size.bit_length() - 24)
    kept, rest = size >> cut, size & (1 << cut) - 1
    kept += 2 * rest + (kept & 1) > 1 << cut if cut else 0
    # The hidden bit adds 1 to the exponent's field, and so does a carry out of the mantissa.
    pattern = ((cut << 23) + kept) % (1 << 31)
    return wrap(pattern + (1 << 31), SINGLE) if value < 0 else pattern


def half_pattern(name: str, value: float) -> int:
    """The bit pattern of an fp16 value.

    Raises ValueError if it is none, or not finite.
    """
    try:
        packed = struct.pack("<e", value)
    except OverflowError:
        packed = struct.pack("<e", math.inf)
    if not math.isfinite(value) or struct.unpack("<e", packed) != (value,):
        raise ValueError(f"{name} must hold finite fp16 values, not {value!r}")
    return int.from_bytes(packed, "little")


@dataclass(frozen=True, kw_only=True)
class FpMac(PeSpec):
    """acc <- fp32((+0 if first else acc) + fp32 sum, two by two, of the lanes' products w x)."""

    lanes: int = 1  #: columns of a beat; every lane holds a multiplier and an fp32 adder

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("acc_width", self.acc_width, SINGLE, SINGLE)

    def beat_range(self) -> tuple[int, int]:
        """Any change of a bit pattern."""
        return -(1 << SINGLE - 1), (1 << SINGLE - 1) - 1

    def words(self) -> dict[str, int]:
        return {"w": HALF * self.lanes, "x": HALF * self.lanes}

    def flags(self) -> tuple[str, ...]:
        return ("first", "last")

    def golden(self, acc: int, beat: Beat, output: int = 0) -> int:
        # Over 2**-48 a product is an integer.
        sums = [
            half_integer(self.lane(beat.w, lane)) * half_integer(self.lane(beat.x, lane)) << -48 - UNIT
            for lane in range(self.lanes)
        ]
        while len(sums) > 1:
            pairs = zip(sums[::2], sums[1::2], strict=False)
            added = [single_integer(rounded(a + b)) for a, b in pairs]
            sums = added + sums[2 * len(added) :]
        return rounded((0 if beat.first else single_integer(acc)) + sums[0])

    def lane(self, word: int, lane: int) -> int:
        """The fp16 bit pattern of a lane: bit p of it is the lane's bit of plane p."""
        return sum((word >> (p * self.lanes + lane) & 1) << p for p in range(HALF))

    def beat(
        self, w: Sequence[float], x: Sequence[float], *, first: bool = False, last: bool = False
    ) -> Beat:
        """A beat of real numbers, at most one a lane.

        Raises ValueError if one is no finite fp16 value, or there are more than lanes.
        """
        return Beat(w=self._word("w", w), x=self._word("x", x), first=first, last=last)

    def _word(self, name: str, values: Sequence[float]) -> int:
        if len(values) > self.lanes:
            raise ValueError(f"{name} must hold at most {self.lanes} values, not {len(values)}")
        word = 0
        for lane, value in enumerate(values):
            code = half_pattern(name, value)
            word |= sum((code >> p & 1) << (p * self.lanes + lane) for p in range(HALF))
        return word

    def value(self, item: int) -> float:
        """The number that an item is."""
        return math.ldexp(single_integer(item % (1 << SINGLE)), UNIT)

    def steps(self, segment: Segment) -> tuple[Step, ...]:
        """None: a packed matrix is summed exactly, in integers.

        Raises ValueError always.
        """
        raise ValueError(f"pe must sum integers exactly for a packed matrix, not round to fp32: {self!r}")

    def latency(self) -> int:
        """One clock each for the products, every level of sums and the accumulator."""
        return 1 + (self.lanes - 1).bit_length() + 1

    def resources(self) -> Resources:
        """Cells of the structure below: a multiplier a lane, an adder a lane, the last one accumulating."""
        return total(self.parts())

    def parts(self) -> dict[str, Resources]:
        # A product has 2 bits less than a sum; an odd one keeps what it has from level to level.
        sums, registers = [SINGLE - 2] * self.lanes, 0
        while len(sums) > 1:
            sums = [SINGLE] * (len(sums) // 2) + sums[len(sums) & ~1 :]
            registers += sum(sums)
        levels = (self.lanes - 1).bit_length()
        return {
            "multipliers": MULTIPLIER * self.lanes,
            "adders": ADDER * self.lanes,
            "cuts": Resources(flop=registers),
            "accumulator": Resources(mux2=SINGLE, flop=SINGLE),
            "control": Resources(gate2=3, flop=3 * (1 + levels) + 1),
        }

    def create(self) -> FpMacPE:
        return FpMacPE(self)


#: Two fp16 operands to a registered product. Of each operand: tests for a hidden bit and for zeros above, a
#: normalizing shifter of 11 bits in 4 levels, the exponent less the shift. Then 11 x 11 products of bits in
#: rows that are added, a step to the left, the sum of exponents, the sign, and all of it 0 if an operand is.
MULTIPLIER = Resources(
    gate2=2 * (5 + 15) + 11 * 11 + 1 + 31,
    adder_bit=2 * 6 + 10 * 11 + 2 * 8,
    mux2=2 * 4 * 11 + 21,
    flop=30,
)
#: The sum of two fp32 patterns: comparison and swap, difference of exponents, an aligning shifter of 26 bits
#: in 5 levels with all that it loses, sum or difference, a normalizing shifter of 28 bits in 5 levels with
#: its tests for zeros, the exponent less the shift, rounding, and all of it 0 if the sum is.
ADDER = Resources(
    gate2=2 * 7 + (31 + 5) + (2 + 26) + 1 + 27 + 31 + 4 + 32,
    adder_bit=31 + 8 + 28 + 8 + 31,
    mux2=2 * 31 + 1 + 5 * 26 + 5 * 28,
)


class FpMacPE(wiring.Component):
    """RTL of `FpMac`: streams ``i`` (beats) and ``o`` (items); all stages move together or not at all."""

    def __init__(self, spec: FpMac) -> None:
        self.spec = spec
        super().__init__(ports(spec))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        moves = handshake(m, self)
        beat, lanes = self.i.payload, self.spec.lanes
        sums = []
        for lane in range(lanes):
            m.submodules[f"multiply{lane}"] = multiply = Multiply()
            m.d.comb += [multiply.w.eq(beat.w[lane::lanes]), multiply.x.eq(beat.x[lane::lanes])]
            product = registered(m, moves, multiply.product, f"product_{lane}")
            sums.append(Cat(0, 0, product))
        control = controls(m, moves, self.i, CONTROL_OF_DOT)
        level = 0
        while len(sums) > 1:
            level += 1
            added = [self.add(m, a, b, f"{level}_{k}") for k, (a, b) in enumerate(pairs(sums))]
            sums = [
                registered(m, moves, s, f"sum{level}_{k}")
                for k, s in enumerate(added + sums[2 * len(added) :])
            ]
            control = registered(m, moves, control, f"control{level}")
        start = Signal(SINGLE)
        m.d.comb += start.eq(Mux(control.first, 0, self.o.payload))
        total = self.add(m, start, sums[0], "acc")
        with m.If(moves), m.If(control.valid):
            m.d.sync += self.o.payload.eq(total)
        hand_over(m, moves, self, control)
        return m

    def add(self, m: Module, a: Any, b: Any, name: str) -> Any:
        """The rounded sum of two fp32 patterns."""
        m.submodules[f"add{name}"] = adder = Add()
        m.d.comb += [adder.a.eq(a), adder.b.eq(b)]
        return adder.total


def pairs(terms: list[Any]) -> Any:
    return zip(terms[::2], terms[1::2], strict=False)


class Multiply(wiring.Component):
    """The exact product of two fp16 patterns: an fp32 pattern without its two lowest bits, which are 0."""

    def __init__(self) -> None:
        super().__init__({"w": wiring.In(HALF), "x": wiring.In(HALF), "product": wiring.Out(SINGLE - 2)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        (w, w_exponent), (x, x_exponent) = self.parts(m, self.w, "w"), self.parts(m, self.x, "x")
        # Rows instead of a multiplication sign: no tool takes a DSP block.
        size = Signal(22)
        m.d.comb += size.eq(sum(Mux(bit, w, 0) << k for k, bit in enumerate(x)))
        # Significands of [1, 2): the product is of [1, 4), and its leading 1 stays hidden.
        wide = size[21]
        exponent = Signal(8)
        m.d.comb += exponent.eq(w_exponent + x_exponent + 97 + wide)
        fraction = Mux(wide, size[:21], Cat(0, size[:20]))
        with m.If(w[10] & x[10]):
            m.d.comb += self.product.eq(Cat(fraction, exponent, self.w[15] ^ self.x[15]))
        return m

    def parts(self, m: Module, code: Any, name: str) -> tuple[Any, Any]:
        """Significand of 11 bits, the top one 1 except of zero, and its signed exponent."""
        normal = code[10:15].any()
        size, left = normalized(m, Cat(code[:10], normal), name)
        exponent = Signal(signed(6), name=f"exponent_{name}")
        m.d.comb += exponent.eq((code[10:15] | ~normal) - left)
        return size, exponent


class Add(wiring.Component):
    """The sum of two fp32 patterns, rounded to nearest, ties to even; none of the three is subnormal."""

    def __init__(self) -> None:
        super().__init__({"a": wiring.In(SINGLE), "b": wiring.In(SINGLE), "total": wiring.Out(SINGLE)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        swap = self.a[:31] < self.b[:31]
        big, small = Signal(SINGLE), Signal(SINGLE)
        m.d.comb += [big.eq(Mux(swap, self.b, self.a)), small.eq(Mux(swap, self.a, self.b))]
        # Two bits below the last place, and one that says whether anything is lost below them.
        away = Signal(8)
        m.d.comb += away.eq(big[23:31] - small[23:31])
        aligned = self.align(m, Cat(0, 0, small[:23], small[23:31].any()), away)
        differ = self.a[31] ^ self.b[31]
        total = Signal(28)
        grown = Cat(0, 0, 0, big[:23], big[23:31].any(), 0)
        m.d.comb += total.eq(grown + (aligned ^ differ.replicate(28)) + differ)
        # A carry is a 1 above the leading place; to count from there, the exponent is one more.
        size, left = normalized(m, total, "total")
        exponent = Signal(8)
        m.d.comb += exponent.eq(big[23:31] - left)
        # Kept are 24 bits, the leading 1 as one more of the exponent; of the 4 below, the first is a half.
        up = size[3] & (size[4] | size[:3].any())
        with m.If(size[27]):
            m.d.comb += self.total.eq(
                Cat((Cat(size[4:27], exponent) + Cat(up, Const(0, 22), 1))[:31], big[31])
            )
        return m

    def align(self, m: Module, size: Any, away: Any) -> Any:
        """``size`` moved right by ``away``, as 28 bits, the lowest the OR of what falls off."""
        lost: Any = 0
        for level in range(5):
            step, bit = 1 << level, away[level]
            lost = lost | (bit & size[:step].any())
            moved = Signal(26, name=f"aligned{level}")
            m.d.comb += moved.eq(Mux(bit, size >> step, size))
            size = moved
        # From 32 places on nothing but 0 is left, and what is lost is too little to change a rounding.
        return Cat(lost, Mux(away[5:].any(), 0, size), 0)


def normalized(m: Module, size: Any, name: str) -> tuple[Any, Any]:
    """``size`` moved left until its top bit is 1, and by how many places; a zero stays zero."""
    bits = len(size)
    found: list[Any] = []
    for level in reversed(range((bits - 1).bit_length())):
        step = 1 << level
        empty = ~size[-step:].any()
        moved = Signal(bits, name=f"{name}{level}")
        m.d.comb += moved.eq(Mux(empty, size << step, size))
        size = moved
        found.insert(0, empty)
    return size, Cat(*found)


SPEC = FpMac

SAMPLES = (FpMac(), FpMac(lanes=2), FpMac(lanes=5))
