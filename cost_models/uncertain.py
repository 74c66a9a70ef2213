"""Constants with ranges, and costs that carry them: what a number rests on, and how far it may be off.

A cost is a sum of terms, each a counted quantity times constants. Three layers of doubt are kept apart: the
noise of the tool that a model was fitted to, the error of the fit, and the technology, which is the range of
every constant. A band takes all at their own ends. In a ratio of two costs a constant that both use is the
same constant on both sides, so a technology's common factors cancel: a ratio is far narrower than the two
costs it is made of. Noise and fit do not cancel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    temp: str = "none"  #: die temperature it holds for
    #: common factors, each 1 with a range: a technology scaled from another has them in all of its numbers
    factors: tuple[Constant, ...] = ()

    def __post_init__(self) -> None:
        for name in ("unit", "node", "vdd", "temp", "source"):
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
        where = ", ".join(
            (self.kind, self.node, self.vdd, *((self.temp,) if self.temp not in ("none", "") else ()))
        )
        return (
            f"{self.key} = {self.value:g} [{self.low:g}, {self.high:g}] {self.unit} ({where}): {self.source}"
        )


@dataclass(frozen=True, kw_only=True)
class Term:
    """``quantity`` times the product of ``constants`` and of their common factors, booked under ``part``."""

    part: str
    quantity: float
    constants: tuple[Constant, ...]

    def __post_init__(self) -> None:
        factors = {factor.key: factor for constant in self.constants for factor in constant.factors}
        missing = [f for f in factors.values() if all(f.key != c.key for c in self.constants)]
        object.__setattr__(self, "constants", (*self.constants, *missing))
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

    ``fit`` is the relative error of the structural model itself [1], for this design alone, and ``noise`` the
    spread of the tool whose results it was fitted to [1]: unlike a constant's range they do not cancel in a
    ratio. Raises ValueError for either outside [0, 1).
    """

    unit: str
    terms: tuple[Term, ...]
    fit: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name in ("fit", "noise"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), not {getattr(self, name)!r}")
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
        """The total with every constant at its low end, less the model's own error and the tool's noise."""
        return self._sum("low") * self.least

    @property
    def high(self) -> float:
        """The total with every constant at its high end, plus the model's own error and the tool's noise."""
        return self._sum("high") * self.most

    @property
    def least(self) -> float:
        """What noise and fit leave at least, of 1."""
        return (1 - self.fit) * (1 - self.noise)

    @property
    def most(self) -> float:
        """What noise and fit make it at most, of 1."""
        return (1 + self.fit) * (1 + self.noise)

    @property
    def layers(self) -> dict[str, Interval]:
        """The band that each layer of doubt alone would give: tool noise, fit, technology."""
        total = self.total
        return {
            "noise": Interval(value=total, low=total * (1 - self.noise), high=total * (1 + self.noise)),
            "fit": Interval(value=total, low=total * (1 - self.fit), high=total * (1 + self.fit)),
            "technology": Interval(value=total, low=self._sum("low"), high=self._sum("high")),
        }

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
        low=float(_corners(a, b, "low", "high").min()) * a.least / b.most,
        high=float(_corners(a, b, "high", "low").max()) * a.most / b.least,
    )


def everywhere(costs: Iterable[Cost]) -> set[str]:
    """Keys of the constants that every term of every cost has: they cancel in all of their ratios."""
    terms = [{c.key for c in term.constants} for cost in costs for term in cost.terms]
    return set.intersection(*terms) if terms else set()


def _corners(a: Cost, b: Cost, end_of_a: str, end_of_b: str) -> NDArray[np.float64]:
    """``a / b`` in every corner of the shared constants, the others at the end of their side."""
    shared = {c.key: c for c in a.constants if c in b.constants}
    cancelling = everywhere((a, b))
    free = [c for c in shared.values() if c.low < c.high and c.key not in cancelling]
    groups = _together(free, (*a.terms, *b.terms))
    if len(groups) > _MOST_FREE:
        raise ValueError(f"costs must share at most {_MOST_FREE} uncertain constants, not {len(groups)!r}")
    corners = np.arange(1 << len(groups))
    ends: dict[str, NDArray[np.float64]] = {}
    for cost, end in ((a, end_of_a), (b, end_of_b)):
        for c in cost.constants:
            value = c.value if c.key in shared else getattr(c, end)
            ends[c.key] = np.full(len(corners), value)
    for i, group in enumerate(groups):
        for c in group:
            ends[c.key] = np.where(corners >> i & 1, c.high, c.low)
    over, under = (np.sum([_corner(term, ends) for term in cost.terms], axis=0) for cost in (a, b))
    return over / under


def _together(constants: Iterable[Constant], terms: Sequence[Term]) -> list[list[Constant]]:
    """Constants that stand in the same terms: only their product matters, so they go to their ends as one."""
    groups: dict[frozenset[int], list[Constant]] = {}
    for constant in constants:
        where = frozenset(i for i, term in enumerate(terms) if constant in term.constants)
        groups.setdefault(where, []).append(constant)
    return list(groups.values())


def _corner(term: Term, ends: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    values = np.full(len(next(iter(ends.values()))), term.quantity)
    for constant in term.constants:
        values = values * ends[constant.key]
    return values
