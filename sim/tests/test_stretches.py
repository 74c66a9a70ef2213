"""Stretches of beats: whole where little, spread where much, in the order in which a PE takes them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from hw.beats import Beats
from hw.pe.bitserial import BitSerial
from hw.pe.mac import Mac
from hw.pe.table import Table
from hw.spec import ArraySpec
from sim import schedule, tiles
from sim.activity import Batches, measure
from sim.activity.stretches import randomised, take
from sim.activity.words import moved
from sim.tests.test_activity import arrays, layer, runs

MACS = ArraySpec(pe=Mac(lanes=8), rows=2, columns=3)


def tokens_of(acts):
    """Activations of tokens by their indices."""

    def some(at):
        return [
            replace(
                act,
                values=act.values[at],
                scale=act.scale[at],
                mantissa=None if act.mantissa is None else act.mantissa[at],
            )
            for act in acts
        ]

    return some


def pieces(taken):
    """The beats that count, stretch by stretch."""
    listed = taken.beats.to_list()
    return [listed[first:end] for first, end in taken.windows]


@settings(deadline=None, max_examples=20)
@given(arrays())
def test_a_small_product_is_taken_whole_and_as_each_pe_takes_it(case):
    matrix, activations, array = case
    tokens = len(activations[0].values)
    taken = take(matrix, tokens_of(activations), tokens, array, stretches=10**6)
    assert taken.whole
    assert pieces(taken) == list(runs(matrix, activations, array))


def test_a_stretch_begins_with_its_own_end_so_that_the_pipeline_is_full():
    matrix, acts = layer()
    taken = take(matrix, tokens_of(acts), 7, MACS)
    warm = MACS.pe.latency() + 1
    listed = taken.beats.to_list()
    behind = 0
    for first, end in taken.windows:
        assert first - behind == warm
        own = listed[first:end]
        assert listed[behind:first] == [own[at % len(own)] for at in range(-warm, 0)]
        behind = end
    assert behind == len(listed)


@pytest.mark.parametrize("pe", [Mac(lanes=8), Table(lanes=8, row_count=4), BitSerial(lanes=16)], ids=repr)
def test_a_large_product_is_sampled_in_stretches_of_real_outputs(pe):
    matrix, acts = layer(rows=37, columns=70, tokens=19)
    array = ArraySpec(pe=pe, rows=2, columns=3)
    taken = take(matrix, tokens_of(acts), 19, array, stretches=5, beats=11)
    assert not taken.whole
    found = pieces(taken)
    assert [len(piece) for piece in found] == [11] * 5
    every = tiles.work(matrix, acts, pe, np.arange(19), np.arange(37)).beats.to_list()
    known = {(beat.w, beat.x, beat.mask) for beat in every}
    assert {(beat.w, beat.x, beat.mask) for piece in found for beat in piece} <= known
    assert len({piece[0] for piece in found}) > 1


def test_a_stretch_of_short_outputs_goes_on_to_the_pe_s_next_ones():
    matrix, acts = layer(rows=20, columns=8, tokens=12)
    array = ArraySpec(pe=Mac(lanes=8), rows=1, columns=1)
    taken = take(matrix, tokens_of(acts), 12, array, stretches=3, beats=9)
    work = schedule.work(matrix, acts, array.pe, np.arange(12), np.arange(20))
    # One PE makes all outputs: of each row all tokens.
    slots = len(work.segments)
    each = np.arange(12 * 20 * slots).reshape(12, 20, slots).transpose(1, 0, 2).ravel()
    order = [work.beats.to_list()[at] for at in each]
    text = "".join(map(repr, order))
    for piece in pieces(taken):
        assert "".join(map(repr, piece)) in text + text


def test_random_operands_keep_flags_masks_and_widths():
    matrix, acts = layer()
    array = ArraySpec(pe=BitSerial(lanes=70), rows=2, columns=2)
    taken = take(matrix, tokens_of(acts), 7, array)
    found = randomised(taken.beats, seed=1)
    np.testing.assert_array_equal(found.mask, taken.beats.mask)
    np.testing.assert_array_equal(found.flags, taken.beats.flags)
    assert isinstance(found, Beats)
    ones = np.unpackbits(found.w.view(np.uint8)).mean() * 128 / 70
    assert ones == pytest.approx(0.5, abs=0.05)
    assert not np.array_equal(found.w, randomised(taken.beats, seed=2).w)


@settings(deadline=None, max_examples=12)
@given(arrays())
def test_what_is_moved_equals_the_count_of_serial_pes(case):
    matrix, activations, array = case
    tokens = len(activations[0].values)
    counted = measure(matrix, Batches.whole(activations), array, sample=1).activity
    found = moved(matrix, array, tokens, activations[0].bits)
    for name in (
        *("cycles", "beats", "items", "scale_products", "result_bits", "dram_bits"),
        *("weight_buffer_bits", "activation_buffer_bits"),
    ):
        assert getattr(found, name) == getattr(counted, name), name


def test_several_rows_share_what_a_beat_reads():
    matrix, _ = layer(rows=16, columns=32, tokens=7)
    table = ArraySpec(pe=Table(lanes=8, row_count=4), rows=2, columns=1)
    found = moved(matrix, table, 6, 8)
    work = schedule.work(
        matrix, layer(rows=16, columns=32, tokens=6)[1], table.pe, np.arange(6), np.arange(16)
    )
    assert found.beats == len(work.beats)
    assert found.items == found.scale_products == 6 * 16 * len(work.segments)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tokens": 0}, "tokens must be at least 1, not 0"),
        ({"stretches": 0}, "stretches must be at least 1, not 0"),
        ({"beats": -1}, "beats must be at least 1, not -1"),
    ],
)
def test_no_beats_are_refused(given, message):
    matrix, acts = layer()
    words = {"tokens": 7} | given
    with pytest.raises(ValueError, match=rf"^{message}$"):
        take(matrix, tokens_of(acts), words.pop("tokens"), MACS, **words)


OTHER = replace(MACS, dataflow="weight-stationary")


@pytest.mark.parametrize(
    "count",
    [
        lambda matrix, acts: take(matrix, tokens_of(acts), 7, OTHER),
        lambda matrix, acts: moved(matrix, OTHER, 7, 8),
    ],
    ids=["take", "moved"],
)
def test_another_schedule_is_refused(count):
    message = r"^dataflow must be 'output-stationary' to count activity, not 'weight-stationary'$"
    with pytest.raises(ValueError, match=message):
        count(*layer())
