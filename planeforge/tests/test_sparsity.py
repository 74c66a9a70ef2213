"""``planeforge sparsity``: zeros of packed matrices counted, patterns priced, sentences said."""

import json

import numpy as np
import pytest

from planeforge import sparsity
from planeforge.cli import main


def test_zeros_of_digits_are_counted_by_hand():
    digits = np.array([[0, 0, 3, -1, 0], [2, 0, 0, 0, 0]])
    found = sparsity.figures(digits, 2)
    assert found["nonzero"] == pytest.approx(0.3)
    # Words of two lanes, the last one padded: 00 3-1 0. and 20 00 0.
    assert found["zero_words"] == pytest.approx(4 / 6)
    # Planes of the magnitude: ones in 3 and -1; twos in 3 and in the second row's 2.
    assert found["zero_plane_words"] == pytest.approx((5 + 4) / 12)
    assert found["magnitude_bits"] == 2
    # Plane 0: one word in the first row alone, so the other waits; plane 1: a word in each.
    assert found["plane_cycles_left"] == pytest.approx((1 / 3 + 1 / 3) / 2)
    assert found["imbalance"] == 2
    assert found["essential_terms"] == pytest.approx(4 / 10)
    assert found["naf_terms"] == pytest.approx(4 / 10)
    # Ten digits in words of two, in order: 00 3-1 02 00 00.
    assert found["essential_cycles"] == pytest.approx((1 + 2 + 1 + 1 + 1) / 5)
    assert found["flag_bits_per_weight"] == pytest.approx(2 * 3 / 5)


def test_a_matrix_of_zeros_takes_no_plane_cycles():
    found = sparsity.figures(np.zeros((3, 9), np.int64), 4)
    assert (found["zero_words"], found["plane_cycles_left"]) == (1, 0)


@pytest.fixture
def packed(tmp_path):
    """A packed file of 4-bit weights with a row of zeros."""
    weight = np.random.default_rng(0).normal(size=(6, 256)).astype(np.float32)
    weight[2] = 0
    np.save(tmp_path / "w.npy", weight)
    arguments = [
        "quantize",
        "--method",
        "rtn",
        str(tmp_path / "w.npy"),
        "--format",
        "int4-g128",
        "-o",
        str(tmp_path / "w.packed"),
    ]
    assert main(arguments) == 0
    return tmp_path / "w.packed"


def test_a_packed_file_s_layers_are_counted(packed, capsys):
    capsys.readouterr()
    assert main(["sparsity", str(packed), "--lanes", "16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (row,) = found["layers"]
    # A row of zeros is a sixth of all words.
    assert row["zero_words"] == pytest.approx(1 / 6)
    assert row["lanes"] == 16
    assert 0 < row["booth_terms"] < row["magnitude_bits"]
    assert main(["sparsity", str(packed)]) == 0
    assert "zeros of packed matrices" in capsys.readouterr().out


def test_patterns_and_sentences_need_no_file(capsys):
    assert main(["sparsity", "--tech", "asap7", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    verdicts = {(r["operands"], r["pattern"], r["index"]): r["verdict"] for r in found["patterns"]}
    assert verdicts["W1A1", "2:4", "beside"] == "costs"
    assert verdicts["W8A8", "2:4", "beside"] == "saves"
    assert found["layers"] == []
    assert any(s.startswith("2:4 costs a 1-bit popcount PE") for s in found["sentences"])


def test_bad_input_is_one_line(capsys):
    assert main(["sparsity", "--tech", "intel7"]) == 2
    assert capsys.readouterr().err.startswith("error: tech must be one of ")
