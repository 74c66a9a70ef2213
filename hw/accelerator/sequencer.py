"""Sequencer: descriptors to beats, one a clock without a gap, and what the scale units must know of items.

Addresses are sums of pointers that only ever grow by a stride: no multiplier. A descriptor that leaves its
half, whose table does not begin and end an item, or that continues a tile which failed, is dropped at that
beat.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.accelerator import layouts
from hw.accelerator.commands import FLAGS, Error
from hw.accelerator.frontend import early
from hw.accelerator.spec import AcceleratorSpec

#: A pointer within a half never passes three 16-bit numbers before it is looked at.
POINTER_BITS = 18


class Sequencer(wiring.Component):
    """Takes descriptors from ``run``; offers ``beat`` (whose words the buffers have) and ``context``.

    ``go`` lets it begin another descriptor, which ``took`` tells of; ``step_addr`` and ``step`` read the
    table within a clock; ``read`` and ``addr_*`` are for the buffers.
    """

    def __init__(self, spec: AcceleratorSpec) -> None:
        self.spec = spec
        buffers = spec.buffers()
        ports: dict[str, Any] = {
            "run": In(stream.Signature(layouts.run_layout())),
            "go": In(1),
            "took": Out(1),
            "step_addr": Out(buffers["steps"].address_bits),
            "step": In(layouts.step_layout()),
            "read": Out(1),
            "beat": Out(stream.Signature(layouts.beat_layout())),
            "context": Out(stream.Signature(layouts.context_layout(spec))),
            "early_valid": Out(1),
            "active": Out(1),
            "issues": Out(1),
        }
        ports |= {f"addr_{name}": Out(buffers[name].address_bits) for name in self.operands}
        ports |= {f"early_{name}": Out(1) for name in early(spec)}
        super().__init__(ports)

    @property
    def operands(self) -> list[str]:
        """Buffers that a beat reads."""
        return [name for name in ("w", "x", "mask") if name in self.spec.buffers()]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        run = Signal(layouts.run_layout())
        flags = {name: run.flags[bit.bit_length() - 1] for name, bit in FLAGS.items()}
        place = self.place(m, run)
        pointers = {
            name: Signal(POINTER_BITS, name=f"at_{name}") for name in (*self.operands, "scale", "requant")
        }
        bases = {name: Signal(POINTER_BITS, name=f"group_{name}") for name in self.operands}
        far = self.address(m, run, pointers)
        fresh, broken = Signal(), Signal(init=1)  # no tile has begun
        error = Signal(layouts.ERROR_BITS)
        ends = Signal()  # the beat ends an item
        finishes = Signal()  # and its tile
        m.d.comb += [
            ends.eq(self.step.last & place["chunk_last"]),
            finishes.eq(ends & place["tile_end"] & flags["drain"]),
        ]
        self.judge(m, run, flags, place, far, pointers, ends, finishes, broken, error)
        fails = Signal()
        free = Signal()  # the beat need not wait for the one before it
        moves = Signal()  # the beat goes to the buffers, or the descriptor that fails to its end
        pushes = Signal()
        over = Signal()  # the descriptor is done with
        m.d.comb += [
            fails.eq(error != 0),
            pushes.eq(fails | ends | place["run_end"]),
            free.eq(fails | ~self.beat.valid | self.beat.ready),
            moves.eq(self.active & (~pushes | self.context.ready) & free),
            self.context.valid.eq(self.active & pushes & free),
            over.eq(moves & (fails | place["run_end"])),
            self.issues.eq(moves & ~fails),
            self.read.eq(self.issues),
            self.early_valid.eq(over & (run.error == 0)),
        ]
        for name in early(self.spec):
            bit = layouts.half_bit(self.spec, name)
            m.d.comb += getattr(self, f"early_{name}").eq(getattr(run, f"{name}_base")[bit])
        self.offer(m, run, place, ends)
        self.describe(m, run, flags, pointers, ends, finishes, fails, error, fresh, place)
        with m.If(moves):
            with m.If(fails):
                m.d.sync += broken.eq(1)
            with m.Else():
                m.d.sync += broken.eq(0)
                self.step_on(m, run, flags, place, pointers, bases, ends, finishes, fresh)
        self.begin(m, run, over, place, pointers, bases, fresh)
        return m

    def place(self, m: Module, run: Any) -> dict[str, Any]:
        """Where in the descriptor the sequencer stands."""
        place: dict[str, Any] = {
            name: Signal(16, name=name) for name in ("chunk", "index", "group", "tile")
        }  # counted from 0
        ends = {name: Signal(name=f"{name}_last") for name in place}
        m.d.comb += [
            ends["chunk"].eq(self.step.bubble | (place["chunk"] == run.chunks - 1)),
            ends["index"].eq(place["index"] == run.steps - 1),
            ends["group"].eq(place["group"] == run.groups - 1),
            ends["tile"].eq(place["tile"] == run.tiles - 1),
            self.step_addr.eq(run.steps_base + place["index"]),
        ]
        place |= {f"{name}_last": signal for name, signal in ends.items()}
        place["table_end"] = ends["chunk"] & ends["index"]
        place["tile_end"] = place["table_end"] & ends["group"]
        place["run_end"] = place["tile_end"] & ends["tile"]
        return place

    def address(self, m: Module, run: Any, pointers: dict[str, Any]) -> Any:
        """Addresses of the beat at hand; returns whether one leaves its half."""
        far = []
        for name in self.operands:
            bit = layouts.half_bit(self.spec, name)
            offset = Signal(POINTER_BITS + 1, name=f"offset_{name}")
            m.d.comb += [
                offset.eq(pointers[name] + (getattr(self.step, name) if name != "mask" else 0)),
                getattr(self, f"addr_{name}").eq(offset[:bit] | getattr(run, f"{name}_base")[bit] << bit),
            ]
            far.append(offset >= self.spec.buffers()[name].depth)
        return ~self.step.bubble & reduce(or_, far)

    def judge(
        self,
        m: Module,
        run: Any,
        flags: Any,
        place: Any,
        far: Any,
        pointers: Any,
        ends: Any,
        finishes: Any,
        broken: Any,
        error: Any,
    ) -> None:
        """What is wrong with the descriptor at this beat, 0 if nothing."""
        step, spec = self.step, self.spec
        begins_badly = (place["index"] == 0) & ~step.first
        few_scales = ends & (pointers["scale"] + run.rows > spec.scale_depth)
        few_factors = finishes & flags["narrow"] & (pointers["requant"] + run.rows > spec.requant_depth)
        with m.If(run.error != 0):
            m.d.comb += error.eq(run.error)
        with m.Elif(broken & ~flags["clear"]):
            m.d.comb += error.eq(Error.ORDER)
        with m.Elif(begins_badly | (place["index_last"] & ~step.last)):
            m.d.comb += error.eq(Error.TABLE)
        with m.Elif(far | few_scales | few_factors):
            m.d.comb += error.eq(Error.ADDRESS)

    def offer(self, m: Module, run: Any, place: Any, ends: Any) -> None:
        """The beat whose words the buffers read at this edge."""
        step, beat = self.step, self.beat.payload
        start = place["chunk"] == 0
        with m.If(self.issues):
            m.d.sync += [
                self.beat.valid.eq(1),
                beat.first.eq(step.first & start),
                beat.shift.eq(step.shift & start),
                beat.neg.eq(step.neg),
                beat.w_bipolar.eq(step.w_bipolar),
                beat.x_bipolar.eq(step.x_bipolar),
                beat.last.eq(ends),
                beat.bubble.eq(step.bubble),
            ]
        with m.Elif(self.beat.ready):
            m.d.sync += self.beat.valid.eq(0)

    def describe(
        self,
        m: Module,
        run: Any,
        flags: Any,
        pointers: Any,
        ends: Any,
        finishes: Any,
        fails: Any,
        error: Any,
        fresh: Any,
        place: Any,
    ) -> None:
        """The context of an item, or of a run's end."""
        context = self.context.payload
        for name in ("scale", "requant"):
            bit = layouts.half_bit(self.spec, name)
            half = getattr(run, f"{name}_base")[bit] << bit
            m.d.comb += getattr(context, name).eq(pointers[name][:bit] | half)
        m.d.comb += [
            context.item.eq(ends & ~fails),
            context.first.eq(fresh),
            context.finishes.eq(finishes & ~fails),
            context.narrow.eq(flags["narrow"]),
            context.end.eq(fails | place["run_end"]),
            context.counted.eq(run.error == 0),
            context.rows.eq(run.rows),
            context.columns.eq(run.columns),
            context.error.eq(error),
            context.tag.eq(run.tag),
        ]

    def step_on(
        self,
        m: Module,
        run: Any,
        flags: Any,
        place: Any,
        pointers: Any,
        bases: Any,
        ends: Any,
        finishes: Any,
        fresh: Any,
    ) -> None:
        """Everything that counts, after a beat."""
        with m.If(ends):
            m.d.sync += [pointers["scale"].eq(pointers["scale"] + run.rows), fresh.eq(0)]
        with m.If(finishes & flags["narrow"]):
            m.d.sync += pointers["requant"].eq(pointers["requant"] + run.rows)
        m.d.sync += place["chunk"].eq(place["chunk"] + 1)
        for name in self.operands:
            m.d.sync += pointers[name].eq(pointers[name] + getattr(run, f"{name}_step"))
        with m.If(place["chunk_last"]):
            m.d.sync += [place["chunk"].eq(0), place["index"].eq(place["index"] + 1)]
            m.d.sync += [pointers[name].eq(bases[name]) for name in self.operands]
        with m.If(place["table_end"]):
            m.d.sync += [place["index"].eq(0), place["group"].eq(place["group"] + 1)]
            for name in self.operands:
                there = bases[name] + getattr(run, f"{name}_stride")
                m.d.sync += [pointers[name].eq(there), bases[name].eq(there)]
        with m.If(place["tile_end"]):
            m.d.sync += [place["group"].eq(0), place["tile"].eq(place["tile"] + 1), fresh.eq(flags["clear"])]
            self.restart(m, run, "x", pointers, bases)
            if self.spec.masked:
                with m.If(flags["mask_stays"]):
                    self.restart(m, run, "mask", pointers, bases)

    def restart(self, m: Module, run: Any, name: str, pointers: Any, bases: Any) -> None:
        """Back to where the descriptor began in a buffer."""
        bit = layouts.half_bit(self.spec, name)
        offset = getattr(run, f"{name}_base")[:bit]
        m.d.sync += [pointers[name].eq(offset), bases[name].eq(offset)]

    def begin(
        self, m: Module, run: Any, over: Any, place: Any, pointers: Any, bases: Any, fresh: Any
    ) -> None:
        """The next descriptor, at the very edge at which the one before it ends."""
        given = self.run.payload
        failed = given.error != 0
        m.d.comb += [
            self.run.ready.eq((~self.active | over) & (self.go | failed)),
            self.took.eq(self.run.valid & self.run.ready & ~failed),
        ]
        with m.If(self.run.valid & self.run.ready):
            m.d.sync += [self.active.eq(1), run.eq(given), fresh.eq(given.flags[0])]
            m.d.sync += [place[name].eq(0) for name in ("chunk", "index", "group", "tile")]
            for name, pointer in pointers.items():
                offset = getattr(given, f"{name}_base")[: layouts.half_bit(self.spec, name)]
                m.d.sync += pointer.eq(offset)
                if name in bases:
                    m.d.sync += bases[name].eq(offset)
        with m.Elif(over):
            m.d.sync += self.active.eq(0)
