"""Sampled bands, rankings that refuse themselves, sweeps, explanations."""

import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models import explain, montecarlo, sweep
from cost_models.ranking import ranking
from cost_models.sweep import Sweep
from cost_models.uncertain import Constant, Cost, Term, ratio


def constant(key, value, low, high, **more):
    return Constant(
        key=key,
        value=value,
        low=low,
        high=high,
        unit="pJ",
        node="any",
        vdd="none",
        kind="assumed",
        source="a test",
        **more,
    )


COMMON = constant("t.common", 1.0, 0.2, 5.0)
A, B = constant("t.a", 2.0, 1.0, 4.0), constant("t.b", 10.0, 9.0, 12.0)
DRAM = constant("dram.lpddr5", 6.0, 4.0, 10.0)


def cost(*terms, fit=0.0, noise=0.0, unit="pJ"):
    made = tuple(Term(part=part, quantity=float(q), constants=constants) for part, q, constants in terms)
    return Cost(unit=unit, terms=made, fit=fit, noise=noise)


def test_a_common_factor_cancels_to_the_last_bit_in_corners_and_in_draws():
    over, under = cost(("x", 6, (A, COMMON)), ("y", 1, (A, COMMON))), cost(("x", 3, (A, COMMON)))
    for found in (ratio(over, under), montecarlo.ratio(over, under, 1000)):
        assert found.low == found.value == found.high == 7 / 3


def test_a_factor_of_a_constant_enters_each_of_its_terms_once():
    scaled, other = (constant(key, 2.0, 1.0, 3.0, factors=(COMMON,)) for key in ("n.a", "n.b"))
    term = Term(part="x", quantity=1.0, constants=(scaled, other))
    assert [c.key for c in term.constants] == ["n.a", "n.b", "t.common"]
    assert term.times(2.0).constants == term.constants
    alone = cost(("x", 1, (scaled,)))
    assert (alone.total, alone.low, alone.high) == (2.0, 0.2, 15.0)
    both = ratio(cost(("x", 1, (scaled,))), cost(("x", 4, (other,))))
    assert (both.low, both.high) == (pytest.approx(1 / 12), pytest.approx(3 / 4))


def test_the_three_layers_of_doubt_stand_apart_and_multiply():
    found = cost(("x", 1, (A,)), fit=0.1, noise=0.05)
    layers = {name: (i.low, i.high) for name, i in found.layers.items()}
    assert layers["noise"] == (pytest.approx(1.9), pytest.approx(2.1))
    assert layers["fit"] == (pytest.approx(1.8), pytest.approx(2.2))
    assert layers["technology"] == (1.0, 4.0)
    assert (found.low, found.high) == (pytest.approx(1 * 0.9 * 0.95), pytest.approx(4 * 1.1 * 1.05))


def test_noise_does_not_cancel_in_a_ratio():
    found = ratio(cost(("x", 1, (A,)), noise=0.1), cost(("x", 1, (A,)), noise=0.1))
    assert (found.low, found.high) == (pytest.approx(0.9 / 1.1), pytest.approx(1.1 / 0.9))


@pytest.mark.parametrize("name", ["fit", "noise"])
def test_an_error_that_is_no_share_is_refused(name):
    with pytest.raises(ValueError, match=rf"^{name} must be in \[0, 1\), not 1\.5$"):
        cost(("x", 1, (A,)), **{name: 1.5})


quantities = st.lists(st.floats(0.1, 10.0), min_size=4, max_size=4)


@settings(max_examples=30, deadline=None)
@given(quantities, st.floats(0, 0.3), st.integers(0, 100))
def test_a_sampled_band_lies_inside_the_corners(q, fit, seed):
    one = cost(("x", q[0], (A, COMMON)), ("y", q[1], (B,)), fit=fit, noise=0.01)
    other = cost(("x", q[2], (A, COMMON)), ("y", q[3], (B, COMMON)), fit=fit)
    found = montecarlo.band(one, 500, seed)
    assert one.low <= found.low < found.high <= one.high
    sampled, corners = montecarlo.ratio(one, other, 500, seed), ratio(one, other)
    assert corners.low * (1 - 1e-9) <= sampled.low <= sampled.high <= corners.high * (1 + 1e-9)


def test_draws_are_of_one_constant_for_all_costs_and_repeat_with_their_seed():
    one, twice = cost(("x", 1, (A,))), cost(("x", 2, (A,)))
    drawn = montecarlo.draws([one, twice], 100, 3)
    np.testing.assert_allclose(drawn[1], 2 * drawn[0])
    np.testing.assert_array_equal(drawn, montecarlo.draws([one, twice], 100, 3))
    assert (drawn != montecarlo.draws([one, twice], 100, 4)).any()
    assert 1.0 <= drawn[0].min() < drawn[0].max() <= 4.0


def test_draws_that_cannot_be_made_are_refused():
    with pytest.raises(ValueError, match=r"^count must be at least 1, not 0$"):
        montecarlo.draws([cost(("x", 1, (A,)))], 0)
    with pytest.raises(ValueError, match=r"^costs must be of one unit, not of pJ, um2$"):
        montecarlo.draws([cost(("x", 1, (A,))), cost(("x", 1, (A,)), unit="um2")])
    with pytest.raises(ValueError, match=r"^b must be positive, not 0$"):
        montecarlo.ratio(cost(("x", 1, (A,))), cost())


