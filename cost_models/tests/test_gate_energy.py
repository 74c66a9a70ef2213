"""Energy of netlists of two or three gates, priced by hand."""

import json
import shutil

import pytest

from cost_models import gate_energy, liberty
from cost_models.gate_energy import WARM_UP, measure, measure_windows

needs_icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")


def _table(kind, value):
    return f'{kind} (scalar) {{ values ("{value}"); }}'


def _gate(name, function, pins, delay, energy):
    """A gate of 1 fF inputs that takes ``delay`` ps and ``energy`` fJ per output toggle."""
    inputs = "".join(f"pin ({pin}) {{ direction : input; capacitance : 1; }}" for pin in pins)
    arcs = "".join(
        f'timing () {{ related_pin : "{pin}"; {_table("cell_rise", delay)} }}'
        f'internal_power () {{ related_pin : "{pin}"; {_table("power", energy)} }}'
        for pin in pins
    )
    output = f'pin (Y) {{ direction : output; function : "{function}"; {arcs} }}'
    return f"cell ({name}) {{ area : 2; cell_leakage_power : 5; {inputs} {output} }}"


def _flop(name, extra=""):
    """Clock pin of 2 fF and 0.3 fJ an edge, 1 fF data pin, 0.7 fJ per output toggle, inverted output."""
    return f"""cell ({name}) {{ area : 7; cell_leakage_power : 11;
      ff (IQ, IQN) {{ clocked_on : "CK"; next_state : "!D"; {'clear : "!R";' if extra else ""} }} {extra}
      pin (D) {{ direction : input; capacitance : 1; }}
      pin (CK) {{ direction : input; clock : true; capacitance : 2;
        internal_power () {{ {_table("rise_power", 0.2)} {_table("fall_power", 0.4)} }} }}
      pin (QN) {{ direction : output; function : "IQN";
        timing () {{ related_pin : "CK"; {_table("cell_rise", 10)} }}
        internal_power () {{ related_pin : "CK"; {_table("power", 0.7)} }} }} }}"""


