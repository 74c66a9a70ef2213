"""Proofs about PEs, and that each fails on a planted fault."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from amaranth import Signal
from hypothesis import given
from hypothesis import strategies as st

from algo.bitplane import family
from hw import toolchain
from hw.formal import datapath, equivalence
from hw.formal.circuit import of_json, of_rtlil
from hw.formal.datapath import prove_datapath
from hw.formal.graph import FALSE, TRUE, Graph
from hw.formal.handshake import prove_handshake
from hw.pe.bitserial import BitSerial, BitSerialPE
from hw.spec import Beat, wrap
from hw.tests.faulty import Faulty

SAMPLES = [spec for name in family.names("hw.pe") for spec in family.load("hw.pe", name).SAMPLES]
#: The diagrams of a Wallace tree grow exponentially: 2 s at 24 lanes, out of reach from about 32.
SMALL = [spec for spec in SAMPLES if spec.lanes <= 16]


@pytest.mark.parametrize("spec", SAMPLES, ids=str)
def test_streams_are_proven_for_any_stalls(spec):
    prove_handshake(spec)


@pytest.mark.parametrize("spec", [*SMALL, BitSerial(lanes=12, acc_width=16)], ids=str)
def test_datapath_is_proven_equal_to_integers(spec):
    prove_datapath(spec)


@pytest.mark.slow
@pytest.mark.parametrize("levels", [0, 1, 3])
def test_datapath_of_24_lanes_is_proven_equal_to_integers(levels):
    prove_datapath(BitSerial(lanes=24, acc_width=32, levels=levels))


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


@pytest.mark.parametrize(
    ("fault", "port"),
    [("ignores shift", "o.payload"), ("counts a bubble", "o.payload"), ("comes one clock late", "o.valid")],
)
def test_a_fault_of_the_datapath_has_a_counterexample_that_golden_confirms(fault, port):
    spec = Faulty(lanes=5, acc_width=9, fault=fault)
    with pytest.raises(RuntimeError, match=rf"^{port} must be -?\d+, not -?\d+, \d+ clocks after ") as caught:
        prove_datapath(spec)
    words = re.fullmatch(
        r"\S+ must be (\S+), not (\S+), \d+ clocks after (Beat\(.*\)) on the accumulator (\S+)",
        str(caught.value),
    )
    expected, found, beat, acc = words.groups()
    assert expected != found
    if port == "o.payload":
        named = eval(beat, {"Beat": Beat})
        assert spec.golden(int(acc), named) == int(expected)


def test_one_wrong_gate_of_a_wide_datapath_is_found():
    spec = BitSerial(lanes=12, acc_width=16)
    design = toolchain.rtlil(spec)
    wrong = design.replace("cell $xor", "cell $or", 1)
    assert wrong != design
    with pytest.raises(RuntimeError, match=r"^o.payload must be "):
        datapath.prove_rtl(spec, wrong)


@given(st.data())
def test_the_specification_of_the_datapath_is_golden(data):
    spec = BitSerial(lanes=data.draw(st.integers(1, 7)), acc_width=9)
    names = [f"{word}{lane}" for lane in range(spec.lanes) for word in datapath.WORDS]
    names += [*datapath.MODES, *datapath.FLAGS, *(f"acc{bit}" for bit in range(spec.acc_width))]
    bdd = datapath.diagrams(names)
    chosen = {name: data.draw(st.booleans()) for name in names}
    beat, acc = datapath.beat_of(spec, chosen)
    value = datapath.value_of(bdd, datapath.specified(spec, bdd), chosen)
    assert wrap(value, spec.acc_width) == spec.golden(acc, beat)


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


@pytest.mark.slow
@pytest.mark.parametrize("spec", SAMPLES, ids=str)
def test_every_sample_equals_its_netlist(spec):
    assert equivalence.prove_netlist(spec) == len(of_rtlil(toolchain.rtlil(spec)).flops) + 1


def test_a_status_without_pairs_proves_nothing():
    with pytest.raises(RuntimeError, match=r"; of 0 pairs 0 are not proven: $"):
        equivalence.proven("")


def test_an_unknown_target_is_refused():
    with pytest.raises(ValueError, match=r"^target must be one of xilinx, not 'ice40'$"):
        equivalence.prove_netlist(BitSerial(), "ice40")


def test_a_cell_that_is_no_gate_is_refused():
    module = {"cells": {"m": {"type": "$mul", "connections": {"Y": [2]}}}}
    with pytest.raises(RuntimeError, match=r"^cells must be gates or flip-flops of one clock, not '\$mul'$"):
        of_json(module)


def test_beats_of_another_kind_are_refused():
    spec = BitSerial(lanes=2, acc_width=4)
    with pytest.raises(
        ValueError, match=r"^spec must be of a PE whose beats are those of Beat, not BitSerial"
    ):
        datapath.prove_rtl(BitSerial(lanes=3, acc_width=4), toolchain.rtlil(spec))


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
