"""Proofs about PEs, and that each fails on a planted fault."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from amaranth import Signal

from algo.bitplane import family
from hw import toolchain
from hw.array import BroadcastArray
from hw.formal import equivalence
from hw.formal.circuit import of_json, of_rtlil
from hw.formal.graph import FALSE, TRUE, Graph
from hw.formal.handshake import prove_handshake
from hw.grid import Grid
from hw.pe.bitserial import BitSerial, BitSerialPE
from hw.spec import ArraySpec
from hw.tests.faulty import Faulty

FAMILY = {name: family.load("hw.pe", name).SAMPLES for name in family.names("hw.pe")}
FIRST = [samples[0] for samples in FAMILY.values()]
#: Of these a netlist is proven each time; of all others, minutes in all, among the slow tests.
LIGHT = [FAMILY[name][0] for name in ("bitserial", "gather", "popcount")]
OTHERS = [spec for samples in FAMILY.values() for spec in samples if spec not in LIGHT]
GRIDS = [
    Grid(array=ArraySpec(pe=BitSerial(lanes=3, acc_width=8, levels=1), rows=2, columns=2)),
    Grid(array=ArraySpec(pe=BitSerial(lanes=2, acc_width=6), rows=2, columns=2, operand_registers=1)),
    Grid(array=ArraySpec(pe=BitSerial(lanes=3, acc_width=8), rows=2, columns=2, network="systolic")),
]


@pytest.mark.parametrize("spec", [*FIRST, *GRIDS, BitSerial()], ids=str)
def test_streams_are_proven_for_any_stalls(spec):
    prove_handshake(spec)


@pytest.mark.slow
@pytest.mark.parametrize("spec", OTHERS, ids=str)
def test_streams_of_every_other_sample_are_proven_for_any_stalls(spec):
    prove_handshake(spec)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("drops a beat", r"^i__ready\[0\] must stay low while an item is refused; it does not with "),
        ("moves the item", r"^o__payload\[0\] must keep its value while an item is refused; .*\bdot\[0\]=1"),
        ("takes the item back", r"^o__valid\[0\] must keep its value while an item is refused; "),
        ("counts a bubble", r"^o__payload\[0\] must keep its value over a clock that took no beat; "),
        ("hands an item over twice", r"^o__valid\[0\] must be the last of the beat latency clocks ago; "),
        ("comes one clock late", r"^o__valid\[0\] must be the last of the beat latency clocks ago; "),
    ],
)
def test_a_fault_of_the_streams_has_a_counterexample(fault, message):
    with pytest.raises(RuntimeError, match=message):
        prove_handshake(Faulty(lanes=5, acc_width=9, fault=fault))


class PartingArray(BroadcastArray):
    """One PE takes some of the beats alone."""

    def connect(self, m, pe, valid, words, flags):
        self.connected = getattr(self, "connected", 0) + 1
        super().connect(m, pe, valid if self.connected < 3 else valid & flags[0], words, flags)


@dataclass(frozen=True, kw_only=True)
class Parting(Grid):
    def create(self):
        return PartingArray(self.array)


def test_pes_of_an_array_that_part_are_found():
    array = ArraySpec(pe=BitSerial(lanes=2, acc_width=6), rows=2, columns=2)
    with pytest.raises(RuntimeError, match=r"^pe_1_\d\.\S+ must keep its value while an item is refused; "):
        prove_handshake(Parting(array=array))


@dataclass(frozen=True, kw_only=True)
class Slip(BitSerial):
    """The PE as specified, but for one slip that `Faulty` does not hold."""

    slip: str

    def create(self) -> SlipPE:
        return SlipPE(self)


class SlipPE(BitSerialPE):
    def elaborate(self, platform):
        m = super().elaborate(platform)
        waking = Signal(init=1)
        if self.spec.slip == "ready follows the sink":
            m.d.comb += self.i.ready.eq(self.o.ready)
        elif self.spec.slip == "clears while idle":
            with m.If(self.o.ready & ~self.o.valid):
                m.d.sync += self.o.payload.eq(0)
        elif self.spec.slip == "hands over after reset":
            with m.If(self.o.ready | ~self.o.valid):
                m.d.sync += waking.eq(0)
                with m.If(waking):
                    m.d.sync += self.o.valid.eq(1)
        return m


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ("ready follows the sink", r"^i__ready\[0\] must be high while no item is refused; .* all 0$"),
        ("clears while idle", r"^o__payload\[\d\] must not see o.ready while no item waits; "),
        ("hands over after reset", r"^o__valid\[0\] must stay low after reset until an item can come; "),
    ],
)
def test_each_rule_of_the_induction_fails_where_it_is_broken(slip, message):
    with pytest.raises(RuntimeError, match=message):
        prove_handshake(Slip(lanes=3, acc_width=5, slip=slip))


@pytest.fixture(scope="module")
def mapped():
    spec = BitSerial(lanes=3, acc_width=5, levels=1)
    design = toolchain.rtlil(spec)
    return design, equivalence.netlist_of(design, "xilinx")


def test_a_netlist_is_proven_register_by_register(mapped):
    design, netlist = mapped
    assert "LUT" in netlist
    # Every register has its pair, and i.ready, the one output that is none.
    assert equivalence.prove_equal(design, netlist, "xilinx") == len(of_rtlil(design).flops) + 1


def test_a_wrong_bit_of_a_look_up_table_is_found(mapped):
    design, netlist = mapped
    bits = re.search(r"\.INIT\(16'h([0-9a-f]+)\)", netlist)
    wrong = netlist[: bits.start(1)] + f"{int(bits[1], 16) ^ 1:x}" + netlist[bits.end(1) :]
    with pytest.raises(
        RuntimeError, match=r"^the netlist must equal the RTL .* pairs 1 are not proven: \\\w+_gold"
    ):
        equivalence.prove_equal(design, wrong, "xilinx")


def pairs(spec):
    """Registers, and i.ready, the one output that is none; of registers that are always equal, one."""
    return len(of_rtlil(toolchain.rtlil(spec)).flops) + 1


@pytest.mark.parametrize("spec", LIGHT, ids=str)
def test_the_first_samples_of_some_pes_equal_their_netlists(spec):
    assert equivalence.prove_netlist(spec, "ecp5") >= pairs(spec)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [*OTHERS, *GRIDS], ids=str)
def test_every_sample_equals_its_netlist(spec):
    assert equivalence.prove_netlist(spec) >= pairs(spec)


def test_a_status_without_pairs_proves_nothing():
    with pytest.raises(RuntimeError, match=r"; of 0 pairs 0 are not proven: $"):
        equivalence.proven("")


def test_an_unknown_target_is_refused():
    with pytest.raises(ValueError, match=r"^target must be one of ecp5, xilinx, not 'ice40'$"):
        equivalence.prove_netlist(BitSerial(), "ice40")


def test_a_cell_that_is_no_gate_is_refused():
    module = {"cells": {"m": {"type": "$mul", "connections": {"Y": [2]}}}}
    with pytest.raises(RuntimeError, match=r"^cells must be gates or flip-flops of one clock, not '\$mul'$"):
        of_json(module)


def test_equal_functions_of_other_gates_are_equal():
    graph = Graph()
    a, b = graph.variable("a"), graph.variable("b")
    either = graph.both(a ^ 1, b ^ 1) ^ 1
    other = graph.both(a ^ 1, graph.both(a ^ 1, b) ^ 1) ^ 1
    assert either != other
    assert graph.difference(either, other) is None
    assert graph.difference(a, b) in ({"a": True, "b": False}, {"a": False, "b": True})
    assert graph.both(a, a ^ 1) == FALSE
    assert graph.both(a, TRUE) == a
