"""A grid of equal PEs in lockstep: weights broadcast along its rows, activations along its columns.

A beat of the array brings a weight word and a mask to each row and an activation word to each column; the
flags go to every PE. All PEs take it in the same clock, and hand over their items in the same clock, so one
handshake serves them all and `hw.spec.ArraySpec.cycles` is the PE's own count per tile.
"""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.spec import ArraySpec


def copies(spec: ArraySpec) -> dict[str, int]:
    """How many of each word a beat of the array brings: weights and masks by row, activations by column."""
    return {name: spec.columns if name == "x" else spec.rows for name in spec.pe.words()}


def payload_layout(spec: ArraySpec) -> data.StructLayout:
    """A beat on the port: arrays of the PE's words, then its flags."""
    words = spec.pe.words()
    arrays = {name: data.ArrayLayout(words[name], count) for name, count in copies(spec).items()}
    return data.StructLayout({**arrays, **dict.fromkeys(spec.pe.flags(), 1)})


class PeArray(wiring.Component):
    """RTL of `ArraySpec`: stream ``i`` of beats, stream ``o`` of items.

    Output k of the PE in row r, column c is ``o.payload[(r * columns + c) * outputs + k]``.
    """

    def __init__(self, spec: ArraySpec) -> None:
        self.spec = spec
        count = spec.rows * spec.columns * spec.pe.outputs
        items = data.ArrayLayout(signed(spec.pe.acc_width), count)
        super().__init__({"i": In(stream.Signature(payload_layout(spec))), "o": Out(stream.Signature(items))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat, words, flags = self.i.payload, self.spec.pe.words(), self.spec.pe.flags()
        grid: list[Any] = []
        for row in range(self.spec.rows):
            for column in range(self.spec.columns):
                pe = self.spec.pe.create()
                m.submodules[f"pe_{row}_{column}"] = pe
                for name in words:
                    word = getattr(beat, name)[column if name == "x" else row]
                    m.d.comb += getattr(pe.i.payload, name).eq(word)
                m.d.comb += [getattr(pe.i.payload, flag).eq(getattr(beat, flag)) for flag in flags]
                m.d.comb += [pe.i.valid.eq(self.i.valid), pe.o.ready.eq(self.o.ready)]
                grid.append(pe)
        # The PEs never part: one speaks for all.
        m.d.comb += [
            self.i.ready.eq(grid[0].i.ready),
            self.o.valid.eq(grid[0].o.valid),
            self.o.payload.as_value().eq(Cat(Value.cast(pe.o.payload) for pe in grid)),
        ]
        return m


def create(spec: ArraySpec) -> PeArray:
    """Amaranth component with exactly these parameters."""
    return PeArray(spec)
