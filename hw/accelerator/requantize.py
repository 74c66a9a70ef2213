"""Sums to narrow integers: a dyadic factor, one rounding to nearest even, saturation; or sums as they are.

``round_half_even(sum * mantissa / 2**shift)``, clipped to ``out_bits``. The fixed-point multiplier of integer
inference: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018, section 2.2; differs in: ties to even, a signed mantissa, no rounding of the product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.spec import require_int


@dataclass(frozen=True, kw_only=True)
class RequantizeSpec:
    """A pipeline that takes a sum each clock."""

    sum_bits: int = 64  #: of a sum, two's complement
    mantissa_bits: int = 16  #: of the factor's mantissa, two's complement
    shift_bits: int = 6  #: of the factor's shift, unsigned
    out_bits: int = 8  #: of a result, two's complement
    user_bits: int = 0  #: what travels beside a sum

    def __post_init__(self) -> None:
        for name in ("sum_bits", "mantissa_bits", "shift_bits", "out_bits"):
            require_int(name, getattr(self, name), 1)
        require_int("user_bits", self.user_bits, 0)
        require_int("out_bits", self.out_bits, 1, self.sum_bits)

    def golden(self, value: int, mantissa: int, shift: int) -> int:
        """The result of one sum: the definition."""
        product = value * mantissa
        whole, rest = product >> shift, product & ((1 << shift) - 1)
        half = (1 << shift) >> 1
        if shift and (rest > half or (rest == half and whole & 1)):
            whole += 1
        top = 1 << (self.out_bits - 1)
        return min(max(whole, -top), top - 1)

    def latency(self) -> int:
        """Clocks from the edge that takes a sum to the one that hands over its result."""
        return 3

    def create(self) -> Requantizer:
        """Amaranth component with exactly these parameters."""
        return Requantizer(self)


def value_layout(spec: RequantizeSpec) -> data.StructLayout:
    """A sum on port ``i``."""
    return data.StructLayout(
        {
            "value": signed(spec.sum_bits),
            "mantissa": signed(spec.mantissa_bits),
            "shift": spec.shift_bits,
            "narrow": 1,  # 0: the sum passes as it is
            "user": spec.user_bits,
        }
    )


def result_layout(spec: RequantizeSpec) -> data.StructLayout:
    """A result on port ``o``, sign-extended to a sum's width."""
    return data.StructLayout({"value": signed(spec.sum_bits), "narrow": 1, "user": spec.user_bits})


class Requantizer(wiring.Component):
    """RTL of `RequantizeSpec`: multiply, shift, round and clip; all stages move together or not at all."""

    def __init__(self, spec: RequantizeSpec) -> None:
        self.spec = spec
        super().__init__(
            {"i": In(stream.Signature(value_layout(spec))), "o": Out(stream.Signature(result_layout(spec)))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        moves = Signal()
        m.d.comb += [moves.eq(~self.o.valid | self.o.ready), self.i.ready.eq(moves)]
        valid = Signal(2)
        with m.If(moves):
            m.d.sync += [valid.eq(Cat(self.i.valid, valid[0])), self.o.valid.eq(valid[1])]
        product, passes = self.multiply(m, moves)
        shifted, passes = self.shift(m, moves, product, passes)
        self.round(m, moves, shifted, passes)
        return m

    def multiply(self, m: Module, moves: Any) -> tuple[Any, Any]:
        """Stage 1. A sum that passes is multiplied by nothing."""
        spec, given = self.spec, self.i.payload
        product = Signal(signed(spec.sum_bits + spec.mantissa_bits), reset_less=True)
        passes = Signal(
            data.StructLayout({"narrow": 1, "shift": spec.shift_bits, "user": spec.user_bits}),
            name="passes1",
            reset_less=True,
        )
        with m.If(moves):
            m.d.sync += [
                product.eq(Mux(given.narrow, given.value * given.mantissa, given.value)),
                passes.narrow.eq(given.narrow),
                passes.shift.eq(Mux(given.narrow, given.shift, 0)),
                passes.user.eq(given.user),
            ]
        return product, passes

    def shift(self, m: Module, moves: Any, product: Any, before: Any) -> tuple[Any, Any]:
        """Stage 2: the quotient's floor, its highest lost bit, and whether a lower one is lost too."""
        spec = self.spec
        # One place below the point is kept; what falls off it is not 0 if a bit under the shift is not.
        kept = Signal(signed(len(product) + 1), reset_less=True)
        sticky = Signal(reset_less=True)
        passes = Signal(
            data.StructLayout({"narrow": 1, "user": spec.user_bits}), name="passes2", reset_less=True
        )
        # Bit i is lost below the highest lost one where the shift is more than i + 1.
        lost = product[: (1 << spec.shift_bits) - 2]
        below = Cat(before.shift > i + 1 for i in range(len(lost)))
        with m.If(moves):
            m.d.sync += [
                kept.eq(Cat(0, product).as_signed() >> before.shift),
                sticky.eq((lost & below).any()),
                passes.narrow.eq(before.narrow),
                passes.user.eq(before.user),
            ]
        return Cat(sticky, kept), passes

    def round(self, m: Module, moves: Any, shifted: Any, passes: Any) -> None:
        """Stage 3."""
        spec, out = self.spec, self.o.payload
        sticky, guard, whole = shifted[0], shifted[1], shifted[2:].as_signed()
        rounded = Signal(signed(len(whole) + 1))
        m.d.comb += rounded.eq(whole + (guard & (sticky | whole[0])))
        top = 1 << (spec.out_bits - 1)
        clipped = Mux(rounded < -top, -top, Mux(rounded > top - 1, top - 1, rounded))
        with m.If(moves):
            m.d.sync += [
                out.value.eq(Mux(passes.narrow, clipped, whole)),
                out.narrow.eq(passes.narrow),
                out.user.eq(passes.user),
            ]
