"""Drain: rows of sums to words of the stream out, row-major, as they are or narrowed to bytes.

A tile is a packet: its last word has TLAST, and TKEEP for the bytes in use. Ends of runs travel in between,
so that a run completes once its last word is taken.
"""

from __future__ import annotations

from typing import Any

from amaranth import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.accelerator import layouts, scale
from hw.accelerator.spec import AcceleratorSpec


class Drain(wiring.Component):
    """Takes rows of sums from ``i``; offers words at ``o``; ``done`` tells for a clock how a run ended."""

    def __init__(self, spec: AcceleratorSpec) -> None:
        self.spec = spec
        self.unit = spec.requantizer(layouts.value_passenger_layout().size)
        rows = scale.sums_layout(spec.scale_unit(layouts.passenger_layout(spec).size))
        super().__init__(
            {
                "i": In(stream.Signature(rows)),
                "o": Out(stream.Signature(layouts.out_layout(spec))),
                "done": Out(1),
                "done_error": Out(layouts.ERROR_BITS),
                "done_tag": Out(layouts.TAG_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.requantize = requantize = self.unit.create()
        self.walk(m, requantize)
        self.pack(m, requantize)
        return m

    def walk(self, m: Module, requantize: Any) -> None:
        """One sum of the row after the other."""
        spec, into = self.spec, requantize.i
        row = Signal(layouts.passenger_layout(spec))
        column = Signal(range(max(spec.columns, 2)))
        final = Signal()
        beside = Signal(layouts.value_passenger_layout(), name="beside")
        bits = self.unit.mantissa_bits
        m.d.comb += [
            row.eq(self.i.payload.user),
            final.eq(~row.data | (column == row.columns - 1)),
            beside.data.eq(row.data),
            beside.last.eq(row.last & final),
            beside.end.eq(row.end & final),
            beside.error.eq(row.error),
            beside.tag.eq(row.tag),
            into.valid.eq(self.i.valid),
            into.payload.value.eq(Array(self.i.payload.sums[c] for c in range(spec.columns))[column]),
            into.payload.mantissa.eq(row.factor[:bits]),
            into.payload.shift.eq(row.factor[bits:]),
            into.payload.narrow.eq(row.narrow),
            into.payload.user.eq(beside),
            self.i.ready.eq(into.ready & final),
        ]
        with m.If(into.valid & into.ready):
            m.d.sync += column.eq(Mux(final, 0, column + 1))

    def pack(self, m: Module, requantize: Any) -> None:
        """Values side by side into words."""
        spec, out = self.spec, self.o.payload
        size, wide = spec.bus // 8, spec.sum_bits // 8
        given = requantize.o.payload
        passenger = Signal(layouts.value_passenger_layout())
        filled = Signal(range(size))  # bytes of the word at hand
        word = Signal(spec.bus)
        waits = Signal()  # a word, or the end of a run without one, is in the port
        token = Signal()
        moves = Signal()
        takes = Signal()
        m.d.comb += [
            passenger.eq(given.user),
            moves.eq(~waits | token | self.o.ready),
            requantize.o.ready.eq(moves),
            takes.eq(requantize.o.valid & moves),
            self.o.valid.eq(waits & ~token),
        ]
        begins = filled[wide.bit_length() - 1 :] << (wide.bit_length() - 1)  # where a wide value may begin
        value = Mux(given.narrow, given.value[:8], given.value.as_unsigned())
        placed, upto = Signal(spec.bus), Signal(range(size + 1))
        m.d.comb += [
            placed.eq(word | (value << (Mux(given.narrow, filled, begins) << 3))),
            upto.eq(filled + Mux(given.narrow, 1, wide)),
        ]
        full = passenger.data & ((upto == size) | passenger.last)
        with m.If(takes & passenger.data):
            m.d.sync += [word.eq(Mux(full, 0, placed)), filled.eq(Mux(full, 0, upto))]
        ends = Signal()
        with m.If(moves):
            m.d.sync += [
                waits.eq(takes & (full | ~passenger.data)),
                token.eq(~passenger.data),
                out.data.eq(placed),
                out.keep.eq(Cat(upto > Const(k) for k in range(size))),
                out.last.eq(passenger.last),
                ends.eq(passenger.end),
                self.done_error.eq(passenger.error),
                self.done_tag.eq(passenger.tag),
            ]
        m.d.comb += self.done.eq(waits & ends & (token | self.o.ready))
