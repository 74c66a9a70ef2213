"""Every PE on packed matrices: what it computes of them, by its definition, assembles to the judge's sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from algo.bitplane import family
from hw.grid import Grid
from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec, PeSpec
from sim import judge, schedule
from sim.tests.test_schedule import tiles

SAMPLES: list[PeSpec] = [
    *(spec for name in family.names("hw.pe") for spec in family.load("hw.pe", name).SAMPLES),
    Grid(array=ArraySpec(pe=BitSerial(lanes=9, acc_width=24), rows=2, columns=3)),
    Grid(array=ArraySpec(pe=BitSerial(lanes=9, acc_width=24), rows=3, columns=1, network="systolic")),
]


def runs(matrix, activations, pe) -> bool:
    try:
        schedule.check_pe(matrix, activations, pe)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("pe", SAMPLES, ids=repr)
@settings(deadline=None, max_examples=12, suppress_health_check=list(HealthCheck))
@given(tile=tiles(), seed=st.integers(0, 9))
def test_items_by_the_definition_assemble_to_the_judges_sums(pe, tile, seed):
    matrix, activations, tokens, rows, _ = tile
    assume(runs(matrix, activations, pe))
    work = schedule.work(matrix, activations, pe, tokens, rows)
    listed = work.beats.to_list()
    items = np.array([pe.items(listed, output) for output in range(pe.outputs)]).T
    expected = judge.integer_sums(matrix, activations)[:, tokens][:, :, rows]
    np.testing.assert_array_equal(schedule.assemble(work, items), expected)
    shape = schedule.shape(matrix, activations[0].bits, 1)
    blocks = -(-len(rows) // pe.rows) * -(-len(tokens) // pe.tokens)
    per_output = sum(segment.count * pe.beats(segment) for segment in shape.segments)
    assert len(work.beats) == per_output * blocks
