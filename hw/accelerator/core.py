"""The accelerator between its streams: packets in, tiles out, and how every run ended."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw import array as grid
from hw.accelerator import layouts
from hw.accelerator.collector import Collector
from hw.accelerator.drain import Drain
from hw.accelerator.frontend import LATE, Frontend, early
from hw.accelerator.sequencer import Sequencer
from hw.accelerator.spec import AcceleratorSpec


class Core(wiring.Component):
    """Stream ``s`` of packets, stream ``m`` of tiles.

    ``go`` lets a descriptor begin, ``took`` says that one did; ``done`` tells for a clock how a run, or a
    packet that failed, ended. Of ``runs``, ``waits_out``, ``waits_in`` at most one is 1: a beat is issued to
    the array; there is one that cannot be; there is none although work is on its way.
    """

    def __init__(self, spec: AcceleratorSpec) -> None:
        self.spec = spec
        super().__init__(
            {
                "s": In(stream.Signature(layouts.bus_layout(spec))),
                "m": Out(stream.Signature(layouts.out_layout(spec))),
                "go": In(1),
                "took": Out(1),
                "done": Out(1),
                "done_error": Out(layouts.ERROR_BITS),
                "done_tag": Out(layouts.TAG_BITS),
                "idle": Out(1),
                "runs": Out(1),
                "waits_out": Out(1),
                "waits_in": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.frontend = frontend = Frontend(self.spec)
        m.submodules.sequencer = sequencer = Sequencer(self.spec)
        m.submodules.array = array = grid.create(self.spec.array)
        m.submodules.collector = collector = Collector(self.spec)
        m.submodules.scale = unit = collector.unit.create()
        m.submodules.drain = drain = Drain(self.spec)
        wiring.connect(m, wiring.flipped(self.s), frontend.s)
        queued = self.join(m, "queue", frontend.run, sequencer.run, self.spec.queue)
        begun = self.join(m, "contexts", sequencer.context, collector.context, self.spec.contexts)
        left = self.join(m, "rows", unit.o, drain.i, max(self.spec.rows, 2))
        wiring.connect(m, collector.o, unit.i)
        wiring.connect(m, drain.o, wiring.flipped(self.m))
        buffers = self.fill(m, frontend)
        self.steps(m, frontend, sequencer)
        self.feed(m, buffers, sequencer, array)
        self.collect(m, buffers, array, collector)
        for name in early(self.spec):
            m.d.comb += getattr(frontend, f"early_{name}").eq(getattr(sequencer, f"early_{name}"))
        for name in LATE:
            m.d.comb += getattr(frontend, f"late_{name}").eq(getattr(collector, f"late_{name}"))
        m.d.comb += [
            frontend.early_valid.eq(sequencer.early_valid),
            frontend.late_valid.eq(collector.late_valid),
            sequencer.go.eq(self.go),
            self.took.eq(sequencer.took),
            self.done.eq(drain.done),
            self.done_error.eq(drain.done_error),
            self.done_tag.eq(drain.done_tag),
            self.runs.eq(sequencer.issues),
            self.waits_out.eq(sequencer.active & ~sequencer.issues),
            self.waits_in.eq(~sequencer.active & (frontend.busy | queued)),
        ]
        self.watch(m, frontend, queued, sequencer, begun, left, drain)
        return m

    def join(self, m: Module, name: str, source: Any, sink: Any, depth: int) -> Any:
        """A queue between two streams; returns whether it holds anything."""
        m.submodules[name] = queue = fifo.SyncFIFO(width=source.payload.shape().size, depth=depth)
        m.d.comb += [
            queue.w_data.eq(source.payload),
            queue.w_en.eq(source.valid),
            source.ready.eq(queue.w_rdy),
            Value.cast(sink.payload).eq(queue.r_data),
            sink.valid.eq(queue.r_rdy),
            queue.r_en.eq(sink.ready),
        ]
        return queue.r_rdy

    def fill(self, m: Module, frontend: Any) -> dict[str, Any]:
        """The buffers, their write sides on the front end."""
        buffers = {}
        for name, spec in self.spec.buffers().items():
            if name == "steps":
                continue
            m.submodules[f"buffer_{name}"] = buffers[name] = buffer = spec.create()
            m.d.comb += [
                buffer.w_en.eq(getattr(frontend, f"en_{name}")),
                buffer.w_all.eq(frontend.write_all if name == "scale" else 0),
                buffer.w_addr.eq(frontend.write_addr),
                buffer.w_word.eq(frontend.write_word),
                buffer.w_data.eq(frontend.write_data),
            ]
        return buffers

    def steps(self, m: Module, frontend: Any, sequencer: Any) -> None:
        """The step table: small, and read within the clock that needs it."""
        spec = self.spec.buffers()["steps"]
        m.submodules.steps = table = memory.Memory(shape=spec.bits, depth=2 * spec.depth, init=[])
        write, read = table.write_port(), table.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(frontend.write_addr),
            write.en.eq(frontend.en_steps),
            write.data.eq(frontend.write_data),
            read.addr.eq(sequencer.step_addr),
            sequencer.step.eq(read.data),
        ]

    def feed(self, m: Module, buffers: dict[str, Any], sequencer: Any, array: Any) -> None:
        """Operands beside their flags into the array; nothing for a bubble."""
        flags, beat = sequencer.beat.payload, array.i.payload
        for name in sequencer.operands:
            buffer = buffers[name]
            m.d.comb += [
                buffer.r_en.eq(sequencer.read),
                buffer.r_addr.eq(getattr(sequencer, f"addr_{name}")),
                getattr(beat, name).as_value().eq(Mux(flags.bubble, 0, buffer.r_data.as_value())),
            ]
        m.d.comb += [getattr(beat, name).eq(getattr(flags, name)) for name in self.spec.array.pe.flags()]
        m.d.comb += [array.i.valid.eq(sequencer.beat.valid), sequencer.beat.ready.eq(array.i.ready)]

    def collect(self, m: Module, buffers: dict[str, Any], array: Any, collector: Any) -> None:
        """Items and their mantissas to the collector."""
        wiring.connect(m, array.o, collector.items)
        for name in LATE:
            m.d.comb += [
                buffers[name].r_en.eq(collector.read),
                buffers[name].r_addr.eq(getattr(collector, f"addr_{name}")),
            ]
        m.d.comb += [
            collector.mantissas.eq(buffers["scale"].r_data),
            collector.factor.eq(buffers["requant"].r_data[0]),
        ]

    def watch(
        self, m: Module, frontend: Any, queued: Any, sequencer: Any, begun: Any, left: Any, drain: Any
    ) -> None:
        """Idle: no packet begun, and every run that was pushed has ended."""
        spec = self.spec
        most = spec.queue + spec.contexts + 2 * spec.rows + 8
        open_runs = Signal(range(most + 1))
        pushed = frontend.run.valid & frontend.run.ready
        m.d.sync += open_runs.eq(open_runs + pushed - self.done)
        m.d.comb += self.idle.eq(~frontend.busy & (open_runs == 0))
