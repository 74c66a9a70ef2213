"""Static timing against chains worked out by hand, on a library whose tables are linear."""

import json

import pytest

from cost_models.calibration.sta import FAN_OUT, TimedLibrary, period

#: delay of a cell: base + 0.5 slew + 2 load; slew of its output: 1 + load
_SLEWS, _LOADS = (0.0, 100.0), (0.0, 100.0)


def rows(base, slope, per_load):
    lines = [", ".join(str(base + slope * s + per_load * load) for load in _LOADS) for s in _SLEWS]
    return ", ".join(f'"{line}"' for line in lines)


def timing(source, rise, fall, extra):
    return f"""
      timing () {{ related_pin : "{source}"; {extra}
        cell_rise (grid) {{ values ({rows(rise, 0.5, 2)}); }}
        cell_fall (grid) {{ values ({rows(fall, 0.5, 2)}); }}
        rise_transition (grid) {{ values ({rows(1, 0, 1)}); }}
        fall_transition (grid) {{ values ({rows(1, 0, 1)}); }}
      }}"""


def gate(name, inputs, function, rise, fall, sense, area=1.0, capacitance=1.0):
    pins = "".join(f"pin ({p}) {{ direction : input; capacitance : {capacitance}; }}" for p in inputs)
    arcs = "".join(timing(p, rise, fall, f"timing_sense : {sense};") for p in inputs)
    output = f'pin (Y) {{ direction : output; function : "{function}"; {arcs} }}'
    return f"cell ({name}) {{ area : {area}; {pins} {output} }}"


LIBRARY = f"""library (hand) {{
  time_unit : "1ns"; capacitive_load_unit (1, pf); nom_voltage : 1.0;
  lu_table_template (grid) {{
    variable_1 : input_net_transition; variable_2 : total_output_net_capacitance;
    index_1 ("0, 100"); index_2 ("0, 100");
  }}
  lu_table_template (limit) {{
    variable_1 : related_pin_transition; variable_2 : constrained_pin_transition;
    index_1 ("0, 100"); index_2 ("0, 100");
  }}
  {gate("INV", "A", "!A", 10, 20, "negative_unate")}
  {gate("BUF", "A", "A", 5, 7, "positive_unate", area=2.0)}
  {gate("XOR", "AB", "A^B", 30, 40, "non_unate")}
  cell (DFF) {{ area : 6;
    ff (IQ, IQN) {{ clocked_on : "C"; next_state : "D"; }}
    pin (C) {{ direction : input; clock : true; capacitance : 1.0; }}
    pin (D) {{ direction : input; capacitance : 1.0;
      timing () {{ related_pin : "C"; timing_type : setup_rising;
        rise_constraint (limit) {{ values ("3, 103", "53, 153"); }}
        fall_constraint (limit) {{ values ("4, 204", "54, 254"); }} }} }}
    pin (Q) {{ direction : output; function : "IQ"; {timing("C", 100, 110, "timing_type : rising_edge;")} }}
  }}
}}"""


@pytest.fixture
def library(tmp_path):
    path = tmp_path / "hand.lib"
    path.write_text(LIBRARY)
    return TimedLibrary(path)


def netlist(cells, ports):
    made = {
        f"g{k}": {"type": kind, "connections": {pin: [net] for pin, net in nets.items()}}
        for k, (kind, nets) in enumerate(cells)
    }
    module = {"ports": {n: {"direction": d, "bits": b} for n, (d, b) in ports.items()}, "cells": made}
    return json.dumps({"modules": {"pe": module}})


def test_a_register_two_inverters_and_a_register_as_worked_out_by_hand(library):
    # Q rises at 100 + 2 and falls at 110 + 2 with slew 2. The first inverter falls at 102 + 20 + 0.5 2 + 2 =
    # 125 and rises at 112 + 10 + 1 + 2 = 125; the second, loaded alike, rises at 125 + 10 + 1 + 2 = 138 and
    # falls at 125 + 20 + 1 + 2 = 148, with slew 2, whose setup is 3 + 2 and 4 + 4.
    cells = [
        ("DFF", {"C": 2, "D": 3, "Q": 4}),
        ("INV", {"A": 4, "Y": 5}),
        ("INV", {"A": 5, "Y": 6}),
        ("DFF", {"C": 2, "D": 6, "Q": 7}),
    ]
    ports = {"clk": ("input", [2]), "d": ("input", [3])}
    assert period(netlist(cells, ports), "pe", library) == pytest.approx((148 + 8) * 1e-9)


def test_either_edge_of_an_input_may_cause_either_of_an_exclusive_or(library):
    # From an input at 0 with slew 0: an inverter falls at 20 + 2 and rises at 10 + 2, slew 2; then 40 + 1 + 0
    # after the later of the two.
    cells = [("INV", {"A": 2, "Y": 4}), ("XOR", {"A": 4, "B": 3, "Y": 5})]
    ports = {"a": ("input", [2]), "b": ("input", [3]), "y": ("output", [5])}
    assert period(netlist(cells, ports), "pe", library) == pytest.approx((22 + 41) * 1e-9)


def test_a_net_of_many_inputs_goes_through_a_tree_of_buffers(library):
    # 64 inputs are two stages of 8: the inverter drives 8 and falls at 20 + 16 with slew 9; a buffer behind
    # it falls at 36 + 7 + 4.5 + 16.
    sinks = [("BUF", {"A": 4, "Y": 10 + k}) for k in range(FAN_OUT**2)]
    cells = [("INV", {"A": 2, "Y": 4}), *sinks]
    ports = {"a": ("input", [2]), "y": ("output", [4])}
    assert period(netlist(cells, ports), "pe", library) == pytest.approx(63.5e-9)


def test_as_many_as_a_gate_may_drive_take_no_buffer(library):
    sinks = [("BUF", {"A": 4, "Y": 10 + k}) for k in range(FAN_OUT)]
    ports = {"a": ("input", [2]), "y": ("output", [4])}
    found = period(netlist([("INV", {"A": 2, "Y": 4}), *sinks], ports), "pe", library)
    assert found == pytest.approx((20 + 2 * FAN_OUT) * 1e-9)


def test_constants_never_arrive(library):
    cells = [("XOR", {"A": "1", "B": 2, "Y": 3})]
    ports = {"a": ("input", [2]), "y": ("output", [3])}
    assert period(netlist(cells, ports), "pe", library) == pytest.approx(40e-9)
    assert period(netlist([("INV", {"A": "0", "Y": 3})], ports), "pe", library) == 0.0


def test_a_path_longer_than_the_interpreter_s_stack_is_walked(library):
    cells = [("INV", {"A": 2 + k, "Y": 3 + k}) for k in range(3000)]
    ports = {"a": ("input", [2]), "y": ("output", [3002])}
    # The first has no slew before it, the last no load behind it.
    expected = 1500 * (20 + 10 + 2 * (2 + 1)) - 2 - 1
    assert period(netlist(cells, ports), "pe", library) == pytest.approx(expected * 1e-9, rel=1e-3)


def test_a_library_without_a_buffer_is_refused(tmp_path):
    path = tmp_path / "none.lib"
    path.write_text(
        LIBRARY.replace("cell (BUF)", "cell (BUF2)").replace('function : "A";', 'function : "B";')
    )
    cells = [("INV", {"A": 2, "Y": 3})]
    ports = {"a": ("input", [2]), "y": ("output", [3])}
    with pytest.raises(ValueError, match=r"^liberty must hold a buffer; it has none$"):
        period(netlist(cells, ports), "pe", TimedLibrary(path))
