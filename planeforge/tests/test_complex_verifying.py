"""``planeforge verify --pe complex``: a layer of complex weights on the PE that is made for it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from planeforge.cli import main


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("w.npy", rng.normal(size=(10, 86)))
    np.save("x.npy", rng.normal(size=(5, 86)))

    def call(*words):
        status = main([*words, "--json"])
        captured = capsys.readouterr()
        return status, json.loads(captured.out) if captured.out else None, captured.err

    return call


@pytest.mark.parametrize("algebra", ["conjugate", "plain", "both"])
@pytest.mark.parametrize("pe", ["complex:lanes=16", "complex:lanes=16,conjugate=true"])
def test_rtl_of_the_complex_pe_agrees_with_the_judge_clock_by_clock(run, algebra, pe):
    words = ["quantize", "w.npy", "--method", "ifairy", "--set", f"algebra={algebra}", "-o", "w.packed"]
    assert run(*words)[0] == 0
    words = ["verify", "w.packed", "--activations", "x.npy", "--engines", "torch,integer,amaranth"]
    status, found, _ = run(*words, "--pe", pe)
    assert status == 0
    rtl = found["engines"][-1]
    assert (rtl["engine"], rtl["mismatches"]) == ("amaranth", 0)
    assert rtl["cycles"] == rtl["cycles_model"] > 0


def test_a_planted_fault_in_its_real_form_is_caught(run):
    run("quantize", "w.npy", "--method", "ifairy", "-o", "w.packed")
    words = ["verify", "w.packed", "--activations", "x.npy", "--engines", "torch,integer,amaranth"]
    status, found, _ = run(*words, "--inject", "4")
    assert status == 0
    assert all(fault["caught"] for fault in found["faults"])


def test_a_matrix_of_real_weights_is_refused_in_one_line(run):
    run("quantize", "w.npy", "--method", "sign", "-o", "w.packed")
    words = ["verify", "w.packed", "--activations", "x.npy", "--engines", "torch,amaranth"]
    status, _, errors = run(*words, "--pe", "complex")
    assert (status, len(errors.strip().splitlines())) == (2, 1)
    assert "complex" in errors
