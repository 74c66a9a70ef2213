"""Technologies: files whole, inside their own ranges, based on one another, refused where they are not."""

import re
import tomllib

import pytest

from cost_models import tables
from cost_models import tech as techs
from cost_models.area import array_area, pe_area
from cost_models.uncertain import KINDS, ratio
from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec, Resources

LIBRARIES = ("nangate45", "asap7", "sky130hd", "sg13g2")
FIELDS = {"value", "low", "high", "unit", "node", "vdd", "temp", "kind", "source", "note"}
#: choices and ends of a method, not figures: exact though assumed
CHOICES = {"design.sram_bank", "scaling.limits.vdd_most"}


def entries():
    """Every number that ships, by file and key, with what it inherits: read without the module under test."""

    def walk(where, table, common):
        head = {key: table[key] for key in ("node", "vdd", "temp") if key in table}
        for key, entry in table.items():
            if isinstance(entry, dict) and "value" in entry:
                yield f"{where}.{key}", common | head | entry
            elif isinstance(entry, dict):
                yield from walk(f"{where}.{key}", entry, common | head)

    for path in sorted(tables.FOLDER.rglob("*.toml")):
        where = ".".join(path.relative_to(tables.FOLDER).with_suffix("").parts)
        yield from walk(where, tomllib.loads(path.read_text()), {})


def test_every_number_states_all_of_its_fields_and_a_range_around_itself():
    found = dict(entries())
    assert len(found) > 300
    for key, entry in found.items():
        assert set(entry) == FIELDS, key
        assert 0 < entry["low"] <= entry["value"] <= entry["high"], key
        assert entry["kind"] in KINDS, key
        assert entry["unit"], key
        assert len(entry["source"]) >= 20 or "factors" in key, key


def test_an_estimate_says_so_and_is_never_exact():
    for key, entry in entries():
        if entry["kind"] == "assumed" and key not in CHOICES:
            assert entry["low"] < entry["high"], key


def test_no_file_of_numbers_is_too_long_to_read():
    for path in tables.FOLDER.rglob("*.toml"):
        assert len(path.read_text().splitlines()) <= 500, path


def test_all_technologies_load_by_name():
    assert {"generic_ge", *LIBRARIES, "gt2n", "osu018", "generic28", "horowitz45", "tpu7"} <= set(
        techs.names()
    )
    for name in techs.names():
        tech = techs.load(name)
        assert tech.name == name
        assert tech.constant("area_ge").key == f"{name}.area_ge"
        assert techs.resolve(name) == techs.resolve(tech) == tech


def test_fpga_fabrics_are_technologies_whose_area_is_tables():
    assert techs.fabrics() == ("ecp5", "ice40", "xilinx")
    inputs = {name: techs.load(name).constant("lut_inputs").value for name in techs.fabrics()}
    assert inputs == {"ecp5": 4, "ice40": 4, "xilinx": 6}
    assert {techs.load(name).area_unit for name in techs.fabrics()} == {"LUT"}


def test_measured_libraries_hold_the_same_numbers():
    keys = [set(techs.load(name).constants) for name in LIBRARIES]
    assert keys[0] == keys[1] == keys[2] == keys[3]


def test_a_newer_node_is_smaller_and_takes_less_energy():
    old, new = techs.load("nangate45"), techs.load("asap7")
    for key in ("area_ge", "area_flop", "clock_flop", "operand_toggle", "counter_adder", "sram_area"):
        assert new.constant(key).high < old.constant(key).low, key
    areas = [techs.load(name).constant("area_ge").value for name in ("osu018", "sg13g2", "nangate45", "gt2n")]
    assert areas == sorted(areas, reverse=True)


def test_a_derived_technology_states_its_factor_and_keeps_its_base_s_source():
    base, made = (techs.load(name).constant("area_ge") for name in ("nangate45", "generic28"))
    assert made.value == pytest.approx(0.44 * base.value)
    assert made.kind == "derived"
    assert made.node == "28 nm"
    assert base.source in made.source
    (factor,) = made.factors
    assert (factor.value, factor.low, factor.high) == (
        1.0,
        pytest.approx(0.35 / 0.44),
        pytest.approx(0.55 / 0.44),
    )


def test_the_factor_of_a_derived_technology_cancels_in_its_ratios():
    big, small = Resources(adder_bit=64, flop=64), Resources(adder_bit=32, flop=48)
    found = {name: ratio(pe_area(big, name), pe_area(small, name)) for name in ("nangate45", "generic28")}
    derived, base = found["generic28"], found["nangate45"]
    assert (derived.low, derived.value, derived.high) == pytest.approx(
        (base.low, base.value, base.high), rel=1e-12
    )
    # Alone it does not: 0.35 to 0.55 about 0.44.
    alone, before = pe_area(big, "generic28"), pe_area(big, "nangate45")
    assert alone.high / alone.total == pytest.approx(before.high / before.total * 0.55 / 0.44)


def test_an_unknown_technology_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=f"^tech must be one of {', '.join(techs.names())}, not 'tsmc3'$"):
        techs.load("tsmc3")


def test_a_missing_number_is_an_error_that_names_the_technology():
    with pytest.raises(ValueError, match=r"^tech must be one with a constant 'sram_read', not 'generic_ge'$"):
        techs.load("generic_ge").constant("sram_read")


