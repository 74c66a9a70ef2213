"""Gather: golden against a dense dot product of scattered weights, refusals, cells against Yosys."""

from __future__ import annotations

import doctest
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hw.pe.gather
from hw import pysim
from hw.beats import Beats
from hw.pe.gather import SAMPLES, Gather
from hw.spec import Beat, Segment, signed_bits, wrap
from hw.tests.structure import bits, claimed, counted, word

PATTERNS = [(2, 4), (4, 8), (5, 8), (6, 8), (1, 4), (3, 9)]
TERNARY = Segment(columns=100, weight=(1, -1), activation=(1, 2, -4), masked=True, kept=(2, 4))


@given(st.data())
def test_golden_is_the_dense_dot_product_of_weights_that_are_0_where_nothing_is_kept(data):
    keep, of = data.draw(st.sampled_from(PATTERNS))
    blocks = data.draw(st.sampled_from([1, 3, 17]))
    spec = Gather(lanes=blocks * keep, keep=keep, of=of, acc_width=20)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    at = np.sort(rng.random((blocks, of)).argsort(axis=1)[:, :keep], axis=1)
    weight, mask = rng.integers(0, 2, (2, blocks, keep))
    x = rng.integers(0, 2, (blocks, of))
    w_bipolar, x_bipolar, first, shift, neg = (data.draw(st.booleans()) for _ in range(5))
    dense = np.zeros((blocks, of), np.int64)
    digits = 2 * weight - 1 if w_bipolar else weight
    np.put_along_axis(dense, at, digits * mask, axis=1)
    dot = int((dense * (2 * x - 1 if x_bipolar else x)).sum())
    codes = (at - np.arange(keep)).ravel()
    beat = Beat(
        w=word(np.concatenate([weight.reshape(1, -1), bits(codes, spec.index_bits)])),
        x=word(x),
        mask=word(mask),
        w_bipolar=w_bipolar,
        x_bipolar=x_bipolar,
        first=first,
        shift=shift,
        neg=neg,
    )
    acc = data.draw(st.integers(-(1 << 19), (1 << 19) - 1))
    start = 0 if first else 2 * acc if shift else acc
    assert spec.golden(acc, beat) == wrap(start - dot if neg else start + dot, 20)


def test_an_index_past_the_last_choice_means_the_last():
    for keep, of in PATTERNS:
        spec = Gather(lanes=keep, keep=keep, of=of)
        assert 1 << spec.index_bits >= spec.choices > 1 << spec.index_bits - 1
        for lane in range(keep):
            picked = [spec.column(lane, index) for index in range(1 << spec.index_bits)]
            assert picked == [min(lane + index, lane + of - keep) for index in range(len(picked))]


@pytest.mark.parametrize(("keep", "of"), PATTERNS)
def test_rtl_selects_every_choice_of_every_lane(keep, of):
    spec = Gather(lanes=2 * keep, keep=keep, of=of, acc_width=6, levels=0)
    beats, expected = [], []
    for lane in range(spec.lanes):
        for index in range(1 << spec.index_bits):
            codes = np.where(np.arange(spec.lanes) == lane, index, 0)
            w = word(np.concatenate([np.ones((1, spec.lanes)), bits(codes, spec.index_bits)]))
            own = 1 << spec.column(lane, index)
            everywhere = (1 << spec.words()["x"]) - 1
            for x, dot in ((own, 1), (everywhere ^ own, 0)):
                beats.append(Beat(w=w, x=x, mask=1 << lane, first=True, last=True))
                expected.append(dot)
    assert pysim.run(spec, Beats.from_list(beats, spec)).items.tolist() == expected


@pytest.mark.parametrize("lanes", [2, 66])
def test_rtl_holds_the_largest_and_the_smallest_sum_in_the_narrowest_accumulator(lanes):
    spec = Gather(lanes=lanes, acc_width=signed_bits(-lanes, lanes))
    signs = {"mask": (1 << lanes) - 1, "w_bipolar": True, "first": True, "last": True}
    ones = (1 << 2 * lanes) - 1
    beats = [Beat(w=w, x=ones, **signs) for w in (0, (1 << lanes) - 1)]
    assert pysim.run(spec, Beats.from_list(beats, spec)).items.tolist() == [-lanes, lanes]


