"""Published figures beside ours."""

import pytest

from cost_models import validate
from cost_models.validate import Row, rows, text


def found(target):
    (row,) = (row for row in rows() if row.target == target)
    return row


def test_time_goes_exactly_with_the_product_of_the_precisions():
    assert found("beats at 8 by 8 bits over beats at 4 by 4").deviation == 0


def test_adders_are_within_a_third_of_the_published_45_nm_areas():
    assert abs(found("area of a carry-propagate adder, 8 bits").deviation) < 0.33
    assert abs(found("area of a carry-propagate adder, 32 bits").deviation) < 0.33


def test_density_scales_from_45_to_7_nm_as_published():
    assert abs(found("area from 45 to 7 nm").deviation) < 0.3


def test_energies_are_within_the_factor_that_published_figures_differ_by():
    for target in ("energy from 45 nm, 0.9 V to 7 nm, 0.7 V", "energy of a 64-bit read of 8 KB"):
        assert 1 / 3.5 < found(target).ours / found(target).published < 3.5, target


def test_external_memory_costs_an_order_of_magnitude_more_than_a_buffer():
    assert 10 < found("external memory over on-chip buffer, per bit").ours < 1000


def test_every_row_says_who_published_and_how_conditions_differ():
    for row in rows():
        assert len(row.source) > 20
        assert len(row.note) > 10
        assert row.published > 0


def test_a_row_s_deviation_is_relative_and_printed():
    row = Row(target="t", published=2.0, ours=3.0, unit="pJ", source="someone", note="somehow")
    assert row.deviation == 0.5
    assert "t" in text([row])
    assert "+50%" in text([row])


def test_the_command_prints_a_line_per_target(capsys):
    assert validate.main([]) == 0
    out = capsys.readouterr().out
    assert all(row.target in out for row in rows())


@pytest.mark.slow
def test_look_up_tables_grow_with_the_lanes_as_a_richer_pe_s_should():
    row = validate.lut_slope((32, 64))
    # A mask and a second bit per lane: more than BISMO's, less than four times it.
    assert 2.04 < row.ours < 4 * 2.04
