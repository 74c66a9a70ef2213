"""The constants file: complete, inside its own ranges, and refused where it is not."""

import re
import tomllib

import pytest

from cost_models import tech as techs
from cost_models.tech import PATH
from cost_models.uncertain import KINDS

LIBRARIES = ("nangate45", "asap7", "sky130hd", "sg13g2")
FIELDS = {"value", "low", "high", "unit", "node", "vdd", "kind", "source", "note"}


def entries():
    """Every number of the file, by key, with what it inherits: read without the module under test."""
    tables = tomllib.loads(PATH.read_text())
    groups = {"design": tables["design"], "dram": tables["dram"], **tables["tech"]}
    for group, table in groups.items():
        common = {key: table[key] for key in ("node", "vdd") if key in table}
        for key, entry in table.items():
            if isinstance(entry, dict):
                yield f"{group}.{key}", common | entry


def test_every_number_states_all_of_its_fields_and_a_range_around_itself():
    found = dict(entries())
    assert len(found) > 60
    for key, entry in found.items():
        assert set(entry) == FIELDS, key
        assert 0 < entry["low"] <= entry["value"] <= entry["high"], key
        assert entry["kind"] in KINDS, key
        assert entry["unit"], key
        assert len(entry["source"]) > 20, key


def test_an_estimate_says_so_and_is_never_exact():
    for key, entry in entries():
        if entry["kind"] == "assumed" and key != "design.sram_bank":
            assert entry["low"] < entry["high"], key


def test_all_technologies_load_by_name():
    assert techs.names() == ("generic_ge", *LIBRARIES)
    for name in techs.names():
        tech = techs.load(name)
        assert tech.name == name
        assert tech.constant("area_ge").key == f"{name}.area_ge"
        assert techs.resolve(name) == techs.resolve(tech) == tech


def test_libraries_hold_the_same_numbers():
    keys = [set(techs.load(name).constants) for name in LIBRARIES]
    assert keys[0] == keys[1] == keys[2] == keys[3]


def test_a_newer_node_is_smaller_and_takes_less_energy():
    old, new = techs.load("nangate45"), techs.load("asap7")
    for key in (
        "area_ge",
        "area_flop",
        "clock_flop",
        "operand_toggle",
        "counter_adder",
        "accumulator_bit",
        "sram_area",
    ):
        assert new.constant(key).high < old.constant(key).low, key


def test_an_unknown_technology_is_refused_with_the_choices():
    choices = "generic_ge, nangate45, asap7, sky130hd, sg13g2"
    with pytest.raises(ValueError, match=f"^tech must be one of {choices}, not 'tsmc3'$"):
        techs.load("tsmc3")


def test_a_missing_number_is_an_error_that_names_the_technology():
    with pytest.raises(ValueError, match=r"^tech must be one with a constant 'sram_read', not 'generic_ge'$"):
        techs.load("generic_ge").constant("sram_read")


def test_external_memories_are_registered_by_their_table():
    assert "lpddr5" in techs.drams()
    assert techs.dram("lpddr5").unit == "pJ/bit"
    with pytest.raises(ValueError, match=f"^dram must be one of {', '.join(techs.drams())}, not 'sdram'$"):
        techs.dram("sdram")


SOUND = """
[tech.t]
title = "a test"
area_unit = "um2"
node = "1 nm"
vdd = "1 V"
[tech.t.area_ge]
value = 2.0
low = 1.0
high = 3.0
unit = "um2/GE"
kind = "assumed"
source = "nobody"
note = ""
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """The technology of a constants file with this text."""

    def loaded(text):
        path = tmp_path / "constants.toml"
        path.write_text(text)
        monkeypatch.setattr(techs, "PATH", path)
        techs._tables.cache_clear()
        return techs.load("t")

    yield loaded
    techs._tables.cache_clear()


def test_a_number_inherits_node_and_supply_from_its_table(load):
    line = load(SOUND).constant("area_ge").line()
    assert line == "t.area_ge = 2 [1, 3] um2/GE (assumed, 1 nm, 1 V): nobody"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('unit = "um2/GE"\n', "", "t.area_ge must state unit; it does not"),
        ('source = "nobody"', 'source = " "', "t.area_ge.source must be stated, not ' '"),
        (
            'kind = "assumed"',
            'kind = "guessed"',
            "t.area_ge.kind must be one of measured, published, derived, assumed, not 'guessed'",
        ),
        ("value = 2.0", "value = 4.0", "t.area_ge.value must be in [1.0, 3.0], not 4.0"),
        ("low = 1.0", "low = 0.0", "t.area_ge must be positive and finite, not 0.0 to 3.0"),
        ("high = 3.0", "high = inf", "t.area_ge must be positive and finite, not 1.0 to inf"),
        (
            'note = ""',
            'note = ""\ncolour = "red"',
            "t.area_ge must state only value, low, high, unit, node, vdd, kind, source, note, not 'colour'",
        ),
        ('area_unit = "um2"', 'area_unit = "acre"', "t.area_unit must be um2 or GE, not 'acre'"),
    ],
)
def test_a_number_that_is_not_complete_is_refused_at_load(load, old, new, message):
    assert old in SOUND
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load(SOUND.replace(old, new))
