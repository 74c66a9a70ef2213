"""Published figures beside the models': rows are whole, ratios are ratios, reasons are asked for."""

import re
import tomllib

import pytest

from cost_models import validate
from cost_models.validate import Row, models, rows, table

#: targets that need the simulator; their reasons are asked for where they are computed
ELSEWHERE = [key for key in tomllib.loads(validate.PATH.read_text()) if key.startswith(("bitmod", "bismo_p"))]


@pytest.fixture(scope="module")
def found():
    stand_in = dict.fromkeys(ELSEWHERE, lambda: 1e-9)
    published = tomllib.loads(validate.PATH.read_text())
    stand_in = {key: (lambda key=key: published[key].get("published", 1.0)) for key in stand_in}
    return {row.key: row for row in rows({**models(), **stand_in})}


@pytest.fixture
def target(tmp_path, monkeypatch):
    """Replace the targets by one, with some fields changed; None leaves a field out."""

    def write(**changes):
        entry = {"section": "s", "target": "t", "published": 2.0, "unit": "um2", "source": "w", "why": ""}
        lines = [f"{key} = {value!r}" for key, value in (entry | changes).items() if value is not None]
        path = tmp_path / "targets.toml"
        path.write_text("\n".join(["[one]", *lines]), encoding="utf-8")
        monkeypatch.setattr(validate, "PATH", path)

    return write


def test_every_row_says_who_published_and_far_ones_say_why(found):
    for row in found.values():
        assert len(row.source) > 8
        if row.far or row.ours is None:
            assert len(row.why) > 15


def test_time_goes_exactly_with_the_product_of_the_precisions(found):
    assert found["loom"].ratio == found["stripes"].ratio == 1


def test_adders_are_within_a_third_of_the_published_45_nm_areas(found):
    assert all(abs(found[key].ratio - 1) < 0.33 for key in ("adder_8", "adder_32"))


def test_multipliers_are_within_a_factor_of_two_of_bit_fusion_s(found):
    assert all(0.5 < found[f"bit_fusion_{bits}"].ratio < 2 for bits in (2, 4, 8))


def test_density_scales_from_45_to_7_nm_as_published(found):
    assert abs(found["node_area"].ratio - 1) < 0.3


def test_energies_are_within_the_factor_that_published_figures_differ_by(found):
    for key in ("node_energy", "sram_horowitz", "tpu_add_8", "tpu_add_32"):
        assert 1 / 3.5 < found[key].ratio < 3.5, key


def test_sram_macros_are_the_foundry_s(found):
    assert abs(found["sram_sg13g2_area"].ratio - 1) < 0.016
    assert abs(found["sram_sg13g2_read"].ratio - 1) < 0.061


def test_sparsity_is_that_of_other_rtl_on_another_library(found):
    for key, row in found.items():
        if key.startswith("sparse"):
            assert abs(row.ratio - 1) < 0.12, key
    assert found["sparse_1_2_4"].ours > 1 > found["sparse_1_2_4_outside"].ours


def test_a_floating_format_takes_more_area_than_the_integer_of_its_width(found):
    assert found["minifloat_e4m3"].ours > 1
    assert found["minifloat_e4m3"].ratio is None


def test_a_row_s_ratio_is_ours_over_the_published_one(target):
    target(why="because")
    (row,) = rows({"one": lambda: 3.0})
    assert (row.ratio, row.far) == (1.5, True)
    (row,) = rows({"one": lambda: 2.2})
    assert not row.far


def test_the_table_shows_units_ratios_and_the_reasons_of_far_rows(target):
    target(why="because of the tool")
    lines = table(rows({"one": lambda: 3.0}))
    assert lines[2] == "| t | 2 um2 | 3 um2 | 1.50 | w |"
    assert lines[-1] == "* t, +50%: because of the tool."
    assert table(rows({"one": lambda: 2.0}))[-1] == "| t | 2 um2 | 2 um2 | 1.00 | w |"
    assert table(rows({}))[2:] == ["| t | 2 um2 | not computed | - | w |", "", "* t: because of the tool."]


def test_a_computation_that_cannot_be_done_says_so_in_its_row(target):
    def fail():
        raise ValueError("no calibration yet")

    target()
    (row,) = rows({"one": fail})
    assert (row.ours, row.why) == (None, "not computed: no calibration yet")


def test_a_range_is_said_and_not_compared(target):
    target(published=None, said="above 1", why="direction only")
    (row,) = rows({"one": lambda: 1.2})
    assert isinstance(row, Row)
    assert (row.ratio, row.far) == (None, False)
    assert table([row])[2] == "| t | above 1 | 1.2 um2 | - | w |"


@pytest.mark.parametrize(
    ("changes", "computed", "message"),
    [
        ({}, {"two": lambda: 1.0}, "computed must be of a target, not 'two'"),
        ({"unit": None}, {}, "one must state unit; it does not"),
        (
            {"colour": "red"},
            {},
            "one must state only section, target, published, said, unit, source, why, not 'colour'",
        ),
        ({"said": "more"}, {}, "one must state one of published and said; it states both or neither"),
        ({"published": None}, {}, "one must state one of published and said; it states both or neither"),
        ({"published": -1.0}, {}, "one.published must be a positive float, not -1.0"),
        (
            {},
            {"one": lambda: 3.0},
            "one must state why it is off by 1.5, or not computed; it does not",
        ),
        ({}, {}, "one must state why it is off by None, or not computed; it does not"),
    ],
)
def test_targets_that_are_not_whole_are_refused(target, changes, computed, message):
    target(**changes)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        rows(computed)
