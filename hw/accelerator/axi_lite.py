"""AXI4-Lite slave: turns transfers into single-clock reads and writes of registers.

Source: Arm, AMBA AXI and ACE Protocol Specification, IHI 0022, part B. One transfer of each kind at a time;
address and data of a write may come in either order.
"""

from __future__ import annotations

from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

OKAY, SLVERR = 0, 2  #: responses


def slave_ports(address_bits: int) -> dict[str, Any]:
    """The signals of an AXI4-Lite slave of 32 bits, by their usual names."""
    return {
        "awaddr": In(address_bits),
        "awvalid": In(1),
        "awready": Out(1),
        "wdata": In(32),
        "wstrb": In(4),
        "wvalid": In(1),
        "wready": Out(1),
        "bresp": Out(2),
        "bvalid": Out(1),
        "bready": In(1),
        "araddr": In(address_bits),
        "arvalid": In(1),
        "arready": Out(1),
        "rdata": Out(32),
        "rresp": Out(2),
        "rvalid": Out(1),
        "rready": In(1),
    }


class AxiLite(wiring.Component):
    """``write`` and ``read`` are 1 for the one clock in which the registers act and answer.

    ``write_ok``, ``read_ok`` and ``read_data`` are the registers' answer, in that clock.
    """

    def __init__(self, address_bits: int) -> None:
        self.address_bits = address_bits
        super().__init__(
            slave_ports(address_bits)
            | {
                "write": Out(1),
                "write_addr": Out(address_bits),
                "write_data": Out(32),
                "write_mask": Out(32),
                "write_ok": In(1),
                "read": Out(1),
                "read_addr": Out(address_bits),
                "read_data": In(32),
                "read_ok": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += [
            self.write.eq(self.awvalid & self.wvalid & ~self.bvalid),
            self.awready.eq(self.write),
            self.wready.eq(self.write),
            self.write_addr.eq(self.awaddr),
            self.write_data.eq(self.wdata),
            self.read.eq(self.arvalid & ~self.rvalid),
            self.arready.eq(~self.rvalid),
            self.read_addr.eq(self.araddr),
        ]
        for byte in range(4):
            m.d.comb += self.write_mask[8 * byte : 8 * byte + 8].eq(self.wstrb[byte].replicate(8))
        with m.If(self.write):
            m.d.sync += [self.bvalid.eq(1)]
            with m.If(self.write_ok):
                m.d.sync += self.bresp.eq(OKAY)
            with m.Else():
                m.d.sync += self.bresp.eq(SLVERR)
        with m.Elif(self.bready):
            m.d.sync += self.bvalid.eq(0)
        with m.If(self.read):
            m.d.sync += [self.rvalid.eq(1), self.rdata.eq(self.read_data)]
            with m.If(self.read_ok):
                m.d.sync += self.rresp.eq(OKAY)
            with m.Else():
                m.d.sync += self.rresp.eq(SLVERR)
        with m.Elif(self.rready):
            m.d.sync += self.rvalid.eq(0)
        return m
