"""Ternary PE: trits times one activation plane each clock, counted, shifted, accumulated.

A trit is two bits, that it is not 0 and that it is negative, so the zeros of a sparse or masked matrix need
no mask beside them. Integers run as trits too, the bits of a magnitude under one sign, from the highest place
down. Activations are planes of integers (0/1) or signs (-1/+1).

Sources: Li et al., Ternary Weight Networks, arXiv:1605.04711; Ma et al., BitNet b1.58, arXiv:2402.17764 (the
numbers); Alemdar et al., Ternary Neural Networks for Resource-Efficient AI Applications, IJCNN 2017 (nonzero
and sign, counted). Differs in: what is counted, as `hw.pe.bitserial` does: products of +1, and those not 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Any

from amaranth import Module, Signal

from hw.pe.bitserial import BitSerial, BitSerialPE
from hw.pipeline import controls
from hw.spec import Beat, Resources, Segment, Step, horner, wrap


def trits(digits: tuple[int, ...]) -> dict[int, int]:
    """Code of ``digits`` and of 0: bit 2p that the trit of place p is not 0, bit 2p + 1 that it is negative.

    >>> {digit: bin(code) for digit, code in trits((-5, 1)).items()}
    {-5: '0b110011', 0: '0b0', 1: '0b1'}
    """
    return {digit: _code(digit) for digit in sorted({0, *digits})}


def _code(digit: int) -> int:
    ones = [place for place in range(digit.bit_length()) if abs(digit) >> place & 1]
    return sum((3 if digit < 0 else 1) << 2 * place for place in ones)


def trit_places(digits: tuple[int, ...]) -> tuple[int, ...]:
    """Place values at which `trits` of ``digits`` are not all 0, ascending; (1,) if there are none.

    >>> trit_places((-4, 0, 1)), trit_places((0,))
    ((1, 4), (1,))
    """
    used = reduce(or_, map(abs, digits), 0) or 1
    return tuple(1 << place for place in range(used.bit_length()) if used >> place & 1)


def trit_steps(digits: tuple[int, ...], activation: tuple[int, ...]) -> tuple[Step, ...]:
    """The steps of `trits` of ``digits``, two planes each, and of activation planes of these places.

    >>> [(step.w, step.x) for step in trit_steps((-2, 1), (1,))]
    [((2, 3), (0,)), ((0, 1), (0,))]
    """
    places = trit_places(digits)
    first = [2 * (place.bit_length() - 1) for place in places]
    return tuple(
        step if step.bubble else replace(step, w=(first[step.w_plane], first[step.w_plane] + 1))
        for step in horner(places, activation)
    )


@dataclass(frozen=True, kw_only=True)
class Ternary(BitSerial):
    """acc <- (0 if first else 2 acc if shift else acc) -+ sum of trit(w) digit(x) over the lanes.

    A lane's weight planes are: that its trit is not 0, and that it is negative.
    """

    def words(self) -> dict[str, int]:
        return {"w": 2 * self.lanes, "x": self.lanes}

    def flags(self) -> tuple[str, ...]:
        return "x_bipolar", "first", "shift", "neg", "last"

    def golden(self, acc: int, beat: Beat, output: int = 0) -> int:
        nonzero, negative = beat.w % (1 << self.lanes), beat.w >> self.lanes
        plus, minus = nonzero & ~negative, nonzero & negative
        dot = (beat.x & plus).bit_count() - (beat.x & minus).bit_count()
        if beat.x_bipolar:
            dot = 2 * dot - plus.bit_count() + minus.bit_count()
        start = 0 if beat.first else 2 * acc if beat.shift else acc
        return wrap(start - dot if beat.neg else start + dot, self.acc_width)

    def steps(self, segment: Segment) -> tuple[Step, ...]:
        """One step for each place of the trits and plane of the activations."""
        return trit_steps(segment.w_digits, segment.activation)

    def w_code(self, segment: Segment) -> Mapping[int, int]:
        return trits(segment.w_digits)

    def resources(self) -> Resources:
        """As of `BitSerial`, less what its lanes need for a mask and bipolar weights: two gates."""
        return super().resources()

    def parts(self) -> dict[str, Resources]:
        return super().parts() | {"weights": Resources()}

    def create(self) -> TernaryPE:
        return TernaryPE(self)


class TernaryPE(BitSerialPE):
    """RTL of `Ternary`: `hw.pe.bitserial.BitSerialPE` with other lanes."""

    def take(self, m: Module, moves: Any) -> tuple[list[Any], Any]:
        """Operands to registered lane bits: that a product is 0, and that it is +1."""
        beat, lanes = self.i.payload, self.spec.lanes
        base = Signal(lanes)
        m.d.comb += base.eq(beat.w[:lanes] & (beat.x | beat.x_bipolar.replicate(lanes)))
        idle, hit = Signal(lanes, reset_less=True), Signal(lanes, reset_less=True)
        with m.If(moves):
            m.d.sync += [idle.eq(~base), hit.eq(base & (beat.w[lanes:] ^ beat.x))]
        return [idle, hit], controls(m, moves, self.i)


SPEC = Ternary

SAMPLES = (
    Ternary(lanes=1, acc_width=2, levels=0),
    Ternary(lanes=6, acc_width=9, levels=1),
    Ternary(lanes=64, acc_width=32),
    Ternary(lanes=90, acc_width=40, levels=2),
)