def test_a_ranking_is_refused_between_costs_whose_ratio_may_be_one():
    costs = {
        "much": cost(("x", 100, (A,))),
        "near": cost(("x", 10, (A,)), fit=0.1),
        "nearer": cost(("x", 9.5, (A,)), fit=0.1),
        "least": cost(("x", 1, (A,))),
    }
    found = ranking(costs)
    assert [place.label for place in found] == ["least", "nearer", "near", "much"]
    assert [str(place) for place in found] == ["1", "2-3 (no order)", "2-3 (no order)", "4"]
    assert [place.ties for place in found] == [(), ("near",), ("nearer",), ()]


def test_a_technology_s_own_doubt_refuses_no_ranking_inside_it():
    found = ranking({"a": cost(("x", 1.01, (A, COMMON))), "b": cost(("x", 1, (A, COMMON)))})
    assert [(place.label, str(place)) for place in found] == [("b", "1"), ("a", "2")]


def test_one_cost_has_no_ranking():
    with pytest.raises(ValueError, match=r"^costs must be at least two to rank, not 1$"):
        ranking({"a": cost(("x", 1, (A,)))})


LOW = cost(("pe", 100, (A,)), ("dram", 1, (DRAM,)))  # 200 + x
HIGH = cost(("pe", 40, (A,)), ("dram", 21, (DRAM,)))  # 80 + 21 x


def test_a_sweep_computes_where_two_costs_cross():
    costs = {"heavy compute": LOW, "heavy traffic": HIGH}
    found = sweep.report(costs, Sweep.of("dram_pj_per_bit=0.6:20"))
    (crossing,) = found["crossings"]
    assert crossing == {"at": 6.0, "cheaper_below": "heavy traffic", "cheaper_above": "heavy compute"}
    assert [(s["from"], s["to"]) for s in found["orders"]] == [(0.6, 6.0), (6.0, 20.0)]
    assert found["orders"][0]["order"] == ["heavy traffic", "heavy compute"]
    assert found["orders"][1]["order"] == ["heavy compute", "heavy traffic"]
    assert found["totals"]["heavy compute"] == {"low": 200.6, "value": 206.0, "high": 220.0}
    # In the middle of the first stretch the other constant, 1 to 4, leaves the order open.
    assert found["orders"][0]["places"]["heavy traffic"] == "1-2 (no order)"


def test_a_crossing_outside_the_range_is_none():
    assert sweep.report({"a": LOW, "b": HIGH}, Sweep.of("lpddr5=7:20"))["crossings"] == []


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_orders_between_crossings_are_what_sampling_finds(seed):
    rng = random.Random(seed)
    costs = {
        str(i): cost(("pe", rng.uniform(1, 100), (A,)), ("dram", rng.uniform(0.1, 20), (DRAM,)))
        for i in range(4)
    }
    asked = Sweep(name="dram_pj_per_bit", low=0.6, high=20.0)
    for stretch in sweep.orders(costs, asked):
        for share in (0.01, 0.5, 0.99):
            at = stretch["from"] + share * (stretch["to"] - stretch["from"])
            totals = [sweep.pinned(costs[label], DRAM.key, at).total for label in stretch["order"]]
            assert totals == sorted(totals)


@pytest.mark.parametrize(
    "text",
    ["dram", "dram=1", "dram=2:1", "dram=0:1", "=1:2", "dram=a:b", "dram=1:inf", "dram=1:nan", "x=-1:2"],
)
def test_a_sweep_of_another_form_is_refused(text):
    message = f"sweep must be NAME=LOW:HIGH with 0 < LOW < HIGH, not {text!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Sweep.of(text)


def test_a_sweep_of_what_is_not_used_or_not_one_constant_is_refused():
    with pytest.raises(
        ValueError, match=r"^sweep must name one of dram_pj_per_bit, t\.a, dram\.lpddr5, not 'volts'$"
    ):
        sweep.report({"a": LOW}, Sweep.of("volts=1:2"))
    twice = {"a": cost(("x", 1, (constant("p.a", 1, 1, 1), A)))}
    with pytest.raises(ValueError, match=r"^sweep must name one alone, of p\.a, t\.a: .*, not 'a'$"):
        sweep.report(twice, Sweep.of("a=1:2"))


def test_an_explanation_multiplies_out_to_the_value_and_names_every_source():
    costs = {"energy": LOW, "other": HIGH}
    lines = explain.explain(costs, "energy")
    assert [line["part"] for line in lines] == ["pe", "dram"]
    for line in lines:
        quantity, *factors = line["arithmetic"].rpartition(" = ")[0].split(" x ")
        product = float(quantity)
        for factor in factors:
            product *= float(factor.split()[1])
        assert product == pytest.approx(line["value"])
        assert all("a test" in source for source in line["sources"])
    assert sum(line["value"] for line in lines) == pytest.approx(LOW.total)
    assert sum(line["share"] for line in lines) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "count"), [("all", 4), ("pe", 2), ("dram.lpddr5", 2), ("lpddr5", 2), ("other", 2)]
)
def test_costs_parts_and_constants_can_be_explained(name, count):
    assert len(explain.explain({"energy": LOW, "other": HIGH}, name)) == count


def test_the_text_of_an_explanation_states_totals_bands_and_sources():
    text = explain.text({"energy": LOW}, "pe")
    assert "energy = 206 pJ [104, 410]" in text
    assert "pe: 100 x t.a 2 pJ = 200 pJ  (97.1%)" in text
    assert "technology alone: [104, 410]" in text
    assert A.line() in text
    assert DRAM.line() not in text


def test_what_is_not_there_cannot_be_explained():
    with pytest.raises(
        ValueError, match=r"^explain must be one of all, energy, pe, dram, t\.a, dram\.lpddr5, not 'cache'$"
    ):
        explain.explain({"energy": LOW}, "cache")
