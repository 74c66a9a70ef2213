"""Rooflines by hand."""

import re
from math import inf

import pytest

from cost_models.roofline import Machine, Point, density, efficiency
from cost_models.uncertain import Constant, Cost, Term

MACHINE = Machine(operations=64e9, bytes={"dram": 8e9, "buffer": 64e9})


def point(operations, dram, seconds=1.0, buffer=0.0):
    moved = {"dram": dram, "buffer": buffer}
    return Point(name="q", operations=operations, moved=moved, machine=MACHINE, seconds=seconds)


def cost(unit, value=2.0, low=1.0, high=4.0):
    constant = Constant(
        key="k", value=value, low=low, high=high, unit="x", node="any", vdd="any", kind="assumed", source="s"
    )
    return Cost(unit=unit, terms=(Term(part="p", quantity=1.0, constants=(constant,)),))


def test_below_the_ridge_memory_binds_and_above_it_compute():
    assert MACHINE.ridge() == 8
    assert MACHINE.ridge("buffer") == 1
    assert (point(70, 10).intensity(), point(70, 10).binds) == (7, "dram")
    assert (point(90, 10).intensity(), point(90, 10).binds) == (9, "compute")
    assert point(90, 10, buffer=100).binds == "buffer"
    assert point(90, 0).intensity() == inf


def test_what_is_attained_is_the_least_time_over_the_time_taken():
    assert point(64e9, 4e9, seconds=2.0).attained == 0.5
    assert point(1.0, 8e9, seconds=1.25).attained == pytest.approx(0.8)
    assert point(1.0, 1.0, seconds=0.0).attained == 0


def test_one_operation_a_picojoule_is_one_tera_operation_a_second_a_watt():
    found = efficiency(100.0, cost("pJ"))
    assert (found.value, found.low, found.high) == (50, 25, 100)


def test_density_is_by_square_millimetre():
    found = density(6e12, 3.0, cost("um2", 2e6, 1e6, 4e6))
    assert (found.value, found.low, found.high) == pytest.approx((1, 0.5, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Machine(operations=0.0, bytes={}), "operations must be positive and finite, not 0.0"),
        (lambda: Machine(operations=1.0, bytes={"dram": inf}), "dram must be positive and finite, not inf"),
        (lambda: efficiency(1.0, cost("um2")), "energy must be in pJ, not in 'um2'"),
        (lambda: density(1.0, 1.0, cost("GE")), "area must be in um2, not in 'GE'"),
        (lambda: density(1.0, 0.0, cost("um2")), "seconds must be positive, not 0.0"),
        (lambda: efficiency(1.0, Cost(unit="pJ", terms=())), "cost must be positive, not 0.0"),
    ],
)
def test_bad_input_says_what_is_wanted(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
