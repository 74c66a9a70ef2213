"""Clocks of whole sessions: the RTL's own count, with loads and runs that wait for each other."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from hw.accelerator import clocks, simulate
from hw.accelerator.clocks import Clocks, packets_of
from hw.accelerator.commands import FILLS, Command, Load, Opcode, Run
from hw.accelerator.driver import session_of
from hw.accelerator.spec import AcceleratorSpec
from hw.accelerator.tests import packets, scenarios
from hw.accelerator.tests.test_random import SPECS


def session(spec: AcceleratorSpec, seed: int, count: int) -> list[Command]:
    """Sound commands: all buffers filled once, then loads and runs at random, the last one a run."""
    rng = random.Random(seed)
    opcodes = [op for op in FILLS if FILLS[op] in spec.buffers()]
    found: list[Command] = [
        scenarios.load(rng, spec, op, half, whole=True)
        for op in opcodes
        for half in (0, 1)
        if op != Opcode.LOAD_SCALE_ALL
    ]
    while len(found) < count:
        wanted = rng.random() < 0.5 or len(found) == count - 1
        command: Command = (
            replace(scenarios.run(rng, spec), steps=spec.step_depth, clear=True, drain=True)
            if wanted
            else scenarios.load(rng, spec, rng.choice(opcodes), rng.randrange(2), whole=rng.random() < 0.5)
        )
        if isinstance(command, Load) and command.opcode == Opcode.LOAD_STEPS:
            continue
        model = packets.modelled(spec, [c.words(spec) for c in [*found, command]])
        if all(not c.error for c in model.completions):
            found.append(command)
    return found


def measured(spec: AcceleratorSpec, commands: list[Command]) -> int:
    """Clocks of the RTL in Amaranth's simulator, through the AXI ports."""
    tiles = len(packets.modelled(spec, [command.words(spec) for command in commands]).tiles)
    return simulate.run(spec, session_of(spec, commands, tiles)).clocks


@pytest.mark.parametrize("at", range(5))
def test_the_rtl_takes_the_clocks_of_the_model(at):
    commands = session(SPECS[at], at, 26)
    assert sum(isinstance(command, Run) for command in commands) > 5
    assert measured(SPECS[at], commands) == clocks.cycles(SPECS[at], commands)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 40))
def test_the_rtl_takes_the_clocks_of_the_model_in_many_sessions(seed):
    spec = replace(SPECS[seed % 5], queue=1 + seed % 3)
    commands = session(spec, seed, 40)
    assert measured(spec, commands) == clocks.cycles(spec, commands)


@pytest.mark.parametrize("at", range(5))
def test_clocks_that_only_count_are_skipped_without_a_trace(at):
    spec = SPECS[at]
    commands = session(spec, 50 + at, 40)
    whole, skipped = (Clocks(spec, packets_of(spec, commands)) for _ in range(2))
    while whole.busy():
        whole.step()
    steps = 0
    while skipped.busy():
        skipped.skip()
        skipped.step()
        steps += 1
    assert (skipped.drained, skipped.clock) == (whole.drained, whole.clock)
    assert steps < whole.clock


def test_nothing_that_comes_out_takes_no_time():
    assert clocks.cycles(SPECS[0], []) == 0
