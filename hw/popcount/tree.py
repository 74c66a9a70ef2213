"""Bits of given weights counted in hardware: the levels of `hw.popcount.plan`, an adder of what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from amaranth import Cat, Module

from hw.popcount.cells import Behaviour, Function, Primitives, majority, parity
from hw.popcount.plan import Counter, Heights

#: Bits of each weight, lowest first.
Columns = list[list[Any]]
Cells = Behaviour | Primitives
#: What a lane counts, of its weight's bit and its activation's.
Product = Callable[[Any, Any], Any]


def after_lanes(lanes: int, form: str) -> Heights:
    """Bits per column that `LANES` leave of so many lanes."""
    width = lanes.bit_length()
    if form == "lut6":
        two = lanes // 2
        found = (two - two // 2 + lanes % 2, two)
    else:
        found = (-(-lanes // 3), (lanes + 1) // 3)
    return (*found, *[0] * width)[:width]


def heights(columns: Columns) -> Heights:
    """Bits in each column."""
    return tuple(map(len, columns))


def count(m: Module, cells: Cells, columns: Columns, placed: Sequence[Counter]) -> Columns:
    """One level: the columns after the ``placed`` counters, equal ones side by side."""
    queues = [list(bits) for bits in columns]
    after: Columns = [[] for _ in columns]
    for counter, group in groupby(placed):
        side = len(list(group))
        taken = []
        for k, inputs in enumerate(counter.takes):
            queue = queues[counter.column + k] if inputs else []
            taken.append([Cat(*queue[i * side : (i + 1) * side]) for i in range(inputs)])
            del queue[: inputs * side]
        given = linked(m, cells, taken) if counter.kind == "chain" else tabled(m, cells, taken[0])
        for k, bits in enumerate(given):
            if counter.column + k < len(after):
                after[counter.column + k].extend(bits)
    return [old + new for old, new in zip(queues, after, strict=True)]


def tabled(m: Module, cells: Cells, bits: Sequence[Any]) -> list[Any]:
    """How many of two, three, five or six bits are 1, by look-up tables."""
    if len(bits) == 2:
        return list(cells.lut2(m, parity, lambda a, b: a & b, bits))
    if len(bits) == 3:
        return list(cells.lut2(m, parity, majority, bits))
    return [cells.lut(m, function, bits) for function in (parity, second, fourth)]


def _thirds(bits: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    six = [*bits, *[0] * (6 - len(bits))]
    return six[:3], six[3:]


def second(*bits: Any) -> Any:
    """Bit 1 of the number of ones among up to six bits."""
    low, high = _thirds(bits)
    return majority(*low) ^ majority(*high) ^ (parity(*low) & parity(*high))


def fourth(*bits: Any) -> Any:
    """Bit 2 of the number of ones among up to six bits."""
    low, high = _thirds(bits)
    return majority(majority(*low), majority(*high), parity(*low) & parity(*high))


def linked(m: Module, cells: Cells, taken: list[list[Any]]) -> list[Any]:
    """Bits of columns on one carry chain: two sum bits a link, and the carry out.

    A link's first position adds two bits and the carry, the last input and the parity of the others; its
    second position adds half of what these others are besides.
    """
    carry, *first = taken[0]
    s, di = [], []
    for low, high in zip([first, *taken[2::2]], taken[1::2], strict=True):
        pair = (_four if high else _six)(m, cells, low, high)
        s += [pair[0][0], pair[1][0]]
        di += [pair[0][1], pair[1][1]]
    sums, out = cells.chain(m, s, di, carry)
    return [*sums, out]


def _six(m: Module, cells: Cells, low: list[Any], high: list[Any]) -> list[tuple[Any, Any]]:
    """Positions of six bits: ``s`` and ``di`` of each."""
    return [
        cells.lut2(m, parity, parity, low),  # where all six are even, the sixth is the parity of five
        cells.lut2(m, second, fourth, low[:5]),
    ]


def _four(m: Module, cells: Cells, low: list[Any], high: list[Any]) -> list[tuple[Any, Any]]:
    """Positions of four bits and one bit of twice their weight."""
    return [
        cells.lut2(m, parity, lambda a, b, c, d: d, low),
        cells.lut2(m, lambda a, b, c, y: majority(a, b, c) ^ y, lambda a, b, c, y: y, [*low[:3], *high]),
    ]


def pairs(m: Module, cells: Cells, product: Product, w: Any, x: Any, width: int) -> Columns:
    """Columns of the number of lanes whose ``product`` is 1, two lanes a look-up table with two outputs.

    Its fifth input takes in the sum bit of another one, which is read by one more.
    """
    two = len(w) // 2
    half = two - two // 2
    operands = w[:two], x[:two], w[two : 2 * two], x[two : 2 * two]
    low: list[Any] = []
    high: list[Any] = []
    if two:
        sums, carries = cells.lut2(m, *_of_two(product), [word[:half] for word in operands])
        low, high = list(sums), list(carries)
    if two > 1:
        given = Cat(*low[: two - half])
        sums, carries = cells.lut2(m, *_of_two(product), [*(word[half:] for word in operands), given])
        low, high = low[two - half :] + list(sums), high + list(carries)
    if len(w) % 2:
        low.extend(cells.lut(m, product, [w[-1:], x[-1:]]))
    return [low, high, *[[] for _ in range(width)]][:width]


def _of_two(product: Product) -> tuple[Function, Function]:
    """Sum and carry of two lanes and a bit."""
    return (
        lambda a, b, c, d, e=0: product(a, b) ^ product(c, d) ^ e,
        lambda a, b, c, d, e=0: majority(product(a, b), product(c, d), e),
    )


def triples(m: Module, cells: Cells, product: Product, w: Any, x: Any, width: int) -> Columns:
    """The same three lanes at a time: two functions of six inputs."""
    three = len(w) // 3
    low: list[Any] = []
    high: list[Any] = []
    for at, lanes, side in ((0, 3, three), (3 * three, len(w) % 3, 1)):
        if not lanes or not side:
            continue
        ends = [slice(at + k * side, at + (k + 1) * side) for k in range(lanes)]
        bits = [word[end] for end in ends for word in (w, x)]
        low.extend(cells.lut(m, _of_lanes(parity, product), bits))
        if lanes > 1:
            high.extend(cells.lut(m, _of_lanes(lambda a, b, c=0: majority(a, b, c), product), bits))
    return [low, high, *[[] for _ in range(width)]][:width]


def _of_lanes(function: Function, product: Product) -> Function:
    return lambda *bits: function(*map(product, bits[::2], bits[1::2]))


#: Lanes to columns, by form.
LANES = {"portable": triples, "lut6": pairs}


def total(m: Module, cells: Cells, columns: Columns, negate: Any) -> Any:
    """The number, of a bit for each column, inverted where ``negate``: three bits a column at most.

    Three rows on one carry chain: a column's majority, of inverted bits if so, is a bit of the next one. What
    negation adds, ``~(a + b + c) = ~a + ~b + ~c + 2``, comes in at the lowest column.
    """
    s, di, majorities = [], [], [negate]
    for bits in columns:
        sums, more = cells.lut2(
            m,
            parity,
            lambda inverted, _, *x: majority(*[*x, 0, 0, 0][:3]) ^ inverted,
            [negate, majorities[-1], *bits],
        )
        s.append(sums)
        di.append(majorities[-1])
        majorities.append(more)
    return cells.chain(m, s, di, negate)[0]
