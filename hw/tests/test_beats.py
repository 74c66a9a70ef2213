"""Beats in bulk: the same beats as one by one, and the bits of the port they are packed into."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.beats import FIRST, LAST, NEG, SHIFT, W_BIPOLAR, X_BIPOLAR, Beats
from hw.pe.bitserial import BitSerial
from hw.spec import Beat

LANES = st.sampled_from([1, 5, 31, 63, 64, 65, 100, 128, 200])


def pe(lanes: int) -> BitSerial:
    return BitSerial(lanes=lanes)


@st.composite
def beat_lists(draw):
    lanes = draw(LANES)
    word = st.integers(0, (1 << lanes) - 1)
    beat = st.builds(
        Beat,
        w=word,
        x=word,
        mask=word,
        **{n: st.booleans() for n in ("w_bipolar", "x_bipolar", "first", "shift", "neg", "last")},
    )
    return lanes, draw(st.lists(beat, max_size=6))


def packed(beat: Beat, lanes: int) -> int:
    """The port's bits, spelled out."""
    flags = (beat.w_bipolar, beat.x_bipolar, beat.first, beat.shift, beat.neg, beat.last)
    bits = [word >> lane & 1 for word in (beat.w, beat.x, beat.mask) for lane in range(lanes)]
    return sum(int(bit) << place for place, bit in enumerate([*bits, *flags]))


@given(beat_lists())
def test_a_list_of_beats_comes_back_as_it_was(case):
    lanes, beats = case
    assert Beats.from_list(beats, pe(lanes)).to_list() == beats


@given(beat_lists())
def test_the_payload_is_the_port_bit_by_bit(case):
    lanes, beats = case
    payload = Beats.from_list(beats, pe(lanes)).payload(pe(lanes))
    assert payload.dtype == np.uint32
    assert payload.shape == (len(beats), -(-(3 * lanes + 6) // 32))
    found = [int.from_bytes(words.astype("<u4").tobytes(), "little") for words in payload]
    assert found == [packed(beat, lanes) for beat in beats]


@dataclass(frozen=True, kw_only=True)
class Wide(BitSerial):
    """A PE of another port: two weight planes a beat, eight activation planes, no mask, fewer flags."""

    def words(self):
        return {"w": 2 * self.lanes, "x": 8 * self.lanes}

    def flags(self):
        return ("first", "neg", "last")


@given(st.sampled_from([1, 5, 33, 64, 70]), st.integers(0, 9))
def test_a_pe_of_other_words_gets_those_it_reads_and_no_others(lanes, seed):
    spec = Wide(lanes=lanes, acc_width=20)
    beats = Beats.random(spec, 40, seed)
    payload = beats.payload(spec)
    assert payload.shape == (40, -(-(10 * lanes + 3) // 32))
    for row, beat in zip(payload, beats, strict=True):
        value = int.from_bytes(row.astype("<u4").tobytes(), "little")
        assert value & ((1 << 2 * lanes) - 1) == beat.w
        assert value >> 2 * lanes & ((1 << 8 * lanes) - 1) == beat.x
        assert value >> 10 * lanes == beat.first | beat.neg << 1 | beat.last << 2
        assert (beat.mask, beat.shift, beat.w_bipolar, beat.x_bipolar) == (0, False, False, False)
    assert Beats.from_list(beats.to_list(), spec).payload(spec).tolist() == payload.tolist()


def test_flags_are_the_bits_the_fields_say():
    beat = Beat(w=1, x=0, mask=1, w_bipolar=True, first=True, last=True)
    assert Beats.from_list([beat], pe(1)).flags.tolist() == [W_BIPOLAR | FIRST | LAST]
    assert (W_BIPOLAR, X_BIPOLAR, FIRST, SHIFT, NEG, LAST) == (1, 2, 4, 8, 16, 32)


def test_concatenated_beats_follow_each_other():
    parts = [Beats.random(pe(70), n, seed) for seed, n in enumerate((3, 0, 5))]
    whole = Beats.concatenate(parts)
    assert whole.to_list() == [beat for part in parts for beat in part]
    assert len(whole) == 8


def test_random_beats_repeat_by_seed_and_hold_every_kind():
    beats = Beats.random(pe(100), 4000, 7)
    again = Beats.random(pe(100), 4000, 7)
    np.testing.assert_array_equal(beats.payload(pe(100)), again.payload(pe(100)))
    assert not np.array_equal(beats.w, Beats.random(pe(100), 4000, 8).w)
    assert set(beats.flags.tolist()) == set(range(64))
    assert beats.lasts[-1]
    masks = {beat.mask.bit_count() for beat in beats}
    assert {0, 100} < masks
    assert len(Beats.random(pe(100), 0, 0)) == 0


def words(*rows: int) -> np.ndarray:
    return np.array(rows, np.uint64).reshape(-1, 1)


def build(**changes) -> Beats:
    arrays = {"w": words(1), "x": words(1), "mask": words(1), "flags": np.zeros(1, np.uint8)}
    return Beats(**({"lanes": 5} | arrays | changes))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: build(lanes=0), ValueError, "lanes must be at least 1, not 0"),
        (lambda: build(w=words(32)), ValueError, "w must be 0 beyond bit 4, not 0x20 in its last word"),
        (lambda: build(x=words(1, 2)), ValueError, "x must be uint64 [1, 1], not uint64 [2, 1]"),
        (
            lambda: build(mask=words(1).astype(np.int64)),
            ValueError,
            "mask must be uint64 [1, 1], not int64 [1, 1]",
        ),
        (lambda: build(lanes=65), ValueError, "w must be uint64 [1, 2], not uint64 [1, 1]"),
        (lambda: build(flags=np.array([64], np.uint8)), ValueError, "flags must be below 64, not 64"),
        (lambda: build(flags=np.zeros(1)), ValueError, "flags must be uint8 [n], not float64 [1]"),
        (
            lambda: Beats.from_list([Beat(w=0, x=4, mask=0)], pe(2)),
            ValueError,
            "x must be below 2**2, not 0x4",
        ),
        (lambda: Beats.concatenate([]), ValueError, "parts must hold at least one Beats, not ()"),
        (
            lambda: Beats.concatenate([build(), build(lanes=6)]),
            ValueError,
            "parts must have equal lanes, not [5, 6]",
        ),
        (
            lambda: Beats.concatenate([build(), build(x_bits=6)]),
            ValueError,
            "parts must have equal x_bits, not [5, 6]",
        ),
        (lambda: build().payload(pe(4)), ValueError, "lanes must be 4 for this PE, not 5"),
        (lambda: build(w_bits=6).payload(pe(5)), ValueError, "w_bits must be 5 for this PE, not 6"),
    ],
)
def test_arrays_that_are_no_beats_are_refused(make, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        make()
