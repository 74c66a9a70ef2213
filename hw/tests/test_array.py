"""The array's RTL against the definition of its PE, one by one, clocks included."""

import random

import pytest
from amaranth.sim import Simulator

from hw import cxxrtl, netlist, pysim
from hw.array import create
from hw.beats import Beats
from hw.grid import Grid
from hw.pe.bitserial import BitSerial
from hw.spec import FLAGS, ArraySpec, Beat, Segment, Shape, horner
from hw.tests.stalls import full_rate, stalled

PE = BitSerial(lanes=5, acc_width=9, levels=1)
NETWORKS = [
    {"network": "broadcast"},
    {"network": "broadcast", "operand_registers": 2},
    {"network": "systolic"},
]
GRIDS = [
    Grid(array=ArraySpec(pe=PE, rows=rows, columns=columns, **network))
    for network in NETWORKS
    for rows, columns in ((1, 1), (2, 3), (3, 1))
]


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


@pytest.mark.parametrize("network", NETWORKS, ids=str)
@pytest.mark.parametrize("stall", [False, True])
@pytest.mark.parametrize(("rows", "columns", "lanes"), [(1, 1, 7), (2, 3, 8)])
def test_every_pe_of_the_array_computes_its_own_row_and_column(rows, columns, lanes, stall, network):
    pe = BitSerial(lanes=lanes, acc_width=20, levels=1)
    spec = ArraySpec(pe=pe, rows=rows, columns=columns, **network)
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


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: repr(grid.array)[:200])
def test_an_array_is_a_pe_of_many_outputs_with_stalls_and_clocks(grid):
    for case in (full_rate(grid, 150), stalled(grid, 150, seed=1)):
        case.check(pysim.run(grid, case.beats, case.offered, case.ready))


@pytest.mark.parametrize("grid", [GRIDS[4], GRIDS[7]], ids=lambda grid: grid.array.network)
def test_an_array_in_bulk_and_as_gates_equals_golden(grid):
    for case in (full_rate(grid, 500), stalled(grid, 500, seed=2)):
        case.check(cxxrtl.run(grid, case.beats, case.offered, case.ready))
        case.check(netlist.run(grid, case.beats, case.offered, case.ready))


@pytest.mark.parametrize("grid", GRIDS[4:6], ids=lambda grid: repr(grid.array)[:200])
def test_the_netlist_has_the_flip_flops_that_resources_count(grid):
    assert flops(grid) == grid.resources().flop


def test_a_systolic_netlist_has_fewer_where_control_of_two_pes_is_one():
    # Every row has a chain of its own for control; Yosys shares what is equal, and drops valid but the last.
    share = flops(GRIDS[7]) / GRIDS[7].resources().flop
    assert 0.8 < share < 1


def flops(grid):
    return netlist.synthesize(grid).count("always @(posedge clk)")


def test_a_grids_words_are_its_pes_side_by_side():
    grid = GRIDS[1]
    assert grid.words() == {"w": 10, "x": 15, "mask": 10}
    assert (grid.rows, grid.tokens, grid.outputs) == (2, 3, 6)
    assert [grid.place(k) for k in (0, 2, 3, 5)] == [(0, 0), (0, 2), (1, 0), (1, 2)]
    beat = Beat(w=3 << 5, x=7 << 10, mask=31 << 5, first=True)
    assert [grid.golden(9, beat, k) for k in range(6)] == [0, 0, 0, 0, 0, 2]
    assert Beats.random(grid, 4, 0).payload(grid).shape == (4, 2)


def test_registers_before_a_systolic_array_are_refused():
    with pytest.raises(ValueError, match=r"^operand_registers must be 0 in a systolic array, not 1$"):
        ArraySpec(pe=PE, network="systolic", operand_registers=1)
    with pytest.raises(ValueError, match=r"^network must be one of broadcast, systolic, not 'torus'$"):
        ArraySpec(pe=PE, network="torus")
