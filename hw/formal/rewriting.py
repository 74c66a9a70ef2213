"""Weighted sums of gates rewritten to polynomials over variables, adders by what they add.

Backward: a sum of output bits, each with its place value, is rewritten gate by gate. A full adder's sum bit
is ``a + b + c - 2 carry``, so where its carry counts twice as much the carry cancels, and a tree of adders
comes out as the linear sum of what it adds, whatever its shape. Every other gate is a product.

Sources: Ciesielski, Yu, Brown, Liu and Rossi, "Verification of Gate-level Arithmetic Circuits by Function
Extraction", DAC 2015 (backward rewriting); Mahzoon, Grosse and Drechsler, "DyPoSub", DATE 2020 (next the gate
that makes the polynomial grow least).
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable

from hw.formal.arithmetic import Arithmetic
from hw.formal.polynomial import ONE, Monomial, Polynomial

#: Most terms on the way. Sums that are what they seem stay far below.
LIMIT = 400_000

Expansion = list[tuple[int, Monomial]]


class Rewriter:
    """Sums of literals of one graph as polynomials over its variables, modulo powers of two."""

    def __init__(self, graph: Arithmetic) -> None:
        self.graph = graph
        self.expansions: dict[int, Expansion] = {}

    def rewritten(self, bits: Iterable[tuple[int, int]], width: int) -> Sum:
        """The sum of ``coefficient * literal`` modulo ``2**width``.

        Raises RuntimeError if it grows past `LIMIT` on the way.
        """
        sum_ = Sum(width)
        for coefficient, literal in bits:
            for c, monomial in self._literal(literal):
                sum_.add(monomial, coefficient * c)
        parents = self._parents(list(sum_.places))
        heap = [-node for node, count in parents.items() if not count]
        heapq.heapify(heap)
        while heap:
            node = -heapq.heappop(heap)
            sum_.replace(node, self.expansion(node))
            for below in self._below(node):
                parents[below] -= 1
                if not parents[below]:
                    heapq.heappush(heap, -below)
        return sum_

    def _parents(self, roots: list[int]) -> dict[int, int]:
        """How many gates each gate below ``roots`` goes into; variables are none."""
        found = {node: 0 for node in roots if self.expansion(node)}
        stack = list(found)
        while stack:
            for below in self._below(stack.pop()):
                if below not in found:
                    found[below] = 0
                    stack.append(below)
                found[below] += 1
        return found

    def _below(self, node: int) -> list[int]:
        return [n for n in dict.fromkeys(n for _, m in self.expansion(node) for n in m) if self.expansion(n)]

    def expansion(self, node: int) -> Expansion:
        """A gate as a polynomial over gates below it; empty of a variable."""
        if node not in self.expansions:
            gate = self.graph.gates[node]
            if isinstance(gate, str):
                self.expansions[node] = []
            elif gate[0] == "xor":
                self.expansions[node] = self._odd(*gate[1])
            elif gate[0] == "maj":
                self.expansions[node] = self._majority(*gate[1])
            else:
                self.expansions[node] = self._both(*gate[1])
        return self.expansions[node]

    def _literal(self, literal: int) -> Expansion:
        if literal < 2:
            return [(1, ONE)] if literal else []
        node = frozenset((literal >> 1,))
        return [(1, ONE), (-1, node)] if literal & 1 else [(1, node)]

    def _both(self, a: int, b: int) -> Expansion:
        inner = [self.graph.inputs("and", bit ^ 1) for bit in (a, b)]
        if all(inner) and any(bit ^ 1 in inner[1] for bit in inner[0]):
            # Neither of two gates that are never both 1, such as the halves of a select.
            return [(1, ONE), (-1, frozenset((a >> 1,))), (-1, frozenset((b >> 1,)))]
        return _terms(_product(self._literal(a), self._literal(b)))

    def _majority(self, a: int, b: int, c: int) -> Expansion:
        a_, b_, c_ = (self._literal(bit) for bit in (a, b, c))
        ab = _product(a_, b_)
        every = [(-2 * k, m) for k, m in _product(ab, c_)]
        return _terms(ab + _product(a_, c_) + _product(b_, c_) + every)

    def _odd(self, a: int, b: int) -> Expansion:
        """``a + b + c - 2 carry`` where there is a carry, else ``a + b - 2 a b``."""
        for one, other in ((a, b), (b, a)):
            inner = self.graph.inputs("xor", one)
            carry = self._carry((*inner, other)) if inner else None
            if carry:
                return carry
        a_, b_ = self._literal(a), self._literal(b)
        return _terms(a_ + b_ + [(-2 * c, m) for c, m in _product(a_, b_)])

    def _carry(self, inputs: tuple[int, ...]) -> Expansion | None:
        """The sum bit of three bits by their carry, inverted as the carry has them."""
        gates = frozenset(bit >> 1 for bit in inputs)
        if len(gates) < 3:
            return None
        for carry in self.graph.majorities.get(gates, ()):
            return self._sum(self.graph.inputs("maj", 2 * carry), 2 * carry)
        known = self.graph.settled(*inputs)  # a carry that an earlier one is
        return None if known is None else self._sum(inputs, known)

    def _sum(self, inputs: tuple[int, ...], carry: int) -> Expansion:
        total = [term for bit in inputs for term in self._literal(bit)]
        total += [(-2 * c, m) for c, m in self._literal(carry)]
        if sum(bit & 1 for bit in inputs) % 2:
            total = [(1, ONE)] + [(-c, m) for c, m in total]
        return _terms(total)


class Sum:
    """A polynomial on its way, with the monomials by the gate that stands in them."""

    def __init__(self, width: int) -> None:
        self.width, self.mask = width, (1 << width) - 1
        self.terms: dict[Monomial, int] = {}
        self.places: dict[int, set[Monomial]] = defaultdict(set)

    def add(self, monomial: Monomial, coefficient: int) -> None:
        value = (self.terms.get(monomial, 0) + coefficient) & self.mask
        if value:
            if monomial not in self.terms:
                for node in monomial:
                    self.places[node].add(monomial)
            self.terms[monomial] = value
        elif monomial in self.terms:
            del self.terms[monomial]
            for node in monomial:
                self.places[node].discard(monomial)

    def polynomial(self) -> Polynomial:
        return Polynomial(self.terms).modulo(self.width)

    def replace(self, node: int, expansion: Expansion) -> None:
        for monomial in list(self.places.pop(node, ())):
            coefficient = self.terms.pop(monomial)
            rest = monomial - {node}
            for other in rest:
                self.places[other].discard(monomial)
            for c, below in expansion:
                self.add(rest | below, coefficient * c)
        if len(self.terms) > LIMIT:
            raise RuntimeError(f"a sum of gates must stay within {LIMIT} terms, not reach {len(self.terms)}")


def _product(a: Expansion, b: Expansion) -> Expansion:
    return [(c * d, m | n) for c, m in a for d, n in b]


def _terms(expansion: Expansion) -> Expansion:
    terms: dict[Monomial, int] = defaultdict(int)
    for c, monomial in expansion:
        terms[monomial] += c
    return [(c, monomial) for monomial, c in terms.items() if c]
