"""Ranges of sums and ratios."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models.uncertain import Constant, Cost, Term, ratio


def constant(key, value, low, high):
    return Constant(
        key=key,
        value=value,
        low=low,
        high=high,
        unit="J",
        node="any",
        vdd="none",
        kind="assumed",
        source="a test",
    )


A, B, C = constant("a", 2.0, 1.0, 4.0), constant("b", 10.0, 9.0, 12.0), constant("c", 3.0, 2.0, 5.0)


def cost(*terms, fit=0.0, unit="pJ"):
    terms = tuple(
        Term(part=part, quantity=quantity, constants=constants) for part, quantity, constants in terms
    )
    return Cost(unit=unit, terms=terms, fit=fit)


def test_a_cost_adds_its_terms_and_takes_every_constant_at_its_end():
    found = cost(("x", 3.0, (A,)), ("y", 1.0, (A, B)), ("x", 1.0, (B,)))
    assert found.total == 3 * 2 + 2 * 10 + 10
    assert found.low == 3 * 1 + 1 * 9 + 9
    assert found.high == 3 * 4 + 4 * 12 + 12
    assert found.breakdown == {"x": 16.0, "y": 20.0}
    assert found.sources == (A.line(), B.line())


def test_the_model_s_own_error_widens_a_cost_on_both_sides():
    found = cost(("x", 1.0, (A,)), fit=0.1)
    assert (found.low, found.total, found.high) == (pytest.approx(0.9), 2.0, pytest.approx(4.4))


def test_a_cost_without_terms_is_zero():
    assert (cost().total, cost().low, cost().high, cost().breakdown, cost().sources) == (0, 0, 0, {}, ())


def test_a_common_factor_cancels_in_a_ratio():
    found = ratio(cost(("x", 6.0, (A,)), ("y", 2.0, (A,))), cost(("x", 4.0, (A,))))
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_a_ratio_is_narrower_than_the_quotient_of_its_ends():
    top, bottom = cost(("x", 1.0, (A,)), ("y", 1.0, (B,))), cost(("x", 2.0, (A,)), ("y", 1.0, (B,)))
    found = ratio(top, bottom)
    # (a + b) / (2a + b) falls with a and rises with b.
    assert found.low == pytest.approx((4 + 9) / (8 + 9))
    assert found.high == pytest.approx((1 + 12) / (2 + 12))
    assert found.value == pytest.approx(12 / 14)
    assert top.low / bottom.high < found.low < found.high < top.high / bottom.low


def test_constants_of_one_side_only_take_the_end_that_hurts():
    found = ratio(cost(("x", 1.0, (A,)), ("y", 1.0, (C,))), cost(("x", 1.0, (B,)), ("y", 1.0, (C,))))
    at = [(a + c) / (b + c) for a in (1, 4) for b in (9, 12) for c in (2, 5)]
    assert (found.low, found.high) == (pytest.approx(min(at)), pytest.approx(max(at)))


def test_the_model_s_own_error_does_not_cancel():
    found = ratio(cost(("x", 1.0, (A,)), fit=0.1), cost(("x", 1.0, (A,)), fit=0.2))
    assert (found.low, found.high) == (pytest.approx(0.9 / 1.2), pytest.approx(1.1 / 0.8))


quantities = st.floats(0.1, 10.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(quantities, min_size=6, max_size=6), st.integers(0, 2**32))
def test_no_choice_of_constants_leaves_the_ratio_s_range(q, seed):
    top = cost(("x", q[0], (A, C)), ("y", q[1], (B,)), ("z", q[2], (C,)))
    bottom = cost(("x", q[3], (A, C)), ("y", q[4], (B, A)), ("z", q[5], (C,)))
    found = ratio(top, bottom)
    rng = random.Random(seed)
    for _ in range(50):
        ends = {c.key: rng.choice((c.low, c.high, rng.uniform(c.low, c.high))) for c in (A, B, C)}
        at = sum(t.at(ends) for t in top.terms) / sum(t.at(ends) for t in bottom.terms)
        assert found.low * (1 - 1e-9) <= at <= found.high * (1 + 1e-9)


def test_ratios_of_two_units_are_refused():
    with pytest.raises(ValueError, match=r"^b must be a cost in pJ, not in 'um2'$"):
        ratio(cost(("x", 1.0, (A,))), cost(("x", 1.0, (A,)), unit="um2"))


def test_a_ratio_to_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^b must be positive, not 0$"):
        ratio(cost(("x", 1.0, (A,))), cost())


def test_too_many_free_constants_are_refused():
    many = cost(*(("x", 1.0, (constant(f"k{i}", 2.0, 1.0, 3.0),)) for i in range(19)))
    with pytest.raises(ValueError, match=r"^costs must share at most 18 uncertain constants, not 19$"):
        ratio(many, many)


def test_two_constants_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"^constants must be one per key, not two of 'a'$"):
        cost(("x", 1.0, (A,)), ("y", 1.0, (constant("a", 3.0, 1.0, 4.0),)))


def test_a_term_takes_a_constant_once():
    with pytest.raises(ValueError, match=r"^constants must differ within a term, not a, a$"):
        Term(part="x", quantity=1.0, constants=(A, A))


def test_a_scaled_term_keeps_its_constants_and_may_change_its_part():
    term = Term(part="x", quantity=2.0, constants=(A,)).times(3.0, B, part="y")
    assert (term.part, term.quantity, term.constants) == ("y", 6.0, (A, B))


def test_a_constant_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"^a must be positive and finite, not 1.0 to nan$"):
        constant("a", 2.0, 1.0, math.nan)
