"""Random packets, sound and malformed, under random stalls: the core's RTL against the model."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from hw.accelerator.commands import Error
from hw.accelerator.spec import AcceleratorSpec
from hw.accelerator.tests import packets, scenarios
from hw.pe.bitserial import BitSerial
from hw.pe.planes import PlaneParallel
from hw.spec import ArraySpec


def spec_of(lanes: int, rows: int, columns: int, levels: int, **given: Any) -> AcceleratorSpec:
    pe = given.pop("pe", BitSerial(lanes=lanes, acc_width=14, levels=levels))
    depths = {"w_depth": 16, "x_depth": 16, "mask_depth": 8, "scale_depth": 32, "requant_depth": 8}
    array = ArraySpec(pe=pe, rows=rows, columns=columns)
    return AcceleratorSpec(array=array, **depths | {"step_depth": 4} | given)


SPECS = [
    spec_of(8, 2, 2, 1),
    spec_of(5, 3, 2, 0, scaling="serial", scale_bits=5, queue=1),
    spec_of(70, 1, 3, 2, bus=128, sum_bits=32),
    spec_of(3, 2, 1, 1, scale_bits=20, sum_bits=16, requant_depth=2),
    spec_of(6, 2, 2, 1, pe=PlaneParallel(lanes=6, acc_width=14, levels=1, w_planes=2, x_planes=1)),
]
STALLS = [(1.0, 1.0, 1.0), (0.6, 0.5, 0.7), (1.0, 0.1, 1.0), (0.2, 1.0, 0.3)]


def patterns(seed: int, shares: tuple[float, float, float]) -> dict[str, list[bool]]:
    rng = np.random.default_rng(seed)
    return {
        name: (rng.random(20_000) < share).tolist()
        for name, share in zip(("offered", "ready", "go"), shares, strict=True)
    }


def scenario(spec: AcceleratorSpec, seed: int, count: int) -> list[list[int]]:
    found = scenarios.packets(random.Random(seed), spec, count)
    return [words for words in found if scenarios.longest(words) < 400]


@pytest.mark.parametrize("at", range(5))
def test_random_packets_come_to_what_the_model_says(at):
    spec = SPECS[at]
    words = scenario(spec, at, 60)
    model = packets.modelled(spec, words)
    seen = packets.run(spec, words, **patterns(at, STALLS[at % 4]))
    assert seen.completions == model.completions
    assert seen.tiles == model.tiles
    assert seen.clocks["runs"] == model.beats


@pytest.mark.slow
@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("seed", range(10, 22))
def test_many_random_packets_come_to_what_the_model_says(at, seed):
    spec = SPECS[at]
    words = scenario(spec, seed, 150)
    model = packets.modelled(spec, words)
    seen = packets.run(spec, words, **patterns(seed, STALLS[seed % 4]), limit=60_000)
    assert (seen.completions, seen.tiles) == (model.completions, model.tiles)


def test_the_random_packets_meet_every_error_and_every_flag():
    errors, flags, sound = set(), set(), 0
    for at, spec in enumerate(SPECS):
        words = scenario(spec, at, 60)
        model = packets.modelled(spec, words)
        errors |= {c.error for c in model.completions}
        sound += sum(not c.error for c in model.completions)
        flags |= {scenarios.flags_of(w) for w in words if scenarios.longest(w)}
        assert len(model.tiles) > 5
    assert errors == set(Error)
    assert len(flags) >= 12  # of 16 combinations, of which 14 are not refused
    assert sound > 40
