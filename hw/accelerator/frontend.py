"""Front end: packets from the bus into the buffers, and checked descriptors into the queue.

Packets are taken in order. A load waits while a descriptor that reads the half it writes is not done with it;
a packet that makes no sense is read to its end, and completes as failed. Neither stops what follows.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from amaranth import Array, Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.accelerator import layouts
from hw.accelerator.commands import FILLS, FLAGS, RUN_WORDS, VERSION, Error, Opcode
from hw.accelerator.spec import AcceleratorSpec

#: Halves that the sequencer is done with at a run's last beat; the others are read behind the array.
EARLY = ("w", "x", "mask", "steps")
LATE = ("scale", "requant")


def early(spec: AcceleratorSpec) -> list[str]:
    """Those of `EARLY` that the accelerator has."""
    return [name for name in EARLY if name in spec.buffers()]


class Frontend(wiring.Component):
    """Takes stream ``s``; fills buffers by ``en_*`` and the ``write_*`` that they share; offers ``run``.

    ``early_valid`` with ``early_*``, and ``late_valid`` with ``late_*``, say which halves a run is done with.
    """

    def __init__(self, spec: AcceleratorSpec) -> None:
        self.spec = spec
        buffers = spec.buffers()
        ports: dict[str, Any] = {
            "s": In(stream.Signature(layouts.bus_layout(spec))),
            "run": Out(stream.Signature(layouts.run_layout())),
            "busy": Out(1),
            "write_addr": Out(16),
            "write_word": Out(range(max(4, *(buffer.words for buffer in buffers.values())))),
            "write_data": Out(spec.bus),
            "write_all": Out(1),
            "early_valid": In(1),
            "late_valid": In(1),
        }
        ports |= {f"en_{name}": Out(1) for name in buffers}
        ports |= {f"early_{name}": In(1) for name in early(spec)}
        ports |= {f"late_{name}": In(1) for name in LATE}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        head = Signal(64)
        run = Signal(layouts.run_layout())
        error = Signal(layouts.ERROR_BITS)
        ended = Signal()  # the packet's last word has come
        tag, address, count = head[16:32], head[32:48], head[48:64]
        blocked = self.pending(m, run, error, head)
        word = Signal.like(self.write_word)
        m.d.comb += [
            self.write_addr.eq(address),
            self.write_word.eq(word),
            self.write_data.eq(self.s.payload.data),
            self.write_all.eq(head[8:16] == Opcode.LOAD_SCALE_ALL),
            self.run.payload.eq(run),
            self.run.payload.error.eq(error),
            self.run.payload.tag.eq(tag),
        ]
        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("HEADER") | self.s.valid)
            with m.State("HEADER"):
                m.d.comb += self.s.ready.eq(1)
                m.d.sync += [head.eq(self.s.payload.data), ended.eq(self.s.payload.last), word.eq(0)]
                with m.If(self.s.valid):
                    m.next = "VERDICT"
            with m.State("VERDICT"):
                verdict = self.verdict(m, head, ended)
                m.d.sync += error.eq(verdict)
                with m.If(verdict == 0):
                    with m.If(head[8:16] == Opcode.RUN):
                        m.next = "RUN"
                    with m.Else():
                        m.next = "LOAD"
                with m.Elif(ended):
                    m.next = "PUSH"
                with m.Else():
                    m.next = "DISCARD"
            with m.State("LOAD"):
                m.d.comb += self.s.ready.eq(~blocked)
                with m.If(self.s.valid & ~blocked):
                    final = self.load(m, head, word)
                    self.advance(m, error, final, success="HEADER")
            with m.State("RUN"):
                m.d.comb += self.s.ready.eq(1)
                with m.If(self.s.valid):
                    with m.Switch(word[:2]):
                        for at, fields in enumerate(RUN_WORDS):
                            with m.Case(at):
                                given = Cat(getattr(run, name) for name in fields)
                                m.d.sync += given.eq(self.s.payload.data)
                    m.d.sync += [word.eq(word + 1), count.eq(count - 1)]
                    self.advance(m, error, count == 1, success="CHECK")
            with m.State("CHECK"):
                m.d.sync += error.eq(self.check(m, run))
                m.next = "PUSH"
            with m.State("DISCARD"):
                m.d.comb += self.s.ready.eq(1)
                with m.If(self.s.valid & self.s.payload.last):
                    m.next = "PUSH"
            with m.State("PUSH"):
                m.d.comb += self.run.valid.eq(1)
                with m.If(self.run.ready):
                    m.next = "HEADER"
        return m

    def advance(self, m: Module, error: Any, final: Any, success: str) -> None:
        """After a word of the payload: on, or out where TLAST does not come with the final one."""
        with m.If(final & self.s.payload.last):
            m.next = success
        with m.Elif(final | self.s.payload.last):
            m.d.sync += error.eq(Error.LENGTH)
            with m.If(self.s.payload.last):
                m.next = "PUSH"
            with m.Else():
                m.next = "DISCARD"

    def verdict(self, m: Module, head: Any, ended: Any) -> Any:
        """What is wrong with a header, 0 if nothing."""
        verdict = Signal(layouts.ERROR_BITS, name="verdict")
        address, count = head[32:48], head[48:64]
        with m.If(head[:8] != VERSION):
            m.d.comb += verdict.eq(Error.VERSION)
        with m.Else(), m.Switch(head[8:16]):
            for opcode, name in FILLS.items():
                if name not in self.spec.buffers():
                    continue
                depth = self.spec.buffers()[name].depth
                offset = address[: layouts.half_bit(self.spec, name)]
                with m.Case(opcode):
                    with m.If(count == 0):
                        m.d.comb += verdict.eq(Error.COUNT)
                    with m.Elif((address >= 2 * depth) | (offset + count > depth)):
                        m.d.comb += verdict.eq(Error.ADDRESS)
                    with m.Elif(ended):
                        m.d.comb += verdict.eq(Error.LENGTH)
            with m.Case(Opcode.RUN), m.If((count != len(RUN_WORDS)) | ended):
                m.d.comb += verdict.eq(Error.LENGTH)
            with m.Default():
                m.d.comb += verdict.eq(Error.OPCODE)
        return verdict

    def load(self, m: Module, head: Any, word: Any) -> Any:
        """Write the word at hand; returns whether it is the last that the header announced."""
        final_word = Signal()
        address, count = head[32:48], head[48:64]
        with m.Switch(head[8:16]):
            for opcode, name in FILLS.items():
                if name in self.spec.buffers():
                    each = 1 if opcode == Opcode.LOAD_SCALE_ALL else self.spec.buffers()[name].words
                    with m.Case(opcode):
                        m.d.comb += [getattr(self, f"en_{name}").eq(1), final_word.eq(word == each - 1)]
        with m.If(final_word):
            m.d.sync += [word.eq(0), address.eq(address + 1), count.eq(count - 1)]
        with m.Else():
            m.d.sync += word.eq(word + 1)
        return final_word & (count == 1)

    def check(self, m: Module, run: Any) -> Any:
        """What is wrong with a descriptor as it stands, 0 if nothing."""
        spec, found = self.spec, Signal(layouts.ERROR_BITS, name="check")
        flags = {name: run.flags[bit.bit_length() - 1] for name, bit in FLAGS.items()}
        counts = ("rows", "columns", "chunks", "groups", "tiles", "steps")
        none = reduce(or_, (getattr(run, name) == 0 for name in counts))
        many = (run.rows > spec.rows) | (run.columns > spec.columns)
        far = {
            name: getattr(run, f"{name}_base") >= 2 * buffer.depth for name, buffer in spec.buffers().items()
        }
        far["requant"] = far["requant"] & flags["narrow"] & flags["drain"]
        begin = run.steps_base[: layouts.half_bit(spec, "steps")]
        far["table"] = begin + run.steps > spec.step_depth
        with m.If(none | many):
            m.d.comb += found.eq(Error.COUNT)
        with m.Elif(reduce(or_, far.values())):
            m.d.comb += found.eq(Error.ADDRESS)
        with m.Elif((run.tiles > 1) & ~(flags["clear"] & flags["drain"])):
            m.d.comb += found.eq(Error.ORDER)
        return found

    def pending(self, m: Module, run: Any, error: Any, head: Any) -> Any:
        """Count the runs that hold each half; returns whether the load at hand must wait for one."""
        pushed = self.run.valid & self.run.ready & (error == 0)
        # As many as wait in the queue and, for halves read last, have items on their way.
        most = self.spec.queue + self.spec.contexts + self.spec.rows + 8
        blocked = Signal()
        for name in self.spec.buffers():
            side = "late" if name in LATE else "early"
            bit = layouts.half_bit(self.spec, name)
            done, half = getattr(self, f"{side}_valid"), getattr(self, f"{side}_{name}")
            counts = [Signal(range(most + 1), name=f"{name}_{h}") for h in (0, 1)]
            for h, holders in enumerate(counts):
                comes = pushed & (getattr(run, f"{name}_base")[bit] == h)
                m.d.sync += holders.eq(holders + comes - (done & (half == h)))
            with m.Switch(head[8:16]):
                for opcode, filled in FILLS.items():
                    if filled == name:
                        with m.Case(opcode):
                            m.d.comb += blocked.eq(Array(counts)[head[32 + bit]] != 0)
        return blocked
