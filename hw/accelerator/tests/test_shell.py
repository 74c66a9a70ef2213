"""The AXI shell: registers, counters, interrupt, error flags, and resets in the middle of everything."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.sim import Simulator

from hw.accelerator import registers
from hw.accelerator.axi_lite import OKAY, SLVERR
from hw.accelerator.commands import Error, Opcode, header
from hw.accelerator.session import Session
from hw.accelerator.shell import Shell
from hw.accelerator.simulate import Host
from hw.accelerator.tests import packets
from hw.accelerator.tests.test_core import descriptor, loads, small

SPEC = small(step_depth=8)


def session(words: list[list[int]], tiles: int = 0) -> Session:
    return Session(
        writes=(),
        words=[word for packet in words for word in packet],
        lasts=[at == len(packet) - 1 for packet in words for at in range(len(packet))],
        tiles=tiles,
        finish=(),
        limit=10_000,
    )


def part(whole: Session, rng: random.Random) -> Session:
    """The first words, up to some point."""
    upto = rng.randrange(40, len(whole.words))
    return replace(whole, words=whole.words[:upto], lasts=whole.lasts[:upto])


def sound(tag: int = 7, runs: int = 1, seed: int = 0) -> list[list[int]]:
    """Loads of half 0 and runs on it."""
    commands = [*loads(SPEC, random.Random(seed), 0)]
    commands += [descriptor(SPEC, 0, tag=tag + at) for at in range(runs)]
    return [command.words(SPEC) for command in commands]


def bench(main, shell=None, top=None):
    """Run ``main(ctx, host)`` beside a host that takes tiles."""
    shell = shell or Shell(SPEC)
    host = Host(shell)

    async def body(ctx):
        await main(ctx, host)

    simulator = Simulator(top or shell)
    simulator.add_clock(1e-6)
    simulator.add_testbench(host.count, background=True)
    simulator.add_testbench(body)
    simulator.add_testbench(host.receive, background=True)
    simulator.run()
    return host


async def get(ctx, host, name):
    value, response = await host.read(ctx, registers.offset(name))
    assert response == OKAY
    return registers.decode(name, value)


async def put(ctx, host, name, **fields):
    assert await host.write(ctx, registers.offset(name), registers.encode(name, **fields)) == OKAY


async def settle(ctx, host):
    while not (await get(ctx, host, "STATUS"))["idle"]:
        pass


async def pop(ctx, host):
    """All completions, as (tag, error)."""
    found = []
    while (one := await get(ctx, host, "COMPLETION"))["valid"]:
        found.append((one["tag"], one["error"]))
    return found


def test_registers_say_what_the_accelerator_is():
    async def main(ctx, host):
        for name, value in registers.constants(SPEC).items():
            assert await host.read(ctx, registers.offset(name)) == (value, OKAY)
        shape = await get(ctx, host, "SHAPE")
        assert shape == {"rows": 2, "columns": 2, "lanes": 8}
        assert (await get(ctx, host, "DEPTHS1")) == {"mask": 8, "scale": 32}

    bench(main)


def test_every_register_answers_as_its_access_says():
    async def main(ctx, host):
        for register in registers.table():
            writable = register.access not in ("ro", "pop")
            assert await host.write(ctx, register.offset, 0) == (OKAY if writable else SLVERR)
            _, response = await host.read(ctx, register.offset)
            assert response == OKAY
        for offset in (registers.table()[-1].offset + 4, 1, 0x22):
            assert await host.write(ctx, offset, 1) == SLVERR
            assert (await host.read(ctx, offset))[1] == SLVERR

    bench(main)


def test_byte_strobes_are_obeyed():
    async def main(ctx, host):
        enable = registers.offset("IRQ_ENABLE")
        assert await host.write(ctx, enable, 7, strobe=0b1110) == OKAY
        assert await host.read(ctx, enable) == (0, OKAY)
        assert await host.write(ctx, enable, 0xFFFFFF05, strobe=0b0001) == OKAY
        assert await host.read(ctx, enable) == (5, OKAY)

    bench(main)


def test_a_run_waits_for_the_doorbell_and_each_ring_lets_as_many_begin():
    async def main(ctx, host):
        await host.send(ctx, session(sound(runs=3)))
        await ctx.tick().repeat(60)
        assert not host.tiles
        await put(ctx, host, "DOORBELL", count=2)
        await ctx.tick().repeat(120)
        assert len(host.tiles) == 2
        assert await pop(ctx, host) == [(7, 0), (8, 0)]
        await put(ctx, host, "CONTROL", auto=1)
        await settle(ctx, host)
        assert len(host.tiles) == 3
        assert (await get(ctx, host, "STATUS"))["credits"] == 0
        assert (await get(ctx, host, "COMPLETED")) == {"count": 3}

    host = bench(main)
    assert host.tiles == packets.modelled(SPEC, sound(runs=3)).tiles


def test_the_interrupt_follows_enabled_events_until_they_are_cleared():
    async def main(ctx, host):
        await put(ctx, host, "CONTROL", auto=1)
        await put(ctx, host, "IRQ_ENABLE", done=1)
        await host.send(ctx, session(sound()))
        assert not ctx.get(host.shell.irq)
        await ctx.tick().until(host.shell.irq)
        await settle(ctx, host)
        assert await get(ctx, host, "IRQ_STATUS") == {"done": 1, "error": 0, "idle": 1}
        await put(ctx, host, "IRQ_STATUS", done=1)
        assert await get(ctx, host, "IRQ_STATUS") == {"done": 0, "error": 0, "idle": 1}
        await ctx.tick()
        assert not ctx.get(host.shell.irq)
        await put(ctx, host, "IRQ_ENABLE", idle=1)
        await ctx.tick()
        assert ctx.get(host.shell.irq)

    bench(main)


def test_errors_are_flagged_until_cleared_and_what_follows_works():
    bad = [
        [header(Opcode.RUN, 1, 0, 4, version=9), 0, 0],
        [header(99, 2, 0, 4), 5],
        [header(Opcode.LOAD_W, 3, 0, 1)],
        [header(Opcode.LOAD_W, 4, 0, 0), 0],
        [header(Opcode.LOAD_W, 5, 15, 2), 0, 0],
    ]

    async def main(ctx, host):
        await put(ctx, host, "CONTROL", auto=1)
        await put(ctx, host, "IRQ_ENABLE", error=1)
        await host.send(ctx, session(bad))
        await settle(ctx, host)
        assert ctx.get(host.shell.irq)
        wanted = [Error.VERSION, Error.OPCODE, Error.LENGTH, Error.COUNT, Error.ADDRESS]
        assert await pop(ctx, host) == list(enumerate(wanted, 1))
        errors = await get(ctx, host, "ERRORS")
        assert [name for name, flag in errors.items() if flag] == [e.name.lower() for e in wanted]
        assert await get(ctx, host, "FAILED") == {"count": 5}
        await put(ctx, host, "ERRORS", version=1, opcode=1)
        errors = await get(ctx, host, "ERRORS")
        assert [name for name, flag in errors.items() if flag] == ["length", "count", "address"]
        await host.send(ctx, session(sound()))
        await settle(ctx, host)
        assert await pop(ctx, host) == [(7, 0)]

    assert bench(main).tiles == packets.modelled(SPEC, sound()).tiles


def test_completions_and_rings_beyond_their_room_are_flagged_and_hang_nothing():
    async def main(ctx, host):
        await put(ctx, host, "DOORBELL", count=0xFFFF)
        assert await get(ctx, host, "STATUS") == {"idle": 1, "completions": 0, "credits": 0xFFFF}
        await put(ctx, host, "DOORBELL", count=1)
        assert (await get(ctx, host, "STATUS"))["credits"] == 0xFFFF
        await host.send(ctx, session(sound(tag=0, runs=18)))
        await settle(ctx, host)
        assert await pop(ctx, host) == [(tag, 0) for tag in range(16)]
        errors = await get(ctx, host, "ERRORS")
        assert [name for name, flag in errors.items() if flag] == ["completion_lost", "doorbell_lost"]
        assert await get(ctx, host, "COMPLETED") == {"count": 18}

    assert len(bench(main).tiles) == 18


def test_every_clock_is_counted_as_one_kind():
    async def main(ctx, host):
        await put(ctx, host, "CONTROL", auto=1, clear=1)
        begun = host.clock
        await host.send(ctx, session(sound(runs=2)))
        await settle(ctx, host)
        await put(ctx, host, "CONTROL", auto=1, snapshot=1)
        clocks = host.clock - begun
        counts = {}
        for name in registers.COUNTERS:
            low = await get(ctx, host, f"{name.upper()}_LO")
            high = await get(ctx, host, f"{name.upper()}_HI")
            counts[name] = low["clocks"] | high["clocks"] << 32
        assert abs(sum(counts.values()) - clocks) <= 2
        assert counts["run"] == packets.modelled(SPEC, sound(runs=2)).beats
        assert counts["wait_in"] > 50
        assert counts["idle"] > 0
        assert await host.read(ctx, registers.offset("CONTROL")) == (1, OKAY)

    bench(main)


@pytest.mark.parametrize("seed", range(3))
def test_after_a_soft_reset_at_any_time_all_works_again(seed):
    rng = random.Random(seed)
    words = sound(runs=3)
    cut = part(session(words), rng)

    async def main(ctx, host):
        await put(ctx, host, "CONTROL", auto=1)
        await host.send(ctx, cut)
        await ctx.tick().repeat(rng.randrange(1, 40))
        await put(ctx, host, "CONTROL", auto=1, reset=1)
        await ctx.tick().repeat(3)
        assert (await get(ctx, host, "STATUS")) == {"idle": 1, "completions": 0, "credits": 0}
        host.tiles.clear()
        host.partial = b""
        await host.send(ctx, session(words))
        await settle(ctx, host)
        assert await pop(ctx, host) == [(7, 0), (8, 0), (9, 0)]

    shell = Shell(SPEC)
    host = bench(main, shell)
    assert host.tiles == packets.modelled(SPEC, words).tiles


def test_after_a_reset_of_everything_at_any_time_all_works_again():
    words = sound(runs=2)
    rng = random.Random(1)
    shell, resets = Shell(SPEC), Signal()
    top = Module()
    top.submodules.shell = ResetInserter(resets)(shell)

    async def main(ctx, host):
        for _ in range(4):
            await put(ctx, host, "CONTROL", auto=1)
            await host.send(ctx, part(session(words), rng))
            await ctx.tick().repeat(rng.randrange(1, 50))
            ctx.set(resets, 1)
            await ctx.tick()
            ctx.set(resets, 0)
        host.tiles.clear()
        host.partial = b""
        await put(ctx, host, "CONTROL", auto=1)
        await host.send(ctx, session(words))
        await settle(ctx, host)
        assert await pop(ctx, host) == [(7, 0), (8, 0)]
        assert await get(ctx, host, "COMPLETED") == {"count": 2}

    host = bench(main, shell, top)
    assert host.tiles == packets.modelled(SPEC, words).tiles
