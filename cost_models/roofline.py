"""Rooflines: how much work a byte carries, where compute and memory meet, and which of them binds.

Work is counted in one-bit operations, two for a multiply-accumulate of two bits, so that PEs of all
precisions stand on one axis; a product of N and M bits carries N times M of them.

Source: Williams, Waterman, Patterson, "Roofline", CACM 2009. Differs in: bit-operations; a roof for every
level whose width is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isfinite

from cost_models.uncertain import Cost, Interval


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Roofs of an array."""

    operations: float  #: one-bit operations a second at most
    bytes: Mapping[str, float]  #: a second at most, by level, such as ``dram``

    def __post_init__(self) -> None:
        for name, number in {"operations": self.operations, **self.bytes}.items():
            if not (isfinite(number) and number > 0):
                raise ValueError(f"{name} must be positive and finite, not {number!r}")

    def ridge(self, level: str = "dram") -> float:
        """Operations a byte at which a level's roof meets that of compute."""
        return self.operations / self.bytes[level]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A layer on a roofline."""

    name: str
    operations: float  #: one-bit operations
    moved: Mapping[str, float]  #: bytes by level
    machine: Machine = field(repr=False)
    seconds: float  #: what it takes, stalls and all

    def intensity(self, level: str = "dram") -> float:
        """Operations a byte."""
        return self.operations / self.moved[level] if self.moved[level] else inf

    @property
    def times(self) -> dict[str, float]:
        """Least seconds by roof."""
        moved = {level: count / self.machine.bytes[level] for level, count in self.moved.items()}
        return {"compute": self.operations / self.machine.operations} | moved

    @property
    def binds(self) -> str:
        """The roof that takes longest."""
        return max(self.times, key=lambda roof: self.times[roof])

    @property
    def attained(self) -> float:
        """Share of its roof: least seconds over seconds taken."""
        return max(self.times.values()) / self.seconds if self.seconds else 0.0


def efficiency(operations: float, energy: Cost) -> Interval:
    """Operations a second a watt [TOPS/W], of operations and their energy. Raises ValueError for no energy.

    Operations are what the caller counts as one; one a picojoule is one TOPS/W.
    """
    if energy.unit != "pJ":
        raise ValueError(f"energy must be in pJ, not in {energy.unit!r}")
    return _over(operations, energy)


def density(operations: float, seconds: float, area: Cost) -> Interval:
    """Operations a second a square millimetre [TOPS/mm2]."""
    if area.unit != "um2":
        raise ValueError(f"area must be in um2, not in {area.unit!r}")
    if not seconds > 0:
        raise ValueError(f"seconds must be positive, not {seconds!r}")
    return _over(operations / seconds * 1e-12 * 1e6, area)


def _over(quantity: float, cost: Cost) -> Interval:
    if not cost.low > 0:
        raise ValueError(f"cost must be positive, not {cost.low!r}")
    return Interval(value=quantity / cost.total, low=quantity / cost.high, high=quantity / cost.low)
