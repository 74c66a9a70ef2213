"""Netlists of gates as C++: only gates, no loops. What the C++ computes is in test_engines."""

from __future__ import annotations

import re

import pytest

from hw.gates import to_cpp

BIT = {"a": ("input", 2), "y": ("output", 3)}


def module(cells, **ports):
    named = {name: {"direction": side, "bits": [bit]} for name, (side, bit) in (ports or BIT).items()}
    return {"ports": named, "cells": dict(enumerate(cells)), "netnames": {}}


def gate(kind, **pins):
    return {"type": kind, "connections": {pin: [bit] for pin, bit in pins.items()}}


def test_gates_follow_the_gates_they_read():
    text = to_cpp(module([gate("$_NOT_", A=4, Y=3), gate("$_AND_", A=2, B="1", Y=4)]))
    assert re.search(r"n\[2\] = n\[0\] & 1;\s+n\[1\] = n\[2\] \^ 1;", text)


def test_a_flip_flop_starts_as_the_netlist_says():
    flop = gate("$_DFF_P_", C=9, D=2, Q=3)
    design = module([flop])
    design["netnames"] = {"y": {"bits": [3], "attributes": {"init": "1"}}}
    assert "n[1] = 1;" in to_cpp(design)
    assert "= 1;" not in to_cpp(module([flop])).replace("(n[", "")


def test_a_cell_that_is_no_gate_is_refused():
    message = "cell must be one of $_NOT_, $_AND_, $_OR_, $_XOR_, $_MUX_, $_DFF_P_, not '$add'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        to_cpp(module([gate("$add", A=2, B=2, Y=3)]))


def test_a_loop_of_gates_is_refused():
    with pytest.raises(ValueError, match="cycle"):
        to_cpp(module([gate("$_NOT_", A=4, Y=3), gate("$_NOT_", A=3, Y=4)]))
