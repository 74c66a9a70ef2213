"""The compute contract by itself, on a PE that is nothing but its definition."""

from __future__ import annotations

import doctest
import re
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hw.integers
import hw.segments
from hw.spec import ArraySpec, Beat, PeSpec, Resources, Segment, Shape, horner, require_int, signed_bits, wrap

PLACES = st.lists(st.sampled_from([1, 2, 4, 8, -1, -2, -8, 64]), min_size=1, max_size=4)


@dataclass(frozen=True, kw_only=True)
class Plain(PeSpec):
    """AND and count, three clocks deep."""

    def golden(self, acc: int, beat: Beat, output: int = 0) -> int:
        ones = (beat.w & beat.x & beat.mask).bit_count()
        base = 0 if beat.first else acc << beat.shift
        return wrap(base + (-ones if beat.neg else ones), self.acc_width)

    def latency(self) -> int:
        return 3

    def resources(self) -> Resources:
        return Resources(gate2=2 * self.lanes, flop=self.acc_width)

    def create(self) -> object:
        raise NotImplementedError


def test_the_examples_in_the_contract_hold():
    for module in (hw.integers, hw.segments):
        found = doctest.testmod(module)
        assert found.failed == 0
        assert found.attempted


@given(PLACES, PLACES, st.data())
def test_horner_sums_every_plane_pair_at_its_place(weight, activation, data):
    dots = {(i, j): data.draw(st.integers(-9, 9)) for i in range(len(weight)) for j in range(len(activation))}
    acc = 0
    for step in horner(tuple(weight), tuple(activation)):
        dot = 0 if step.w_plane < 0 else dots[step.w_plane, step.x_plane]
        acc = (2 * acc if step.shift else acc) + (-dot if step.neg else dot)
    assert acc == sum(weight[i] * activation[j] * dot for (i, j), dot in dots.items())


@given(st.integers(-(2**40), 2**40), st.integers(1, 33))
def test_wrap_keeps_the_low_bits_and_the_range(value, width):
    wrapped = wrap(value, width)
    assert -(1 << (width - 1)) <= wrapped < 1 << (width - 1)
    assert (wrapped - value) % (1 << width) == 0


@given(st.integers(-(2**20), 0), st.integers(0, 2**20))
def test_signed_bits_is_the_smallest_width_that_wraps_neither_end(low, high):
    width = signed_bits(low, high)
    assert (wrap(low, width), wrap(high, width)) == (low, high)
    assert width == 1 or (wrap(low, width - 1), wrap(high, width - 1)) != (low, high)


def test_beats_count_words_of_every_pair_and_one_clock_for_a_bubble():
    pe = Plain(lanes=16)
    assert pe.beats(Segment(columns=33, weight=(1, -2), activation=(1, 2))) == 3 * 4
    assert pe.beats(Segment(columns=33, weight=(4,), activation=(1,))) == 3 + 2  # two doublings
    assert pe.beats(Segment(columns=0, weight=(1,), activation=(1,))) == 0
    assert pe.beats(Segment(columns=5, weight=(), activation=(1,))) == 0


def test_cycles_without_stalls_equal_the_stalled_model_that_never_stalls():
    pe = Plain(lanes=8)
    shape = Shape(tokens=2, rows=3, segments=(Segment(columns=20, weight=(1, -2), activation=(1,), count=2),))
    beats = pe.beats(shape.segments[0])
    lasts = ([False] * (beats - 1) + [True]) * (2 * 3 * 2)
    assert pe.cycles(shape) == pe.stalled_cycles(lasts) == len(lasts) + 3
    assert pe.cycles(Shape(tokens=0, rows=3, segments=shape.segments)) == 0


def test_a_sink_that_is_not_ready_halts_the_pipeline_only_while_an_item_waits():
    pe = Plain(lanes=8)
    # One beat, taken at clock 0, waits from clock 3 on.
    assert pe.stalled_cycles([True], ready=[False, False, False, True]) == 4
    assert pe.stalled_cycles([True], ready=[True, True, True, False, False, True]) == 6
    # The source begins at clock 2 and its offer stands.
    assert pe.stalled_cycles([True], offered=[False, False, True, False, False, False]) == 6


def test_array_cycles_cover_the_ragged_edge_tiles():
    pe = Plain(lanes=8)
    shape = Shape(tokens=5, rows=9, segments=(Segment(columns=16, weight=(1,), activation=(1,)),))
    array = ArraySpec(pe=pe, rows=4, columns=4)
    assert array.tiles(shape) == 3 * 2
    assert array.cycles(shape) == 6 * 2 + 3
    assert array.utilisation(shape) == pytest.approx(5 * 9 * 16 / (15 * 16 * 8))
    assert array.utilisation(Shape(tokens=0, rows=0, segments=())) == 0.0
    assert array.resources() == pe.resources() * 16


def test_what_an_array_schedules_with_leaves_its_compute_count_alone():
    shape = Shape(tokens=5, rows=9, segments=(Segment(columns=16, weight=(1, 4), activation=(1,)),))
    plain = ArraySpec(pe=Plain(lanes=8), rows=4, columns=4)
    other = ArraySpec(
        pe=Plain(lanes=8),
        rows=4,
        columns=4,
        dataflow="weight-stationary",
        outer="tokens",
        planes="inside",
        buffers=1,
        dram_latency=9,
        scale_clocks=8,
        skip="words",
        pack_kept=True,
    )
    assert other.cycles(shape) == plain.cycles(shape)


def test_resources_add_and_scale_cell_by_cell():
    total = Resources(gate2=1, flop=2) + Resources(gate2=3) * 2
    assert total == Resources(gate2=7, flop=2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Plain(lanes=0), ValueError, "lanes must be at least 1, not 0"),
        (lambda: Plain(lanes=True), TypeError, "lanes must be an integer, not True"),
        (lambda: Plain(lanes=64, acc_width=7), ValueError, "acc_width must be at least 8, not 7"),
        (lambda: Beat(w=-1, x=0, mask=0), ValueError, "w must be at least 0, not -1"),
        (lambda: signed_bits(1, 0), ValueError, "low must be at most high=0, not 1"),
        (lambda: require_int("n", 9, 0, 8), ValueError, "n must be at most 8, not 9"),
        (
            lambda: Segment(columns=1, weight=(3,), activation=(1,)),
            ValueError,
            "weight must hold signed powers of two, not 3",
        ),
        (lambda: ArraySpec(pe=Plain(), clock_hz=0.0), ValueError, "clock_hz must be positive, not 0.0"),
        (lambda: ArraySpec(pe=Plain(), buffers=0), ValueError, "buffers must be at least 1, not 0"),
        (
            lambda: ArraySpec(pe=Plain(), dram_latency=-1),
            ValueError,
            "dram_latency must be at least 0, not -1",
        ),
        (
            lambda: ArraySpec(pe=Plain(), dataflow="row-stationary"),
            ValueError,
            "dataflow must be one of output-stationary, weight-stationary, not 'row-stationary'",
        ),
        (
            lambda: ArraySpec(pe=Plain(), outer="columns"),
            ValueError,
            "outer must be one of rows, tokens, not 'columns'",
        ),
        (
            lambda: ArraySpec(pe=Plain(), planes="middle"),
            ValueError,
            "planes must be one of outermost, inside, not 'middle'",
        ),
        (
            lambda: ArraySpec(pe=Plain(), skip="beats"),
            ValueError,
            "skip must be one of none, planes, words, not 'beats'",
        ),
    ],
)
def test_bad_parameters_are_refused_by_name(make, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        make()
