"""An accelerator's RTL in Amaranth's own simulator, through its AXI ports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from amaranth.sim import Simulator

from hw.accelerator.axi_lite import OKAY
from hw.accelerator.session import AFTER, Outcome, Session
from hw.accelerator.shell import Shell
from hw.accelerator.spec import AcceleratorSpec


@dataclass
class Host:
    """The other side of the ports; one coroutine each for the streams, calls for registers."""

    shell: Any
    offered: Iterable[bool] = ()  #: whether a word is offered, clock by clock; true past its end
    ready: Iterable[bool] = ()  #: whether a word would be taken
    tiles: list[bytes] = field(default_factory=list)
    partial: bytes = b""  #: of the tile that is coming
    clock: int = 0
    last_tile: int = 0  #: clock of the last tile's last word
    taken: int = 0  #: words in

    async def write(self, ctx: Any, offset: int, value: int, strobe: int = 15) -> int:
        """Write a register; returns the response."""
        s = self.shell
        ctx.set(s.s_axi_awaddr, offset)
        ctx.set(s.s_axi_wdata, value)
        ctx.set(s.s_axi_wstrb, strobe)
        for valid in (s.s_axi_awvalid, s.s_axi_wvalid, s.s_axi_bready):
            ctx.set(valid, 1)
        await ctx.tick().until(s.s_axi_awready)
        for valid in (s.s_axi_awvalid, s.s_axi_wvalid):
            ctx.set(valid, 0)
        (response,) = await ctx.tick().sample(s.s_axi_bresp).until(s.s_axi_bvalid)
        ctx.set(s.s_axi_bready, 0)
        return int(response)

    async def read(self, ctx: Any, offset: int) -> tuple[int, int]:
        """Value and response of a register."""
        s = self.shell
        ctx.set(s.s_axi_araddr, offset)
        ctx.set(s.s_axi_arvalid, 1)
        ctx.set(s.s_axi_rready, 1)
        await ctx.tick().until(s.s_axi_arready)
        ctx.set(s.s_axi_arvalid, 0)
        value, response = await ctx.tick().sample(s.s_axi_rdata, s.s_axi_rresp).until(s.s_axi_rvalid)
        ctx.set(s.s_axi_rready, 0)
        return int(value), int(response)

    async def count(self, ctx: Any) -> None:
        """Number the clocks."""
        while True:
            await ctx.tick()
            self.clock += 1

    async def send(self, ctx: Any, session: Session) -> None:
        """Offer the packets; an offer stands until it is taken."""
        s, offers = self.shell, iter(self.offered)
        for word, last in zip(session.words, session.lasts, strict=True):
            while not next(offers, True):
                await ctx.tick()
            ctx.set(s.s_axis_tdata, word)
            ctx.set(s.s_axis_tlast, last)
            ctx.set(s.s_axis_tvalid, 1)
            await ctx.tick().until(s.s_axis_tready)
            ctx.set(s.s_axis_tvalid, 0)
            self.taken += 1

    async def receive(self, ctx: Any) -> None:
        """Take tiles. Raises RuntimeError if a word that was refused changes."""
        s, takes = self.shell, iter(self.ready)
        refused = None
        while True:
            take = bool(next(takes, True))
            ctx.set(s.m_axis_output_tready, take)
            _, _, valid, *word = await ctx.tick().sample(
                s.m_axis_output_tvalid, s.m_axis_output_tdata, s.m_axis_output_tkeep, s.m_axis_output_tlast
            )
            if refused is not None and not (valid and word == refused):
                raise RuntimeError("m_axis_output must hold a word until it is taken, not change it")
            refused = word if valid and not take else None
            if valid and take:
                data, keep, last = word
                self.partial += data.to_bytes(self.shell.spec.bus // 8, "little")[: keep.bit_count()]
                if last:
                    self.tiles.append(self.partial)
                    self.last_tile, self.partial = self.clock, b""


def run(
    spec: AcceleratorSpec, session: Session, offered: Iterable[bool] = (), ready: Iterable[bool] = ()
) -> Outcome:
    """Carry out a session; see `hw.accelerator.session.Backend`."""
    shell = Shell(spec)
    host = Host(shell, offered, ready)
    reads: list[int] = []
    begun = 0

    async def main(ctx: Any) -> None:
        nonlocal begun
        for offset, value in session.writes:
            if await host.write(ctx, offset, value) != OKAY:
                raise RuntimeError(f"register {offset:#x} must be writable, not refuse {value:#x}")
        begun = host.clock
        await host.send(ctx, session)
        while len(host.tiles) < session.tiles and not ctx.get(shell.irq):
            if host.clock - begun > session.limit:
                raise RuntimeError(
                    f"{session.tiles} tiles must come within {session.limit} clocks, not {len(host.tiles)}"
                )
            await ctx.tick()
        await ctx.tick().repeat(AFTER)
        for offset, given in session.finish:
            if given is None:
                reads.append((await host.read(ctx, offset))[0])
            else:
                await host.write(ctx, offset, given)

    simulator = Simulator(shell)
    simulator.add_clock(1e-6)
    # The count comes first: every other coroutine then finds the number of the clocks behind it.
    simulator.add_testbench(host.count, background=True)
    simulator.add_testbench(main)
    simulator.add_testbench(host.receive, background=True)
    simulator.run()
    return Outcome(tiles=host.tiles, reads=reads, clocks=host.last_tile - begun)
