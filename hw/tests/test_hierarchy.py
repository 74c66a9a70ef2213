"""A design's modules: each once, whole, by the names a reader expects; and still the same circuit."""

from __future__ import annotations

import re

import pytest
from amaranth import EnableInserter, Module, Signal
from amaranth.back import rtlil
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw import hierarchy, toolchain
from hw.grid import Grid
from hw.hierarchy import readable, shared
from hw.pe.bitserial import BitSerial
from hw.pe.twoplane import SAMPLES as TWO_PLANE
from hw.spec import ArraySpec, PeSpec

PE = BitSerial(lanes=5, acc_width=14, levels=1)


def array_of(pe: PeSpec, network: str, rows: int = 2, columns: int = 3) -> dict[str, str]:
    spec = Grid(array=ArraySpec(pe=pe, rows=rows, columns=columns, network=network))
    return hierarchy.verilog(toolchain.rtlil(spec, "array"))


def ports(text: str) -> set[tuple[str, str]]:
    return set(re.findall(r"^  (input|output) (?:\[\d+:0\] )?(\S+);", text, re.M))


class Step(wiring.Component):
    """A register that adds a constant."""

    def __init__(self, amount: int) -> None:
        self.amount = amount
        super().__init__({"a": In(8), "b": Out(8), "same": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = inner = Module()
        total = Signal(8)
        inner.d.comb += total.eq(self.a + self.amount)
        m.d.sync += self.b.eq(total)
        m.d.comb += self.same.eq(self.a == self.b)
        return m


class Steps(wiring.Component):
    """Steps in a row, only one of which tells whether it is the same."""

    def __init__(self, *amounts: int, tells: int = 0) -> None:
        self.amounts, self.tells = amounts, tells
        super().__init__({"a": In(8), "b": Out(8), "same": Out(1), "go": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        value = self.a
        for k, amount in enumerate(self.amounts):
            step = Step(amount)
            m.submodules[f"step_{k}"] = EnableInserter(self.go)(step)
            m.d.comb += step.a.eq(value)
            value = step.b
            if k == self.tells:
                m.d.comb += self.same.eq(step.same)
        m.d.comb += self.b.eq(value)
        return m


def modules(*amounts: int, tells: int = 0, leaves: tuple[str, ...] = ("step",)) -> dict[str, str]:
    return hierarchy.verilog(
        rtlil.convert(Steps(*amounts, tells=tells), name="top", emit_src=False), leaves=leaves
    )


@pytest.mark.parametrize("network", ["broadcast", "systolic"])
@pytest.mark.parametrize("pe", [PE, TWO_PLANE[0]], ids=["bitserial", "twoplane"])
def test_equal_pes_share_a_module_with_the_ports_of_a_pe(pe, network):
    found = array_of(pe, network)
    assert set(found) == {"array", "pe"}
    assert len(re.findall(r"^  pe pe_\d_\d \(", found["array"], re.M)) == 6
    [alone] = hierarchy.verilog(toolchain.rtlil(pe)).values()
    if network == "broadcast":
        assert ports(found["pe"]) == ports(alone)
        assert found["pe"] == alone
    else:  # frozen from outside, and never refused
        more = ports(found["pe"]) - ports(alone)
        assert [direction for direction, _ in more] == ["input"]


def test_the_modules_of_every_text_are_the_same_twice():
    assert array_of(PE, "systolic") == array_of(PE, "systolic")


def test_names_need_no_escape_and_carry_no_number_of_the_design():
    for text in array_of(PE, "systolic").values():
        assert "\\" not in text
        assert "$" not in re.sub(r"\$(un)?signed\b", "", text)
    # The design's numbers grow with the array: a PE's text must not know.
    assert array_of(PE, "broadcast", 1, 2)["pe"] == array_of(PE, "broadcast", 3, 1)["pe"]


@pytest.mark.parametrize("tells", [0, 1, 2])
def test_an_output_that_any_instance_needs_is_a_port_and_open_elsewhere(tells):
    found = modules(3, 3, 3, tells=tells)
    assert set(found) == {"top", "step"}
    assert ("output", "same") in ports(found["step"])
    opened = set(re.findall(r"\.same\((\w+)\)", found["top"]))
    assert opened == {"same", *(f"unused_step_{k}_same" for k in range(3) if k != tells)}


def test_modules_that_differ_in_a_constant_are_not_shared():
    found = modules(3, 4, 3)
    assert set(found) == {"top", "step", "step_2"}
    assert len(re.findall(r"^  step step_\d \(", found["top"], re.M)) == 2
    assert len(re.findall(r"^  step_2 step_1 \(", found["top"], re.M)) == 1
    assert "+ 2'h3" in found["step"]
    assert "+ 3'h4" in found["step_2"]


def test_only_the_leaves_take_in_what_is_below_them():
    assert set(modules(3, 3, leaves=())) == {"top", "step", "inner"}


def test_a_memory_keeps_its_words_and_its_place():
    class Two(wiring.Component):
        def __init__(self) -> None:
            super().__init__({"at": In(2), "a": Out(8), "b": Out(8)})

        def elaborate(self, platform: object) -> Module:
            m = Module()
            for name, words in (("a", [1, 2, 3, 77]), ("b", [1, 2, 3, 99])):
                table = memory.Memory(shape=8, depth=4, init=words)
                m.submodules[f"table_{name}"] = table
                port = table.read_port()
                m.d.comb += [port.addr.eq(self.at), getattr(self, name).eq(port.data)]
            return m

    found = hierarchy.verilog(rtlil.convert(Two(), name="top", emit_src=False))
    # Two memories of one port each, and neither has become the other.
    assert set(found) == {"top"}
    assert len(re.findall(r"^  reg \[7:0\] table_\w+ ?\[3:0\];", found["top"], re.M)) == 2
    assert {"8'h4d", "8'h63"} <= set(re.findall(r"8'h\w\w", found["top"]))


@pytest.mark.parametrize(
    ("label", "name"),
    [(r"\pe_0_12", "pe"), (r"\buffer_w", "buffer_w"), (r"\U$1", "U"), (r"\7", "part")],
)
def test_a_module_is_named_as_its_instances_without_their_numbers(label, name):
    assert readable(label) == name


def test_a_text_without_modules_is_refused():
    with pytest.raises(
        ValueError, match=r"^design must be RTLIL with at least one module, not 'module pe; endmodule'$"
    ):
        shared("module pe; endmodule")
