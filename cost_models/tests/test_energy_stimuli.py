"""Stimuli: each holds, thins and narrows what it says, and no half knows the other."""

import pytest

from cost_models.energy_designs import DESIGNS, kind
from cost_models.energy_stimuli import COUNTED, SETTLING, STIMULI, beats, ports, run_of
from hw.beats import Beats
from hw.pe.bitserial import BitSerial
from hw.pe.mac import Mac
from hw.spec import FLAGS

NAMED = {stimulus.name: stimulus for stimulus in STIMULI}
PE = BitSerial(lanes=70, acc_width=32)


def words(name, field, spec=PE):
    return [getattr(beat, field) for beat in beats(spec, NAMED[name], 0)]


def density(found, bits):
    return sum(word.bit_count() for word in found) / (len(found) * bits)


def test_words_are_as_dense_as_they_say():
    assert density(words("random", "w"), 70) == pytest.approx(0.5, abs=0.02)
    assert density(words("sparse both", "x"), 70) == pytest.approx(0.1, abs=0.02)
    assert set(words("random", "mask")) == {(1 << 70) - 1}
    assert density(words("moving mask", "mask"), 70) == pytest.approx(0.5, abs=0.02)


def test_words_stay_as_long_as_they_say():
    held = words("held weights", "w")
    assert all(held[at] == held[at // 16 * 16] for at in range(len(held)))
    assert len(set(held)) == len(held) // 16
    assert len(set(words("frozen", "w"))) == len(set(words("frozen", "x"))) == 1


def test_narrow_numbers_have_copies_of_their_sign_on_top():
    spec = Mac(lanes=7)
    numbers = [spec.lane(word, lane, 8) for word in words("narrow both", "x", spec) for lane in range(7)]
    small = sum(-16 <= number < 16 for number in numbers) / len(numbers)
    assert small > 0.6
    assert min(numbers) < -100
    wide = [spec.lane(word, lane, 8) for word in words("random", "x", spec) for lane in range(7)]
    assert sum(-16 <= number < 16 for number in wide) / len(wide) < 0.2


def test_the_same_seed_gives_the_same_beats_and_another_does_not():
    assert beats(PE, STIMULI[0], 1) == beats(PE, STIMULI[0], 1) != beats(PE, STIMULI[0], 2)


def test_a_run_counts_the_end_of_every_stimulus():
    run, windows = run_of(PE, STIMULI[:3])
    assert list(windows.values()) == [(SETTLING + 112 * at, 112 + 112 * at) for at in range(3)]
    assert len(run) == 3 * (COUNTED + SETTLING)


def test_ports_lay_a_beat_out_as_beats_pack_it():
    run = beats(PE, NAMED["moving mask"], 0)[:20]
    packed = Beats.from_list(run, PE).payload(PE)
    values = ports(PE, run)
    assert values["i__payload"] == [int.from_bytes(row.astype("<u4").tobytes(), "little") for row in packed]
    assert values["rst"][:3] == [1, 1, 0]
    assert set(values) == {"i__payload", "i__valid", "o__ready", "rst"}


def test_no_stimulus_that_judges_has_what_a_fitted_one_has():
    def traits(held):
        return {
            (name, getattr(s, name))
            for s in STIMULI
            if s.held_out is held
            for name in ("w_density", "x_density", "mask_density", "w_hold", "x_hold", "item")
        }

    common = {(name, value) for name, value in traits(True) & traits(False)}
    assert common == {
        ("w_density", 0.5),
        ("x_density", 0.5),
        ("mask_density", 1.0),
        ("w_hold", 1),
        ("x_hold", 1),
    }


def test_every_family_has_designs_of_both_halves_and_none_twice():
    from algo.bitplane import family

    assert {design.family for design in DESIGNS} == set(family.names("hw.pe"))
    kinds = {(kind(design.spec), design.held_out) for design in DESIGNS}
    assert {name for name, held in kinds if held} == {name for name, held in kinds if not held}
    specs = [design.spec for design in DESIGNS]
    assert len(set(specs)) == len(specs)


def test_flags_are_those_of_an_item():
    run = beats(PE, NAMED["random"], 0)
    assert {flag for flag in FLAGS if any(getattr(beat, flag) for beat in run)} == {
        "first",
        "shift",
        "neg",
        "last",
    }
    assert [at for at, beat in enumerate(run) if beat.first][:3] == [0, 16, 32]
    assert [at for at, beat in enumerate(run) if beat.last][:2] == [15, 31]
