"""What runs on which PE, and that everything quantized runs on one."""

import json

import numpy as np
import pytest

from algo.bitplane import family
from planeforge import capabilities
from planeforge.cli import main
from planeforge.hardware import block, pe
from planeforge.quantizing import quantize

RNG = np.random.default_rng(0)
WEIGHT, TOKENS = RNG.normal(size=(9, 136)), RNG.normal(size=(200, 136))


def test_the_default_pe_runs_every_kind():
    assert capabilities.runs(pe()) == list(capabilities.KINDS)


CASES = [
    (name, format_name)
    for name in family.names("algo.methods")
    for format_name in (family.load("algo.methods", name).FORMATS or (None,))
]


@pytest.mark.parametrize(("method", "format_name"), CASES)
def test_every_method_and_format_runs_on_the_default_pe(method, format_name):
    made = quantize(WEIGHT, method, format_name, calibration=TOKENS)
    assert capabilities.refusal(pe(), made.matrices.values(), 8) == ""


def test_a_pe_too_narrow_says_so():
    found = capabilities.refusal(
        pe("bitserial:acc_width=9"), [quantize(WEIGHT, "rtn", "int4-g128").matrix], 8
    )
    assert found.startswith("acc_width must be at least ")


def test_the_list_says_what_runs_a_file(tmp_path, capsys):
    weight, calib, path = (str(tmp_path / name) for name in ("w.npy", "x.npy", "w.packed"))
    np.save(weight, WEIGHT)
    np.save(calib, TOKENS)
    assert main(["quantize", weight, "--method", "billm", "--calib", calib, "-o", path]) == 0
    capsys.readouterr()
    assert main(["pes", path, "--json"]) == 0
    members = {row["pe"]: row for row in json.loads(capsys.readouterr().out)["members"]}
    assert set(members) == set(family.names("hw.pe"))
    assert members["bitserial"]["runs it"] == "yes"
    assert "masked 1 bit x int8" in members["bitserial"]["runs"]
    assert members["twoplane"]["runs it"] == "yes"
    assert members["fpmac"]["runs it"].startswith("pe must sum integers exactly")


def test_an_array_is_a_block_as_a_pe_is():
    made = block("bitserial:lanes=8", "2x3:network=systolic")
    assert (made.rows, made.tokens, made.lanes) == (2, 3, 8)
    assert block("bitserial:lanes=8") == pe("bitserial:lanes=8")
