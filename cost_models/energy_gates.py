"""Gates of up to three inputs, and arithmetic made of them: a circuit before any technology.

A gate is its truth table. Inverters are none: they are part of the table that reads them. Constants, repeated
inputs and equal gates vanish as they would in synthesis.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

#: A literal: twice the number of a node, plus 1 if it is inverted. Node 0 is the constant 0.
Literal = int
ZERO, ONE = 0, 1

#: truth tables: bit i is the output where the inputs, the first lowest, make up i
AND, OR, XOR = 0b10001000, 0b11101110, 0b01100110
MUX = 0b11100100  #: first input selects the second (0) or the third (1)
MAJORITY = 0b11101000

#: kinds of gates, in the order of `kind_of`'s numbers
KINDS = ("and", "xor", "mux", "majority", "other")


@cache
def kind_of(table: int, inputs: int) -> int:
    """Index into `KINDS` of a gate, whatever of its inputs or output is inverted."""
    if inputs == 2:
        return 1 if (table & 15).bit_count() == 2 else 0
    if table.bit_count() == 4:
        cofactors = [(_cofactor(table, i, 0), _cofactor(table, i, 1)) for i in range(3)]
        if any(a ^ b == 15 for a, b in cofactors):
            return 1
        if any({a, b} <= {0b1010, 0b1100, 0b0101, 0b0011} for a, b in cofactors):
            return 2
        return 3
    return 4


def _cofactor(table: int, which: int, value: int) -> int:
    """The table, of two inputs, that is left where one of three inputs is a constant."""
    kept = [i for i in range(8) if i >> which & 1 == value]
    return sum((table >> i & 1) << at for at, i in enumerate(kept))


class Gates:
    """A growing circuit. Nodes are numbered as they come, so a gate's inputs stand before it."""

    def __init__(self) -> None:
        #: of each node the nodes it reads and its table; sources and the constant read none
        self.inputs: list[tuple[int, ...]] = [()]
        self.tables: list[int] = [0]
        self._made: dict[tuple[tuple[int, ...], int], Literal] = {}

    def source(self) -> Literal:
        """A node driven from outside: an input, or a flip-flop's output."""
        self.inputs.append(())
        self.tables.append(0)
        return 2 * len(self.inputs) - 2

    def gate(self, table: int, *literals: Literal) -> Literal:
        """The output of a gate of two or three inputs, or what it comes down to."""
        nodes, table = _reduced(table, literals)
        if not nodes:
            return table & 1
        if len(nodes) == 1:
            return 2 * nodes[0] + (table & 1)
        # A gate's output is 0 where its inputs are: one form of a gate and its inverse.
        inverted = table & 1
        table = table ^ 255 if inverted else table
        key = (nodes, table)
        if key not in self._made:
            self.inputs.append(nodes)
            self.tables.append(table)
            self._made[key] = 2 * len(self.inputs) - 2
        return self._made[key] ^ inverted

    def and_(self, a: Literal, b: Literal) -> Literal:
        return self.gate(AND, a, b)

    def or_(self, a: Literal, b: Literal) -> Literal:
        return self.gate(OR, a, b)

    def xor(self, a: Literal, b: Literal) -> Literal:
        return self.gate(XOR, a, b)

    def mux(self, select: Literal, low: Literal, high: Literal) -> Literal:
        """``high`` where ``select``, else ``low``."""
        return self.gate(MUX, select, low, high)

    def every(self, literals: Sequence[Literal], table: int = AND) -> Literal:
        """A balanced tree of gates over at least one literal."""
        terms = list(literals)
        while len(terms) > 1:
            pairs = [self.gate(table, a, b) for a, b in zip(terms[::2], terms[1::2], strict=False)]
            terms = pairs + terms[2 * len(pairs) :]
        return terms[0]

    def full_adder(self, a: Literal, b: Literal, c: Literal) -> tuple[Literal, Literal]:
        """Sum and carry."""
        return self.xor(self.xor(a, b), c), self.gate(MAJORITY, a, b, c)

    def add(
        self, a: Sequence[Literal], b: Sequence[Literal], carry: Literal = ZERO
    ) -> tuple[list[Literal], Literal]:
        """Sum of equally many bits, and the carry out of the highest."""
        out = []
        for one, other in zip(a, b, strict=True):
            total, carry = self.full_adder(one, other, carry)
            out.append(total)
        return out, carry

    def multiply(self, a: Sequence[Literal], b: Sequence[Literal]) -> list[Literal]:
        """Product modulo two to the number of bits, of equally many: products of bits, counters, an adder.

        Copies of a highest bit are known to be a sign, and make no products (Baugh and Wooley, 1973).
        """
        width = len(a)
        columns: list[list[Literal]] = [[] for _ in range(width)]
        constant = 0
        (a, a_sign), (b, b_sign) = _signed(a), _signed(b)
        for i, one in enumerate(a):
            for j, other in enumerate(b):
                if i + j >= width:
                    continue
                product = self.and_(one, other)
                if (a_sign and i == len(a) - 1) != (b_sign and j == len(b) - 1):
                    # -p is its complement less 1.
                    product ^= 1
                    constant -= 1 << i + j
                columns[i + j].append(product)
        for place in range(width):
            if constant % (1 << width) >> place & 1:
                columns[place].append(ONE)
        return self.count(columns)

    def count(self, columns: list[list[Literal]]) -> list[Literal]:
        """The sum of bits by column, modulo the columns: levels of full adders, then one adder."""
        while max(map(len, columns)) > 2:
            later: list[list[Literal]] = [[] for _ in range(len(columns) + 1)]
            for place, bits in enumerate(columns):
                groups = len(bits) // 3
                for at in range(groups):
                    total, carry = self.full_adder(*bits[3 * at : 3 * at + 3])
                    later[place].append(total)
                    later[place + 1].append(carry)
                later[place] += bits[3 * groups :]
            columns = later[:-1]
        first, second = ([[*bits, ZERO, ZERO][row] for bits in columns] for row in (0, 1))
        return self.add(first, second)[0]