def test_a_technology_without_a_node_or_a_supply_has_no_numbers_for_them():
    with pytest.raises(ValueError, match=r"^node must be a number of nm, not 'any'$"):
        techs.load("generic_ge").nanometres  # noqa: B018
    with pytest.raises(ValueError, match=r"^vdd must be a number of V, not 'none'$"):
        techs.load("generic_ge").volts  # noqa: B018
    assert (techs.load("nangate45").nanometres, techs.load("nangate45").volts) == (45, 1.1)


def test_external_memories_are_registered_by_their_table():
    assert {"lpddr4", "lpddr5", "ddr4", "ddr5", "hbm2", "hbm2e", "hbm3"} == set(techs.drams())
    assert techs.dram("lpddr5").unit == "pJ/bit"
    assert techs.dram("lpddr5", "activate").unit == "pJ/row"
    with pytest.raises(ValueError, match=f"^dram must be one of {', '.join(techs.drams())}, not 'sdram'$"):
        techs.dram("sdram")


def test_published_operations_are_there_and_say_when_they_were_only_recalled():
    assert techs.primitive("horowitz", "int8_add_energy").value == 0.03
    assert techs.primitive("bitfusion", "mac_8x8_area").value == 687.6
    for key in ("int8_add_energy", "sram_8kb_read"):
        assert "unverified" in techs.primitive("tpuv4i", key).note
    choices = ", ".join(techs.primitives())
    with pytest.raises(ValueError, match=f"^primitives must be one of {choices}, not 'intel'$"):
        techs.primitive("intel", "int8_add")
    with pytest.raises(
        ValueError, match=r"^wire must be one of nangate45, asap7, sky130hd, sg13g2, not 'gt2n'$"
    ):
        techs.primitive("wire", "gt2n")


def test_the_template_loads_and_prices_an_array_as_what_it_was_copied_from(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(techs.template())
    mine, asap7 = techs.load(str(path)), techs.load("asap7")
    assert {k: (c.value, c.low, c.high, c.unit) for k, c in mine.constants.items()} == {
        k: (c.value, c.low, c.high, c.unit) for k, c in asap7.constants.items()
    }
    array = ArraySpec(pe=BitSerial(lanes=16, acc_width=24), rows=2, columns=2)
    assert array_area(array, str(path)).total > 0


SOUND = """
title = "a test"
area_unit = "um2"
node = "1 nm"
vdd = "1 V"
temp = "25 C"
[area_ge]
value = 2.0
low = 1.0
high = 3.0
unit = "um2/GE"
kind = "assumed"
source = "nobody"
note = ""
"""


@pytest.fixture
def load(tmp_path):
    """The technology of a file with this text."""

    def loaded(text, name="t"):
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        return techs.load(str(path))

    return loaded


def test_a_number_inherits_node_supply_and_temperature_from_its_file(load):
    line = load(SOUND).constant("area_ge").line()
    assert line == "t.area_ge = 2 [1, 3] um2/GE (assumed, 1 nm, 1 V, 25 C): nobody"


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
        ("low = 1.0", "low = -1.0", "t.area_ge must be positive and finite, not -1.0 to 3.0"),
        ("high = 3.0", "high = inf", "t.area_ge must be positive and finite, not 1.0 to inf"),
        ("value = 2.0", 'value = "2"', "t.area_ge.value must be a number, not '2'"),
        ('note = ""', "note = 3", "t.area_ge.note must be text, not 3"),
        (
            'note = ""',
            'note = ""\ncolour = "red"',
            "t.area_ge must state only value, low, high, unit, node, vdd, temp, kind, source, note, not 'co",
        ),
        ('area_unit = "um2"', 'area_unit = "acre"', "t.area_unit must be um2, GE or LUT, not 'acre'"),
        ('node = "1 nm"', "", "t must state node; it does not"),
        ('temp = "25 C"', 'temp = "25 C"\nsram = "ihp"', "t.sram must be one of cacti22hp, cacti22lop, "),
        (
            'temp = "25 C"',
            'temp = "25 C"\ncolour = "red"',
            "t must state only title, area_unit, node, vdd, temp, dont_use, base, factors, sram and numbers",
        ),
        ('title = "a test"', 'base = "asap7"', "t must state "),
        ("[area_ge]", "[area_ge", " must be TOML: "),
    ],
)
def test_a_file_that_is_not_whole_is_refused_by_name(load, old, new, message):
    assert old in SOUND
    with pytest.raises(ValueError, match=rf"t\.toml.*{re.escape(message)}"):
        load(SOUND.replace(old, new))


def test_a_file_may_be_based_on_a_technology_and_state_what_differs(load):
    text = 'base = "asap7"\n' + SOUND.replace('node = "1 nm"', 'node = "7 nm"').replace('"1 V"', '"0.7 V"')
    tech = load(text)
    assert tech.constant("area_ge").value == 2.0
    assert tech.constant("clock_flop").value == techs.load("asap7").constant("clock_flop").value
    assert tech.constant("clock_flop").key == "t.clock_flop"


def test_a_file_with_factors_of_an_unknown_kind_is_refused(load):
    text = 'base = "asap7"\n[factors.speed]\nvalue = 1.0'
    with pytest.raises(ValueError, match=r"t\.factors must be of area, energy, leakage, not 'speed'$"):
        load(text)


def test_a_file_may_not_take_the_name_of_a_registered_technology(load):
    with pytest.raises(
        ValueError, match=r"^tech must have a file name that no registered technology has, not 'asap7\.toml'$"
    ):
        load(SOUND, "asap7")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"tech must be an existing TOML file, not '.*none\.toml'$"):
        techs.load(str(tmp_path / "none.toml"))
