"""Complex PE: weights 1, -1, i and -i times complex activations, real and imaginary part at once.

A weight is two bits: ``axis`` says that it is +-i and not +-1, ``sign`` that it is positive. Multiplying by i
swaps the parts and turns one sign over, so a product is a swap and two bit-serial dot products of signs and
digits, one for each part; a conjugated weight turns over the other sign. Parts are integers, taken bit plane
by bit plane, the same plane of both in a beat.

Sources: Wang et al., iFairy, arXiv:2508.05571 (weights {1, -1, i, -i}; each axis has a scale, so it takes two
items, masked by ``axis``). Differs in: own circuit, activations as integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth import Cat, Module, Mux, Signal

from hw.pe.bitserial import BitSerial, BitSerialPE
from hw.pipeline import accumulate, controls, hand_over, handshake
from hw.spec import Beat, Resources, Segment, Step, horner, wrap

REAL, IMAGINARY = 0, 1  #: the outputs, and the planes of activations


@dataclass(frozen=True, kw_only=True)
class Complex(BitSerial):
    """acc <- (0 if first else 2 acc if shift else acc) -+ sum over masked lanes of weight times digits."""

    conjugate: bool = False  #: the weights are conjugated

    def __post_init__(self) -> None:
        if not isinstance(self.conjugate, bool):
            raise TypeError(f"conjugate must be True or False, not {self.conjugate!r}")
        super().__post_init__()

    @property
    def outputs(self) -> int:
        return 2

    def words(self) -> dict[str, int]:
        """Planes axis and sign of weights, of digits the real parts' and the imaginary parts'."""
        return {"w": 2 * self.lanes, "x": 2 * self.lanes, "mask": self.lanes}

    def flags(self) -> tuple[str, ...]:
        return "x_bipolar", "first", "shift", "neg", "last"

    def golden(self, acc: int, beat: Beat, output: int = 0) -> int:
        part = 0
        for lane in range(self.lanes):
            axis, positive = beat.w >> lane & 1, beat.w >> self.lanes + lane & 1
            weight = (1j if axis else 1) * (1 if positive else -1)
            digits = [beat.x >> plane * self.lanes + lane & 1 for plane in (REAL, IMAGINARY)]
            real, imaginary = (2 * digit - 1 for digit in digits) if beat.x_bipolar else digits
            if beat.mask >> lane & 1:
                product = (weight.conjugate() if self.conjugate else weight) * complex(real, imaginary)
                part += int(product.real if output == REAL else product.imag)
        start = 0 if beat.first else 2 * acc if beat.shift else acc
        return wrap(start - part if beat.neg else start + part, self.acc_width)

    def steps(self, segment: Segment) -> tuple[Step, ...]:
        """A step for each plane of both parts of activations, from the highest place down.

        A segment's columns are complex ones here, its weights units: one plane of signs, and which axis.
        Raises ValueError for weights of any other planes.
        """
        if segment.weight != (1,) or not segment.w_bipolar:
            raise ValueError(f"segment must be of complex units, not of the real planes {segment.weight!r}")
        return tuple(
            Step((0, 1), (2 * step.x_plane, 2 * step.x_plane + 1), step.shift, step.neg)
            for step in horner(segment.weight, segment.activation)
        )

    def resources(self) -> Resources:
        """Cells of both parts, which share their control, and of the swap before them."""
        return super().resources()

    def parts(self) -> dict[str, Resources]:
        one = super().parts()
        # Weight digits are never 0, which saves two gates in a lane of a part; a sign turned over takes one.
        both = {name: cells * 2 for name, cells in one.items()}
        # Signs turned over, and digits swapped.
        swap = {"weights": Resources(gate2=self.lanes), "swap": Resources(mux2=2 * self.lanes)}
        return both | {"control": one["control"]} | swap

    def shared(self) -> dict[str, str]:
        return {"weights": "row"}

    def create(self) -> ComplexPE:
        return ComplexPE(self)


class ComplexPE(BitSerialPE):
    """RTL of `Complex`: the stages of `BitSerialPE` twice, behind a swap, with one control."""

    spec: Complex

    def elaborate(self, platform: object) -> Module:
        m = Module()
        moves = handshake(m, self)
        control = controls(m, moves, self.i)
        m.submodules.real, m.submodules.imaginary = parts = Module(), Module()
        operands = zip(parts, *self.swapped(), strict=True)
        lanes = [self.registered_lanes(part, moves, *bits) for part, *bits in operands]
        # Each stage of a part makes the control behind it; that of the real part serves both.
        counts = [self.count(p, moves, bits, control) for p, bits in zip(parts, lanes, strict=True)]
        control = counts[REAL][1]
        dots = [self.resolve(p, moves, bits, control) for p, (bits, _) in zip(parts, counts, strict=True)]
        control = dots[REAL][1]
        for output, (part, (dot, _)) in enumerate(zip(parts, dots, strict=True)):
            accumulate(part, moves, self.o.payload[output], dot, control)
        hand_over(m, moves, self, control)
        return m

    def swapped(self) -> tuple[list[Any], list[Any]]:
        """Signs and digits that each part adds up."""
        lanes, beat = self.spec.lanes, self.i.payload
        axis, sign = beat.w[:lanes], beat.w[lanes:]
        real, imaginary = beat.x[:lanes], beat.x[lanes:]
        digits = [
            Cat(Mux(axis[lane], other[lane], own[lane]) for lane in range(lanes))
            for own, other in ((real, imaginary), (imaginary, real))
        ]
        # i (a + i b) = -b + i a, and conjugated -i (a + i b) = b - i a.
        signs = [sign, sign ^ axis] if self.spec.conjugate else [sign ^ axis, sign]
        return signs, digits

    def registered_lanes(self, m: Module, moves: Any, sign: Any, digit: Any) -> list[Any]:
        """A part's lane bits, as `BitSerialPE.take` makes them."""
        lanes, beat = self.spec.lanes, self.i.payload
        base = Signal(lanes, name="base")
        idle, hit = (Signal(lanes, name=name, reset_less=True) for name in ("idle", "hit"))
        m.d.comb += base.eq(beat.mask & (digit | beat.x_bipolar.replicate(lanes)))
        with m.If(moves):
            m.d.sync += [idle.eq(~base), hit.eq(base & ~(sign ^ digit))]
        return [idle, hit]


SPEC = Complex

SAMPLES = (
    Complex(lanes=1, acc_width=2, levels=0),
    Complex(lanes=5, acc_width=7, levels=1, conjugate=True),
    Complex(lanes=64, acc_width=32),
    Complex(lanes=70, acc_width=36, levels=2),
)
