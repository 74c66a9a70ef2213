"""Folders beside other folders: names that do not meet, primitives with their models, edits that stay."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from hw import lint, toolchain, verilog
from hw.beats import Beats
from hw.folder import prefixed
from hw.grid import Grid
from hw.pe.bitserial import BitSerial
from hw.pe.popcount import Popcount
from hw.pipeline import PORT_BITS, payload_layout, require_ports
from hw.spec import ArraySpec, built
from hw.tests.test_verilog import build

PE = BitSerial(lanes=9, acc_width=12, levels=1)
CELLS = Popcount(lanes=21, acc_width=9, op="xor", form="lut6", instances=True)


@pytest.fixture(scope="module")
def of_cells(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cells") / "rtl"
    verilog.export(CELLS, folder, Beats.random(CELLS, 200, 0))
    return folder


def test_every_module_of_an_array_has_the_prefix_and_the_folder_proves_itself(tmp_path):
    grid = Grid(array=ArraySpec(pe=PE, rows=2, columns=2, network="systolic"))
    beats = Beats.random(grid, 60, 0)
    assert not beats.to_list()[0].first  # what the second pass would find in the accumulators
    verilog.export(grid, tmp_path / "rtl", beats, prefix="mine_")
    named = set(re.findall(r"^module (\w+)", "".join(p.read_text() for p in tmp_path.rglob("*.v")), re.M))
    assert named == {"tb", "mine_array", "mine_array_pins", "mine_pe"}
    assert "name: planeforge:rtl:mine_array:" in (tmp_path / "rtl" / "mine_array.core").read_text()
    done = build(tmp_path / "rtl")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("prefix", ["9a", "a-b", " ", "_x", "é"])
def test_a_prefix_that_begins_no_identifier_is_refused(prefix):
    with pytest.raises(
        ValueError, match=f"^prefix must be letters, digits and _ after a letter, not {prefix!r}$"
    ):
        prefixed({"pe": "module pe(clk);\nendmodule\n"}, prefix)


def test_no_name_but_a_module_s_is_prefixed():
    text = "module pe(clk);\n  wire adder;\n  adder adder (\n    .pe(clk)\n  );\nendmodule\n"
    found = prefixed({"pe": text, "adder": "module adder(pe);\nendmodule\n"}, "a_")
    assert found["a_pe"] == text.replace("module pe", "module a_pe").replace(
        "  adder adder", "  a_adder adder"
    )
    assert list(found) == ["a_pe", "a_adder"]


def test_a_folder_of_primitives_proves_and_lints_itself_with_their_models(of_cells):
    done = build(of_cells)
    assert (done.returncode, done.stderr) == (0, "")
    assert "pass 1:" in done.stdout
    models = sorted(path.name for path in of_cells.glob("[LC]*.v"))
    assert {"CARRY4.v", "LUT6_2.v"} <= set(models)
    assert lint.icarus(of_cells, ["pe.v", *models], "pe") == ""
    for linter, check in (("verilator", lint.verilator), ("slang", lint.slang)):
        found = check(of_cells, ["pe.v", *models], "pe")
        assert set(found) <= set(lint.waived(linter)), found


def test_a_wrong_model_of_a_primitive_is_seen(of_cells, tmp_path):
    folder = tmp_path / "rtl"
    folder.mkdir()
    for path in (path for path in of_cells.iterdir() if path.is_file()):
        (folder / path.name).write_text(path.read_text().replace("S[2] ? third", "S[2] ? second"))
    assert build(folder).returncode != 0


def test_a_folder_of_primitives_is_for_their_family_alone(of_cells):
    assert not {"ecp5.ys", "ice40.ys", "pe_pins.v"} & {path.name for path in of_cells.iterdir()}
    assert "synth_xilinx" in (of_cells / "yosys.ys").read_text()
    assert json.loads((of_cells / "planeforge.json").read_text())["primitives"] == "xilinx"
    refused = build(of_cells, "ecp5")
    assert refused.returncode == 2
    assert "first argument must be test, lint or synth, not 'ecp5'" in refused.stderr


def test_an_edited_file_is_not_written_over(tmp_path):
    beats = Beats.random(PE, 40, 0)
    verilog.export(PE, tmp_path / "rtl", beats)
    (tmp_path / "rtl" / "tb.v").unlink()  # what is missing is written anew
    verilog.export(PE, tmp_path / "rtl", beats)
    mine = (tmp_path / "rtl" / "pe.v").read_text() + "// mine\n"
    (tmp_path / "rtl" / "pe.v").write_text(mine)
    with pytest.raises(
        ValueError, match=r"^directory must hold what planeforge wrote, not a changed pe\.v \("
    ):
        verilog.export(PE, tmp_path / "rtl", beats)
    assert (tmp_path / "rtl" / "pe.v").read_text() == mine


def test_a_place_where_no_folder_can_be_made_is_refused():
    with pytest.raises(
        ValueError, match=r"^directory must be where a folder can be made, not '/proc/rtl' \("
    ):
        verilog.export(PE, Path("/proc/rtl"), Beats.random(PE, 40, 0))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(PE, lanes=21_845, acc_width=40), r"lanes must leave a beat at most 65535 bits, not 65541"),
        (
            Grid(array=ArraySpec(pe=PE, rows=75, columns=73)),
            r"accumulators must have at most 65535 bits together",
        ),
    ],
)
def test_ports_that_no_netlist_has_are_refused(spec, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        require_ports(spec)


def test_the_widest_port_is_taken():
    widest = replace(PE, lanes=(PORT_BITS - 6) // 3, acc_width=40)
    require_ports(widest)
    assert payload_layout(widest).size == 3 * widest.lanes + 6 == PORT_BITS


def test_headers_name_what_the_rtl_is_made_from_and_nothing_else():
    array = ArraySpec(pe=PE, rows=2, columns=3, network="systolic", skip="words", dram_latency=3)
    assert built(Grid(array=array)) == {
        "lanes": 9,
        "acc_width": 12,
        "array": {
            "pe": {"lanes": 9, "acc_width": 12, "levels": 1},
            "rows": 2,
            "columns": 3,
            "network": "systolic",
            "operand_registers": 0,
        },
    }


def test_fields_left_out_of_headers_change_no_rtl():
    plain = ArraySpec(pe=PE, rows=1, columns=2)
    others = {
        "clock_hz": 1e6, "weight_buffer_bits": 8, "activation_buffer_bits": 8, "dram_bits_per_cycle": 8,
        "dataflow": "weight-stationary", "outer": "tokens", "planes": "inside", "buffers": 1,
        "result_buffer_bits": 8, "dram_latency": 2, "scale_clocks": 2, "skip": "planes", "pack_kept": True,
    }  # fmt: skip
    wanted = toolchain.rtlil(Grid(array=plain), "array")
    assert toolchain.rtlil(Grid(array=replace(plain, **others)), "array") == wanted
