"""Integer polynomials over bits: what a formula says, and what the gates are rewritten to.

A bit is its own square, so a polynomial is linear in each variable, and a function of bits is one polynomial
alone. Two functions are equal modulo ``2**width`` exactly if all their coefficients are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A product of variables.
Monomial = frozenset[int]
ONE: Monomial = frozenset()
#: Integers, exact: int64 or Python's.
Table = NDArray[Any]


class Polynomial:
    """Integer coefficients by monomial, none of them 0."""

    __slots__ = ("terms",)

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self.terms = {monomial: c for monomial, c in terms.items() if c}

    @classmethod
    def variable(cls, number: int) -> Polynomial:
        return cls({frozenset((number,)): 1})

    @classmethod
    def constant(cls, value: int) -> Polynomial:
        return cls({ONE: value})

    @classmethod
    def total(cls, parts: Iterable[Polynomial]) -> Polynomial:
        """The sum of ``parts``."""
        terms: dict[Monomial, int] = defaultdict(int)
        for part in parts:
            for monomial, c in part.terms.items():
                terms[monomial] += c
        return cls(terms)

    def __add__(self, other: Polynomial | int) -> Polynomial:
        return Polynomial.total((self, _lifted(other)))

    def __neg__(self) -> Polynomial:
        return self * -1

    def __sub__(self, other: Polynomial | int) -> Polynomial:
        return self + -_lifted(other)

    def __rsub__(self, other: int) -> Polynomial:
        return _lifted(other) - self

    def __mul__(self, other: Polynomial | int) -> Polynomial:
        if isinstance(other, int):
            return Polynomial({monomial: c * other for monomial, c in self.terms.items()})
        terms: dict[Monomial, int] = defaultdict(int)
        for a, c in self.terms.items():
            for b, d in other.terms.items():
                terms[a | b] += c * d
        return Polynomial(terms)

    __radd__, __rmul__ = __add__, __mul__

    def modulo(self, width: int) -> Polynomial:
        """Coefficients from ``1 - 2**(width - 1)`` to ``2**(width - 1)``, equal modulo ``2**width``."""
        every = 1 << width
        return Polynomial({m: (c + every // 2 - 1) % every - every // 2 + 1 for m, c in self.terms.items()})

    def variables(self) -> set[int]:
        return set().union(*self.terms)

    def at(self, ones: set[int]) -> int:
        """The value where ``ones`` are 1, and all other variables 0."""
        return sum(c for monomial, c in self.terms.items() if monomial <= ones)

    def fixed(self, values: Mapping[int, int]) -> Polynomial:
        """With some variables replaced by 0 or 1."""
        terms: dict[Monomial, int] = defaultdict(int)
        given = frozenset(values)
        for monomial, c in self.terms.items():
            if all(values[number] for number in monomial & given):
                terms[monomial - given] += c
        return Polynomial(terms)

    def nonzero(self) -> set[int]:
        """Variables that, if they alone are 1, make it another number than 0. There must be a term.

        Of the terms with the fewest variables one counts alone, all others with it having more.
        """
        fewest = min(self.terms, key=lambda monomial: (len(monomial), sorted(monomial)))
        return set(fewest)

    def table(self) -> Table:
        """Values at all points, the variable of the lowest number changing fastest; exact integers."""
        places = {number: place for place, number in enumerate(sorted(self.variables()))}
        small = sum(map(abs, self.terms.values())) < 1 << 62
        values = np.zeros(1 << len(places), np.int64 if small else object)
        for monomial, c in self.terms.items():
            values[sum(1 << places[number] for number in monomial)] = c
        for place in range(len(places)):
            pairs = values.reshape(-1, 2, 1 << place)
            pairs[:, 1] += pairs[:, 0]
        return values

    @classmethod
    def of_table(cls, values: Table, numbers: Sequence[int]) -> Polynomial:
        """The polynomial in ``numbers``, ascending, of which `table` is ``values``."""
        found = coefficients(values)
        return cls(
            {
                frozenset(n for place, n in enumerate(numbers) if at >> place & 1): int(found[at])
                for at in map(int, np.flatnonzero(found))
            }
        )

    def crude_range(self) -> tuple[int, int]:
        """Bounds, by the signs of coefficients alone."""
        constant = self.terms.get(ONE, 0)
        rest = [c for monomial, c in self.terms.items() if monomial]
        return constant + sum(c for c in rest if c < 0), constant + sum(c for c in rest if c > 0)


def _lifted(value: Polynomial | int) -> Polynomial:
    return Polynomial.constant(value) if isinstance(value, int) else value


def coefficients(values: Table) -> Table:
    """Coefficients of the polynomial of which `Polynomial.table` is ``values``, in the same places."""
    found = values.copy()
    for place in range(len(found).bit_length() - 1):
        pairs = found.reshape(-1, 2, 1 << place)
        pairs[:, 1] -= pairs[:, 0]
    return found


def assignments(numbers: Sequence[int]) -> Iterator[dict[int, int]]:
    """All values of variables."""
    return (dict(zip(numbers, values, strict=True)) for values in product((0, 1), repeat=len(numbers)))
