"""Scaling between nodes: monotone, exact there and back, with a band that grows, refused off its tables."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models import scaling
from cost_models import tech as techs
from cost_models.area import pe_area
from cost_models.energy import energy
from hw.pe.bitserial import BitSerial
from hw.spec import Activity, ArraySpec, Resources

nodes = st.floats(7.0, 130.0)
supplies = st.floats(0.6, 1.3)


@given(nodes, nodes, supplies)
def test_a_smaller_node_is_never_larger_nor_costlier(one, other, vdd):
    new, old = sorted((one, other))
    assert scaling.area_factor(old, new) <= 1 + 1e-12
    assert scaling.energy_factor(old, vdd, new, vdd) <= 1 + 1e-12


@given(nodes, supplies, supplies)
def test_a_lower_supply_never_costs_more(node, one, other):
    low, high = sorted((one, other))
    assert scaling.energy_factor(node, high, node, low) <= 1 + 1e-12


@given(nodes, nodes, nodes, supplies, supplies)
def test_scaling_over_a_third_node_is_scaling_at_once(a, b, c, v, w):
    assert scaling.area_factor(a, b) * scaling.area_factor(b, c) == pytest.approx(scaling.area_factor(a, c))
    there, back = scaling.energy_factor(a, v, b, w), scaling.energy_factor(b, w, a, v)
    assert there * back == pytest.approx(1)


@pytest.mark.parametrize(
    ("old", "new", "printed"),
    [(130, 90, 0.44), (130, 7, 0.0092), (45, 32, 0.46), (45, 20, 0.21), (45, 16, 0.19), (45, 10, 0.10)],
)
def test_tabled_nodes_give_the_printed_factors(old, new, printed):
    # Other rows of the printed table are rounded to two digits, and consistent with its first row within 4 %.
    assert scaling.area_factor(old, new) == pytest.approx(printed, rel=0.04)


def test_a_node_between_two_is_between_their_areas():
    # What goes wrong where interpolation runs backwards: 28 nm smaller than 22 nm.
    areas = [scaling.area_factor(45, node) for node in (45, 32, 28, 22, 20)]
    assert areas == sorted(areas, reverse=True)
    assert areas[2] == pytest.approx(0.36, abs=0.01)


def test_energy_follows_the_polynomials_at_both_supplies():
    old, new = 1.103 * 0.81 - 0.362 * 0.9 + 0.2767, 0.1776 * 0.49 - 0.09097 * 0.7 + 0.02447
    assert scaling.energy_factor(45, 0.9, 7, 0.7) == pytest.approx(new / old)
    assert new / old == pytest.approx(0.057, abs=0.001)


def test_the_band_is_a_factor_of_three_over_three_generations_and_none_inside_a_node():
    assert scaling.generations(45, 7) == pytest.approx(3, abs=0.01)
    wide = scaling.band("energy", 45, 7)
    assert (wide.low, wide.high) == (pytest.approx(1 / 3, rel=0.01), pytest.approx(3, rel=0.01))
    still = scaling.band("energy", 45, 45)
    assert (still.low, still.high) == (1, 1)


def test_only_more_than_one_generation_is_warned_of():
    assert scaling.warning(45, 28) == scaling.warning(28, 45) == ""
    assert scaling.warning(45, 22) == (
        "scaled over 1.2 generations, 45 to 22 nm: energy may be off by a factor of 1.5"
    )
    assert techs.load("nangate45@28:0.9").warnings == ()
    assert techs.load("nangate45@7:0.7").warnings == (scaling.warning(45, 7),)


def test_a_scaled_technology_has_its_factor_and_its_band():
    base, made = techs.load("nangate45"), techs.load("nangate45@22:0.8")
    assert (made.name, made.node, made.vdd) == ("nangate45@22:0.8", "22 nm", "0.8 V")
    area = made.constant("area_ge")
    assert area.value == pytest.approx(base.constant("area_ge").value * scaling.area_factor(45, 22))
    found = made.constant("clock_flop")
    assert found.value == pytest.approx(11.3 * scaling.energy_factor(45, 1.1, 22, 0.8))
    assert found.factors[0].high == pytest.approx(scaling.band("energy", 45, 22).high)
    cells = Resources(flop=10)
    about = pe_area(cells, made)
    flat = pe_area(cells, base)
    assert about.high / about.total > flat.high / flat.total


def test_leakage_is_not_scaled_so_that_energy_is_refused_rather_than_wrong():
    with pytest.raises(ValueError, match=r"^tech must be one with a constant 'leakage', not 'nangate45@22'$"):
        techs.load("nangate45@22").constant("leakage")
    array = ArraySpec(pe=BitSerial(lanes=8, acc_width=24))
    run = Activity(
        **dict.fromkeys(("cycles", "beats", "w_toggles", "x_toggles", "mask_toggles", "items"), 5),
        **dict.fromkeys(("scale_products", "weight_buffer_bits", "activation_buffer_bits"), 5),
        **dict.fromkeys(("result_bits", "dram_bits"), 5),
    )
    with pytest.raises(ValueError, match=r"^tech must be one with a constant '(sram_)?leakage'"):
        energy(run, array, "nangate45@22")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("asap7@3", "node must be from 7 to 130 nm to be scaled, not 3.0"),
        ("asap7@180", "node must be from 7 to 130 nm to be scaled, not 180.0"),
        ("gt2n@7", "node must be from 7 to 130 nm to be scaled, not 2.0"),
        ("sky130hd@65:1.2", "vdd must be from 0.6 to 1.3 V to be scaled, not 1.8"),
        ("asap7@10:0.4", "vdd must be from 0.6 to 1.3 V to be scaled, not 0.4"),
        ("asap7@ten", "node must be NODE or NODE:VDD, such as 22 or 22:0.8, not 'ten'"),
        ("generic_ge@7", "node must be a number of nm, not 'any'"),
    ],
)
def test_what_lies_outside_the_tables_is_refused(name, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        techs.load(name)
