"""Activity against a walk of the array, PE by PE and beat by beat."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings

from algo.bitplane.activations import quantize_activations
from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit, Format
from algo.bitplane.storage import stored_bytes
from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec
from sim import schedule
from sim.activity import activity
from sim.tests.test_schedule import tiles

INT2 = Format(
    name="i", digit=Digit.UNIPOLAR, coefs=(1, 2), group=32, zero=True, published_bits=2.0, source="test"
)


@settings(deadline=None, max_examples=30)
@given(tiles())
def test_counts_equal_a_walk_over_every_output(tile):
    matrix, activations, _, _, lanes = tile
    array = ArraySpec(pe=BitSerial(lanes=lanes, acc_width=48), rows=2, columns=3)
    counted = activity(matrix, activations, array)
    beats = items = 0
    toggles = dict.fromkeys("wx", 0) | {"mask": 0}
    for token in range(len(activations[0].values)):
        for row in range(matrix.rows):
            work = schedule.work(matrix, activations, array.pe, np.array([token]), np.array([row]))
            own = work.beats.to_list()
            beats += len(own)
            items += sum(beat.last for beat in own)
            for before, after in pairwise(own):
                for name in toggles:
                    toggles[name] += (getattr(before, name) ^ getattr(after, name)).bit_count()
    assert (counted.beats, counted.items, counted.scale_products) == (beats, items, items)
    assert (counted.w_toggles, counted.x_toggles, counted.mask_toggles) == tuple(toggles.values())


def layer(rows=10, columns=70, tokens=7):
    rng = np.random.default_rng(0)
    groups = -(-columns // 32)
    digits, zero = rng.integers(0, 4, (rows, columns)), rng.integers(0, 4, (rows, groups))
    matrix = from_digits(INT2, digits, rng.random((rows, groups)), zero)
    return matrix, [quantize_activations(rng.normal(size=(tokens, columns)))]


def test_buffer_and_memory_bits_by_hand():
    matrix, acts = layer()
    array = ArraySpec(pe=BitSerial(lanes=16), rows=4, columns=4)
    counted = activity(matrix, acts, array)
    words = 2 + 2 + 1  # groups of 32, 32 and 6 columns
    weight = words * 16 * 8 * 2 + 3 * (16 + 2)  # two planes at eight activation bits; scale and zero point
    assert counted.weight_buffer_bits == weight * 10 * 2  # two tiles of tokens
    assert counted.activation_buffer_bits == 7 * words * 16 * 8 * 3 * 3  # digits and sums; three row tiles
    assert counted.result_bits == 70 * 32
    inputs = 7 * (70 * 8 + 32)
    assert counted.dram_bits == 8 * sum(stored_bytes(matrix).values()) + inputs + 70 * 32
    assert counted.cycles == array.cycles(schedule.shape(matrix, 8, 7))


def test_masks_are_read_with_every_plane_and_streams_come_in_each():
    matrix, acts = layer()
    masked = replace(matrix.terms[0], mask="plane0", col="f")
    factors = {"f": np.ones(70, np.float32)}
    both = replace(matrix, terms=(matrix.terms[0], masked), factors=factors)
    array = ArraySpec(pe=BitSerial(lanes=16), rows=4, columns=4)
    counted = activity(both, acts * 2, array)
    one = 5 * 16 * 8
    plain, more = one * 2 + 3 * 18, one * (2 * 2 + 1) + 3 * 18
    assert counted.weight_buffer_bits == (plain + more) * 10 * 2
    stored = 8 * sum(stored_bytes(both).values())
    assert counted.dram_bits == stored + 2 * 7 * (70 * 8 + 32) + 70 * 32


def test_what_does_not_fit_its_buffer_is_fetched_again():
    matrix, acts = layer()
    stored, inputs = 8 * sum(stored_bytes(matrix).values()), 7 * (70 * 8 + 32)
    pe = BitSerial(lanes=16)
    small_weights = ArraySpec(pe=pe, rows=4, columns=4, weight_buffer_bits=8)
    assert activity(matrix, acts, small_weights).dram_bits == 2 * stored + inputs + 70 * 32
    small_inputs = ArraySpec(pe=pe, rows=4, columns=4, activation_buffer_bits=8)
    assert activity(matrix, acts, small_inputs).dram_bits == stored + 3 * inputs + 70 * 32


def test_a_sample_of_rows_and_tokens_is_scaled_up_to_nearly_the_whole():
    matrix, acts = layer(rows=60, columns=130, tokens=40)
    array = ArraySpec(pe=BitSerial())
    whole, sampled = activity(matrix, acts, array), activity(matrix, acts, array, sample=20)
    assert sampled.w_toggles == pytest.approx(whole.w_toggles, rel=0.05)
    assert sampled.x_toggles == pytest.approx(whole.x_toggles, rel=0.05)
    assert (sampled.beats, sampled.dram_bits) == (whole.beats, whole.dram_bits)
