"""The accelerator as a block of a system: AXI4-Stream in and out, AXI4-Lite registers, an interrupt line."""

from __future__ import annotations

from typing import Any

from amaranth import ClockDomain, ClockSignal, Module, ResetInserter, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.accelerator import registers
from hw.accelerator.axi_lite import slave_ports
from hw.accelerator.control import Control
from hw.accelerator.core import Core
from hw.accelerator.spec import AcceleratorSpec


def shell_ports(spec: AcceleratorSpec) -> dict[str, Any]:
    """The ports of a `Shell`."""
    axi_lite = {f"s_axi_{name}": member for name, member in slave_ports(registers.ADDRESS_BITS).items()}
    return {
        "s_axis_tdata": In(spec.bus),
        "s_axis_tvalid": In(1),
        "s_axis_tready": Out(1),
        "s_axis_tlast": In(1),
        "m_axis_output_tdata": Out(spec.bus),
        "m_axis_output_tkeep": Out(spec.bus // 8),
        "m_axis_output_tvalid": Out(1),
        "m_axis_output_tready": In(1),
        "m_axis_output_tlast": Out(1),
        "irq": Out(1),
        **axi_lite,
    }


class Shell(wiring.Component):
    """Ports by AXI names: ``s_axis_*`` packets, ``m_axis_output_*`` tiles, ``s_axi_*`` registers, ``irq``.

    Source: Arm, AMBA 4 AXI4-Stream Protocol Specification, IHI 0051. TLAST ends a packet and a tile; TKEEP of
    the output has a bit for each byte in use, all of them but at a tile's end.
    """

    def __init__(self, spec: AcceleratorSpec) -> None:
        self.spec = spec
        super().__init__(shell_ports(spec))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.control = control = Control(self.spec)
        core = Core(self.spec)
        m.submodules.core = ResetInserter(control.reset)(core)
        for name, member in slave_ports(registers.ADDRESS_BITS).items():
            inner, outer = getattr(control, name), getattr(self, f"s_axi_{name}")
            m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        for name in ("took", "done", "done_error", "done_tag", "idle", "runs", "waits_out", "waits_in"):
            m.d.comb += getattr(control, name).eq(getattr(core, name))
        m.d.comb += [
            core.go.eq(control.go),
            self.irq.eq(control.irq),
            core.s.payload.data.eq(self.s_axis_tdata),
            core.s.payload.last.eq(self.s_axis_tlast),
            core.s.valid.eq(self.s_axis_tvalid),
            # Nothing is taken at the edge that drops everything.
            self.s_axis_tready.eq(core.s.ready & ~control.reset),
            self.m_axis_output_tdata.eq(core.m.payload.data),
            self.m_axis_output_tkeep.eq(core.m.payload.keep),
            self.m_axis_output_tlast.eq(core.m.payload.last),
            self.m_axis_output_tvalid.eq(core.m.valid),
            core.m.ready.eq(self.m_axis_output_tready),
        ]
        return m


class AxiTop(wiring.Component):
    """A `Shell` on AXI's clock and reset, ``aclk`` and ``aresetn``: the top of the Verilog."""

    def __init__(self, spec: AcceleratorSpec) -> None:
        self.spec = spec
        super().__init__({"aclk": In(1), "aresetn": In(1), **shell_ports(spec)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = ClockDomain()
        m.d.comb += [ClockSignal().eq(self.aclk), ResetSignal().eq(~self.aresetn)]
        m.submodules.shell = shell = Shell(self.spec)
        for name, member in shell_ports(self.spec).items():
            inner, outer = getattr(shell, name), getattr(self, name)
            m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        return m
