"""Toggles of circuits of a few gates, counted by hand."""

import numpy as np
import pytest

from cost_models.energy_circuit import Circuit, _pruned
from cost_models.energy_gates import Gates
from cost_models.energy_stimuli import STIMULI, beats
from cost_models.energy_toggles import FEATURES, drive, of_beats, toggles
from hw.beats import Beats
from hw.pe.bitserial import BitSerial

CLOCKS = 12


def made(gates, inputs, output, flops=()) -> Circuit:
    return _pruned(gates, inputs, {"y": [output]}, list(flops))


def counted(circuit, **bits):
    ports = {name: np.array(values, np.uint8).reshape(CLOCKS, -1) for name, values in bits.items()}
    found = toggles(circuit, ports, np.array([[2, CLOCKS]]))
    return dict(zip(FEATURES, found.counts[0], strict=True)), found.outputs["y"][:, 0].tolist()


ALTERNATING = [clock % 2 for clock in range(CLOCKS)]


def test_a_gate_and_a_flip_flop_toggle_as_they_must():
    gates = Gates()
    a, b, q = gates.source(), gates.source(), gates.source()
    both = gates.and_(a, b)
    circuit = made(gates, {"a": [a], "b": [b]}, q, [(q, both, 0)])
    found, seen = counted(circuit, a=ALTERNATING, b=[1] * CLOCKS)
    assert seen == [0, *ALTERNATING[:-1]]
    expected = dict.fromkeys(FEATURES, 0.0)
    # Per clock: the input flips and one gate reads it; the gate flips and the flip-flop reads it; it flips.
    expected |= {"flops": 1, "input pins": 1, "and settled": 1, "settled pins": 1, "flop toggles": 1}
    assert found == expected


def test_paths_of_unequal_length_glitch():
    gates = Gates()
    a, b = gates.source(), gates.source()
    late = gates.xor(gates.xor(a, b), b ^ 1)  # a function of a alone, though no table can say so
    circuit = made(gates, {"a": [a], "b": [b]}, gates.xor(a, late))
    found, seen = counted(circuit, a=ALTERNATING, b=[0] * CLOCKS)
    assert len(set(seen)) == 1
    # The last XOR follows one input, then the other: up and down again in every clock.
    assert found["xor glitch"] == 2
    assert found["xor settled"] == 2


def test_a_pulse_shorter_than_a_gate_s_delay_dies():
    gates = Gates()
    a, b = gates.source(), gates.source()
    late = gates.and_(a, b)
    # Its two inputs part for the delay of an AND, which is less than that of an XOR.
    circuit = made(gates, {"a": [a], "b": [b]}, gates.xor(a, late))
    found, seen = counted(circuit, a=ALTERNATING, b=[1] * CLOCKS)
    assert set(seen) == {0}
    assert found["xor glitch"] == found["xor settled"] == 0
    assert found["and settled"] == 1


def test_windows_count_apart_and_only_themselves():
    gates = Gates()
    a = gates.source()
    circuit = made(gates, {"a": [a]}, a)
    bits = np.array([0, 1, 0, 1, 1, 1, 1, 0], np.uint8).reshape(-1, 1)
    found = toggles(circuit, {"a": bits}, np.array([[1, 3], [4, 7], [7, 8]]))
    assert found.outputs["y"].tolist() == bits.tolist()
    # No gate reads the input, so its toggles cost nothing inside.
    assert not found.counts.any()
    q = gates.source()
    held = made(gates, {"a": [a]}, q, [(q, a, 0)])
    found = toggles(held, {"a": bits}, np.array([[1, 3], [4, 7], [7, 8]]))
    assert found.counts[:, FEATURES.index("input pins")].tolist() == [1.0, 0.0, 1.0]


def test_frozen_operands_move_nothing_but_the_accumulator():
    spec = BitSerial(lanes=33, acc_width=32, levels=2)
    frozen = next(stimulus for stimulus in STIMULI if stimulus.name == "frozen")
    moving = next(stimulus for stimulus in STIMULI if stimulus.name == "random")
    window = np.array([[16, 112]])
    still, busy = (
        dict(
            zip(FEATURES, of_beats(spec, Beats.from_list(beats(spec, one, 0), spec), window)[0], strict=True)
        )
        for one in (frozen, moving)
    )
    assert still["flops"] == busy["flops"]
    assert still["input pins"] < 0.05 * busy["input pins"]
    assert 0 < still["settled pins"] < 0.5 * busy["settled pins"]


def test_ports_carry_the_beats_without_a_pause():
    spec = BitSerial(lanes=5, acc_width=7, levels=1)
    run = Beats.random(spec, 9, 0)
    ports = drive(spec, run)
    for beat, bits in zip(run, ports["i__payload"], strict=True):
        assert sum(int(bit) << lane for lane, bit in enumerate(bits[:5])) == beat.w
        assert sum(int(bit) << lane for lane, bit in enumerate(bits[5:10])) == beat.x
        assert bits[-1] == beat.last
    assert ports["i__valid"].all()
    assert ports["o__ready"].all()
    assert not ports["rst"].any()


@pytest.mark.parametrize("feature", ["flop pins", "glitch pins", "mux settled"])
def test_a_busy_pe_has_some_of_everything(feature):
    spec = BitSerial(lanes=33, acc_width=32, levels=2)
    run = Beats.from_list(beats(spec, STIMULI[0], 0), spec)
    assert of_beats(spec, run, np.array([[16, 112]]))[0][FEATURES.index(feature)] > 0