LIBRARY = f"""library (hand) {{
  time_unit : "1ps"; leakage_power_unit : "1nW"; capacitive_load_unit (1, ff); nom_voltage : 1.0;
  {_gate("INV", "!A", "A", 50, 0.5)}
  {_gate("XOR", "A ^ B", "AB", 20, 1.5)}
  {_flop("DFF")}
  {_flop("DFFR", "pin (R) { direction : input; capacitance : 1; }")}
}}"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("liberty") / "hand.lib"
    path.write_text(LIBRARY)
    return liberty.read(path)


def femto(joules):
    """Femtojoules: `pytest.approx` takes any two numbers below 1e-12 for equal."""
    return joules * 1e15


def netlist(ports, cells):
    """Yosys JSON of a module ``top``: ports name -> (direction, net), cells name -> (type, pin -> net)."""
    return json.dumps(
        {
            "modules": {
                "top": {
                    "ports": {name: {"direction": d, "bits": [net]} for name, (d, net) in ports.items()},
                    "cells": {
                        name: {"type": kind, "connections": {pin: [net] for pin, net in pins.items()}}
                        for name, (kind, pins) in cells.items()
                    },
                }
            }
        }
    )


CLOCKED = {"clk": ("input", 2), "a": ("input", 3), "y": ("output", 9)}
CLOCKS = WARM_UP + 40


def alternating():
    return {"a": [clock % 2 for clock in range(CLOCKS)]}


@needs_icarus
def test_a_flip_flop_and_an_inverter_cost_what_a_pencil_says(library):
    text = netlist(CLOCKED, {"f": ("DFF", {"D": 3, "CK": 2, "QN": 4}), "g": ("INV", {"A": 4, "Y": 9})})
    found = measure(text, "top", library, alternating(), wire_f=1e-15)
    # 2 fF and 1 fF of wire, two edges, and 0.3 fJ an edge.
    assert femto(found.clock) == pytest.approx(3.0 + 0.6)
    assert femto(found.flop) == pytest.approx(0.7)
    assert femto(found.gates) == pytest.approx(0.5)
    # Nets a and q toggle once a clock into 1 fF of pin and 1 fF of wire each; y drives nothing.
    assert femto(found.nets) == pytest.approx(2 * 0.5 * 2)
    assert femto(found.total) == pytest.approx(3.6 + 0.7 + 0.5 + 2.0)
    assert (found.area, found.flops) == (9, 1)
    assert found.leakage_w * 1e9 == pytest.approx(16)
    # Only gates between registers: the flip-flop's own delay is not part of the path.
    assert found.path_s * 1e12 == pytest.approx(50)


@needs_icarus
def test_stretches_of_one_run_are_counted_apart(library):
    text = netlist(CLOCKED, {"f": ("DFF", {"D": 3, "CK": 2, "QN": 4}), "g": ("INV", {"A": 4, "Y": 9})})
    # Moving, still, moving on every second clock; one clock later the flip-flop.
    bits = [*alternating()["a"][:20], *[1] * 20, *[clock // 2 % 2 for clock in range(20)]]
    windows = {"moving": (4, 20), "still": (22, 40), "half": (44, 60)}
    found = measure_windows(text, "top", library, {"a": bits}, windows, wire_f=1e-15)
    assert list(found) == list(windows)
    assert femto(found["moving"].total) == pytest.approx(3.6 + 0.7 + 0.5 + 2.0)
    assert found["still"].total == found["still"].clock
    assert femto(found["half"].total) == pytest.approx(3.6 + (0.7 + 0.5 + 2.0) / 2)


@needs_icarus
def test_still_inputs_leave_the_clock(library):
    text = netlist(CLOCKED, {"f": ("DFF", {"D": 3, "CK": 2, "QN": 4}), "g": ("INV", {"A": 4, "Y": 9})})
    found = measure(text, "top", library, {"a": [1] * CLOCKS}, wire_f=1e-15)
    assert found.total == found.clock
    assert femto(found.clock) == pytest.approx(3.6)


@needs_icarus
def test_unequal_paths_glitch_and_glitches_cost(library):
    # a XOR a, one side 100 ps late: logically constant, yet two toggles for each of a.
    text = netlist(
        CLOCKED,
        {
            "f": ("DFF", {"D": 3, "CK": 2, "QN": 10}),
            "g1": ("INV", {"A": 3, "Y": 4}),
            "g2": ("INV", {"A": 4, "Y": 5}),
            "x": ("XOR", {"A": 3, "B": 5, "Y": 9}),
        },
    )
    found = measure(text, "top", library, alternating(), wire_f=0.0)
    # Two inverters once, the XOR twice.
    assert femto(found.gates) == pytest.approx(2 * 0.5 + 2 * 1.5)
    assert found.path_s * 1e12 == pytest.approx(120)


@needs_icarus
def test_an_asynchronous_reset_tied_off_is_no_reset(library):
    tied = {"D": 3, "CK": 2, "R": "1", "QN": 9}
    found = measure(netlist(CLOCKED, {"f": ("DFFR", tied)}), "top", library, alternating(), wire_f=0.0)
    assert femto(found.flop) == pytest.approx(0.7)


def test_a_driven_asynchronous_reset_is_refused(library):
    driven = {"D": 3, "CK": 2, "R": 3, "QN": 9}
    with pytest.raises(ValueError, match=r"^netlist must tie asynchronous '!R' of f off, not drive it$"):
        measure(netlist(CLOCKED, {"f": ("DFFR", driven)}), "top", library, alternating(), wire_f=0.0)


def test_an_absent_simulator_says_how_to_get_it(library, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    text = netlist(CLOCKED, {"g": ("INV", {"A": 3, "Y": 9})})
    with pytest.raises(RuntimeError, match=r"^iverilog must be installed: apt-get install iverilog$"):
        measure(text, "top", library, alternating(), wire_f=0.0)


@needs_icarus
def test_a_netlist_the_simulator_refuses_is_told_so(library, monkeypatch):
    monkeypatch.setattr(gate_energy, "bench", lambda *_: "module bench; nonsense")
    text = netlist(CLOCKED, {"g": ("INV", {"A": 3, "Y": 9})})
    with pytest.raises(RuntimeError, match=r"^iverilog must accept the netlist: "):
        measure(text, "top", library, alternating(), wire_f=0.0)
