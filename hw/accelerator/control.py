"""The registers' RTL: what `hw.accelerator.registers` lists, beside a core.

What a core reports is kept where it is reported, so that the core may be reset without losing it.
"""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, Out

from hw.accelerator import layouts, registers
from hw.accelerator.axi_lite import AxiLite, slave_ports
from hw.accelerator.spec import AcceleratorSpec

COMPLETIONS = 16  #: that wait to be read
CREDIT_BITS = 16


class Control(wiring.Component):
    """AXI4-Lite on one side; ``go``, ``reset`` and ``irq`` on the other, beside what a core reports."""

    def __init__(self, spec: AcceleratorSpec) -> None:
        self.spec = spec
        super().__init__(
            slave_ports(registers.ADDRESS_BITS)
            | {
                "go": Out(1),
                "took": In(1),
                "done": In(1),
                "done_error": In(layouts.ERROR_BITS),
                "done_tag": In(layouts.TAG_BITS),
                "idle": In(1),
                "runs": In(1),
                "waits_out": In(1),
                "waits_in": In(1),
                "reset": Out(1),
                "irq": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.bus = bus = AxiLite(registers.ADDRESS_BITS)
        for name, member in slave_ports(registers.ADDRESS_BITS).items():
            inner, outer = getattr(bus, name), getattr(self, name)
            m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        values = {r.name: Signal(32, name=r.name) for r in registers.TABLE}
        written = {r.name: Signal(name=f"writes_{r.name}") for r in registers.TABLE}
        was_read = {r.name: Signal(name=f"reads_{r.name}") for r in registers.TABLE}
        self.decode(m, bus, values, written, was_read)
        bits = Signal(32)  # that are written 1
        m.d.comb += bits.eq(bus.write_data & bus.write_mask)
        for name, value in registers.constants(self.spec).items():
            m.d.comb += values[name].eq(value)
        fields = registers.BY_NAME["CONTROL"].fields
        control = self.kept(m, bus, written, "CONTROL", fields[0].mask | fields[1].mask)
        enabled = self.kept(m, bus, written, "IRQ_ENABLE", (1 << len(registers.EVENTS)) - 1)
        m.d.comb += [values["CONTROL"].eq(control), values["IRQ_ENABLE"].eq(enabled)]
        asked = {f.name: written["CONTROL"] & bits[f.low] for f in fields[2:]}
        m.d.sync += self.reset.eq(asked["reset"])
        lost = self.credits(m, values, bits, written["DOORBELL"], control[0])
        completion_lost = self.completions(m, values, was_read["COMPLETION"], control[1])
        raised = self.errors(m, values, bits, written["ERRORS"], completion_lost, lost)
        self.interrupt(m, values, bits, written["IRQ_STATUS"], enabled, raised)
        self.counters(m, values, asked["clear"], asked["snapshot"])
        return m

    def decode(self, m: Module, bus: Any, values: Any, written: Any, was_read: Any) -> None:
        """Registers by address; what has none, or may not be written, is refused."""
        with m.Switch(bus.read_addr):
            for r in registers.TABLE:
                with m.Case(r.offset):
                    m.d.comb += [
                        bus.read_ok.eq(1),
                        bus.read_data.eq(values[r.name]),
                        was_read[r.name].eq(bus.read),
                    ]
        with m.Switch(bus.write_addr):
            for r in registers.TABLE:
                if r.access not in ("ro", "pop"):
                    with m.Case(r.offset):
                        m.d.comb += [bus.write_ok.eq(1), written[r.name].eq(bus.write)]

    def kept(self, m: Module, bus: Any, written: Any, name: str, mask: int) -> Any:
        """A register that software sets, byte by byte where it asks for that."""
        value = Signal(32, name=f"{name}_kept")
        with m.If(written[name]):
            m.d.sync += value.eq(((value & ~bus.write_mask) | (bus.write_data & bus.write_mask)) & mask)
        return value

    def credits(self, m: Module, values: Any, bits: Any, rung: Any, auto: Any) -> Any:
        """Runs that may begin; returns whether a ring was for more than can be counted."""
        credits, after = Signal(CREDIT_BITS), Signal(CREDIT_BITS + 1)
        lost = Signal()
        used = self.took & ~auto
        m.d.comb += [
            after.eq(credits + Mux(rung, bits[:CREDIT_BITS], 0) - used),
            lost.eq(rung & after[-1]),
            self.go.eq(auto | (credits != 0)),
            values["STATUS"][16:].eq(credits),
        ]
        with m.If(self.reset):
            m.d.sync += credits.eq(0)
        with m.Else():
            m.d.sync += credits.eq(Mux(after[-1], (1 << CREDIT_BITS) - 1, after))
        return lost

    def completions(self, m: Module, values: Any, popped: Any, quiet: Any) -> Any:
        """The queue of completions and how many there were; returns whether one is lost."""
        width = layouts.TAG_BITS + layouts.ERROR_BITS
        queue = fifo.SyncFIFO(width=width, depth=COMPLETIONS)
        m.submodules.completions = ResetInserter(self.reset)(queue)
        failed = self.done_error != 0
        kept = Signal()
        counts = {name: Signal(32, name=f"{name}_count") for name in ("COMPLETED", "FAILED")}
        m.d.comb += [
            queue.w_data.eq(Cat(self.done_tag, self.done_error)),
            kept.eq(self.done & (failed | ~quiet)),
            queue.w_en.eq(kept),
            queue.r_en.eq(popped),
            values["COMPLETION"].eq(Mux(queue.r_rdy, Cat(queue.r_data), 0)),
            values["COMPLETION"][31].eq(queue.r_rdy),
            values["STATUS"][0].eq(self.idle),
            values["STATUS"][1].eq(queue.r_rdy),
            values["COMPLETED"].eq(counts["COMPLETED"]),
            values["FAILED"].eq(counts["FAILED"]),
        ]
        with m.If(self.done):
            m.d.sync += counts["COMPLETED"].eq(counts["COMPLETED"] + ~failed)
            m.d.sync += counts["FAILED"].eq(counts["FAILED"] + failed)
        return kept & ~queue.w_rdy

    def errors(self, m: Module, values: Any, bits: Any, written: Any, *shell: Any) -> Any:
        """Flags that stay until they are cleared; returns whether one is raised."""
        fields = registers.BY_NAME["ERRORS"].fields
        raised, flags = Signal(32, name="errors_raised"), Signal(32, name="error_flags")
        packets = fields[: -len(shell)]
        m.d.comb += [raised[f.low].eq(self.done & (self.done_error == f.low)) for f in packets]
        m.d.comb += [raised[f.low].eq(s) for f, s in zip(fields[-len(shell) :], shell, strict=True)]
        m.d.sync += flags.eq((flags & ~Mux(written, bits, 0)) | raised)
        m.d.comb += values["ERRORS"].eq(flags)
        return raised.any()

    def interrupt(self, m: Module, values: Any, bits: Any, written: Any, enabled: Any, raised: Any) -> None:
        """Events that stay until they are cleared, and the line."""
        happened, flags = Signal(32, name="events"), Signal(32, name="event_flags")
        was_idle = Signal(init=1)
        m.d.sync += was_idle.eq(self.idle)
        now = {"done": self.done & (self.done_error == 0), "error": raised, "idle": self.idle & ~was_idle}
        for field in registers.BY_NAME["IRQ_STATUS"].fields:
            m.d.comb += happened[field.low].eq(now[field.name])
        m.d.sync += flags.eq((flags & ~Mux(written, bits, 0)) | happened)
        m.d.comb += values["IRQ_STATUS"].eq(flags)
        m.d.sync += self.irq.eq((flags & enabled).any())

    def counters(self, m: Module, values: Any, clear: Any, snapshot: Any) -> None:
        """Clocks by kind; every clock is of exactly one."""
        kinds = {"run": self.runs, "wait_in": self.waits_in, "wait_out": self.waits_out}
        kinds["idle"] = ~(self.runs | self.waits_in | self.waits_out)
        for name, kind in kinds.items():
            running = Signal(registers.COUNTER_BITS, name=f"clocks_{name}")
            shown = Signal(registers.COUNTER_BITS, name=f"shown_{name}")
            m.d.sync += running.eq(Mux(clear, 0, running + kind))
            with m.If(snapshot):
                m.d.sync += shown.eq(running)
            m.d.comb += [
                values[f"{name.upper()}_LO"].eq(shown[:32]),
                values[f"{name.upper()}_HI"].eq(shown[32:]),
            ]
