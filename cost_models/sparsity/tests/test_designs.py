"""Compared datapaths: their RTL computes what plain integers say, and holds what it is said to hold."""

import random
from dataclasses import replace

import pytest
from amaranth.sim import Simulator

from cost_models.sparsity.designs import Datapath

DESIGNS = (
    Datapath(columns=67, w_bits=1, act_bits=1),
    Datapath(columns=12, w_bits=1, act_bits=1, keep=2, of=4, order=5),
    Datapath(columns=12, w_bits=4, act_bits=8, keep=2, of=4, ordered=True),
    Datapath(columns=5, w_bits=8, act_bits=8, order=3),
    Datapath(columns=8, w_bits=2, act_bits=8, keep=1, of=4, index="outside"),
    Datapath(columns=16, w_bits=1, act_bits=1, keep=4, of=8),
)


def packed(values, bits):
    return sum((value % (1 << bits)) << place * bits for place, value in enumerate(values)) if bits else 0


def drawn(rng, bits):
    return rng.getrandbits(1) if bits == 1 else rng.randint(-(1 << bits - 1), (1 << bits - 1) - 1)


@pytest.mark.parametrize("design", DESIGNS, ids=lambda d: d.name)
def test_the_circuit_computes_the_dot_product_of_the_selected_columns(design):
    made, rng = design.create(), random.Random(1)
    simulator = Simulator(made)
    simulator.add_clock(1e-6)

    async def bench(ctx):
        acc = 0
        for number in range(12):
            w = [drawn(rng, design.w_bits) for _ in range(design.lanes)]
            x = [drawn(rng, design.act_bits) for _ in range(design.columns)]
            index = [rng.randrange(design.choices) for _ in range(design.lanes)]
            blocks = [lane // design.keep * design.of for lane in range(design.lanes)]
            first = number % 5 == 0
            ctx.set(made.w, packed(w, design.w_bits))
            ctx.set(made.x, packed(x, design.act_bits))
            ctx.set(made.index, packed(index, design.index_bits))
            ctx.set(made.first, first)
            ctx.set(made.enable, 1)
            await ctx.tick()
            ctx.set(made.enable, 0)
            await ctx.tick().repeat(2)
            acc = design.golden(acc, w, x, index, first)
            assert ctx.get(made.acc) == acc
            if design.keep < design.of and not design.ordered and first:
                assert acc == sum(a * x[b + i] for a, b, i in zip(w, blocks, index, strict=True))

    simulator.add_testbench(bench)
    simulator.run()


def test_an_ordered_index_has_fewer_choices_and_reaches_every_place_a_kept_column_may_have():
    design = Datapath(columns=8, w_bits=1, act_bits=1, keep=6, of=8, ordered=True)
    assert (design.choices, design.index_bits) == (3, 2)
    assert [design.column(lane, index) for lane in (0, 5) for index in range(3)] == [0, 1, 2, 5, 6, 7]
    plain = replace(design, ordered=False)
    assert (plain.choices, plain.index_bits) == (8, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": "none"}, "index must be one of beside, outside, not 'none'"),
        ({"keep": 3, "of": 2}, "keep must be from 1 to of=2, not 3"),
        ({"keep": 2, "of": 3}, "columns must be a multiple of of=3, not 8"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Datapath(columns=8, w_bits=1, act_bits=1, **changes)
