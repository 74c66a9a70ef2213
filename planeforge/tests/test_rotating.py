"""``--rotate`` from the command line: planes of a rotated matrix, activations that are rotated to meet it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.linalg import hadamard

from algo.bitplane import store
from algo.tests import tiny_model
from planeforge import quantizing, simulating
from planeforge.cli import main
from sim import judge

BLOCK = 16


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("w.npy", rng.standard_t(3, (20, 96)).astype(np.float32))
    np.save("x.npy", rng.standard_t(3, (40, 96)).astype(np.float32))

    def call(*words: str) -> tuple[int, Any, str]:
        status = main([*words, "--json"])
        captured = capsys.readouterr()
        return status, json.loads(captured.out) if status == 0 else None, captured.err

    return call


@pytest.mark.parametrize("method", ["rtn", "gptq"])
@pytest.mark.parametrize("act", [["--act-bits", "8"], ["--act-format", "mxfp4"]])
def test_rotated_layers_compute_what_the_unrotated_matrix_would(run, method, act):
    words = ["quantize", "w.npy", "--method", method, "--format", "mxfp4", "--calib", "x.npy"]
    status, figures, _ = run(*words, "--rotate", f"{BLOCK}", "-o", "w.packed")
    assert (status, figures["rotate"]) == (0, BLOCK)
    status, plain, _ = run(*words, "-o", "plain.packed")
    assert figures["output_error"] < plain["output_error"]
    assert figures["bits_per_weight"] == plain["bits_per_weight"]
    assert "rotate" not in plain

    assert run("inspect", "w.packed", "--dequantized", "q.npy")[1]["matrices"][0]["rotate"] == BLOCK
    _, provenance = store.load("w.packed")
    assert provenance.config["rotate"] == BLOCK
    status, _, _ = run("simulate", "w.packed", "--activations", "x.npy", *act, "-o", "y.npy")
    assert status == 0
    x, q, y = np.load("x.npy"), np.load("q.npy"), np.load("y.npy")
    noise = np.linalg.norm(y - x @ q.T) / np.linalg.norm(y)
    assert noise < (0.02 if act[1] == "8" else 0.2)


def test_engines_agree_to_the_bit_on_a_rotated_matrix(run):
    run("quantize", "w.npy", "--method", "rtn", "--format", "int4-g128", "--rotate", "32", "-o", "w.packed")
    engines = "torch,numba,integer,amaranth"
    status, found, _ = run("verify", "w.packed", "--engines", engines, "--activations", "x.npy")
    assert status == 0
    assert [row["mismatches"] for row in found["engines"]] == [0] * 4


def test_activations_are_turned_by_the_written_out_matrix(run):
    run(
        "quantize", "w.npy", "--method", "rtn", "--format", "mxint8", "--rotate", f"{BLOCK}", "-o", "w.packed"
    )
    (matrix,) = store.load("w.packed")[0].values()
    x = np.load("x.npy")[:3]
    (act,) = simulating.streams(matrix, x, 16)
    turned = (x.reshape(3, -1, BLOCK) @ hadamard(BLOCK) / BLOCK**0.5).reshape(3, 96)
    np.testing.assert_allclose(act.values * act.scale[:, None], turned, atol=1e-4 * np.abs(turned).max())
    sums = judge.integer_sums(matrix, [act])
    expected = turned @ np.asarray(quantized_by_hand(np.load("w.npy"))).T
    np.testing.assert_allclose(
        judge.outputs(matrix, [act], sums), expected, atol=2e-3 * np.abs(expected).max()
    )


def quantized_by_hand(w: np.ndarray) -> np.ndarray:
    """The rotated weights as MXINT8, blocks of 32, scale ``2**(floor(log2 peak) - 6)``."""
    turned = (w.astype(np.float64).reshape(len(w), -1, BLOCK) @ hadamard(BLOCK) / BLOCK**0.5).reshape(w.shape)
    blocks = turned.reshape(len(w), -1, 32)
    scale = 2.0 ** (np.floor(np.log2(np.abs(blocks).max(axis=2, keepdims=True))) - 6)
    return (np.clip(np.rint(blocks / scale), -127, 127) * scale).reshape(w.shape)


def test_a_packed_model_that_is_rotated_scores_alike_through_every_engine(run, tmp_path):
    tiny_model.write(tmp_path / "model")
    words = ["quantize", "model", "--method", "gptq", "--format", "int4-g128", "--rotate", "8"]
    status, _, errors = run(*words, "-o", "packed", "--calib", text(tmp_path), "--length", "16")
    assert status == 0, errors
    manifest = json.loads((tmp_path / "packed" / "manifest.json").read_text())
    assert manifest["config"]["rotate"] == 8
    assert all(layer["config"]["rotate"] == 8 for layer in manifest["layers"].values())
    eval_words = ["eval", "packed", "--text", text(tmp_path), "--characters", "60", "--engine"]
    scores = [run(*eval_words, engine)[1]["nats_per_token"] for engine in ("integer", "numba")]
    assert scores[0] == scores[1]
    assert scores[0] == pytest.approx(run(*eval_words, "float")[1]["nats_per_token"], abs=0.02)
    status, found, _ = run("verify", "packed", "--engines", "torch,numba", "--text", text(tmp_path))
    assert (status, {row["mismatches"] for row in found["engines"]}) == (0, {0})


def text(folder: Path) -> str:
    path = folder / "text.txt"
    path.write_text("the cat sat on the mat and ate a rat " * 20)
    return str(path)


def test_bad_rotations_are_refused_in_one_line(run, tmp_path):
    words = ["quantize", "w.npy", "--method", "rtn", "-o", "w.packed", "--rotate"]
    for given, message in (("64", "rotate must divide the 96 columns, not 64"),
                           ("12", "rotate must be a power of two above 1, not 12")):  # fmt: skip
        status, _, errors = run(*words, given)
        assert (status, len(errors.strip().splitlines())) == (2, 1)
        assert message in errors
    (tmp_path / "model").mkdir()
    (tmp_path / "plan").write_text("{}")
    status, _, errors = run("quantize", "model", "--plan", "plan", "--rotate", "8", "-o", "packed")
    assert status == 2
    assert "format, rotate and settings must be left out with a plan" in errors
    status, _, errors = run("eval", "model", "--rotate", "8")
    assert "rotate must be left out without --method, not 8" in errors


def test_rotating_is_a_keyword_of_the_library_too():
    w = np.random.default_rng(0).standard_t(3, (8, 64))
    made = quantizing.quantize(w, "rtn", "mxfp4", rotate=BLOCK)
    assert made.matrix.rotate == BLOCK
    assert made.figures["weight_error"] < quantizing.quantize(w, "rtn", "mxfp4").figures["weight_error"]
