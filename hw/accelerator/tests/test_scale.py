"""The scale unit in both forms against its definition, clocks included."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from hw.accelerator.scale import Product, ScaleSpec
from hw.accelerator.tests import streams

FORMS = ("parallel", "serial")
SPECS = [
    ScaleSpec(columns=1, rows=1, item_bits=9, scale_bits=1, sum_bits=12, user_bits=3, form=form)
    for form in FORMS
] + [
    ScaleSpec(columns=3, rows=5, item_bits=20, scale_bits=7, sum_bits=33, user_bits=1, form=form)
    for form in FORMS
]


def extreme(rng: random.Random, bits: int) -> int:
    """Any integer of so many bits; one in three an end of the range."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return rng.choice([low, high, rng.randint(low, high), rng.randint(low, high)])


def beats(spec: ScaleSpec, count: int, seed: int) -> list[Product]:
    rng = random.Random(seed)
    found = [
        Product(
            items=tuple(extreme(rng, spec.item_bits) for _ in range(spec.columns)),
            mantissas=tuple(extreme(rng, spec.scale_bits) for _ in range(spec.columns)),
            row=rng.randrange(spec.rows),
            first=at < spec.rows or rng.random() < 0.1,
            last=rng.random() < 0.3,
            user=rng.getrandbits(spec.user_bits),
        )
        for at in range(count)
    ]
    # After reset no sum has a value yet: every row begins once.
    begin = [replace(beat, row=row) for row, beat in enumerate(found[: spec.rows])]
    return [*begin, *found[spec.rows : -1], replace(found[-1], last=True)]


def payload(beat: Product) -> dict[str, object]:
    return {
        "items": list(beat.items),
        "mantissas": list(beat.mantissas),
        "row": beat.row,
        "first": beat.first,
        "last": beat.last,
        "user": beat.user,
    }


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("stall", [False, True])
def test_the_unit_hands_over_the_defined_sums_in_the_defined_clocks(spec, stall):
    given = beats(spec, 120, seed=3)
    rng = np.random.default_rng(4)
    offered = (rng.random(300) < 0.5).tolist() if stall else []
    ready = (rng.random(700) < 0.4).tolist() if stall else []
    wanted = spec.handed_over(given)
    taken, clocks = streams.run(spec.create(), [payload(b) for b in given], len(wanted), offered, ready)
    assert [([item.sums[c] for c in range(spec.columns)], item.user) for item in taken] == wanted
    assert clocks == spec.stalled_cycles([b.last for b in given], offered, ready)


@pytest.mark.parametrize("form", FORMS)
def test_beats_at_full_rate_take_an_interval_each(form):
    spec = ScaleSpec(rows=4, scale_bits=11, form=form)
    interval = {"parallel": 1, "serial": 11}[form]
    assert spec.stalled_cycles([False] * 9 + [True]) == 9 * interval + spec.latency() + 1
    assert spec.latency() == interval + 1


def test_sums_wrap_at_their_width():
    spec = ScaleSpec(item_bits=8, scale_bits=8, sum_bits=16)
    sums = [[-(2**15) + 1]]
    beat = Product(items=(-1,), mantissas=(2,), row=0)
    assert spec.golden(sums, beat) == [[2**15 - 1]]


def test_a_unit_of_64_bit_sums_is_int64():
    spec = ScaleSpec(columns=1, rows=1)
    rng = random.Random(1)
    given = [
        Product(items=(extreme(rng, 32),), mantissas=(extreme(rng, 16),), row=0, first=not at, last=at == 999)
        for at in range(1000)
    ]
    items = np.array([b.items[0] for b in given], np.int64)
    mantissas = np.array([b.mantissas[0] for b in given], np.int64)
    assert spec.handed_over(given)[0][0] == [int(items @ mantissas)]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("columns", 0, r"^columns must be at least 1, not 0$"),
        ("rows", 0, r"^rows must be at least 1, not 0$"),
        ("sum_bits", 0, r"^sum_bits must be at least 1, not 0$"),
        ("user_bits", -1, r"^user_bits must be at least 0, not -1$"),
        ("form", "dsp", r"^form must be one of parallel, serial, not 'dsp'$"),
    ],
)
def test_a_bad_parameter_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        ScaleSpec(**{field: value})
