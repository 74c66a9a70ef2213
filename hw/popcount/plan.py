"""How bits of given weights are counted: levels of counters, planned on column heights alone.

A column holds bits of one weight. A level replaces several bits of a column by their number, one bit of it in
each column above, until so few bits stand in every column that an adder takes them.

Sources: Wallace 1964 and Dadda 1965 (columns, full adders); Kumm and Zipf, "Pipelined Compressor Tree
Optimization Using Integer Linear Programming", FPL 2014, and Preusser, "Generic and Universal Parallel Matrix
Summation with a Flexible Compression Goal for Xilinx FPGAs", FPL 2017 (counters on a carry chain). Differs
in: one greedy rule, widest counters first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

Heights = tuple[int, ...]


@dataclass(frozen=True)
class Counter:
    """One counter: how many bits it takes of each column from ``column`` on, and gives back there."""

    kind: str  #: "chain" (carry chain of 6-LUTs) or "table" (functions of the bits)
    column: int
    takes: Heights
    gives: Heights
    luts: int  #: 6-input look-up tables, two outputs of the same five inputs being one

    def adders(self) -> tuple[int, int]:
        """Full and half adders that do the same.

        >>> full(0).adders(), table(0, 6).adders(), chain(0, ((6, 0), (4, 1))).adders()
        ((1, 0), (3, 1), (7, 0))
        """
        fewer = sum(self.takes) - sum(self.gives)
        return fewer, 0 if self.kind == "chain" or self.takes == (3,) else 1


#: Counters of a level, and the heights of the columns after it.
Level = tuple[tuple[Counter, ...], Heights]


def full(column: int) -> Counter:
    """Three bits of a column counted by a full adder."""
    return Counter("table", column, (3,), (1, 1), 1)


def half(column: int) -> Counter:
    """Two bits of a column counted by a half adder, to make room for a carry from the column below."""
    return Counter("table", column, (2,), (1, 1), 1)


def table(column: int, bits: int) -> Counter:
    """Four to six bits of a column counted by three functions of them."""
    return Counter("table", column, (bits,), (1, 1, 1), 3)


def chain(column: int, links: Sequence[tuple[int, int]]) -> Counter:
    """Two columns a link on one carry chain, (6, 0) or (4, 1) bits of them each, and one bit as carry in."""
    takes = [bits for link in links for bits in link]
    takes[0] += 1
    return Counter("chain", column, tuple(takes), (1,) * (len(takes) + 1), len(takes))


def fits(counter: Counter, heights: Sequence[int]) -> bool:
    """Whether the columns hold what ``counter`` takes."""
    have = [*heights[counter.column :], *[0] * len(counter.takes)]
    return all(bits >= takes for bits, takes in zip(have, counter.takes, strict=False))


Choice = Callable[[int], Counter]

#: Counters of a column by form, those that remove most bits a look-up table first. Full adders do the rest.
PREFERRED: dict[str, tuple[Choice, ...]] = {
    "portable": (lambda column: table(column, 6), lambda column: table(column, 5)),
    "lut6": (
        lambda column: chain(column, ((6, 0), (6, 0))),
        lambda column: chain(column, ((6, 0),)),
        lambda column: chain(column, ((4, 1), (6, 0))),
        lambda column: chain(column, ((6, 0), (4, 1))),
        lambda column: chain(column, ((4, 1), (4, 1))),
        lambda column: chain(column, ((4, 1),)),
    ),
}


#: What a column may hold at last: three rows for the adder of `hw.popcount.tree.total`, two for any adder.
ROWS = {"portable": 2, "lut6": 3}
FORMS = tuple(ROWS)


def level(heights: Heights, form: str) -> Level:
    """Counters of one level, and the heights after it. Bits that no counter takes go on as they are."""
    rows = ROWS[form]
    left, after, placed = list(heights), [0] * len(heights), []

    def place(counter: Counter) -> None:
        placed.append(counter)
        for k, bits in enumerate(counter.takes):
            if bits:
                left[counter.column + k] -= bits
        for k, bits in enumerate(counter.gives):
            if counter.column + k < len(after):  # beyond it the number is too small to have a bit
                after[counter.column + k] += bits

    for make in PREFERRED[form]:
        for column in range(len(heights)):
            while max(heights) > rows and fits(make(column), left):
                place(make(column))
    for column in range(len(heights)):
        while left[column] + after[column] > rows and left[column] >= 3:
            place(full(column))
        if max(heights) <= rows + 1 and left[column] + after[column] > rows and left[column] >= 2:
            place(half(column))
    return tuple(placed), tuple(a + b for a, b in zip(left, after, strict=True))


@cache
def plan(heights: Heights, form: str) -> tuple[Level, ...]:
    """Levels until no column holds more bits than `ROWS` of the form."""
    levels = []
    while max(heights) > ROWS[form]:
        levels.append(level(heights, form))
        heights = levels[-1][1]
    return tuple(levels)
