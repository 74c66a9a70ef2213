"""The bench cocotb runs inside a simulator: a session on the AXI ports of an accelerator, driven from a file.

``PLANEFORGE_SESSION`` and ``PLANEFORGE_OBSERVED`` name the files, both JSON (see `hw.accelerator.icarus`).
Drivers stall at random as the file asks; every transfer and every stall is counted, which is the coverage.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import NullTrigger, RisingEdge

OKAY = 0


class Bench:
    """The far side of all ports."""

    def __init__(self, dut: Any, session: dict[str, Any]) -> None:
        self.dut, self.session = dut, session
        self.rng = random.Random(session["seed"])
        self.edge = RisingEdge(dut.aclk)
        self.bins: Counter[str] = Counter()
        self.observed: dict[str, Any] = {
            "tiles": [],
            "reads": [],
            "traffic": [],
            "clocks": 0,
            "bins": self.bins,
        }
        self.clock = 0
        self.begun = 0
        self.sending = False
        self.partial = b""

    def goes(self, port: str) -> bool:
        """Whether a port's far side goes on in this clock."""
        return self.rng.random() < float(self.session["goes"][port])

    async def reset(self) -> None:
        """Two clocks of reset, with every input driven."""
        for name in self.session["inputs"]:
            getattr(self.dut, name).value = 0
        self.dut.aresetn.value = 0
        for _ in range(2):
            await self.edge
        self.dut.aresetn.value = 1
        self.partial = b""

    async def watch(self) -> None:
        """Count clocks, and what both streams do in each."""
        dut, names = self.dut, ("idle", "waits", "stalled", "moves")
        was = False
        while True:
            await self.edge
            self.clock += 1
            given = 2 * (dut.s_axis_tvalid.value == 1) + (dut.s_axis_tready.value == 1)
            taken = 2 * (dut.m_axis_output_tvalid.value == 1) + (dut.m_axis_output_tready.value == 1)
            self.bins[f"s_axis {names[given]}, m_axis {names[taken]}"] += 1
            irq = dut.irq.value == 1
            if irq and not was:
                self.bins["irq rises"] += 1
            was = irq

    async def send(self, words: list[str]) -> None:
        """Offer words, ``!`` behind those that end a packet; an offer stands until it is taken."""
        dut = self.dut
        for text in words:
            while not self.goes("s_axis"):
                await self.edge
            dut.s_axis_tdata.value = int(text.rstrip("!"), 16)
            dut.s_axis_tlast.value = int(text.endswith("!"))
            dut.s_axis_tvalid.value = 1
            await self.edge
            while dut.s_axis_tready.value != 1:
                await self.edge
            dut.s_axis_tvalid.value = 0

    async def receive(self) -> None:
        """Take tiles; a word that was refused must stand."""
        dut, refused = self.dut, None
        while True:
            take = self.goes("m_axis")
            dut.m_axis_output_tready.value = int(take)
            await self.edge
            valid = dut.m_axis_output_tvalid.value == 1
            if dut.aresetn.value == 0:
                refused = None
                continue
            word = None
            if valid:
                word = tuple(
                    int(getattr(dut, f"m_axis_output_{name}").value) for name in ("tdata", "tkeep", "tlast")
                )
            if refused is not None and word != refused:
                raise RuntimeError("m_axis_output must hold a word until it is taken, not change it")
            refused = None if take else word
            if word is not None and take:
                data, keep, last = word
                size = len(dut.m_axis_output_tkeep)
                self.partial += data.to_bytes(size, "little")[: keep.bit_count()]
                self.bins["m_axis partial word" if keep.bit_count() < size else "m_axis whole word"] += 1
                if last:
                    self.observed["tiles"].append(self.partial.hex())
                    self.observed["clocks"] = self.clock - self.begun
                    self.partial = b""

    async def write(self, offset: int, value: int, strobe: int = 15) -> int:
        """Write a register, address and data in any order; returns the response."""
        dut, both = self.dut, {"aw", "w"}
        order = self.rng.sample(("aw", "w"), 2)
        dut.s_axi_awaddr.value, dut.s_axi_wdata.value, dut.s_axi_wstrb.value = offset, value, strobe
        together = self.rng.random() < 0.5
        self.bins["write: together" if together else f"write: {order[0]} first"] += 1
        for name in order:
            getattr(dut, f"s_axi_{name}valid").value = 1
            if not together and name == order[0]:
                for _ in range(self.rng.randint(1, 3)):
                    both -= await self.accepted(both)
        while both:
            both -= await self.accepted(both)
        return await self.respond("b")

    async def accepted(self, channels: set[str]) -> set[str]:
        """One clock; which of the offers on these channels it took."""
        dut = self.dut
        await self.edge
        taken = {
            name
            for name in channels
            if getattr(dut, f"s_axi_{name}valid").value == 1 and getattr(dut, f"s_axi_{name}ready").value == 1
        }
        for name in taken:
            getattr(dut, f"s_axi_{name}valid").value = 0
        return taken

    async def respond(self, channel: str) -> int:
        """Wait for a response, take it at once or late, and return it."""
        dut = self.dut
        ready, valid = getattr(dut, f"s_axi_{channel}ready"), getattr(dut, f"s_axi_{channel}valid")
        late = not self.goes("s_axi")
        self.bins[f"{channel}ready {'late' if late else 'at once'}"] += 1
        if late:
            for _ in range(self.rng.randint(2, 4)):
                await self.edge
        ready.value = 1
        await self.edge
        while valid.value != 1:
            await self.edge
        response = int(getattr(dut, f"s_axi_{channel}resp").value)
        if channel == "r":
            self.data = int(dut.s_axi_rdata.value)
        ready.value = 0
        return response

    async def read(self, offset: int) -> tuple[int, int]:
        """Value and response of a register."""
        self.dut.s_axi_araddr.value = offset
        self.dut.s_axi_arvalid.value = 1
        channels = {"ar"}
        while channels:
            channels -= await self.accepted(channels)
        response = await self.respond("r")
        return self.data, response

    async def traffic(self) -> None:
        """Register accesses at random, as long as packets are on their way."""
        while self.sending:
            kind, offset, value, strobe = self.rng.choice(self.session["traffic"])
            if kind == "write":
                response = await self.write(offset, value, strobe)
            else:
                value, response = await self.read(offset)
            self.observed["traffic"].append([kind, offset, value, response])

    async def finish(self, operations: list[Any]) -> None:
        """Registers written and read in order."""
        for offset, value in operations:
            if value is None:
                self.observed["reads"].append((await self.read(offset))[0])
            else:
                await self.write(offset, value)

    async def run(self) -> None:
        """The session."""
        session, dut = self.session, self.dut
        cocotb.start_soon(self.watch())
        await NullTrigger()  # it runs first after every edge: all others find the clocks behind them
        await self.reset()
        cocotb.start_soon(self.receive())
        for cut in session["cut"]:  # begin, and be reset in the middle
            await self.finish(session["writes"])
            await self.send(session["words"][:cut])
            await self.reset()
            self.observed["tiles"].clear()
            self.bins["reset within a session"] += 1
        await self.finish(session["writes"])
        self.begun, self.sending = self.clock, True
        busy = cocotb.start_soon(self.traffic()) if session["traffic"] else None
        await self.send(session["words"])
        while len(self.observed["tiles"]) < session["tiles"] and (session["traffic"] or dut.irq.value != 1):
            if self.clock - self.begun > session["limit"]:
                break
            await self.edge
        for _ in range(session["after"] + session["linger"]):
            await self.edge
        self.sending = False
        if busy is not None:
            await busy
        await self.finish(session["finish"])


@cocotb.test()
async def drive(dut: Any) -> None:
    """Whatever happens, what was seen is written down."""
    bench = Bench(dut, json.loads(Path(os.environ["PLANEFORGE_SESSION"]).read_text()))
    Clock(dut.aclk, 10, unit="ns").start()
    try:
        await bench.run()
    except RuntimeError as fault:
        bench.observed["fault"] = str(fault)
        raise
    finally:
        Path(os.environ["PLANEFORGE_OBSERVED"]).write_text(json.dumps(bench.observed))
