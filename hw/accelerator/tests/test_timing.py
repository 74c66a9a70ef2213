"""Clocks: the RTL's own count against the recurrences, and those against the closed form."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.accelerator import timing
from hw.accelerator.commands import Load, Opcode, Run
from hw.accelerator.spec import AcceleratorSpec
from hw.accelerator.tests import packets, scenarios
from hw.accelerator.tests.test_random import SPECS, spec_of

#: Until then descriptors gather in the queue.
HELD = 64


def measured(spec: AcceleratorSpec, runs: list[Run], table: list[list[int]]) -> tuple[int, int]:
    """Clocks of the RTL from the first descriptor taken to the last completion, and by the recurrences."""
    fill = Load(opcode=Opcode.LOAD_STEPS, address=0, entries=table)
    words = [fill.words(spec), *(run.words(spec) for run in runs)]
    seen = packets.run(spec, words, go=[False] * HELD)
    assert [c.error for c in seen.completions] == [0] * len(runs)
    items = [item for run in runs for item in timing.items_of(run, [step for (step,) in table])]
    return seen.done_at[-1] - HELD + 1, timing.cycles(spec, items)


def random_run(rng: random.Random, spec: AcceleratorSpec) -> Run:
    tiles = rng.choice([1, 1, 2])
    return Run(
        rows=rng.randint(1, spec.rows),
        columns=rng.randint(1, spec.columns),
        chunks=rng.randint(1, 4),
        groups=rng.randint(1, 2) if tiles == 1 else 1,
        tiles=tiles,
        steps=spec.step_depth,
        drain=tiles > 1 or rng.random() < 0.8,
        w_stride=0,
    )


@pytest.mark.parametrize("at", range(5))
def test_runs_one_after_the_other_take_the_clocks_of_the_recurrences(at):
    spec, rng = SPECS[at], random.Random(at)
    for _ in range(1 + (at == 1)):
        table = scenarios.table(rng, spec.step_depth)
        runs = [random_run(rng, spec) for _ in range(spec.queue)]
        clocks, model = measured(spec, runs, table)
        assert clocks == model


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_many_runs_take_the_clocks_of_the_recurrences(seed):
    spec, rng = SPECS[seed % 5], random.Random(seed)
    runs = [random_run(rng, spec) for _ in range(spec.queue)]
    clocks, model = measured(spec, runs, scenarios.table(rng, spec.step_depth))
    assert clocks == model


SHAPES = st.builds(
    spec_of,
    st.sampled_from([3, 64, 100]),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(0, 2),
    scaling=st.sampled_from(["parallel", "serial"]),
    scale_bits=st.integers(1, 20),
)


@given(SHAPES, st.integers(1, 30), st.integers(1, 40), st.data())
def test_the_closed_form_is_what_the_recurrences_come_to(spec, items, beats, data):
    rows, columns = (data.draw(st.integers(1, most)) for most in (spec.rows, spec.columns))
    shape = {"beats": beats, "rows": rows, "columns": columns}
    each = [timing.Item(**shape, finishes=at == items - 1, ends=at == items - 1) for at in range(items)]
    assert spec.cycles(items=items, **shape) == timing.cycles(spec, each)


def test_nothing_takes_no_time():
    assert timing.cycles(SPECS[0], []) == 0


def test_loads_of_one_half_overlap_with_runs_on_the_other():
    """Clocks are those of the stream in, and of the last run behind it: all others hide."""
    spec, rng = spec_of(8, 2, 2, 1), random.Random(0)
    table = scenarios.table(rng, spec.step_depth)
    commands = [Load(opcode=Opcode.LOAD_STEPS, address=0, entries=table)]
    blocks = 8
    run = Run(rows=2, columns=2, chunks=4, groups=1, steps=spec.step_depth, w_step=4, x_step=0, mask_step=0)
    items = timing.items_of(run, [step for (step,) in table])
    for block in range(blocks):
        base = block % 2 * spec.w_depth
        entries = [[rng.getrandbits(8) for _ in range(2)] for _ in range(spec.w_depth)]
        commands.append(Load(opcode=Opcode.LOAD_W, address=base, entries=entries))
        commands.append(Run(**vars(run) | {"w_base": base, "tag": block}))
    words = [command.words(spec) for command in commands]
    seen = packets.run(spec, words)
    assert seen.tiles == packets.modelled(spec, words).tiles
    # A header is looked at for a clock; so is a whole descriptor, and then it goes to the queue.
    stream = sum(map(len, words)) + len(words) + 2 * blocks
    assert seen.done_at[-1] + 1 <= stream + timing.cycles(spec, items) + 1
    beats = blocks * sum(item.beats for item in items)
    assert seen.clocks["runs"] == beats > 0.5 * stream
