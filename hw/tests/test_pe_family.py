"""Every PE in hw/pe: its RTL, by three engines, equals its definition item by item and clock by clock."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.hdl import Const

from algo.bitplane import family
from hw import cxxrtl, netlist, pysim
from hw.beats import Beats
from hw.pipeline import payload_layout
from hw.spec import FLAGS, PeSpec, signed_bits
from hw.stimulus import Stimulus
from hw.tests.stalls import full_rate, stalled

NAMES = family.names("hw.pe")
SAMPLES: list[PeSpec] = [spec for name in NAMES for spec in family.load("hw.pe", name).SAMPLES]
SMALLEST = [min(family.load("hw.pe", name).SAMPLES, key=lambda s: sum(s.words().values())) for name in NAMES]
BY_NAME = pytest.mark.parametrize("spec", SAMPLES, ids=repr)


@BY_NAME
def test_amaranths_simulator_equals_golden_and_its_clocks_equal_the_model(spec):
    n = max(20, 4000 // sum(spec.words().values()))
    for case in (full_rate(spec, n), stalled(spec, n, seed=1)):
        case.check(pysim.run(spec, case.beats, case.offered, case.ready))


@pytest.mark.parametrize("spec", SMALLEST, ids=repr)
def test_cxxrtl_equals_golden_over_many_stalls(spec):
    library = cxxrtl.library(spec)
    for seed in range(3):
        case = stalled(spec, 1500, seed, 0.3 + 0.3 * seed)
        case.check(cxxrtl.execute(library, Stimulus.of(spec, case.beats, case.offered, case.ready)))


@pytest.mark.slow
@BY_NAME
def test_cxxrtl_equals_golden_at_every_size(spec):
    for case in (full_rate(spec, 2000), stalled(spec, 2000, seed=3)):
        case.check(cxxrtl.run(spec, case.beats, case.offered, case.ready))


@pytest.mark.parametrize("spec", SMALLEST, ids=repr)
def test_the_netlist_of_gates_equals_golden(spec):
    for case in (full_rate(spec, 400), stalled(spec, 400, seed=2)):
        case.check(netlist.run(spec, case.beats, case.offered, case.ready))


@BY_NAME
def test_the_port_lays_a_beat_out_as_beats_pack_it(spec):
    beats, layout = Beats.random(spec, 5, 0), payload_layout(spec)
    for beat, words in zip(beats, beats.payload(spec), strict=True):
        fields = {name: int(getattr(beat, name)) for name in layout.members}
        assert Const.cast(layout.const(fields)).value == int.from_bytes(
            words.astype("<u4").tobytes(), "little"
        )


@BY_NAME
def test_a_beat_adds_no_more_than_it_may(spec):
    low, high = spec.beat_range()
    rng = np.random.default_rng(0)
    beats = [*Beats.random(spec, 60, 4), *Beats.random(spec, 60, 5)]
    width = spec.acc_width
    for beat in beats:
        acc = int(rng.integers(-(1 << min(width, 62) - 1), 1 << min(width, 62) - 1))
        for output in range(spec.outputs):
            after = spec.golden(acc, beat, output)
            assert -(1 << width - 1) <= after < 1 << width - 1
            start = 0 if beat.first else 2 * acc if beat.shift and "shift" in spec.flags() else acc
            added = (after - start + (1 << width - 1)) % (1 << width) - (1 << width - 1)
            assert low <= (-added if beat.neg else added) <= high
    assert signed_bits(low, high) <= width


@BY_NAME
def test_parameters_words_and_cells_make_sense(spec):
    assert set(spec.words()) <= {"w", "x", "mask"}
    assert set(spec.flags()) <= set(FLAGS)
    assert {"first", "last"} <= set(spec.flags())
    assert spec.resources().flop >= spec.acc_width * spec.outputs
    assert spec.latency() >= 1
    for width in (0, signed_bits(*spec.beat_range()) - 1):
        with pytest.raises(ValueError, match=r"^acc_width must be at least \d+, not \d+$"):
            type(spec)(**{**spec.__dict__, "acc_width": width})
