"""Buffers: what bus words bring is what is read, in either half, while the other is written."""

from __future__ import annotations

import random

import pytest
from amaranth.sim import Simulator

from hw.accelerator.buffer import BufferSpec

SPECS = [
    BufferSpec(elements=1, bits=64, depth=4),
    BufferSpec(elements=5, bits=8, depth=2),
    BufferSpec(elements=3, bits=100, depth=1),
    BufferSpec(elements=9, bits=20, depth=8, bus=128),
]


def simulate(component, bench):
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


async def write(ctx, buffer, address, words, everywhere=False):
    ctx.set(buffer.w_en, 1)
    ctx.set(buffer.w_all, everywhere)
    ctx.set(buffer.w_addr, address)
    for at, word in enumerate(words):
        ctx.set(buffer.w_word, at)
        ctx.set(buffer.w_data, word)
        await ctx.tick()
    ctx.set(buffer.w_en, 0)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_entries_are_read_as_they_were_packed(spec):
    rng = random.Random(0)
    entries = [[rng.getrandbits(spec.bits) for _ in range(spec.elements)] for _ in range(2 * spec.depth)]
    buffer = spec.create()

    async def bench(ctx):
        order = list(range(2 * spec.depth))
        rng.shuffle(order)
        for address in order:
            packed = spec.pack(entries[address])
            assert len(packed) == spec.words
            assert all(word < 1 << spec.bus for word in packed)
            await write(ctx, buffer, address, packed)
        ctx.set(buffer.r_en, 1)
        for address in order:
            ctx.set(buffer.r_addr, address)
            await ctx.tick()
            assert [ctx.get(buffer.r_data[e]) for e in range(spec.elements)] == entries[address]
        ctx.set(buffer.r_en, 0)
        ctx.set(buffer.r_addr, order[0])
        await ctx.tick()
        assert ctx.get(buffer.r_data[0]) == entries[order[-1]][0]

    simulate(buffer, bench)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_broadcast_reaches_every_element(spec):
    rng = random.Random(1)
    buffer = spec.create()
    value = rng.getrandbits(spec.bits) | 1
    one = BufferSpec(elements=1, bits=spec.bits, depth=1, bus=spec.bus)

    async def bench(ctx):
        await write(ctx, buffer, 1, spec.pack([rng.getrandbits(spec.bits) for _ in range(spec.elements)]))
        await write(ctx, buffer, 0, one.pack([value]), everywhere=True)
        ctx.set(buffer.r_en, 1)
        ctx.set(buffer.r_addr, 0)
        await ctx.tick()
        assert [ctx.get(buffer.r_data[e]) for e in range(spec.elements)] == [value] * spec.elements

    simulate(buffer, bench)


def test_short_elements_share_a_bus_word_and_long_ones_take_several():
    assert [spec.words for spec in SPECS] == [1, 1, 6, 2]
    assert [spec.memory_bits for spec in SPECS] == [512, 160, 600, 2880]
    assert SPECS[1].pack([1, 2, 3, 4, 255]) == [0xFF04030201]
    assert SPECS[2].pack([1 << 64, 0, -1]) == [0, 1, 0, 0, 2**64 - 1, 2**36 - 1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"elements": 0}, r"^elements must be at least 1, not 0$"),
        ({"depth": 3}, r"^depth must be a power of two, not 3$"),
        ({"depth": 1 << 16}, r"^depth must be at most 32768, not 65536$"),
    ],
)
def test_a_bad_parameter_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        BufferSpec(**{"elements": 2, "bits": 4, "depth": 4} | given)


def test_an_entry_of_other_elements_is_refused():
    with pytest.raises(ValueError, match=r"^entry must hold 5 elements, not 4$"):
        SPECS[1].pack([0] * 4)
