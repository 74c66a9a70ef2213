"""Planes of a digit as boolean expressions over the planes of its stored code.

A code of ``n`` bits stands for an integer by a table; bit ``p`` of that integer, in two's complement, is a
truth table of ``2**n`` rows. It is taken apart variable by variable, by Shannon's or by either Davio form,
whichever leads to the fewest operators: ``(x & f1) | (~x & f0)``, ``f0 ^ (x & (f0 ^ f1))``,
``f1 ^ (~x & (f0 ^ f1))``. The search is complete for these forms up to `SEARCHED` variables; above, the order
of the variables is fixed and the forms still searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

SEARCHED = 6  #: variables up to which every order is tried


def filled(table: Sequence[int | None]) -> tuple[int, ...]:
    """The table with a number for every code that has none (NaN, infinity): the line through the two before.

    What such a code decodes to does not matter, it is never stored; going on regularly keeps planes short.
    """
    found: list[int] = []
    for value in table:
        if value is None:
            value = 2 * found[-1] - found[-2] if len(found) > 1 else 0
        found.append(value)
    return tuple(found)


@lru_cache(maxsize=256)
def planes(table: tuple[int | None, ...], width: int, names: tuple[str, ...]) -> tuple[str, ...]:
    """Expressions of the ``width`` bits of a table's integers, low bit first, over code bits ``names``.

    Raises ValueError if the table has not ``2**len(names)`` entries.
    """
    if len(table) != 1 << len(names):
        raise ValueError(f"table must have {1 << len(names)} entries, not {len(table)}")
    integers = filled(table)
    search = _Search(len(names))
    found = []
    for place in range(width):
        truth = sum(1 << code for code, value in enumerate(integers) if value >> place & 1)
        found.append(search.text(truth, names))
    return tuple(found)


#: How a function is put together: its operator, the variable, and the functions it goes on with.
_Step = tuple[str, int, int, int]


class _Search:
    """Least operators of functions of some variables, each function an integer of ``2**n`` bits."""

    def __init__(self, variables: int) -> None:
        self.variables = variables
        self.all = (1 << (1 << variables)) - 1
        #: Rows in which a variable is 0.
        self.low = [
            sum(1 << row for row in range(1 << variables) if not row >> v & 1) for v in range(variables)
        ]
        self.known: dict[int, tuple[int, _Step]] = {}

    def cofactors(self, truth: int, variable: int) -> tuple[int, int]:
        """The function with the variable 0, and with it 1."""
        shift, low = 1 << variable, self.low[variable]
        zero, one = truth & low, (truth >> shift) & low
        return zero | zero << shift, one | one << shift

    def cost(self, truth: int) -> int:
        """Operators the function takes."""
        if truth in (0, self.all):
            return 2  # a constant has to be written with a variable: x ^ x, or its inverse
        if truth not in self.known:
            self.known[truth] = self._best(truth)
        return self.known[truth][0]

    def _best(self, truth: int) -> tuple[int, _Step]:
        support = [v for v in range(self.variables) if len(set(self.cofactors(truth, v))) == 2]
        tried = support if self.variables <= SEARCHED else support[-2:]
        best: tuple[int, _Step] | None = None
        for v in tried:
            for step in self._steps(truth, v):
                cost = self._step_cost(step)
                if best is None or cost < best[0]:
                    best = cost, step
        if best is None:
            raise ValueError("truth must depend on a variable, and does not")
        return best

    def _steps(self, truth: int, v: int) -> list[_Step]:
        zero, one = self.cofactors(truth, v)
        if zero == 0:
            return [("and", v, one, 0)] if one != self.all else [("is", v, 0, 0)]
        if zero == self.all:
            return [("or not", v, one, 0)] if one != 0 else [("not", v, 0, 0)]
        if one == 0:
            return [("and not", v, zero, 0)]
        if one == self.all:
            return [("or", v, zero, 0)]
        if zero ^ one == self.all:
            return [("xor", v, zero, 0)]
        both = zero ^ one
        return [("davio", v, zero, both), ("davio not", v, one, both), ("shannon", v, zero, one)]

    def _step_cost(self, step: _Step) -> int:
        form, _, first, second = step
        own = {"is": 0, "not": 1, "and": 1, "or": 1, "xor": 1, "and not": 2, "or not": 2, "davio": 2}
        if form in ("is", "not"):
            return own[form]
        if form in ("davio", "davio not", "shannon"):
            return {"davio": 2, "davio not": 3, "shannon": 4}[form] + self.cost(first) + self.cost(second)
        return own[form] + self.cost(first)

    def text(self, truth: int, names: tuple[str, ...]) -> str:
        """The function as an expression, in brackets where it has an operator of two sides."""
        if truth in (0, self.all):
            constant = f"({names[0]} ^ {names[0]})"
            return constant if truth == 0 else f"~{constant}"
        self.cost(truth)
        form, v, first, second = self.known[truth][1]
        x = names[v]
        if form in ("is", "not"):
            return x if form == "is" else f"~{x}"
        one = self.text(first, names)
        single = {
            "and": f"({x} & {one})",
            "or": f"({x} | {one})",
            "xor": f"({x} ^ {one})",
            "and not": f"(~{x} & {one})",
            "or not": f"(~{x} | {one})",
        }
        if form in single:
            return single[form]
        two = self.text(second, names)
        return {
            "davio": f"({one} ^ ({x} & {two}))",
            "davio not": f"({one} ^ (~{x} & {two}))",
            "shannon": f"((~{x} & {one}) | ({x} & {two}))",
        }[form]
