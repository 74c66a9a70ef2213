"""The sweeps: enough of every PE, wide blocks apart, names that say everything."""

from ast import literal_eval
from dataclasses import fields

import pytest

from algo.bitplane import family
from cost_models.calibration.designs import designs, families, family_of, name_of
from hw.counts import total
from hw.grid import Grid
from hw.spec import ArraySpec, PeSpec, Resources


def named(text):
    """The PE that a design's name says."""
    name, _, given = text.partition(":")
    pairs = (pair.split("=") for pair in given.split(","))
    spec = family.load("hw.pe", name).SPEC
    kinds = {field.name: type(field.default) for field in fields(spec)}
    return spec(**{key: value if kinds[key] is str else literal_eval(value) for key, value in pairs})


def test_every_pe_of_the_family_has_a_sweep():
    assert set(families()) == set(family.names("hw.pe"))


@pytest.mark.parametrize("name", families())
def test_a_sweep_has_enough_designs_and_a_block_wider_than_the_others(name):
    found = designs(name)
    assert len({design.name for design in found}) == len(found)
    large = [design.spec.lanes for design in found if design.large]
    small = [design.spec.lanes for design in found if not design.large]
    assert min(large) > max(small)
    # The floating-point PE has no parameter but its lanes.
    assert len(found) >= (7 if name == "fpmac" else 28)
    assert {design.family for design in found} == {name}


def test_a_sweep_is_the_same_every_time():
    assert [d.name for d in designs("gather")] == [d.name for d in designs("gather")]


@pytest.mark.parametrize("name", families())
def test_a_name_says_the_whole_pe(name):
    for design in designs(name)[:3]:
        assert named(design.name) == design.spec


@pytest.mark.parametrize("name", families())
def test_parts_are_all_that_resources_count(name):
    for design in designs(name):
        assert total(design.spec.parts()) == design.spec.resources(), design.name


def test_arrays_are_of_every_pe_and_up_to_16_by_16():
    found = designs("array")
    assert {family_of(d.spec.array.pe) for d in found} == set(families()) - {"fpmac"}
    assert max(d.spec.array.rows * d.spec.array.columns for d in found) == 256
    assert all(family_of(d.spec) == "array" for d in found)


def test_a_pe_without_parts_of_its_own_has_one():
    class Pe:
        def resources(self):
            return Resources(gate2=3)

    assert PeSpec.parts(Pe()) == {"cells": Resources(gate2=3)}
    assert PeSpec.shared(Pe()) == {}


def test_cells_that_read_one_operand_alone_stand_once_a_row_or_column_of_a_broadcast_array():
    pe = named("bitserial:lanes=8")
    one = pe.parts()
    broadcast = ArraySpec(pe=pe, rows=3, columns=5).parts()
    assert broadcast["weights"] == one["weights"] * 3
    assert broadcast["activations"] == one["activations"] * 5
    assert broadcast["lanes"] == one["lanes"] * 15
    assert broadcast["network"].flop == 0
    systolic = ArraySpec(pe=pe, rows=3, columns=5, network="systolic").parts()
    assert systolic["weights"] == one["weights"] * 15
    assert systolic["control"] == one["control"] * 7


def test_an_array_is_named_by_its_grid_and_its_pe():
    pe = named("ternary:lanes=8,acc_width=20")
    array = ArraySpec(pe=pe, rows=2, columns=3, operand_registers=1)
    assert name_of(Grid(array=array)) == f"2x3 broadcast1 {name_of(pe)}"


def test_an_unknown_sweep_is_refused():
    with pytest.raises(ValueError, match=r"^family must be one of bitserial, .*, array, not 'adder'$"):
        designs("adder")
