"""What the words of a circuit are as numbers: exact integers, no longer modulo a power of two.

Bits of a word fix a number modulo ``2**width``. Where the polynomial that they are rewritten to stays within
the integers that the word can hold, it *is* the word's number; what copies its sign, or reads it as a number
in any other way, need not know the gates below.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hw.formal.polynomial import ONE, Monomial, Polynomial, Table, assignments, coefficients
from hw.formal.rewriting import Expansion, Rewriter
from hw.formal.unrolling import Word

#: Most variables of which all values are tried.
TRIED = 16


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The numbers of words, worked out as they are asked for."""

    rewriter: Rewriter
    words: Sequence[Word]  #: each after those it depends on
    flags: frozenset[int]  #: variables that all lanes read
    lane: Mapping[int, int]  #: lane of each variable that one lane alone reads
    known: dict[str, tuple[bool, Polynomial]] = field(default_factory=dict)

    def polynomial(self, literals: Sequence[int], width: int) -> Polynomial:
        """The number of ``literals``, the lowest first, modulo ``2**width``, in variables that are no word's.

        Raises RuntimeError if a word on the way is no exact integer, or one of its bits counts by itself.
        """
        found = self.rewriter.rewritten(((1 << at, bit) for at, bit in enumerate(literals)), width)
        for word in reversed(self.words):
            variables = {bit >> 1 for bit in word.bits if bit > 1}
            if any(found.places.get(number) for number in variables):
                found.replace(*self._lowest(word))
                if any(found.places.get(number) for number in variables):
                    raise RuntimeError(f"{word.name} must count as the number that it is, not bit by bit")
        return found.polynomial()

    def _lowest(self, word: Word) -> tuple[int, Expansion]:
        """The word's variable of place 1, and the word's number less its other bits."""
        signed, number = self.number(word)
        places: dict[int, int] = defaultdict(int)
        for at, bit in enumerate(word.bits):
            places[bit] += -(1 << at) if signed and at + 1 == len(word.bits) else 1 << at
        lowest = next((bit for bit, place in places.items() if place == 1 and bit > 1), None)
        if lowest is None:
            raise RuntimeError(f"{word.name} must have a bit of place 1")
        rest = [
            (-place, ONE if bit == 1 else frozenset((bit >> 1,)))
            for bit, place in places.items()
            if bit not in (0, lowest)
        ]
        return lowest >> 1, [*((c, monomial) for monomial, c in number.terms.items()), *rest]

    def number(self, word: Word) -> tuple[bool, Polynomial]:
        """Whether the word is signed, and its number.

        Raises RuntimeError if what its gates add up to fits neither way.
        """
        if word.name not in self.known:
            rest = self.polynomial(word.gates, len(word.gates))
            self.known[word.name] = self._exact(word, rest)
        return self.known[word.name]

    def _exact(self, word: Word, rest: Polynomial) -> tuple[bool, Polynomial]:
        width, variables = len(word.bits), sorted(rest.variables())
        every = 1 << width
        if len(variables) <= TRIED:
            table = rest.table()
            both = [(low < 0, (table - low) % every + low) for low in (0, -every // 2)]
            signed, values = min(both, key=lambda one: _size(coefficients(one[1])))
            return signed, Polynomial.of_table(values, variables)
        flags = sorted(self.flags & rest.variables())
        cases = [(values, rest.fixed(values).modulo(width)) for values in assignments(flags)]
        for tried in (TRIED // 2, TRIED):
            bounds = [self.bounds(case, tried) for _, case in cases]
            for signed, moves in _windows(bounds, width):
                parts = (_where(v) * (case + move) for (v, case), move in zip(cases, moves, strict=True))
                return signed, Polynomial.total(parts)
        low, high = min(low for low, _ in bounds), max(high for _, high in bounds)
        raise RuntimeError(f"{word.name} must be a number of {width} bits, not of {low} to {high}")

    def bounds(self, polynomial: Polynomial, tried: int) -> tuple[int, int]:
        """Bounds: those of each lane, exact where it has few variables, added up."""
        parts: dict[int, dict[Monomial, int]] = defaultdict(dict)
        for monomial, c in polynomial.terms.items():
            lanes = {self.lane[number] for number in monomial if number in self.lane}
            parts[min(lanes) if len(lanes) == 1 else -1][monomial] = c
        low = high = 0
        for lane, terms in parts.items():
            part = Polynomial(terms)
            if lane >= 0 and len(part.variables()) <= tried:
                values = part.table()
                least, most = int(values.min()), int(values.max())
            else:
                least, most = part.crude_range()
            low, high = low + least, high + most
        return low, high


def _size(found: Table) -> tuple[int, int]:
    """Of coefficients, how many there are, and how large."""
    return int(np.count_nonzero(found)), int(np.abs(found).sum())


def _windows(bounds: Sequence[tuple[int, int]], width: int) -> Iterator[tuple[bool, list[int]]]:
    """Signed or not, and what is to be added to each case so that all fit: multiples of ``2**width``."""
    every = 1 << width
    for signed, moved in ((False, False), (True, False), (False, True), (True, True)):
        lowest = -every // 2 if signed else 0
        moves = [-((low - lowest) // every) * every if moved else 0 for low, _ in bounds]
        reach = [(low + move, high + move) for (low, high), move in zip(bounds, moves, strict=True)]
        if all(lowest <= low and high < lowest + every for low, high in reach):
            yield signed, moves


def _where(values: Mapping[int, int]) -> Polynomial:
    """1 where the variables are so, else 0."""
    found = Polynomial.constant(1)
    for number, value in values.items():
        variable = Polynomial.variable(number)
        found = found * (variable if value else 1 - variable)
    return found
