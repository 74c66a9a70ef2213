"""Constants with ranges, and costs that carry them: what a number rests on, and how far it may be off.

A cost is a sum of terms, each a counted quantity times constants. Its low and high ends take every constant
at its own end. In a ratio of two costs a constant that both use is the same constant on both sides, so a
technology's common factors cancel: a ratio is far narrower than the two costs it is made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, prod

import numpy as np
from numpy.typing import NDArray

KINDS = ("measured", "published", "derived", "assumed")

#: more shared constants than this make a ratio's corners too many to visit
_MOST_FREE = 18


@dataclass(frozen=True, kw_only=True)
class Constant:
    """One number of the models. Raises ValueError unless it is complete and inside its own range."""

    key: str  #: where it stands, such as ``asap7.clock_flop``
    value: float
    low: float
    high: float
    unit: str
    node: str  #: process it holds for
    vdd: str  #: supply it holds for
    kind: str  #: one of `KINDS`
    source: str  #: who says so, or how it was measured
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("unit", "node", "vdd", "source"):
            if not str(getattr(self, name)).strip():
                raise ValueError(f"{self.key}.{name} must be stated, not {getattr(self, name)!r}")
        if self.kind not in KINDS:
            raise ValueError(f"{self.key}.kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if not all(map(isfinite, (self.low, self.value, self.high))) or self.low <= 0:
            raise ValueError(f"{self.key} must be positive and finite, not {self.low!r} to {self.high!r}")
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.key}.value must be in [{self.low!r}, {self.high!r}], not {self.value!r}")

    def line(self) -> str:
        """Provenance in one line."""
        where = f"{self.kind}, {self.node}, {self.vdd}"
        return (
            f"{self.key} = {self.value:g} [{self.low:g}, {self.high:g}] {self.unit} ({where}): {self.source}"
        )


@dataclass(frozen=True, kw_only=True)
class Term:
    """``quantity`` times the product of ``constants``, booked under ``part``."""

    part: str
    quantity: float
    constants: tuple[Constant, ...]

    def __post_init__(self) -> None:
        keys = [constant.key for constant in self.constants]
        if len(set(keys)) < len(keys):
            raise ValueError(f"constants must differ within a term, not {', '.join(keys)}")

    def times(self, factor: float, *more: Constant, part: str = "") -> Term:
        """The term scaled, with ``more`` constants, under another ``part`` if given."""
        constants = (*self.constants, *more)
        return Term(part=part or self.part, quantity=self.quantity * factor, constants=constants)

    def at(self, ends: Mapping[str, float]) -> float:
        """The term with each constant at the value ``ends`` gives its key."""
        return self.quantity * prod(ends[constant.key] for constant in self.constants)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with its range."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """An area or an energy: total, range, parts and provenance.

    ``fit`` is the relative error of the structural model itself [1], for this design alone: unlike a
    constant's range it does not cancel in a ratio.
    """

    unit: str
    terms: tuple[Term, ...]
    fit: float = 0.0

    def __post_init__(self) -> None:
        keys: dict[str, Constant] = {}
        for term in self.terms:
            for constant in term.constants:
                if keys.setdefault(constant.key, constant) != constant:
                    raise ValueError(f"constants must be one per key, not two of {constant.key!r}")

    @property
    def constants(self) -> tuple[Constant, ...]:
        """Every constant used, once, in the order of first use."""
        return tuple({constant.key: constant for term in self.terms for constant in term.constants}.values())

    def _sum(self, end: str) -> float:
        ends = {constant.key: getattr(constant, end) for constant in self.constants}
        return sum(term.at(ends) for term in self.terms)

    @property
    def total(self) -> float:
        """The estimate."""
        return self._sum("value")

    @property
    def low(self) -> float:
        """The total with every constant at its low end, less the model's own error."""
        return self._sum("low") * (1 - self.fit)

    @property
    def high(self) -> float:
        """The total with every constant at its high end, plus the model's own error."""
        return self._sum("high") * (1 + self.fit)

    @property
    def breakdown(self) -> dict[str, float]:
        """The total by part."""
        ends = {constant.key: constant.value for constant in self.constants}
        parts: dict[str, float] = {}
        for term in self.terms:
            parts[term.part] = parts.get(term.part, 0.0) + term.at(ends)
        return parts

    @property
    def sources(self) -> tuple[str, ...]:
        """One line of provenance per constant."""
        return tuple(constant.line() for constant in self.constants)


def ratio(a: Cost, b: Cost) -> Interval:
    """``a / b`` with its range; a constant both use takes one value, whatever it is, on both sides.

    The quotient is monotone in each constant alone, so its extremes lie in corners of the box of ranges. A
    constant of one side only has its end given; all corners of the shared ones are visited.
    Raises ValueError for costs of two units, or when ``b`` is 0.
    """
    if a.unit != b.unit:
        raise ValueError(f"b must be a cost in {a.unit}, not in {b.unit!r}")
    if not b.total > 0:
        raise ValueError(f"b must be positive, not {b.total!r}")
    return Interval(
        value=a.total / b.total,
        low=float(_corners(a, b, "low", "high").min()) * (1 - a.fit) / (1 + b.fit),
        high=float(_corners(a, b, "high", "low").max()) * (1 + a.fit) / (1 - b.fit),
    )


def _corners(a: Cost, b: Cost, end_of_a: str, end_of_b: str) -> NDArray[np.float64]:
    """``a / b`` in every corner of the shared constants, the others at the end of their side."""
    shared = {c.key: c for c in a.constants if c in b.constants}
    everywhere = set.intersection(*({c.key for c in term.constants} for term in (*a.terms, *b.terms)))
    free = [c for c in shared.values() if c.low < c.high and c.key not in everywhere]
    if len(free) > _MOST_FREE:
        raise ValueError(f"costs must share at most {_MOST_FREE} uncertain constants, not {len(free)!r}")
    corners = np.arange(1 << len(free))
    ends: dict[str, NDArray[np.float64]] = {}
    for cost, end in ((a, end_of_a), (b, end_of_b)):
        for c in cost.constants:
            value = c.value if c.key in shared else getattr(c, end)
            ends[c.key] = np.full(len(corners), value)
    for i, c in enumerate(free):
        ends[c.key] = np.where(corners >> i & 1, c.high, c.low)
    over, under = (np.sum([_corner(term, ends) for term in cost.terms], axis=0) for cost in (a, b))
    return over / under


def _corner(term: Term, ends: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    values = np.full(len(next(iter(ends.values()))), term.quantity)
    for constant in term.constants:
        values = values * ends[constant.key]
    return values
