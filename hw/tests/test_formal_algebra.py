"""Gates, polynomials and words that the datapath proofs calculate with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.formal import datapath, rewriting, words
from hw.formal.arithmetic import FALSE, TRUE, Arithmetic
from hw.formal.datapath import prove_rtl
from hw.formal.polynomial import Polynomial, assignments
from hw.formal.rewriting import Rewriter
from hw.formal.unrolling import Word
from hw.formal.words import Numbers
from hw.pe.bitserial import BitSerial
from hw.toolchain import rtlil

VARIABLES = 4
FULL = (1 << (1 << VARIABLES)) - 1


def columns(graph, literals):
    """Values of gates at all points of the variables, side by side."""
    values = [0] * len(graph.gates)
    for place, literal in enumerate(literals):
        values[literal >> 1] = sum((case >> place & 1) << case for case in range(1 << VARIABLES))
    return graph.simulate(values, FULL, {})


@given(st.data())
def test_gates_of_any_form_mean_what_they_were_made_of_and_rewrite_to_it(data):
    graph = Arithmetic()
    variables = [graph.variable(f"v{place}") for place in range(VARIABLES)]
    known = {FALSE: 0, TRUE: FULL}
    known |= dict(zip(variables, [columns(graph, variables)[v >> 1] for v in variables], strict=True))
    for _ in range(data.draw(st.integers(1, 30))):
        kind = data.draw(st.sampled_from(["and", "xor", "maj", "xor of ands", "maj of ands"]))
        drawn = [data.draw(st.sampled_from(sorted(known))) ^ data.draw(st.integers(0, 1)) for _ in range(3)]
        a, b, c = drawn
        x, y, z = (known.get(bit, FULL ^ known.get(bit ^ 1, 0)) for bit in drawn)
        if kind == "and":
            made, value = graph.both(a, b), x & y
        elif kind == "xor":
            made, value = graph.odd(a, b), x ^ y
        elif kind == "maj":
            made, value = graph.majority(a, b, c), x & y | z & (x | y)
        elif kind == "xor of ands":
            made, value = graph.both(graph.both(a, b) ^ 1, graph.both(a ^ 1, b ^ 1) ^ 1), x ^ y
        else:
            other = graph.both(graph.odd(a, b), c)
            made, value = graph.both(graph.both(a, b) ^ 1, other ^ 1) ^ 1, x & y | z & (x | y)
        known.setdefault(made, value)
        assert known[made] == value
    found = columns(graph, variables)
    chosen = data.draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=5))
    width = data.draw(st.integers(1, 6))
    sum_ = Rewriter(graph).rewritten(((1 << at, bit) for at, bit in enumerate(chosen)), width).polynomial()
    for case, values in enumerate(assignments([v >> 1 for v in reversed(variables)])):
        total = sum((((found[bit >> 1] ^ -(bit & 1)) >> case) & 1) << at for at, bit in enumerate(chosen))
        assert (sum_.at({n for n, one in values.items() if one}) - total) % (1 << width) == 0


def test_a_full_adder_written_with_gates_is_a_sum():
    graph = Arithmetic()
    a, b, c = (graph.variable(name) for name in "abc")
    half = graph.odd(a, b)
    sum_ = graph.odd(half, c)
    carry = graph.both(graph.both(a, b) ^ 1, graph.both(half, c) ^ 1) ^ 1
    assert graph.gates[carry >> 1][0] == "maj"
    found = Rewriter(graph).rewritten([(1, sum_), (2, carry)], 8).polynomial()
    assert found.terms == {frozenset((bit >> 1,)): 1 for bit in (a, b, c)}


@given(st.dictionaries(st.frozensets(st.integers(0, 3)), st.integers(-9, 9)), st.integers(-9, 9))
def test_a_polynomial_and_its_table_say_the_same(terms, number):
    polynomial = Polynomial(terms)
    names = sorted(polynomial.variables())
    table = polynomial.table()
    for case, value in enumerate(table):
        assert polynomial.at({n for place, n in enumerate(names) if case >> place & 1}) == value
    assert Polynomial.of_table(table, names).terms == polynomial.terms
    low, high = polynomial.crude_range()
    assert low <= table.min()
    assert high >= table.max()
    square = (number - polynomial) * polynomial
    for ones in ({0}, {1, 2}, {0, 1, 2, 3}):
        assert square.at(ones) == (number - polynomial.at(ones)) * polynomial.at(ones)
    if polynomial.terms:
        assert polynomial.at(polynomial.nonzero()) != 0


def numbers(graph, *cut):
    return Numbers(rewriter=Rewriter(graph), words=cut, flags=frozenset(), lane={})


def test_a_word_that_wraps_is_no_number(monkeypatch):
    monkeypatch.setattr(words, "TRIED", 0)
    graph = Arithmetic()
    odd = graph.odd(graph.variable("a"), graph.variable("b"))
    bit = graph.variable("bit")
    with pytest.raises(RuntimeError, match=r"^word must be a number of 1 bits, not of 0 to 2$"):
        numbers(graph, Word(name="word", bits=(bit,), gates=(odd,))).polynomial([bit], 3)


def test_a_word_of_few_variables_is_a_number_whatever_it_is():
    graph = Arithmetic()
    odd = graph.odd(graph.variable("a"), graph.variable("b"))
    bit = graph.variable("bit")
    found = numbers(graph, Word(name="word", bits=(bit,), gates=(odd,))).polynomial([bit], 3)
    assert sorted(found.terms.values()) == [-2, 1, 1]


def test_a_bit_of_a_word_that_counts_alone_is_refused():
    graph = Arithmetic()
    a, b = graph.variable("a"), graph.variable("b")
    low, high = graph.variable("low"), graph.variable("high")
    word = Word(name="word", bits=(low, high), gates=(graph.odd(a, b), graph.both(a, b)))
    with pytest.raises(RuntimeError, match=r"^word must count as the number that it is, not bit by bit$"):
        numbers(graph, word).polynomial([high], 3)
    even = Word(name="word", bits=(FALSE, high), gates=(FALSE, a))
    with pytest.raises(RuntimeError, match=r"^word must have a bit of place 1$"):
        numbers(graph, even).polynomial([high], 3)


def test_a_sum_that_grows_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr(rewriting, "LIMIT", 3)
    spec = BitSerial(lanes=3, acc_width=6)
    with pytest.raises(RuntimeError, match=r"^a sum of gates must stay within 3 terms, not reach \d+$"):
        prove_rtl(spec, rtlil(spec))


def test_a_difference_without_an_example_proves_nothing(monkeypatch):
    monkeypatch.setattr(datapath.Proof, "refuse", lambda *_: None)
    spec = BitSerial(lanes=3, acc_width=6)
    wrong = rtlil(spec).replace("cell $xor", "cell $or", 1)
    with pytest.raises(RuntimeError, match=r"^o.payload must be a polynomial of the beat alone, not \{"):
        prove_rtl(spec, wrong)
