"""A grid of equal PEs in lockstep: weights broadcast along its rows, activations along its columns.

A beat of the array brings a weight word and a mask to each row and an activation word to each column; the
flags go to every PE. All PEs take it in the same clock, and hand over their items in the same clock, so one
handshake serves them all and `hw.spec.ArraySpec.cycles` is the PE's own count per tile.
"""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.spec import ArraySpec

FLAGS = ("w_bipolar", "x_bipolar", "first", "shift", "neg", "last")


def payload_layout(spec: ArraySpec) -> data.StructLayout:
    """A beat on the port: weight words and masks by row, activation words by column, then the flags."""
    lanes = spec.pe.lanes
    words = {
        "w": data.ArrayLayout(lanes, spec.rows),
        "x": data.ArrayLayout(lanes, spec.columns),
        "mask": data.ArrayLayout(lanes, spec.rows),
    }
    return data.StructLayout({**words, **dict.fromkeys(FLAGS, 1)})


class PeArray(wiring.Component):
    """RTL of `ArraySpec`: stream ``i`` of beats, stream ``o`` of items, the item of row r, column c at
    ``o.payload[r * columns + c]``."""

    def __init__(self, spec: ArraySpec) -> None:
        self.spec = spec
        items = data.ArrayLayout(signed(spec.pe.acc_width), spec.rows * spec.columns)
        super().__init__({"i": In(stream.Signature(payload_layout(spec))), "o": Out(stream.Signature(items))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat = self.i.payload
        grid: list[Any] = []
        for row in range(self.spec.rows):
            for column in range(self.spec.columns):
                pe = self.spec.pe.create()
                m.submodules[f"pe_{row}_{column}"] = pe
                operands = {"w": beat.w[row], "x": beat.x[column], "mask": beat.mask[row]}
                m.d.comb += [getattr(pe.i.payload, name).eq(word) for name, word in operands.items()]
                m.d.comb += [getattr(pe.i.payload, flag).eq(getattr(beat, flag)) for flag in FLAGS]
                m.d.comb += [pe.i.valid.eq(self.i.valid), pe.o.ready.eq(self.o.ready)]
                grid.append(pe)
        # The PEs never part: one speaks for all.
        m.d.comb += [
            self.i.ready.eq(grid[0].i.ready),
            self.o.valid.eq(grid[0].o.valid),
            self.o.payload.as_value().eq(Cat(pe.o.payload for pe in grid)),
        ]
        return m


def create(spec: ArraySpec) -> PeArray:
    """Amaranth component with exactly these parameters."""
    return PeArray(spec)
