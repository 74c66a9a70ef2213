"""The array's RTL against the definition of its PE, one by one, clocks included."""

import random

import pytest
from amaranth.sim import Simulator

from hw.array import create
from hw.pe.bitserial import BitSerial
from hw.spec import FLAGS, ArraySpec, Beat, Segment, Shape, horner


def item_beats(rng, spec, segment):
    """Beats of one item of a tile, as operands by row and column."""
    lanes, words = spec.pe.lanes, -(-segment.columns // spec.pe.lanes)
    steps = horner(segment.weight, segment.activation)
    beats = []
    for index, step in enumerate(steps):
        for word in range(1 if step.w_plane < 0 else words):
            valid = min(lanes, segment.columns - word * lanes)
            beats.append(
                {
                    "w": [rng.getrandbits(lanes) for _ in range(spec.rows)],
                    "x": [rng.getrandbits(lanes) for _ in range(spec.columns)],
                    "mask": [rng.getrandbits(valid) for _ in range(spec.rows)],
                    "w_bipolar": rng.random() < 0.5,
                    "x_bipolar": rng.random() < 0.5,
                    "first": index == 0 and word == 0,
                    "shift": step.shift and word == 0,
                    "neg": step.neg,
                    "last": index == len(steps) - 1 and word == words - 1,
                }
            )
    return beats


def run(spec, beats, stall):
    """Items [tile][row][column] and clocks of the RTL."""
    component, rng = create(spec), random.Random(1)
    items, clocks = [], 0
    expected = sum(beat["last"] for beat in beats)

    async def bench(ctx):
        nonlocal clocks
        position = 0
        while len(items) < expected:
            take = not (stall and rng.random() < 0.4)
            ctx.set(component.i.valid, position < len(beats))
            if position < len(beats):
                payload, beat = component.i.payload, beats[position]
                for name in ("w", "x", "mask"):
                    for at, word in enumerate(beat[name]):
                        ctx.set(getattr(payload, name)[at], word)
                for flag in FLAGS:
                    ctx.set(getattr(payload, flag), beat[flag])
            ctx.set(component.o.ready, take)
            sampled = ctx.tick().sample(component.i.ready, component.o.valid, component.o.payload)
            _, _, ready, valid, item = await sampled
            clocks += 1
            position += position < len(beats) and ready
            if valid and take:
                items.append([item[at] for at in range(spec.rows * spec.columns)])

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return items, clocks


@pytest.mark.parametrize("stall", [False, True])
@pytest.mark.parametrize(("rows", "columns", "lanes"), [(1, 1, 7), (2, 3, 8)])
def test_every_pe_of_the_array_computes_its_own_row_and_column(rows, columns, lanes, stall):
    spec = ArraySpec(pe=BitSerial(lanes=lanes, acc_width=20, levels=1), rows=rows, columns=columns)
    segment = Segment(columns=2 * lanes + 3, weight=(1, -2), activation=(1, 2, -4), count=4)
    shape = Shape(tokens=columns, rows=rows, segments=(segment,))
    rng = random.Random(0)
    beats = [beat for _ in range(segment.count) for beat in item_beats(rng, spec, segment)]
    items, clocks = run(spec, beats, stall)
    for row in range(rows):
        for column in range(columns):
            own = [
                Beat(
                    **{flag: beat[flag] for flag in FLAGS},
                    w=beat["w"][row],
                    mask=beat["mask"][row],
                    x=beat["x"][column],
                )
                for beat in beats
            ]
            assert [item[row * columns + column] for item in items] == spec.pe.items(own)
    if not stall:
        assert clocks == spec.cycles(shape)
