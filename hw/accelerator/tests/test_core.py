"""The core's RTL against the model in plain Python: tiles, completions, errors, under stalls."""

from __future__ import annotations

import random

import numpy as np
import pytest

from hw.accelerator.commands import FILLS, Error, Load, Opcode, Run, factor_entry, header, step_entry
from hw.accelerator.spec import AcceleratorSpec
from hw.accelerator.tests import packets
from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec, horner


def small(**given) -> AcceleratorSpec:
    pe = BitSerial(lanes=8, acc_width=20, levels=1)
    array = ArraySpec(pe=pe, rows=given.pop("rows", 2), columns=given.pop("columns", 2))
    depths = {"w_depth": 16, "x_depth": 16, "mask_depth": 8, "scale_depth": 32, "requant_depth": 4}
    return AcceleratorSpec(array=array, **{**depths, "step_depth": 8} | given)


def loads(spec: AcceleratorSpec, rng: random.Random, half: int) -> list[Load]:
    """Random contents of one half of every buffer, and a table of one item."""
    found = []
    fills = {Opcode.LOAD_W: "w", Opcode.LOAD_X: "x", Opcode.LOAD_MASK: "mask", Opcode.LOAD_SCALE: "scale"}
    for opcode, name in fills.items():
        buffer = spec.buffers()[name]
        shape = [buffer.elements] * buffer.depth
        entries = [[rng.getrandbits(buffer.bits) for _ in range(elements)] for elements in shape]
        found.append(Load(opcode=opcode, address=half * buffer.depth, entries=entries))
    factors = [factor_entry(rng.randint(-900, 900), 20, spec) for _ in range(spec.requant_depth)]
    found.append(Load(opcode=Opcode.LOAD_REQUANT, address=half * spec.requant_depth, entries=factors))
    steps = horner((1, -2), (1, 2))
    table = [
        step_entry(
            s, max(s.w_plane, 0), max(s.x_plane, 0), first=at == 0, last=at == len(steps) - 1, x_bipolar=True
        )
        for at, s in enumerate(steps)
    ]
    found.append(Load(opcode=Opcode.LOAD_STEPS, address=half * spec.step_depth, entries=table))
    return found


def descriptor(spec: AcceleratorSpec, half: int, **given) -> Run:
    fields = {
        f"{name}_base": half * buffer.depth for name, buffer in spec.buffers().items()
    } | {
        "rows": spec.rows, "columns": spec.columns, "chunks": 2, "groups": 2, "steps": 4,
        "w_step": 2, "x_step": 2, "mask_step": 1, "w_stride": 4, "x_stride": 4, "mask_stride": 2,
    }  # fmt: skip
    return Run(**fields | given)


@pytest.mark.parametrize(("scaling", "stall"), [("parallel", False), ("serial", True)])
def test_a_run_computes_what_the_model_says(scaling, stall):
    spec = small(scaling=scaling)
    rng = random.Random(0)
    commands = [
        *loads(spec, rng, 0),
        descriptor(spec, 0, tag=7),
        *loads(spec, rng, 1),
        descriptor(spec, 1, tag=8, narrow=True),
        descriptor(spec, 0, tag=9, rows=1, drain=False, clear=True),
        descriptor(spec, 1, tag=10, rows=1, columns=1, clear=False),
        descriptor(spec, 0, tag=11, groups=1, tiles=3, mask_stays=True),
    ]
    words = [command.words(spec) for command in commands]
    model = packets.modelled(spec, words)
    assert [c.error for c in model.completions] == [0] * 5
    assert len(model.tiles) == 6
    patterns = {}
    if stall:
        patterns = {
            name: (np.random.default_rng(at).random(3000) < 0.5).tolist()
            for at, name in enumerate(("offered", "ready", "go"))
        }
    seen = packets.run(spec, words, **patterns)
    assert seen.completions == model.completions
    assert seen.tiles == model.tiles
    assert seen.clocks["runs"] == model.beats


def test_addresses_are_checked_to_the_last_entry():
    spec, rng = small(), random.Random(5)
    last = {"w": 7, "x": 7, "mask": 3, "scale": 3, "requant": 1}  # offset of a descriptor's last access
    commands, wanted = loads(spec, rng, 0), []
    for name, reach in last.items():
        for beyond in (0, 1):
            base = spec.buffers()[name].depth - 1 - reach + beyond
            commands.append(descriptor(spec, 0, narrow=True, tag=len(wanted), **{f"{name}_base": base}))
            wanted.append(Error.ADDRESS if beyond else Error.NONE)
    for steps in (spec.step_depth, spec.step_depth + 1):  # not the table loaded above, but within the half
        commands.append(descriptor(spec, 0, steps=steps - 4, steps_base=4, tag=len(wanted)))
        wanted.append(Error.NONE if steps == spec.step_depth else Error.ADDRESS)
    words = [command.words(spec) for command in commands]
    again = loads(spec, rng, 0)[-1]
    words.insert(6, Load(opcode=again.opcode, address=4, entries=again.entries).words(spec))
    seen = packets.run(spec, words)
    assert [c.error for c in seen.completions] == wanted
    assert seen.tiles == packets.modelled(spec, words).tiles


@pytest.mark.parametrize("count", [1, 2])
def test_a_load_may_fill_a_half_to_its_last_entry(count):
    spec = small()
    words = []
    for opcode, name in FILLS.items():
        buffer = spec.buffers()[name]
        entries = [[0] * buffer.elements] * count
        words.append(Load(opcode=opcode, address=2 * buffer.depth - 1, entries=entries).words(spec))
    words.append([header(99, 5, 0, 1)])  # something that completes
    seen = packets.run(spec, words)
    wanted = [Error.ADDRESS] * (len(words) - 1) if count == 2 else []
    assert [c.error for c in seen.completions] == [*wanted, Error.OPCODE]


def test_every_field_of_a_descriptor_is_checked():
    spec, rng = small(), random.Random(6)
    wrong = [({name: 0}, Error.COUNT) for name in ("rows", "columns", "chunks", "groups", "tiles", "steps")]
    wrong += [({name: 3}, Error.COUNT) for name in ("rows", "columns")]
    wrong += [
        ({f"{name}_base": 2 * buffer.depth, "narrow": True}, Error.ADDRESS)
        for name, buffer in spec.buffers().items()
    ]
    wrong += [({"tiles": 2, "clear": False}, Error.ORDER), ({"tiles": 2, "drain": False}, Error.ORDER)]
    wrong += [({"steps": 3}, Error.TABLE), ({"steps_base": 1, "steps": 3}, Error.TABLE)]
    wrong += [({"clear": False}, Error.ORDER)]  # after one that failed
    sound = [({"requant_base": 2 * spec.requant_depth}, Error.NONE), ({"clear": False}, Error.NONE)]
    cases = [*wrong, *sound]
    commands = [*loads(spec, rng, 0)]
    commands += [descriptor(spec, 0, tag=at, **fields) for at, (fields, _) in enumerate(cases)]
    words = [command.words(spec) for command in commands]
    seen = packets.run(spec, words)
    assert [(c.tag, c.error) for c in seen.completions] == [(at, e) for at, (_, e) in enumerate(cases)]
    model = packets.modelled(spec, words)
    assert seen.completions == model.completions
    assert seen.tiles == model.tiles
    assert len(seen.tiles) == len(sound)
