"""Planes of tables: every bit of every code, and few operators."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.bitplane import expression, lowering, words


def operators(text: str) -> int:
    return sum(text.count(sign) for sign in "&|^~")


def decoded(table: tuple[int | None, ...], width: int, bits: int) -> list[int]:
    """The integers that the planes' expressions say, evaluated as the contract evaluates them."""
    names = tuple(f"c{p}" for p in range(bits))
    codes = np.arange(len(table))
    stored = {name: words.pack(((codes >> p) & 1).astype(bool))[None] for p, name in enumerate(names)}
    ok = words.valid(len(table))
    total = np.zeros(len(table), np.int64)
    for place, text in enumerate(lowering.planes(table, width, names)):
        bit = words.unpack(expression.evaluate(text, stored, ok), len(table))[0]
        total += bit.astype(np.int64) << place
    return (total - ((total >> (width - 1)) << width)).tolist()


@settings(max_examples=60, deadline=None)
@given(bits=st.integers(1, 6), width=st.integers(1, 7), data=st.data())
def test_planes_of_any_table_say_its_integers(bits: int, width: int, data: st.DataObject) -> None:
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    table = tuple(data.draw(st.lists(st.integers(low, high), min_size=1 << bits, max_size=1 << bits)))
    assert decoded(table, width, bits) == list(table)


def test_a_table_of_eight_bits_too() -> None:
    table = tuple(np.random.default_rng(0).integers(-16, 16, 256).tolist())
    assert decoded(table, 5, 8) == list(table)


def test_codes_without_a_number_go_on_in_a_line_and_the_rest_stays() -> None:
    assert lowering.filled((1, 3, None, None, 9)) == (1, 3, 5, 7, 9)
    assert lowering.filled((None, 2)) == (0, 2)


def test_simple_planes_stay_simple() -> None:
    twos = (0, 1, 2, 3, -4, -3, -2, -1)
    assert lowering.planes(twos, 3, ("a", "b", "c")) == ("a", "b", "c")
    parity = tuple(code.bit_count() & 1 for code in range(16))
    assert operators(lowering.planes(parity, 1, ("a", "b", "c", "d"))[0]) == 3
    magnitude = (0, 1, 2, 3, 4, 6, 8, 12)
    e2m1 = (*magnitude, *(-v for v in magnitude))
    assert decoded(e2m1, 5, 4) == list(e2m1)
    # The printed magnitudes alone take 2, 4, 3 and 1 operators; the sign has to be carried besides.
    assert sum(map(operators, lowering.planes(magnitude, 4, ("m", "e0", "e1")))) <= 10
    assert sum(map(operators, lowering.planes(e2m1, 5, ("m", "e0", "e1", "s")))) <= 23


def test_a_table_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match=f"^{re.escape('table must have 4 entries, not 3')}$"):
        lowering.planes((0, 1, 2), 2, ("a", "b"))