@pytest.mark.parametrize("spec", [SAMPLES[1], SAMPLES[4], Gather(lanes=3, keep=1, of=7)], ids=repr)
def test_resources_are_the_cells_yosys_finds(spec):
    assert counted(spec) == claimed(spec)


def test_a_beat_covers_the_columns_of_its_lanes_blocks():
    assert Gather(lanes=64).columns(TERNARY) == 128
    assert Gather(lanes=64).beats(TERNARY) == 2 * 3
    assert Gather(lanes=15, keep=5, of=8).beats(TERNARY) == 2 * 3 * 5


def test_index_planes_come_with_every_weight_plane_and_with_no_bubble():
    steps = Gather(lanes=8, keep=4, of=8).steps(replace(TERNARY, weight=(1, -4)))
    assert [step.w for step in steps if not step.bubble] == [(p, 2, 3, 4) for p in (1, 1, 0, 1, 0, 0)]
    assert Gather(lanes=8).steps(replace(TERNARY, weight=(4,), activation=(1,)))[1].bubble


def test_examples_in_the_documentation_hold():
    assert doctest.testmod(hw.pe.gather).attempted == 1
    assert doctest.testmod(hw.pe.gather).failed == 0


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"of": 1}, ValueError, "of must be at least 2, not 1"),
        ({"of": 65}, ValueError, "of must be at most 64, not 65"),
        ({"keep": 0}, ValueError, "keep must be at least 1, not 0"),
        ({"keep": 4}, ValueError, "keep must be at most 3, not 4"),
        ({"keep": "2"}, TypeError, "keep must be an integer, not '2'"),
        ({"lanes": 5}, ValueError, "lanes must be a multiple of keep=2, not 5"),
        ({"levels": -1}, ValueError, "levels must be at least 0, not -1"),
        ({"lanes": 8, "acc_width": 4}, ValueError, "acc_width must be at least 5, not 4"),
    ],
)
def test_bad_parameters_are_refused(parameters, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Gather(**parameters)


def test_the_columns_that_a_block_has_of_another_pattern_bound_what_it_keeps_of_it():
    # Nine columns are six and three of those that keep four of six: at most four and three.
    assert Gather(lanes=63, keep=7, of=9).steps(replace(TERNARY, kept=(4, 6)))
    message = "segment must keep at most 6 of every 9 columns, not 4 of every 6"
    with pytest.raises(ValueError, match=f"^{message}$"):
        Gather(lanes=60, keep=6, of=9).steps(replace(TERNARY, kept=(4, 6)))


@pytest.mark.parametrize(
    ("kept", "runs_on"),
    [
        ((1, 1), []),
        ((2, 4), [(2, 4), (4, 8), (5, 8), (6, 8)]),
        ((1, 4), PATTERNS),
        ((4, 8), [(4, 8), (5, 8), (6, 8)]),
        ((3, 9), [(6, 8), (3, 9)]),
        ((2, 8), [(2, 4), (4, 8), (5, 8), (6, 8)]),
        ((1, 16), PATTERNS),
        ((4, 6), []),
        ((6, 8), [(6, 8)]),
    ],
)
def test_what_a_block_may_keep_decides_where_a_pattern_runs(kept, runs_on):
    for keep, of in PATTERNS:
        spec = Gather(lanes=60, keep=keep, of=of)
        if (keep, of) in runs_on:
            assert spec.steps(replace(TERNARY, kept=kept))
        else:
            name = "all" if kept == (1, 1) else "{} of every {}".format(*kept)
            message = f"segment must keep at most {keep} of every {of} columns, not {name}"
            with pytest.raises(ValueError, match=f"^{message}$"):
                spec.steps(replace(TERNARY, kept=kept))
