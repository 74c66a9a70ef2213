"""Toggles of streams and of runs of beats against Python's own integers."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.beats import Beats
from hw.pe.bitserial import BitSerial
from sim import toggles
from sim.tests.test_activity import walked


@settings(deadline=None)
@given(st.integers(0, 130), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_toggles_of_a_stream_are_the_bits_that_change(beats, width, seed):
    words = np.random.default_rng(seed).integers(0, 1 << 64, (beats, width), np.uint64)
    rows = [int.from_bytes(row.astype("<u8").tobytes(), "little") for row in words]
    expected = sum((one ^ other).bit_count() for one, other in pairwise(rows))
    assert toggles.stream(words) == expected
    assert toggles.stream(np.asfortranarray(words)) == expected


def test_a_stream_of_another_kind_is_refused():
    with pytest.raises(ValueError, match=r"^words must be uint64 \[beats, words\], not int64 \[3, 2\]$"):
        toggles.stream(np.zeros((3, 2), np.int64))
    with pytest.raises(ValueError, match=r"^words must be uint64 \[beats, words\], not uint64 \[3\]$"):
        toggles.stream(np.zeros(3, np.uint64))


@settings(deadline=None, max_examples=25)
@given(st.sampled_from([1, 5, 64, 100]), st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_toggles_of_a_run_are_those_of_its_walk(lanes, n, seed):
    pe = BitSerial(lanes=lanes, acc_width=12)  # items run on, so it wraps
    beats = Beats.random(pe, n, seed)
    found = toggles.of_beats(pe, beats)
    expected = walked(beats.to_list(), pe)
    assert {f"{name}_toggles": count for name, count in vars(found).items()} == expected
