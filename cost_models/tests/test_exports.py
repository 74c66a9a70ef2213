"""Exports: what the neighbours' files say is what the models say; the neighbours read them where they are."""

import re

import pytest
import yaml

from cost_models import area, energy, exports, tech
from hw.counts import Activity
from hw.pe.bitserial import BitSerial
from hw.pe.gather import Gather
from hw.pe.mac import Mac
from hw.spec import ArraySpec

ARRAY = ArraySpec(pe=BitSerial(lanes=67, acc_width=24), rows=4, columns=6, dram_bits_per_cycle=96)


def read(to, array=ARRAY, name="asap7"):
    return yaml.safe_load(exports.export(to, array, name))


def test_accelergy_tables_hold_energies_and_areas_of_the_models():
    found = read("accelergy")
    energies = {
        (table["name"], action["name"]): action["energy"]
        for table in found["ERT"]["tables"]
        for action in table["actions"]
    }
    areas = {table["name"]: table["area"] for table in found["ART"]["tables"]}
    asap7, pe = tech.load("asap7"), "system.chip.pe[0..23]"
    assert areas[pe] == pytest.approx(area.pe_area(ARRAY.pe, "asap7").total, rel=1e-5)
    word = 4 * 67 * asap7.constant("sram_read").value
    assert energies["system.chip.weight_buffer", "read"] == pytest.approx(word, rel=1e-5)
    assert energies["system.dram", "read"] == pytest.approx(96 * tech.dram("lpddr5").value)
    # A beat of random data is an idle clock and what the data add; leakage stands alone.
    one = ArraySpec(pe=ARRAY.pe, rows=1, columns=1, clock_hz=ARRAY.clock_hz)
    beat = energy.energy(Activity(cycles=1, beats=1, w_toggles=33, x_toggles=33), one, asap7)
    parts = beat.breakdown
    leaked = parts["pe_leakage"] + parts["buffer_leakage"]
    assert energies[pe, "compute"] == pytest.approx(beat.total - leaked, rel=1e-5)
    assert energies[pe, "idle"] == pytest.approx(parts["clock"] + parts["clock_tree"], rel=1e-5)
    assert energies[pe, "leak"] == pytest.approx(parts["pe_leakage"], rel=1e-5)


def test_a_zigzag_core_has_a_lane_for_a_unit_and_the_array_s_buffers():
    found = read("zigzag")
    unit = found["operational_array"]
    assert unit["sizes"] == [4, 6, 67]
    assert unit["unit_area"] * 67 == pytest.approx(area.pe_area(ARRAY.pe, "asap7").total, rel=1e-5)
    memories = found["memories"]
    assert list(memories) == ["accumulator", "weight_buffer", "activation_buffer", "dram"]
    weights = memories["weight_buffer"]
    assert (weights["size"], weights["ports"][0]["bandwidth_max"]) == (ARRAY.weight_buffer_bits, 4 * 67)
    assert memories["dram"]["operands"] == ["I1", "I2", "O"]
    assert memories["accumulator"]["served_dimensions"] == ["D3"]


@pytest.mark.parametrize("to", exports.FORMATS)
def test_ranges_and_sources_stand_in_the_comments(to):
    text = exports.export(to, ARRAY, "asap7", "hbm2")
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert any("asap7.clock_flop = " in line for line in comments)
    assert any(re.search(r"pe beat: [\d.]+ pJ \[[\d.]+ to [\d.]+\]", line) for line in comments)
    assert any("dram.hbm2 = 4" in line for line in comments)
    assert all(
        line.startswith("#") or ":" in line or line.lstrip().startswith("-") for line in text.splitlines()
    )


def test_zigzag_itself_reads_the_core():
    validator = pytest.importorskip(
        "zigzag.parser.accelerator_validator", reason="zigzag-dse is not installed"
    )
    from zigzag.parser.accelerator_factory import AcceleratorFactory

    checked = validator.AcceleratorValidator(read("zigzag"))
    assert checked.validate()
    core = AcceleratorFactory(checked.normalized_data).create()
    assert core.operational_array.total_unit_count == 4 * 6 * 67


def test_accelergy_itself_reads_the_tables(tmp_path, monkeypatch):
    parser = pytest.importorskip("accelergy.raw_inputs_2_dicts", reason="accelergy is not installed")
    # It writes a configuration into the home directory.
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "tables.yaml"
    path.write_text(exports.export("accelergy", ARRAY, "asap7"), encoding="utf-8")
    found = parser.RawInputs2Dicts({"parser_version": 0.4, "path_arglist": [str(path)]}).get_ERT_dict()
    assert set(found) >= {"system.chip.pe[0..23]", "system.chip.weight_buffer", "system.dram"}


@pytest.mark.parametrize(
    ("to", "pe", "message"),
    [
        ("timeloop", BitSerial(), "to must be one of accelergy, zigzag, not 'timeloop'"),
        ("zigzag", Mac(), "pe must be bit-serial to have its energy exported, not Mac"),
        ("zigzag", Gather(), "pe must be bit-serial to have its energy exported, not Gather"),
    ],
)
def test_bad_input_says_what_is_wanted(to, pe, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        exports.export(to, ArraySpec(pe=pe), "asap7")
