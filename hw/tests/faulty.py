"""PEs with a planted fault each: what the benches must catch."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth import Signal

from hw.pe.bitserial import CONTROL_OF_DOT, BitSerial, BitSerialPE

#: Faults that show only where a side stalls.
STALL_FAULTS = ("drops a beat", "moves the item", "takes the item back", "counts a bubble")
#: Faults that show at full rate.
PLAIN_FAULTS = ("hands an item over twice", "ignores shift", "comes one clock late")


@dataclass(frozen=True, kw_only=True)
class Faulty(BitSerial):
    """The PE as specified, but for its RTL."""

    fault: str

    def create(self) -> FaultyPE:
        return FaultyPE(self)


class FaultyPE(BitSerialPE):
    def elaborate(self, platform):
        m = super().elaborate(platform)
        if self.spec.fault == "drops a beat":
            m.d.comb += self.i.ready.eq(1)
        return m

    def resolve(self, m, moves, columns, control):
        dot, control = super().resolve(m, moves, columns, control)
        seen, seen_control = Signal.like(dot, name="seen"), Signal(CONTROL_OF_DOT)
        domain = "sync" if self.spec.fault == "comes one clock late" else "comb"
        with m.If(moves if domain == "sync" else 1):
            m.d[domain] += [seen.eq(dot), seen_control.eq(control)]
            if self.spec.fault == "ignores shift":
                m.d[domain] += seen_control.shift.eq(0)
        return seen, seen_control

    def accumulate(self, m, moves, dot, control):
        super().accumulate(m, moves, dot, control)
        fault, acc, valid = self.spec.fault, self.o.payload, self.o.valid
        if fault == "moves the item":
            with m.If(~moves & control.valid):
                m.d.sync += acc.eq(acc + dot)
        elif fault == "takes the item back":
            with m.If(~moves):
                m.d.sync += valid.eq(0)
        elif fault == "counts a bubble":
            with m.If(moves & ~control.valid):
                m.d.sync += acc.eq(acc + dot)
        elif fault == "hands an item over twice":
            second = Signal()
            with m.If(moves):
                m.d.sync += [valid.eq(control.last | (valid & ~second)), second.eq(valid & ~second)]
