"""What each PE computes, as integer arithmetic on the bits of a beat: what its RTL is proven equal to.

Each formula is written for itself, from what the PE's operands stand for; none uses the PE's own `golden`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hw.formal.polynomial import Polynomial
from hw.spec import PeSpec


@dataclass(frozen=True, kw_only=True)
class Operands:
    """Bits of a beat, and an accumulator before it."""

    lanes: int
    fields: Mapping[str, Sequence[Polynomial]]  #: by field, the lowest bit first
    acc: Polynomial

    def planes(self, word: str, lane: int, count: int, first: int = 0) -> list[Polynomial]:
        """A lane's bits of ``count`` planes of a word."""
        return [self.fields[word][(first + plane) * self.lanes + lane] for plane in range(count)]

    def flag(self, name: str) -> Polynomial:
        [bit] = self.fields[name]
        return bit


def unsigned(bits: Sequence[Polynomial]) -> Polynomial:
    """The integer of bits, lowest first."""
    return Polynomial.total(bit * (1 << place) for place, bit in enumerate(bits))


def signed(bits: Sequence[Polynomial]) -> Polynomial:
    """The same in two's complement."""
    return unsigned(bits[:-1]) - bits[-1] * (1 << len(bits) - 1)


def sign(bit: Polynomial) -> Polynomial:
    """-1 for 0, +1 for 1."""
    return 2 * bit - 1


def digit(bit: Polynomial, bipolar: Polynomial) -> Polynomial:
    """A plane's digit: the bit, or if ``bipolar`` its sign."""
    return bit + bipolar * (bit - 1)


def select(index: Sequence[Polynomial], options: Sequence[Polynomial]) -> Polynomial:
    """The option of the index, lowest bit first; the last one past the last."""
    if not index:
        return options[0]
    half = 1 << len(index) - 1
    low = select(index[:-1], options[:half])
    high = select(index[:-1], options[half:] or options[-1:])
    return low + index[-1] * (high - low)


def serial(b: Operands, dot: Polynomial) -> Polynomial:
    """A beat added to, or with ``neg`` taken from, the accumulator, its double, or 0."""
    start = b.acc if "shift" not in b.fields else b.acc * (1 + b.flag("shift"))
    start = start * (1 - b.flag("first"))
    return start + (dot * (1 - 2 * b.flag("neg")) if "neg" in b.fields else dot)


def over_lanes(b: Operands, product: Callable[[int], Polynomial]) -> Polynomial:
    return serial(b, Polynomial.total(map(product, range(b.lanes))))


def bitserial(spec: Any, b: Operands, output: int) -> Polynomial:
    def product(lane: int) -> Polynomial:
        [w], [x], [mask] = (b.planes(word, lane, 1) for word in ("w", "x", "mask"))
        return mask * digit(w, b.flag("w_bipolar")) * digit(x, b.flag("x_bipolar"))

    return over_lanes(b, product)


def popcount(spec: Any, b: Operands, output: int) -> Polynomial:
    def product(lane: int) -> Polynomial:
        [w], [x] = b.planes("w", lane, 1), b.planes("x", lane, 1)
        return w * x if spec.op == "and" else w + x - 2 * w * x

    return over_lanes(b, product)


def complex_(spec: Any, b: Operands, output: int) -> Polynomial:
    def product(lane: int) -> Polynomial:
        (axis, positive), [mask] = b.planes("w", lane, 2), b.planes("mask", lane, 1)
        re, im = (digit(bit, b.flag("x_bipolar")) for bit in b.planes("x", lane, 2))
        w_re = (1 - axis) * sign(positive)
        w_im = axis * sign(positive) * (-1 if spec.conjugate else 1)
        return mask * (w_re * im + w_im * re if output else w_re * re - w_im * im)

    return over_lanes(b, product)


def gather(spec: Any, b: Operands, output: int) -> Polynomial:
    choices = spec.of - spec.keep + 1
    index_bits = (choices - 1).bit_length()

    def product(lane: int) -> Polynomial:
        [w, *index], [mask] = b.planes("w", lane, 1 + index_bits), b.planes("mask", lane, 1)
        first = lane // spec.keep * spec.of + lane % spec.keep
        x = select(index, b.fields["x"][first : first + choices])
        return mask * digit(w, b.flag("w_bipolar")) * digit(x, b.flag("x_bipolar"))

    return over_lanes(b, product)


def mac(spec: Any, b: Operands, output: int) -> Polynomial:
    return over_lanes(
        b,
        lambda lane: signed(b.planes("w", lane, spec.w_bits)) * signed(b.planes("x", lane, spec.act_bits)),
    )


