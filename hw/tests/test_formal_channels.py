"""The accelerator's outgoing channels keep what they offer, from any state; one that does not is seen."""

import pytest
from amaranth import Module, Signal
from amaranth.back import rtlil
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.accelerator.shell import AxiTop
from hw.accelerator.spec import AcceleratorSpec
from hw.formal.channels import Channel, prove_channel
from hw.formal.circuit import Circuit, of_rtlil
from hw.formal.graph import TRUE
from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec

DEPTHS = ("w_depth", "x_depth", "mask_depth", "scale_depth", "requant_depth", "step_depth", "queue")
SPEC = AcceleratorSpec(
    array=ArraySpec(pe=BitSerial(lanes=2, acc_width=8, levels=1), rows=1, columns=1),
    scale_bits=4,
    sum_bits=16,
    **dict.fromkeys(DEPTHS, 1),
)
CHANNELS = {
    "tiles": Channel(
        valid="m_axis_output_tvalid",
        ready="m_axis_output_tready",
        payload=("m_axis_output_tdata", "m_axis_output_tkeep", "m_axis_output_tlast"),
    ),
    "answers to writes": Channel(valid="s_axi_bvalid", ready="s_axi_bready", payload=("s_axi_bresp",)),
    "answers to reads": Channel(
        valid="s_axi_rvalid", ready="s_axi_rready", payload=("s_axi_rdata", "s_axi_rresp")
    ),
}
#: No reset is given, and none from CONTROL comes in that clock: it may take back a tile.
PINNED, QUIET = {"aresetn": TRUE}, ("shell.control.reset",)


@pytest.fixture(scope="module")
def accelerator() -> Circuit:
    return of_rtlil(str(rtlil.convert(AxiTop(SPEC), name="pe", emit_src=False)))


@pytest.mark.parametrize("name", CHANNELS)
def test_what_the_accelerator_offers_stays_until_it_is_taken(accelerator, name):
    prove_channel(accelerator, CHANNELS[name], PINNED, QUIET)


def test_tiles_may_be_taken_back_by_a_reset_from_control_and_by_nothing_else(accelerator):
    with pytest.raises(RuntimeError, match=r"^\S*tvalid\S* must stay until taken; .*\.reset\[0\]=1"):
        prove_channel(accelerator, CHANNELS["tiles"], PINNED, ())


class Register(wiring.Component):
    """A register of four bits between two channels, right or wrong in one way."""

    in_valid: In(1)
    in_data: In(4)
    in_ready: Out(1)
    out_valid: Out(1)
    out_data: Out(4)
    out_ready: In(1)

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held, data = Signal(), Signal(4)
        m.d.comb += [
            self.in_ready.eq(~held | self.out_ready),
            self.out_valid.eq(held & self.out_ready if self.fault == "waits for ready" else held),
            self.out_data.eq(data),
        ]
        with m.If(self.in_ready | (self.in_valid if self.fault == "changes" else 0)):
            m.d.sync += data.eq(self.in_data)
        with m.If(self.in_ready):
            m.d.sync += held.eq(self.in_valid)
        if self.fault == "gives up":
            with m.If(~self.in_valid):
                m.d.sync += held.eq(0)
        return m


def register(fault: str) -> None:
    circuit = of_rtlil(str(rtlil.convert(Register(fault), name="pe", emit_src=False)))
    channel = Channel(valid="out_valid", ready="out_ready", payload=("out_data",))
    prove_channel(circuit, channel, {"rst": 0}, ())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("waits for ready", r"out_valid\[0\] must not see ready"),
        ("gives up", r"out_valid\[0\] must stay until taken"),
        ("changes", r"out_data\[\d\] must keep its value until taken"),
    ],
)
def test_each_way_to_break_a_channel_is_named(fault, message):
    register("")
    with pytest.raises(RuntimeError, match=f"^{message}; it does not with "):
        register(fault)
