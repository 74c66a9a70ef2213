"""Tiles of a trained model's quantized layers, on its own activations, under every RTL engine."""

from __future__ import annotations

import pytest

from algo import checkpoint, evaluation
from planeforge import faults, model_quantizing, verifying
from planeforge.demo import assets
from planeforge.hardware import pe
from planeforge.packed_model import record_inputs
from planeforge.simulating import streams
from planeforge.verifying import Case

#: One of each kind: signs with zones and offsets, integers with zero points, trits.
METHODS = (("billm", None), ("rtn", "int4-g128"), ("ternary", None))
LAYERS = ("q_proj", "down_proj")  #: the second has 200 columns, no multiple of 64
RTL = ("amaranth", "cxxrtl", "icarus", "verilator", "netlist")


@pytest.fixture(scope="module")
def cases():
    source = checkpoint.load(assets.model(assets.UNIT_TEST_MODEL))
    ids = evaluation.tokens(source, assets.held_out_text()[:400]).ids[:8]
    found = []
    for method, fmt in METHODS:
        made = model_quantizing.run(source, method, fmt, {}, None)
        names = [name for name in made.matrices if name.endswith(LAYERS)]
        inputs = record_inputs(made.model, names, ids)
        for name in names:
            matrix = made.matrices[name]
            activations = streams(matrix, inputs[name], 8)
            found.append(Case(name=f"{method} {name}", matrix=matrix, activations=activations))
    assert len(found) == len(METHODS) * len(LAYERS)
    return found


def test_every_engine_agrees_on_the_models_layers_clock_for_clock(cases, monkeypatch):
    monkeypatch.setattr(verifying, "BUDGET", dict.fromkeys(RTL, 3000))
    outcomes = verifying.verify(cases, ("torch", "numba", "integer", *RTL), pe())
    for outcome in outcomes:
        assert outcome.agrees, outcome
        assert outcome.layers == len(cases)
    assert all(outcome.cycles == outcome.cycles_model > 1000 for outcome in outcomes[3:])


def test_faults_in_the_models_layers_are_caught_by_the_verilog_simulators(cases):
    planted = faults.inject(cases, ("icarus", "verilator"), pe(), 8, seed=5)
    assert {fault.engine for fault in planted} == {"icarus", "verilator"}
    assert all(fault.caught and fault.explained for fault in planted)
