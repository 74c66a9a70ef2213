"""Every PE on packed matrices: what it computes of them, by its definition, assembles to the judge's sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from algo.bitplane import family
from algo.bitplane.activations import quantize_activations
from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit, Format
from algo.bitplane.planes import Pattern
from algo.bitplane.tests.strategies import n_of_m
from hw.grid import Grid
from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec, PeSpec, Segment
from sim import judge, schedule
from sim.tests.test_engines import SIGN
from sim.tests.test_schedule import tiles

INT8 = (1, 2, 4, 8, 16, 32, 64, -128)
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


def check(pe, matrix, activations, tokens, rows):
    work = schedule.work(matrix, activations, pe, tokens, rows)
    listed = work.beats.to_list()
    items = np.array([pe.items(listed, output) for output in range(pe.outputs)]).T
    expected = judge.integer_sums(matrix, activations)[:, tokens][:, :, rows]
    np.testing.assert_array_equal(schedule.assemble(work, items), expected)
    shape = schedule.shape(matrix, activations[0].bits, 1)
    blocks = -(-len(rows) // pe.rows) * -(-len(tokens) // pe.tokens)
    assert len(work.beats) == blocks * sum(segment.count * pe.beats(segment) for segment in shape.segments)


@pytest.mark.parametrize("pe", SAMPLES, ids=repr)
@settings(deadline=None, max_examples=10)
@given(tile=tiles())
def test_whatever_it_runs_of_random_matrices_equals_the_judge(pe, tile):
    matrix, activations, tokens, rows, _ = tile
    if runs(matrix, activations, pe):
        check(pe, matrix, activations, tokens, rows)


def matrices_by_kind():
    rng = np.random.default_rng(0)
    kinds = {
        "signs": (Digit.BIPOLAR, (1,), (-1, 1)),
        "trits": (Digit.UNIPOLAR, (1, -1), (-1, 0, 1)),
        "int2": (Digit.UNIPOLAR, (1, -2), range(-2, 2)),
        "int4": (Digit.UNIPOLAR, (1, 2, 4, -8), range(-8, 8)),
        "int8": (Digit.UNIPOLAR, INT8, range(-128, 128)),
        "fp4": (
            Digit.UNIPOLAR,
            (1, 2, 4, 8, -16),
            [s * v for s in (1, -1) for v in (0, 1, 2, 3, 4, 6, 8, 12)],
        ),
    }
    for name, (digit, coefs, digits) in kinds.items():
        fmt = Format(name=name, digit=digit, coefs=coefs, group=64, published_bits=1.0, source="test")
        values = rng.choice(list(digits), (7, 150))
        yield name, from_digits(fmt, values, np.ones((7, 3)))
    for kept, of in ((2, 4), (3, 8)):
        pattern = Pattern.of_bits(n_of_m(rng, 7, 150, kept, of), kept, of)
        matrix = from_digits(SIGN, rng.choice([-1, 1], (7, 150)), np.ones((7, 2)))
        terms = (replace(matrix.terms[0], mask="n"),)
        yield f"{kept}:{of}", replace(matrix, terms=terms, planes={**matrix.planes, "n": pattern})


def refuses_all(pe) -> bool:
    """Whether a PE runs no matrix product at all, as it says of itself."""
    signs = Segment(columns=9, weight=(1,), activation=INT8, w_bipolar=True)
    for kind in (signs, replace(signs, x_bipolar=True, activation=(1,)), replace(signs, kept=(2, 4))):
        try:
            pe.steps(kind)
        except ValueError:
            continue
        return pe.outputs != pe.rows * pe.tokens
    return True


@pytest.mark.parametrize("pe", SAMPLES, ids=repr)
def test_of_matrices_of_every_kind_it_runs_some_and_equals_the_judge(pe):
    x = np.random.default_rng(1).normal(size=(3, 150))
    ran = []
    for name, matrix in matrices_by_kind():
        for bits in (1, 3, 8):
            activations = [quantize_activations(x, bits)]
            if runs(matrix, activations, pe):
                ran.append((name, bits))
                check(pe, matrix, activations, np.arange(2), np.arange(7))
    assert ran or refuses_all(pe) or pe.acc_width < 18, pe
