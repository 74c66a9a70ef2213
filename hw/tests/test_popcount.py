"""Counters of bit columns: what they count, how few columns are left, and the cells by Yosys' own models."""

from __future__ import annotations

import random
from functools import partial

import pytest
from amaranth import Cat, Fragment, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.popcount import plan, tree
from hw.popcount.cells import Behaviour, dual, majority, parity, truth


class Counted(wiring.Component):
    """Columns of input bits, all in one word, to their number, inverted on demand."""

    def __init__(self, heights: plan.Heights, form: str, cells: tree.Cells) -> None:
        self.heights, self.form, self.cells = heights, form, cells
        bits = sum(heights)
        super().__init__({"bits": In(bits), "negate": In(1), "number": Out(len(heights))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pool = iter(self.bits)
        columns = [[next(pool) for _ in range(n)] for n in self.heights]
        for placed, _ in plan.plan(self.heights, self.form):
            columns = tree.count(m, self.cells, columns, placed)
        m.d.comb += self.number.eq(Cat(*tree.total(m, self.cells, columns, self.negate)))
        return m


def weighted(heights: plan.Heights, word: int) -> int:
    """The number that bits of a word stand for, column by column: by definition."""
    number = 0
    for k, n in enumerate(heights):
        number += (word & ((1 << n) - 1)).bit_count() << k
        word >>= n
    return number


def simulate(dut: wiring.Component, drive) -> None:
    simulator = Simulator(dut)
    simulator.add_testbench(drive)
    simulator.run()


@pytest.mark.parametrize("form", plan.FORMS)
@settings(deadline=None, max_examples=6)
@given(
    heights=st.lists(st.integers(0, 15), min_size=1, max_size=5).map(lambda h: (*h, 0, 0, 0, 0)),
    seed=st.integers(0, 99),
)
def test_columns_of_any_heights_are_counted(form, heights, seed):
    if not sum(heights):
        return
    dut, rng = Counted(heights, form, Behaviour()), random.Random(seed)
    bits = sum(heights)

    async def drive(ctx):
        for word in (0, (1 << bits) - 1, *(rng.getrandbits(bits) for _ in range(10))):
            for negate in (0, 1):
                ctx.set(dut.bits, word)
                ctx.set(dut.negate, negate)
                await ctx.delay(1e-9)
                number = weighted(heights, word) % (1 << len(heights))
                expected = number ^ (negate * ((1 << len(heights)) - 1))
                assert ctx.get(dut.number) == expected, (heights, hex(word), negate)

    simulate(dut, drive)


@pytest.mark.parametrize("form", plan.FORMS)
@settings(max_examples=25, deadline=None)
@given(heights=st.lists(st.integers(0, 60), min_size=1, max_size=9).map(lambda h: (*h, *[0] * 9)))
def test_a_plan_takes_what_is_there_and_leaves_as_few_rows_as_its_adder_needs(form, heights):
    before = heights
    for placed, after in plan.plan(heights, form):
        taken, given = [0] * 24, [0] * 24
        for counter in placed:
            # As many bits as the largest number of ones needs: none is lost, and none too many made.
            most = sum(bits << k for k, bits in enumerate(counter.takes))
            assert sum(bits << k for k, bits in enumerate(counter.gives)).bit_length() == most.bit_length()
            assert counter.takes[0] > 0
            for k, bits in enumerate(counter.takes):
                taken[counter.column + k] += bits
            for k, bits in enumerate(counter.gives):
                given[counter.column + k] += bits
        assert all(t <= b for t, b in zip(taken, (*before, *[0] * 24), strict=False))
        assert list(after) == [b - t + g for b, t, g in zip(before, taken, given, strict=False)]
        before = after
    assert max(before) <= plan.ROWS[form]


@pytest.mark.parametrize(("lanes", "luts", "levels"), [(64, 52, 3), (128, 108, 3), (256, 219, 4)])
def test_the_tables_of_a_count_are_those_of_its_plan(lanes, luts, levels):
    found = plan.plan(tree.after_lanes(lanes, "lut6"), "lut6")
    assert len(found) == levels
    assert lanes // 2 + sum(counter.luts for placed, _ in found for counter in placed) == luts


@pytest.mark.parametrize("form", plan.FORMS)
@pytest.mark.parametrize("lanes", [1, 2, 3, 4, 5, 63, 64, 65, 100])
def test_the_columns_after_the_lanes_are_those_foretold(form, lanes):
    w, x = Signal(lanes), Signal(lanes)
    columns = tree.LANES[form](m := Module(), Behaviour(), parity, w, x, lanes.bit_length())
    Fragment.get(m, None)  # or Amaranth warns of a module never used
    assert tree.heights(columns) == tree.after_lanes(lanes, form)


@pytest.mark.parametrize("inputs", range(1, 6))
def test_a_table_with_two_outputs_reads_either_half(inputs):
    rng = random.Random(inputs)
    high, low = (rng.getrandbits(1 << inputs) for _ in range(2))

    def of(table, *bits):
        return table >> sum(bit << k for k, bit in enumerate(bits)) & 1

    init = dual(partial(of, high), partial(of, low), inputs)
    for index in range(32):  # the pins past the inputs do not matter, the sixth pin is 1
        bits = [index >> k & 1 for k in range(inputs)]
        assert init >> (32 + index) & 1 == of(high, *bits)
        assert init >> index & 1 == of(low, *bits)


def test_six_inputs_leave_the_second_output_no_choice():
    assert dual(parity, parity, 6) == truth(parity, 6)
    with pytest.raises(
        ValueError,
        match=r"^o5 must be o6 where the sixth input is 0, 0x96696996, not 0xe8e8e8e8$",
    ):
        dual(parity, lambda a, b, c, d, e: majority(a, b, c), 6)


class Chain(wiring.Component):
    """Five positions of a carry chain."""

    def __init__(self) -> None:
        super().__init__({"s": In(5), "di": In(5), "ci": In(1), "out": Out(6)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sums, carry = Behaviour().chain(m, list(self.s), list(self.di), self.ci)
        m.d.comb += self.out.eq(Cat(*sums, carry))
        return m


def test_a_carry_chain_passes_its_carry_where_it_is_selected_and_its_data_elsewhere():
    dut = Chain()

    async def drive(ctx):
        for word in range(1 << 11):
            s, di, carry = word & 31, word >> 5 & 31, word >> 10
            for port, value in (("s", s), ("di", di), ("ci", carry)):
                ctx.set(getattr(dut, port), value)
            await ctx.delay(1e-9)
            expected = 0
            for k in range(5):  # a position at a time, as the fabric has it
                expected |= ((s >> k & 1) ^ carry) << k
                carry = carry if s >> k & 1 else di >> k & 1
            assert ctx.get(dut.out) == expected | carry << 5

    simulate(dut, drive)
