"""Gates: what each table says, what vanishes, and arithmetic against Python's."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models.energy_gates import AND, KINDS, MAJORITY, MUX, ONE, OR, XOR, ZERO, Gates, kind_of


def value(gates, literal, sources):
    """A literal's value, by evaluating every node in order."""
    values = []
    for node, (inputs, table) in enumerate(zip(gates.inputs, gates.tables, strict=True)):
        at = sum(values[n] << i for i, n in enumerate(inputs))
        values.append(table >> at & 1 if inputs else sources.get(node, 0))
    return values[literal >> 1] ^ literal & 1


def integer(gates, bits, sources):
    return sum(value(gates, bit, sources) << place for place, bit in enumerate(bits))


@pytest.mark.parametrize(
    ("table", "count", "function"),
    [
        (AND, 2, lambda a, b: a & b),
        (OR, 2, lambda a, b: a | b),
        (XOR, 2, lambda a, b: a ^ b),
        (MUX, 3, lambda s, low, high: high if s else low),
        (MAJORITY, 3, lambda a, b, c: int(a + b + c > 1)),
    ],
)
def test_gates_of_any_literals_compute_their_function(table, count, function):
    # Constants, two sources and their inverses in every place: all that can vanish does so correctly.
    for chosen in product((ZERO, ONE, "a", "~a", "b", "~b", "c"), repeat=count):
        gates = Gates()
        a, b, c = gates.source(), gates.source(), gates.source()
        named = {"a": a, "~a": a ^ 1, "b": b, "~b": b ^ 1, "c": c}
        made = gates.gate(table, *(named.get(one, one) for one in chosen))
        for bits in product((0, 1), repeat=3):
            sources = dict(zip((a >> 1, b >> 1, c >> 1), bits, strict=True))
            inputs = [value(gates, named.get(one, one), sources) for one in chosen]
            assert value(gates, made, sources) == function(*inputs)


def test_constants_repeats_and_equal_gates_make_no_gate():
    gates = Gates()
    a, b = gates.source(), gates.source()
    assert gates.and_(a, ONE) == a
    assert gates.xor(a, a ^ 1) == ONE
    assert gates.mux(a, b, b) == b
    assert gates.or_(a ^ 1, b ^ 1) == gates.and_(b, a) ^ 1
    assert gates.xor(a ^ 1, b) == gates.xor(a, b) ^ 1
    assert len(gates.inputs) == 5  # the constant, two sources, one AND, one XOR


def test_kinds_do_not_depend_on_what_is_inverted():
    inverted = [
        sum((table >> (i ^ flips) & 1) << i for i in range(8)) for flips in range(8) for table in (MUX,)
    ]
    assert {KINDS[kind_of(table, 3)] for table in inverted} == {"mux"}
    assert KINDS[kind_of(MAJORITY ^ 255, 3)] == "majority"
    assert KINDS[kind_of(0b10010110, 3)] == "xor"
    assert KINDS[kind_of(0b10000000, 3)] == "other"
    assert {KINDS[kind_of(table, 2)] for table in (AND, OR)} == {"and"}
    assert KINDS[kind_of(XOR, 2)] == "xor"


def word(gates, width):
    return [gates.source() for _ in range(width)]


def driven(bits, number):
    return {bit >> 1: number >> place & 1 for place, bit in enumerate(bits)}


@given(st.integers(1, 9), st.data())
def test_sums_and_their_carry_equal_pythons(width, data):
    numbers = [data.draw(st.integers(0, (1 << width) - 1)) for _ in range(2)]
    gates = Gates()
    a, b = word(gates, width), word(gates, width)
    total, carry = gates.add(a, b, ONE)
    sources = driven(a, numbers[0]) | driven(b, numbers[1])
    assert integer(gates, [*total, carry], sources) == sum(numbers) + 1


@pytest.mark.parametrize("signs", [(True, True), (True, False), (False, True), (False, False)])
@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_products_of_signed_and_unsigned_numbers_equal_pythons(signs, left, right, data):
    width = left + right
    gates = Gates()
    a, b = word(gates, left), word(gates, right)
    numbers, extended, sources = [], [], {}
    for bits, is_signed in zip((a, b), signs, strict=True):
        n = len(bits)
        number = data.draw(
            st.integers(-(1 << n - 1), (1 << n - 1) - 1) if is_signed else st.integers(0, (1 << n) - 1)
        )
        numbers.append(number)
        extended.append([*bits, *[bits[-1] if is_signed else ZERO] * (width - n)])
        sources |= driven(bits, number % (1 << n))
    made = gates.multiply(*extended)
    assert integer(gates, made, sources) == numbers[0] * numbers[1] % (1 << width)


def test_a_sign_makes_no_more_products_than_its_bit():
    gates = Gates()
    a, b = word(gates, 4), word(gates, 4)
    gates.multiply([*a, *[a[-1]] * 4], [*b, *[b[-1]] * 4])
    ands = sum(kind_of(t, len(i)) == 0 for i, t in zip(gates.inputs, gates.tables, strict=True) if i)
    assert ands <= 16 + 8  # the products of bits, and half adders' carries
