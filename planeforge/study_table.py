"""The figures of a study's rows, in one table: costs joined, units in every name, the best format first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cost_models import area, energy
from cost_models.uncertain import Cost, Interval, Term, ratio
from hw.spec import Activity, ArraySpec
from planeforge.study_rows import Layer, Row

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Result:
    """A row with what its work costs on the study's array."""

    row: Row
    array: ArraySpec
    area: Cost  #: of the whole array
    energy: Cost  #: per token [pJ]

    @property
    def label(self) -> str:
        return self.row.label

    @property
    def kl(self) -> float:
        """What the hardware's outputs diverge from the reference [nats/token]."""
        if self.row.hardware is None:
            raise ValueError(f"row {self.label} must have been scored, and failed instead")
        return self.row.hardware.kl

    @property
    def weights_only_kl(self) -> float:
        """The part of it that the weights alone cause: the figure formats are ranked by [nats/token]."""
        if self.row.weights_only is None:
            raise ValueError(f"row {self.label} must have been scored, and failed instead")
        return self.row.weights_only.kl

    @property
    def memory_cycles_per_token(self) -> float:
        """Clocks the port to external memory is busy; work below it is bound by memory, not by PEs."""
        bits = sum(layer.activity["dram_bits"] for layer in self.row.layers)
        return bits / self.array.dram_bits_per_cycle / self.row.tokens


def layer_energy(layer: Layer, array: ArraySpec, tech: str, dram: str) -> Cost:
    """Energy of one layer for the whole batch [pJ]."""
    return energy.energy(Activity(**layer.activity), array, tech, dram)


def result(row: Row, array: ArraySpec, tech: str, dram: str) -> Result:
    """A sound row with its costs."""
    # Layers are added as costs, not as activities: a toggle rate is a layer's own.
    total = added([layer_energy(layer, array, tech, dram) for layer in row.layers], 1 / row.tokens)
    return Result(row=row, array=array, area=area.array_area(array, tech), energy=total)


def added(costs: Sequence[Cost], factor: float = 1.0) -> Cost:
    """The sum of costs of one unit, times ``factor``; terms of one kind become one."""
    sums: dict[tuple[str, tuple[str, ...]], Term] = {}
    for term in (term for cost in costs for term in cost.terms):
        kind = (term.part, tuple(constant.key for constant in term.constants))
        before = sums[kind].quantity if kind in sums else 0.0
        sums[kind] = replace(term, quantity=before + term.quantity)
    terms = tuple(replace(term, quantity=term.quantity * factor) for term in sums.values())
    return Cost(unit=costs[0].unit, terms=terms, fit=max(cost.fit for cost in costs))


def ranked(results: Sequence[Result]) -> list[Result]:
    """Best first, by the divergence the weights cause."""
    return sorted(results, key=lambda r: (r.weights_only_kl, r.kl, r.label))


def energy_against(result: Result, reference: Result) -> Interval:
    """Energy relative to the reference's: what both share cancels, so its range is the narrow one."""
    return ratio(result.energy, reference.energy)


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points no other point beats in both coordinates (less is better), by the first.

    >>> frontier([(1, 5), (2, 3), (3, 4), (4, 1)])
    [0, 1, 3]
    """
    best, found = float("inf"), []
    for index in sorted(range(len(points)), key=lambda i: points[i]):
        if points[index][1] < best:
            best = points[index][1]
            found.append(index)
    return found


def figures(result: Result, reference: Result | None) -> dict[str, Any]:
    """One line of results.csv; names carry their units."""
    row = result.row
    relative = None if reference is None else energy_against(result, reference)
    return {
        "format": row.label,
        "method": row.method,
        "number_format": row.format,
        **_scored("", row.hardware),
        **_scored("weights_only_", row.weights_only),
        "stored_bits_per_weight": row.stored_bits,
        "published_bits_per_weight": row.published_bits,
        "weight_error_fraction": row.weight_error,
        "output_error_fraction": row.output_error,
        "array_cycles_per_token": row.cycles_per_token,
        "array_utilisation_fraction": row.utilisation,
        "memory_port_cycles_per_token": result.memory_cycles_per_token,
        "array_area_um2": result.area.total,
        "array_area_low_um2": result.area.low,
        "array_area_high_um2": result.area.high,
        "energy_pj_per_token": result.energy.total,
        "energy_low_pj_per_token": result.energy.low,
        "energy_high_pj_per_token": result.energy.high,
        "energy_relative_to_reference": None if relative is None else relative.value,
        "energy_relative_low": None if relative is None else relative.low,
        "energy_relative_high": None if relative is None else relative.high,
        **{f"energy_{part}_pj_per_token": pj for part, pj in result.energy.breakdown.items()},
        **{f"{_word(role)}_bits_per_weight": bits for role, bits in row.breakdown.items()},
        "seconds": sum(row.seconds.values()),
        "note": row.note,
        "error": "",
    }


def _scored(prefix: str, score: Any) -> dict[str, Any]:
    return {
        f"{prefix}kl_nats_per_token": score.kl,
        f"{prefix}kl_se_nats_per_token": score.kl_se,
        f"{prefix}perplexity_per_token": score.perplexity,
        f"{prefix}bits_per_character": score.bits_per_character,
        f"{prefix}bits_per_character_se": score.bits_per_character_se,
        f"{prefix}nll_increase_nats_per_token": score.nll_increase,
        f"{prefix}nll_increase_se_nats_per_token": score.nll_increase_se,
    }


def _word(role: str) -> str:
    return role.replace(" ", "_")


def table(results: Sequence[Result], reference: Result | None, failed: Sequence[Row]) -> pd.DataFrame:
    """All rows as pandas sees them: the sound ones in the order given, then the failed ones."""
    import pandas as pd

    lines = [figures(r, reference) for r in results]
    # Roles and energy parts a format has none of are 0 of them, not unknown.
    parts = [c for line in lines for c in line if c.endswith("_bits_per_weight") or c.startswith("energy_")]
    zeros = dict.fromkeys(parts, 0.0)
    lines = [zeros | line for line in lines]
    lines += [{"format": row.label, "method": row.method, "error": row.error} for row in failed]
    frame = pd.DataFrame(lines)
    order = [*(figures(results[0], reference) if results else ()), *parts]
    last = [c for c in ("seconds", "note", "error") if c in frame]
    columns = [c for c in dict.fromkeys([*order, *(str(c) for c in frame)]) if c not in last]
    return frame[[*columns, *last]]


def layer_table(results: Sequence[Result], tech: str, dram: str) -> pd.DataFrame:
    """A line for each layer of each sound row."""
    import pandas as pd

    lines = []
    for result in results:
        for layer in result.row.layers:
            cost = layer_energy(layer, result.array, tech, dram)
            lines.append(
                {
                    "format": result.label,
                    "layer": layer.name,
                    "rows": layer.rows,
                    "columns": layer.columns,
                    "stored_bits_per_weight": layer.stored_bits / (layer.rows * layer.columns),
                    "published_bits_per_weight": layer.published_bits,
                    "weight_error_fraction": layer.weight_error,
                    "output_error_fraction": layer.output_error,
                    "array_cycles_per_token": layer.cycles / result.row.tokens,
                    "array_utilisation_fraction": layer.macs / layer.slots if layer.slots else 0.0,
                    "energy_pj_per_token": cost.total / result.row.tokens,
                    **{f"{name}_per_batch": count for name, count in layer.activity.items()},
                }
            )
    return pd.DataFrame(lines)
