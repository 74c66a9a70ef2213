"""Sessions in Amaranth's simulator: what a host complains of, and that stalls change no result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from hw.accelerator import registers, simulate
from hw.accelerator.shell import shell_ports
from hw.accelerator.simulate import Host
from hw.accelerator.tests import packets
from hw.accelerator.tests.test_shell import SPEC, session, sound

AUTO = [(registers.offset("CONTROL"), 1)]


def test_stalls_on_either_side_change_no_result():
    words = sound(runs=2)
    whole = replace(
        session(words, tiles=2), writes=AUTO, finish=[(registers.offset("COMPLETED"), None)], limit=2000
    )
    rng = np.random.default_rng(0)
    offered, ready = ((rng.random(3000) < share).tolist() for share in (0.5, 0.3))
    outcome = simulate.run(SPEC, whole, offered, ready)
    assert outcome.tiles == packets.modelled(SPEC, words).tiles
    assert outcome.reads == [2]
    assert outcome.clocks > sum(map(len, words))


def test_a_tile_that_never_comes_ends_the_session():
    lacking = replace(session(sound(), tiles=2), writes=AUTO, limit=300)
    with pytest.raises(RuntimeError, match=r"^2 tiles must come within 300 clocks, not 1$"):
        simulate.run(SPEC, lacking)


def test_the_interrupt_ends_the_session():
    words = [[99 << 8 | 1]]  # an unknown opcode
    enabled = [(registers.offset("IRQ_ENABLE"), 2)]
    reads = [(registers.offset("ERRORS"), None)]
    outcome = simulate.run(SPEC, replace(session(words, tiles=1), writes=enabled, finish=reads))
    assert outcome.reads == [1 << 2]


def test_a_write_that_is_refused_is_reported():
    with pytest.raises(RuntimeError, match=r"^register 0x0 must be writable, not refuse 0x7$"):
        simulate.run(SPEC, replace(session([]), writes=[(0, 7)]))


class Restless(wiring.Component):
    """A stream out whose word changes in every clock."""

    def __init__(self) -> None:
        self.spec = SPEC
        super().__init__(
            {n: p for n, p in shell_ports(SPEC).items() if n.startswith("m_axis")} | {"on": Out(1)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.m_axis_output_tvalid.eq(1)
        m.d.sync += self.m_axis_output_tdata.eq(self.m_axis_output_tdata + 1)
        return m


def test_a_word_that_changes_under_back_pressure_is_reported():
    host = Host(Restless(), ready=[False, False, False])
    simulator = Simulator(host.shell)
    simulator.add_clock(1e-6)
    simulator.add_testbench(host.receive)
    with pytest.raises(
        RuntimeError, match=r"^m_axis_output must hold a word until it is taken, not change it$"
    ):
        simulator.run()
