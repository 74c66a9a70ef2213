"""Rankings that say what is certain: two costs whose ratio may be 1 have no order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from cost_models.uncertain import Cost, ratio


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a cost stands among others, the least being first."""

    label: str
    value: float
    first: int  #: the best place that it can have
    last: int  #: the worst
    ties: tuple[str, ...]  #: those that it has no order with: their ratio's interval holds 1

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first}-{self.last} (no order)"


def ranking(costs: Mapping[str, Cost]) -> tuple[Place, ...]:
    """Places of costs, the least estimate first. Raises ValueError for fewer than two, or several units."""
    if len(costs) < 2:
        raise ValueError(f"costs must be at least two to rank, not {len(costs)!r}")
    order = {(a, b): _order(costs[a], costs[b]) for a, b in combinations(costs, 2)}
    order |= {(b, a): -found for (a, b), found in order.items()}
    found = []
    for label, cost in sorted(costs.items(), key=lambda item: (item[1].total, item[0])):
        others = [order[label, other] for other in costs if other != label]
        found.append(
            Place(
                label=label,
                value=cost.total,
                first=1 + others.count(1),
                last=len(costs) - others.count(-1),
                ties=tuple(other for other in costs if other != label and not order[label, other]),
            )
        )
    return tuple(found)


def _order(a: Cost, b: Cost) -> int:
    """-1 where ``a`` is certainly less, 1 where it is certainly more, else 0."""
    found = ratio(a, b)
    return -1 if found.high < 1 else 1 if found.low > 1 else 0
