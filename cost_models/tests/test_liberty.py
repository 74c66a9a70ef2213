"""Liberty files: statements, units, tables and functions, on texts small enough to read by eye."""

import gzip
import itertools
import re

import pytest

from cost_models import generic_liberty
from cost_models.liberty import Table, parse, read, verilog

TEXT = """
/* a comment { */ library (small) {   // another }
  time_unit : "1ns"; leakage_power_unit : "1uW"; nom_voltage : 0.5; capacitive_load_unit (2, pf);
  lu_table_template (by_load_first) { variable_1 : total_output_net_capacitance;
    variable_2 : input_net_transition; index_1 ("1, 3"); index_2 ("10, 20, 30"); }
  cell (G) { area : 4.5 ; cell_leakage_power : 7;
    pin (A) { direction : input ; capacitance : 0.25
      clock : true; internal_power () { power (scalar) { values ("9"); } } }
    pin (Y) { direction : output; function : "!A";
      timing () { related_pin : "A"; cell_rise (by_load_first) { values ("1, 2, 3", \\
        "4, 5, 6"); } rise_transition (scalar) { values ("77"); } } } }
}
"""


@pytest.fixture
def library(tmp_path):
    path = tmp_path / "small.lib"
    path.write_text(TEXT)
    return read(path)


def test_units_become_si(library):
    assert (library.voltage, library.time_s, library.capacitance_f) == (0.5, 1e-9, 2e-12)
    gate = library.cells["G"]
    assert (gate.area, gate.leakage_w * 1e6) == (4.5, pytest.approx(7))
    assert gate.pins["A"].capacitance * 1e12 == pytest.approx(0.5)


def test_a_value_without_semicolon_ends_where_the_next_begins(library):
    assert library.cells["G"].pins["A"].is_clock
    assert not library.cells["G"].pins["Y"].is_clock


def test_a_table_whose_first_axis_is_the_load_is_turned(library):
    ((related, (table,)),) = library.cells["G"].pins["Y"].delay
    assert related == "A"
    assert (table.slews, table.loads) == ((10, 20, 30), (1, 3))
    # Rows of the text are loads: 4 stands at load 3, slew 10.
    assert table.at(10, 1) == 1
    assert table.at(10, 3) == 4
    assert table.at(30, 1) == 3
    assert table.at(25, 2) == (2 + 3 + 5 + 6) / 4


def test_a_table_holds_its_edge():
    table = Table((1.0, 2.0), (1.0, 2.0), (10.0, 20.0, 30.0, 40.0))
    assert table.at(0, 0) == 10
    assert table.at(9, 9) == 40
    assert table.at(1.5, 9) == 30


def test_a_table_of_one_value_is_that_value_anywhere():
    assert Table((), (), (5.0,)).at(3, 4) == 5


def test_a_table_over_the_slew_alone_ignores_the_load():
    table = Table((1.0, 3.0), (), (10.0, 20.0))
    assert table.at(2, 99) == 15


def test_an_arc_of_a_pin_itself_relates_to_nothing(library):
    ((related, (table,)),) = library.cells["G"].pins["A"].power
    assert (related, table.at(0, 0)) == ("", 9)


def test_a_gzipped_file_is_the_same_library(library, tmp_path):
    path = tmp_path / "small.lib.gz"
    path.write_bytes(gzip.compress(TEXT.encode()))
    assert read(path) == library


def test_a_file_that_is_no_library_is_refused(tmp_path):
    path = tmp_path / "other.lib"
    path.write_text("cell (X) { area : 1; }")
    with pytest.raises(ValueError, match=r"^liberty must begin with a library group, not 'cell'$"):
        read(path)
    path.write_text("nothing")
    with pytest.raises(ValueError, match=r"^liberty must begin with a library group, not 'file'$"):
        read(path)


def test_a_file_without_units_it_can_read_is_refused(tmp_path):
    path = tmp_path / "small.lib"
    path.write_text(TEXT.replace('"1ns"', '"fast"'))
    with pytest.raises(ValueError, match=r"^liberty must state its units in s, not 'fast'$"):
        read(path)


@pytest.mark.parametrize(
    ("function", "truth"),
    [
        ("!A", lambda a, b, c: not a),
        ("A'", lambda a, b, c: not a),
        ("A B", lambda a, b, c: a and b),
        ("(!(A B))", lambda a, b, c: not (a and b)),
        ("A*!B", lambda a, b, c: a and not b),
        ("(!A&!B) | (A&B)", lambda a, b, c: a == b),
        ("A ^ B", lambda a, b, c: a != b),
        ("(!((C A) + (!C B)))", lambda a, b, c: not (a if c else b)),
        ("A (B + C)", lambda a, b, c: a and (b or c)),
        ("(A+B)C'", lambda a, b, c: (a or b) and not c),
    ],
)
def test_functions_become_verilog_with_the_same_truth_table(function, truth):
    text = verilog(function)
    assert re.fullmatch(r"[ABC()&|^~]+", text)
    for a, b, c in itertools.product((0, 1), repeat=3):
        # Python's operators bind as Verilog's do.
        assert eval(text, {"A": a, "B": b, "C": c}) & 1 == int(truth(a, b, c)), (text, a, b, c)


def test_statements_nest():
    root = parse('library (l) { a (b) { c : "d e"; f (1, 2); } a (g) { } }')
    assert (root.kind, root.args) == ("library", ("l",))
    assert [group.args for group in root.of("a")] == [("b",), ("g",)]
    assert (root.groups[0].values, root.groups[0].lists) == ({"c": "d e"}, {"f": ("1", "2")})


def test_the_generic_library_on_disk_is_the_generator_s():
    assert generic_liberty.PATH.read_text() == generic_liberty.text()


def test_the_generic_library_holds_the_table_s_areas():
    library = read(generic_liberty.PATH)
    areas = {name: cell[0] for name, cell in generic_liberty.CELLS.items()} | {"DFF": generic_liberty.FLOP_GE}
    assert {name: cell.area for name, cell in library.cells.items()} == areas
    assert areas["NAND2"] == 1.0
    assert library.cells["DFF"].next_state == "D"
