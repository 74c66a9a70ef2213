"""Collector: items of the array, row after row, to the scale units of their columns, with their mantissas.

Items are copied out of the array at once, so that it works on while their rows take turns.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.accelerator import layouts, scale
from hw.accelerator.spec import AcceleratorSpec


class Collector(wiring.Component):
    """Takes ``items`` and ``context`` together; offers ``o`` to the scale units.

    ``read`` and the addresses are for the buffers of mantissas and factors, whose data come back in
    ``mantissas`` and ``factor`` one clock later.
    """

    def __init__(self, spec: AcceleratorSpec) -> None:
        self.spec = spec
        pe, buffers = spec.array.pe, spec.buffers()
        self.unit = spec.scale_unit(layouts.passenger_layout(spec).size)
        items = data.ArrayLayout(signed(pe.acc_width), spec.rows * spec.columns)
        super().__init__(
            {
                "items": In(stream.Signature(items)),
                "context": In(stream.Signature(layouts.context_layout(spec))),
                "o": Out(stream.Signature(scale.beat_layout(self.unit))),
                "read": Out(1),
                "addr_scale": Out(buffers["scale"].address_bits),
                "addr_requant": Out(buffers["requant"].address_bits),
                "mantissas": In(data.ArrayLayout(spec.scale_bits, spec.columns)),
                "factor": In(buffers["requant"].bits),
                "late_valid": Out(1),
                "late_scale": Out(1),
                "late_requant": Out(1),
            }
        )

    def by_row(self, items: Any) -> list[list[Any]]:
        """Values of a tile, [row][column]: the array hands them over PE by PE."""
        return [[items[at] for at in places] for places in self.spec.items()]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec = self.spec
        held = Signal()
        row = Signal(range(spec.rows + 1))
        context = Signal(layouts.context_layout(spec))
        queue = [
            [Signal(signed(spec.array.pe.acc_width), name=f"row{r}_{c}") for c in range(spec.columns)]
            for r in range(spec.rows)
        ]
        goes = Signal()  # a row leaves for the scale units
        final = Signal()  # it is the item's last
        takes = Signal()
        m.d.comb += [
            goes.eq(held & (~self.o.valid | self.o.ready)),
            final.eq(~context.item | (row == context.rows - 1)),
            takes.eq(
                (~held | (goes & final))
                & self.context.valid
                & (self.items.valid | ~self.context.payload.item)
            ),
            self.context.ready.eq(takes),
            self.items.ready.eq(takes & self.context.payload.item),
            self.read.eq(goes),
            self.addr_scale.eq(context.scale),
            self.addr_requant.eq(context.requant),
            self.late_valid.eq(goes & final & context.end & context.counted),
            self.late_scale.eq(context.scale[-1]),
            self.late_requant.eq(context.requant[-1]),
        ]
        with m.If(goes):
            m.d.sync += [
                row.eq(row + 1),
                # The half stays what it is: it is given free at the end.
                context.scale[:-1].eq(context.scale[:-1] + 1),
                context.requant[:-1].eq(context.requant[:-1] + 1),
            ]
            for this, above in pairwise(queue):
                m.d.sync += [a.eq(b) for a, b in zip(this, above, strict=True)]
        with m.If(takes):
            m.d.sync += [held.eq(1), row.eq(0), context.eq(self.context.payload)]
            for signals, values in zip(queue, self.by_row(self.items.payload), strict=True):
                m.d.sync += [s.eq(v) for s, v in zip(signals, values, strict=True)]
        with m.Elif(goes & final):
            m.d.sync += held.eq(0)
        self.present(m, goes, final, row, context, queue[0])
        return m

    def present(self, m: Module, goes: Any, final: Any, row: Any, context: Any, items: list[Any]) -> None:
        """The row beside its mantissas, which the buffers have read meanwhile."""
        held = self.o.payload
        passenger = Signal(layouts.passenger_layout(self.spec), name="passenger")
        item = Signal()
        with m.If(goes):
            m.d.sync += [
                held.items.as_value().eq(Mux(context.item, Cat(items), 0)),
                held.row.eq(Mux(context.item, row, 0)),
                held.first.eq(context.item & context.first),
                held.last.eq(context.item & context.finishes | final & context.end),
                item.eq(context.item),
                passenger.data.eq(context.item & context.finishes),
                passenger.narrow.eq(context.narrow),
                passenger.last.eq(final),
                passenger.end.eq(final & context.end),
                passenger.columns.eq(context.columns),
                passenger.error.eq(context.error),
                passenger.tag.eq(context.tag),
                self.o.valid.eq(1),
            ]
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        beside = Signal(layouts.passenger_layout(self.spec), name="beside")
        m.d.comb += [
            beside.eq(passenger),
            beside.factor.eq(self.factor),
            held.user.eq(beside),
            held.mantissas.as_value().eq(self.mantissas.as_value()),
        ]