def minifloat(spec: Any, b: Operands, output: int) -> Polynomial:
    def value(bits: list[Polynomial], exponent: int, mantissa: int) -> Polynomial:
        fraction, power = unsigned(bits[:mantissa]), bits[mantissa:-1]
        sizes = [fraction, *((fraction + (1 << mantissa)) * (1 << e) for e in range((1 << exponent) - 1))]
        return -sign(bits[-1]) * select(power, sizes)

    def product(lane: int) -> Polynomial:
        code = b.planes("w", lane, 1 + spec.exponent + spec.mantissa)
        w = value(code, spec.exponent, spec.mantissa)
        if not spec.x_exponent:
            return w * signed(b.planes("x", lane, spec.act_bits))
        x = b.planes("x", lane, 1 + spec.x_exponent + spec.x_mantissa)
        return w * value(x, spec.x_exponent, spec.x_mantissa)

    return over_lanes(b, product)


def planes(spec: Any, b: Operands, output: int) -> Polynomial:
    def value(word: str, lane: int, count: int) -> Polynomial:
        bits = b.planes(word, lane, count)
        return unsigned(bits) - b.flag(f"{word}_bipolar") * bits[-1] * (1 << count)

    return over_lanes(b, lambda lane: value("w", lane, spec.w_planes) * value("x", lane, spec.x_planes))


def selectadd(spec: Any, b: Operands, output: int) -> Polynomial:
    def product(lane: int) -> Polynomial:
        *counts, negative = b.planes("w", lane, 1 + spec.ternary)
        x = signed(b.planes("x", lane, spec.act_bits)) * (1 - 2 * negative)
        return counts[0] * x if spec.ternary else x

    return over_lanes(b, product)


def table(spec: Any, b: Operands, output: int) -> Polynomial:
    def product(lane: int) -> Polynomial:
        [w] = b.planes("w", lane, 1, first=output)
        return sign(w) * signed(b.planes("x", lane, spec.act_bits))

    return over_lanes(b, product)


def term(spec: Any, b: Operands, output: int) -> Polynomial:
    def product(lane: int) -> Polynomial:
        counts, negative, *exponent = b.planes("w", lane, 2 + spec.exponent_bits)
        powers = [Polynomial.constant(1 << e) for e in range(1 << spec.exponent_bits)]
        x = signed(b.planes("x", lane, spec.act_bits))
        return counts * (1 - 2 * negative) * select(exponent, powers) * x

    return over_lanes(b, product)


def ternary(spec: Any, b: Operands, output: int) -> Polynomial:
    def product(lane: int) -> Polynomial:
        (counts, negative), [x] = b.planes("w", lane, 2), b.planes("x", lane, 1)
        return counts * (1 - 2 * negative) * digit(x, b.flag("x_bipolar"))

    return over_lanes(b, product)


def twoplane(spec: Any, b: Operands, output: int) -> Polynomial:
    def product(lane: int) -> Polynomial:
        (p, q), [x], [mask] = b.planes("w", lane, 2), b.planes("x", lane, 1), b.planes("mask", lane, 1)
        return mask * x * (sign(p), sign(q), sign(p) * sign(q), Polynomial.constant(1))[output]

    return over_lanes(b, product)


@dataclass(frozen=True, kw_only=True)
class Formula:
    """An accumulator after a beat, modulo its width, and the RTL's signals that are numbers of their own.

    A signal is only where the proof is cut; what number it is, the proof finds out.
    """

    after: Callable[[Any, Operands, int], Polynomial]
    cuts: tuple[str, ...] = ()
    shares_x: bool = False  #: a lane's activation is not bit ``lane`` of a plane alone


FORMULAS: dict[str, Formula] = {
    "bitserial": Formula(after=bitserial, cuts=("dot",)),
    "complex": Formula(after=complex_, cuts=("dot",)),
    "gather": Formula(after=gather, cuts=("dot",), shares_x=True),
    "mac": Formula(after=mac, cuts=(r"product\d+", r"sum\d+_\d+", "dot")),
    "minifloat": Formula(after=minifloat, cuts=(r"product_\d+", "dot")),
    "planes": Formula(after=planes, cuts=("dot",)),
    "popcount": Formula(after=popcount, cuts=("number",)),
    "selectadd": Formula(after=selectadd),
    "table": Formula(after=table, cuts=(r"table\d+_\d+",)),
    "term": Formula(after=term),
    "ternary": Formula(after=ternary, cuts=("dot",)),
    "twoplane": Formula(after=twoplane, cuts=(r"count_\w+", r"dot_\w")),
}

#: PEs without a formula, and why. Their streams and netlists are proven, not their datapath.
WITHOUT_FORMULA: dict[str, str] = {
    "fpmac": "every sum rounds to fp32: no polynomial of few terms",
}


def formula_of(spec: PeSpec) -> Formula:
    """The formula of a PE, or of the PE of the family that its class is made from.

    Raises ValueError naming the PE if it has none.
    """
    for kind in type(spec).__mro__:
        package, _, name = kind.__module__.rpartition(".")
        if package == "hw.pe":
            if name in FORMULAS:
                return FORMULAS[name]
            break
    raise ValueError(f"spec must be of a PE with a formula, not {spec!r}")