def _signed(bits: Sequence[Literal]) -> tuple[list[Literal], bool]:
    """Without the copies of the highest bit; and whether that bit counts negative."""
    kept = list(bits)
    while len(kept) > 1 and kept[-1] == kept[-2]:
        kept.pop()
    negative = len(kept) < len(bits) and kept[-1] != ZERO
    return kept, negative or (len(kept) == len(bits) and kept[-1] != ZERO)


def _reduced(table: int, literals: Sequence[Literal]) -> tuple[tuple[int, ...], int]:
    """Nodes that a gate depends on, ascending, and its table over them, whatever inputs it has not."""
    nodes = tuple(sorted({literal >> 1 for literal in literals if literal > 1}))
    fixed = tuple(
        (nodes.index(literal >> 1), literal & 1) if literal > 1 else (-1, literal) for literal in literals
    )
    kept, small = _folded(table, fixed, len(nodes))
    return tuple(nodes[i] for i in kept), small


@cache
def _folded(table: int, fixed: tuple[tuple[int, int], ...], count: int) -> tuple[tuple[int, ...], int]:
    """Which of ``count`` variables matter, and the table over those; ``fixed``: variable and inversion."""

    def value(at: int) -> int:
        bits = (inverted if which < 0 else (at >> which & 1) ^ inverted for which, inverted in fixed)
        return table >> sum(bit << i for i, bit in enumerate(bits)) & 1

    whole = [value(at) for at in range(1 << count)]
    kept = tuple(i for i in range(count) if any(whole[at] != whole[at ^ 1 << i] for at in range(1 << count)))
    spread = (sum((at >> n & 1) << i for n, i in enumerate(kept)) for at in range(8))
    return kept, sum(whole[at] << n for n, at in enumerate(spread))
