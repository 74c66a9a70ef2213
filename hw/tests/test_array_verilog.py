"""The array's folder proves itself under Icarus, and fails when a vector is spoilt."""

import json
import re
import subprocess

import pytest

from hw import verilog
from hw.beats import Beats
from hw.grid import Grid
from hw.pe.bitserial import BitSerial
from hw.pe.twoplane import TwoPlane
from hw.spec import ArraySpec

SPEC = Grid(array=ArraySpec(pe=BitSerial(lanes=9, acc_width=14, levels=1), rows=2, columns=3))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("array") / "rtl"
    verilog.export(SPEC, folder, Beats.random(SPEC, 120, 0), clock_hz=50e6)
    return folder


def bench(folder):
    return subprocess.run(["sh", "build.sh", "test"], cwd=folder, capture_output=True, text=True, check=False)


def test_the_testbench_passes_at_full_rate_and_with_stalls(exported):
    done = bench(exported)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 0: " in done.stdout
    assert "pass 1: " in done.stdout
    manifest = json.loads((exported / "planeforge.json").read_text())
    assert manifest["array"] == "Grid"
    assert manifest["sources"] == ["pe.v", "array.v"]
    texts = {name: (exported / name).read_text() for name in manifest["sources"]}
    assert [text.count("\nmodule ") for text in texts.values()] == [1, 1]
    assert len(re.findall(r"^  pe pe_\d_\d \(", texts["array.v"], re.M)) == 6
    assert "// array.pe.lanes = 9\n" in texts["pe.v"]


def test_a_systolic_array_of_two_plane_pes_passes_too(tmp_path):
    spec = Grid(array=ArraySpec(pe=TwoPlane(lanes=6), rows=2, columns=2, network="systolic"))
    verilog.export(spec, tmp_path, Beats.random(spec, 60, 1))
    done = bench(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 1: " in done.stdout


def test_a_spoilt_vector_fails(exported):
    path = exported / "items.hex"
    sound = path.read_text()
    lines = sound.splitlines()
    lines[4] = f"{int(lines[4], 16) ^ 1 << 14 * 5:0{len(lines[4])}x}"  # lowest bit of the last PE's item
    path.write_text("\n".join(lines) + "\n")
    try:
        assert bench(exported).returncode != 0
    finally:
        path.write_text(sound)
