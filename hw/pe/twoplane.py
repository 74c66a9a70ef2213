"""Two-plane PE: all that two sign planes p and q yield on a mask, in one pass over the activations.

BiLLM, ARB-LLM and STBLLM store a sign plane and one more: where columns are salient the sign of the residual,
elsewhere the zone. Signs times zones, the XNOR of the two, is a third plane, which nobody stores: the PE
makes it. Four accumulators take the dot products with p, q and p XNOR q, and the activations' own sum, which
is what an offset multiplies. A weight of four values +-a, +-b by sign and zone is c1 p + c2 (p XNOR q); a
residual pair is c1 p + c2 q; any mean comes with either. `sim.pairs` says which pass yields which terms.

Weights are signs, activations integers, plane by plane; one of a single bit (-1, +1) is read as two bits.
Lane bits are counted, not signed products: with b the number of ones of the activation plane on the mask and
h of those where a weight is +1, the dot product is 2 h - b, and b is common to all three.

Sources: Huang et al., BiLLM, arXiv:2402.04291 (planes, zones, residual); Li et al., ARB-LLM, arXiv:2410.03129
(offsets); Dong et al., STBLLM, arXiv:2408.01803 (N:M masks). Differs in: those compute on GPUs, a term at a
time or on dequantized weights; own circuit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from amaranth import Cat, Module, Signal, signed

from hw.counts import accumulator, total
from hw.pe.bitserial import BitSerial, BitSerialPE, compress
from hw.pipeline import CONTROL_OF_DOT, accumulate, controls, hand_over, handshake
from hw.spec import Beat, Resources, Segment, Step, horner, signed_bits, wrap

#: The accumulators: dot products with p, with q, with p XNOR q, and the sum of the activations.
P, Q, XNOR, SUM = range(4)


def tree(lanes: int) -> tuple[tuple[int, ...], ...]:
    """Bits per column before each level of one of the four counters, and after the last.

    >>> tree(5)
    ((5, 0, 0), (3, 1, 0), (1, 2, 0))
    """
    columns = (lanes, *[0] * (lanes.bit_length() - 1))
    levels = [columns]
    while max(columns) > 2:
        columns = compress(columns)
        levels.append(columns)
    return tuple(levels)


@dataclass(frozen=True, kw_only=True)
class TwoPlane(BitSerial):
    """acc_k <- (0 if first else 2 acc_k if shift else acc_k) -+ sum of digit_k(p, q) x over masked lanes.

    digit_k is p, q, p q (bit: p XNOR q) of -1/+1, or 1. Lane l of p is bit l of ``w``, of q bit lanes + l.
    """

    @property
    def outputs(self) -> int:
        return 4

    def words(self) -> dict[str, int]:
        return {"w": 2 * self.lanes, "x": self.lanes, "mask": self.lanes}

    def flags(self) -> tuple[str, ...]:
        return ("first", "shift", "neg", "last")

    def golden(self, acc: int, beat: Beat, output: int = 0) -> int:
        base = beat.x & beat.mask
        p, q = beat.w, beat.w >> self.lanes
        plane = (p, q, ~(p ^ q), base)[output]
        dot = 2 * (base & plane).bit_count() - base.bit_count()
        start = 0 if beat.first else 2 * acc if beat.shift else acc
        return wrap(start - dot if beat.neg else start + dot, self.acc_width)

    def steps(self, segment: Segment) -> tuple[Step, ...]:
        """Both planes at each activation plane, the highest first.

        Raises ValueError if the weight is not two sign planes.
        """
        if segment.weight != (1, 1) or not segment.w_bipolar:
            kind = "-1/+1" if segment.w_bipolar else "0/1"
            raise ValueError(f"weight must be two sign planes (1, 1), not {kind} planes {segment.weight!r}")
        places = (1, -2) if segment.x_bipolar else segment.activation
        return tuple(s if s.bubble else replace(s, w=(0, 1)) for s in horner((1,), places))

    def x_code(self, segment: Segment) -> Mapping[int, int] | None:
        """-1 and +1 in two's complement; integers as they are stored."""
        return {-1: 0b11, 1: 0b01} if segment.x_bipolar else None

    def cuts(self) -> tuple[tuple[int, ...], ...]:
        return tree(self.lanes)[self.levels :: self.levels] if self.levels else ()

    def resources(self) -> Resources:
        """Cells of the structure below, none shared or simplified."""
        return total(self.parts())

    def parts(self) -> dict[str, Resources]:
        levels, width = tree(self.lanes), signed_bits(-self.lanes, self.lanes)
        adders = sum(bits // 3 for columns in levels[:-1] for bits in columns)
        carryless = sum(columns[-1] // 3 for columns in levels[:-1])
        lowest = levels[-1].index(2) if 2 in levels[-1] else len(levels[-1])
        stages = 1 + len(self.cuts()) + 1
        four = {name: cells * 4 for name, cells in accumulator(width, self.acc_width).items()}
        return {
            # The mask, two hits, and XNOR with the third.
            "lanes": Resources(gate2=5 * self.lanes, flop=3 * self.lanes),
            "tree": Resources(gate2=2 * carryless, full_adder=adders - carryless) * 4,
            "cuts": Resources(flop=4 * sum(map(sum, self.cuts()))),
            "count": Resources(adder_bit=4 * (len(levels[-1]) - lowest)),
            "dot": Resources(gate2=4 * width, adder_bit=3 * width, flop=4 * width),
            **four,
            "control": Resources(gate2=3, flop=5 * stages + 1),
        }

    def merged(self) -> dict[str, Resources]:
        # Dot products of the same lanes are all odd or all even, and the carry that negates is one for all.
        return {"dot": Resources(flop=4)}

    def passed(self) -> int:
        return 2 * self.lanes

    def shared(self) -> dict[str, str]:
        return {}

    def create(self) -> TwoPlanePE:
        return TwoPlanePE(self)


class TwoPlanePE(BitSerialPE):
    """RTL of `TwoPlane`: streams ``i`` (beats) and ``o`` (items); all stages move together or not at all."""

    def __init__(self, spec: TwoPlane) -> None:
        super().__init__(spec)
        self.width = spec.lanes.bit_length()  # of a count, not of a signed dot product

    def elaborate(self, platform: object) -> Module:
        m = Module()
        moves = handshake(m, self)
        hits, first_control = self.hits(m, moves)
        counts = []
        for name, bits in hits.items():
            m.submodules[f"counter_{name}"] = counter = Module()
            # The control of one counter is that of all: they are alike.
            columns, control = self.count(counter, moves, [bits], first_control)
            counts.append(Signal(self.width, name=f"count_{name}"))
            counter.d.comb += counts[-1].eq(self.total(columns))
        dots, carry, control = self.dots(m, moves, counts, control)
        for output, dot in enumerate(dots):
            accumulate(m, moves, self.o.payload[output], dot, control, carry)
        hand_over(m, moves, self, control)
        return m

    def hits(self, m: Module, moves: Any) -> tuple[dict[str, Any], Any]:
        """Lane bits to count, behind registered operands: where p, q, their XNOR are +1, and where any is."""
        beat, lanes = self.i.payload, self.spec.lanes
        base, p, q = (Signal(lanes, name=name, reset_less=True) for name in ("base", "p", "q"))
        with m.If(moves):
            m.d.sync += [base.eq(beat.mask & beat.x), p.eq(beat.w[:lanes]), q.eq(beat.w[lanes:])]
        hits = {"p": base & p, "q": base & q, "xnor": base & ~(p ^ q), "all": base}
        return hits, controls(m, moves, self.i)

    def total(self, columns: list[Any]) -> Any:
        """Two rows to the count."""
        rows = [[bits[row] if len(bits) > row else 0 for bits in columns] for row in (0, 1)]
        lowest = next((k for k, bits in enumerate(columns) if len(bits) == 2), len(columns))
        return Cat(*rows[0][:lowest], Cat(*rows[0][lowest:]) + Cat(*rows[1][lowest:]))

    def dots(self, m: Module, moves: Any, counts: list[Any], control: Any) -> tuple[list[Any], Any, Any]:
        """What each accumulator adds, flipped where a beat is subtracted, and the 1 that goes with it."""
        *hits, base = counts
        dots, negated = [], control.neg
        for name, value in zip("pqxs", [*((hit << 1) - base for hit in hits), base], strict=True):
            dot = Signal(
                signed(signed_bits(-self.spec.lanes, self.spec.lanes)), name=f"dot_{name}", reset_less=True
            )
            with m.If(moves):
                m.d.sync += dot.eq(value ^ negated.replicate(len(dot)))
            dots.append(dot)
        carry = Signal(reset_less=True)
        later = Signal(CONTROL_OF_DOT, name="control_of_dot")
        with m.If(moves):
            m.d.sync += carry.eq(negated)
            m.d.sync += [getattr(later, flag).eq(getattr(control, flag)) for flag in CONTROL_OF_DOT.members]
        return dots, carry, later


SPEC = TwoPlane

SAMPLES = (
    TwoPlane(lanes=1, acc_width=2, levels=0),
    TwoPlane(lanes=5, acc_width=7, levels=1),
    TwoPlane(lanes=64),
    TwoPlane(lanes=70, acc_width=40, levels=2),
)
