"""Circuits before synthesis: every PE's computes what its definition says, without a netlist in between."""

from types import SimpleNamespace

import numpy as np
import pytest

from algo.bitplane import family
from cost_models import energy_circuit
from cost_models.energy_circuit import circuit
from cost_models.energy_gates import Gates
from cost_models.energy_toggles import drive, toggles
from hw.beats import Beats

SAMPLES = [spec for name in family.names("hw.pe") for spec in family.load("hw.pe", name).SAMPLES]


def items(spec, outputs):
    """Items as they leave the ports, [items, accumulators], as Python integers."""
    valid = outputs["o__valid"][:, 0] == 1
    bits = outputs["o__payload"][valid].reshape(-1, spec.outputs, spec.acc_width).astype(object)
    weights = [1 << place for place in range(spec.acc_width - 1)] + [-1 << spec.acc_width - 1]
    return (bits * np.array(weights, object)).sum(axis=2).tolist()


#: a circuit of several thousand gates takes seconds to make
SIZES = [
    pytest.param(spec, id=repr(spec), marks=[pytest.mark.slow] if sum(spec.words().values()) > 100 else [])
    for spec in SAMPLES
]


@pytest.mark.parametrize("spec", SIZES)
def test_the_circuit_of_a_pe_yields_its_golden_items(spec):
    beats = Beats.random(spec, 60, seed=3)
    ports = drive(spec, beats)
    behind = np.arange(spec.latency() + 1)
    driven = {name: np.concatenate([bits, 0 * bits[behind]]) for name, bits in ports.items()}
    driven["o__ready"][:] = 1
    found = toggles(circuit(spec), driven, np.array([[1, 60]]))
    listed = beats.to_list()
    expected = [
        list(each) for each in zip(*(spec.items(listed, o) for o in range(spec.outputs)), strict=True)
    ]
    assert items(spec, found.outputs) == expected
    assert len(expected) > 5


def test_gates_stand_behind_what_they_read_and_nothing_is_idle():
    made = circuit(SAMPLES[1])
    gates = np.flatnonzero(made.kinds >= 0)
    assert np.all(made.reads[gates].max(axis=1) < gates)
    read = {
        *made.reads.ravel().tolist(),
        *(made.data >> 1),
        *(b >> 1 for v in made.outputs.values() for b in v),
    }
    assert set(gates.tolist()) <= read


def test_an_operator_without_gates_is_refused():
    with pytest.raises(ValueError, match=r"^operator must be one that gates are known for, not 'u//'$"):
        energy_circuit._operator(Gates(), "u//", [[0], [0]])


def test_a_cell_without_gates_is_refused(monkeypatch):
    memory = type("Memory", (), {})()
    netlist = SimpleNamespace(cells=[memory], top=SimpleNamespace(ports_i={}, ports_o={}))
    monkeypatch.setattr(energy_circuit, "_netlist", lambda _: netlist)
    with pytest.raises(ValueError, match=r"^pe must be of words, gates and flip-flops, not Memory$"):
        circuit.__wrapped__(SAMPLES[0])


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("==", lambda a, b: int(a == b)),
        ("!=", lambda a, b: int(a != b)),
        ("u<", lambda a, b: int(a < b)),
        ("u>", lambda a, b: int(a > b)),
        ("u<=", lambda a, b: int(a <= b)),
        ("u>=", lambda a, b: int(a >= b)),
        ("-", lambda a, b: (a - b) % 8),
        ("<<", lambda a, b: (a << b) % 8),
        ("u>>", lambda a, b: a >> b),
        ("s>>", lambda a, b: ((a - 8 * (a > 3)) >> b) % 8),
    ],
)
def test_operators_of_constants_are_pythons(name, function):
    for a in range(8):
        for b in range(8):
            bits = [[n >> place & 1 for place in range(3)] for n in (a, b)]
            made = energy_circuit._operator(Gates(), name, bits)
            assert sum(bit << place for place, bit in enumerate(made)) == function(a, b)
