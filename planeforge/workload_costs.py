"""What a decoder's phase costs on an array: rooflines of its layers, energy, power, efficiency, equal areas.

No weight is read, so the PEs' insides toggle as on random operands. A stored checkpoint's own toggles are
counted by ``planeforge cost`` and ``planeforge compare``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cost_models import area, energy, energy_pe, roofline
from cost_models import tech as techs
from cost_models.uncertain import Cost, Interval, ratio
from hw.counts import Activity
from hw.spec import ArraySpec
from sim.cycles.run import Run

if TYPE_CHECKING:
    from sim.weight_formats import WeightFormat
    from sim.workload import Phase, Work

_TERA = 1e-12
#: columns that need an energy: of the phase, of a token, power, one-bit operations a second a watt
ENERGIES = ("energy_pj", "energy_per_token_pj", "power_w", "bit_tops_per_w")


def activity(done: Run) -> Activity:
    """What a run did: clocks, beats, items, bits moved."""
    moved = done.moved
    return Activity(
        cycles=done.clocks,
        beats=done.beats,
        items=done.items,
        scale_products=done.items,
        weight_buffer_bits=moved["weight_buffer_reads"] + moved["weight_buffer_writes"],
        activation_buffer_bits=moved["activation_buffer_reads"] + moved["activation_buffer_writes"],
        result_bits=moved["result_buffer_writes"],
        dram_bits=done.dram_bits,
    )


def phase_energy(phase: Phase, tech: str, dram: str) -> Cost:
    """Energy of a phase [pJ], on random operands."""
    done = phase.total
    counted = energy_pe.on_random(done.array.pe)
    return energy.energy(activity(done), done.array, tech, dram, counted)


def why_no_energy(array: ArraySpec, tech: str) -> str:
    """Why an array's energy is not modelled in a technology; empty where it is, or without one."""
    return energy_pe.why_none(array.pe, techs.load(tech)) if tech else ""


def columns(phase: Phase, tech: str, dram: str) -> dict[str, Any]:
    """Columns of the table: area, efficiency, energy, power, each with its range.

    Energies are None where `why_no_energy` says so.
    """
    done = phase.total
    taken = area.array_area(done.array, tech)
    operations = 2.0 * done.macs
    mm2 = _times(taken, 1e-6)
    dense = roofline.density(operations, done.seconds, taken)
    found: dict[str, Any] = _ends("array_area_mm2", mm2) | _ends("bit_tops_per_mm2", dense)
    if why_no_energy(done.array, tech):
        return found | dict.fromkeys(name + end for name in ENERGIES for end in ("", "_low", "_high"))
    spent = phase_energy(phase, tech, dram)
    figures: tuple[Cost | Interval, ...] = (
        spent,
        _times(spent, 1 / phase.tokens),
        _times(spent, _TERA / done.seconds),
        roofline.efficiency(operations, spent),
    )
    for name, figure in zip(ENERGIES, figures, strict=True):
        found |= _ends(name, figure)
    return found | {f"energy_{part}_pj": pj for part, pj in spent.breakdown.items()}


def against(phase: Phase, reference: Phase, tech: str, dram: str) -> dict[str, Any]:
    """Energy of a token against a reference phase's; what both share cancels.

    Where the range holds 1, neither is said to take less. Empty where either has no modelled energy.
    """
    if why_no_energy(phase.total.array, tech) or why_no_energy(reference.total.array, tech):
        return {}
    mine, other = (_times(phase_energy(p, tech, dram), 1 / p.tokens) for p in (phase, reference))
    found = ratio(mine, other)
    order = "less" if found.high < 1 else "more" if found.low > 1 else "not ranked"
    return _ends("energy_over_first", found) | {"energy_order": order}


def _ends(name: str, figure: Cost | Interval) -> dict[str, float]:
    value = figure.total if isinstance(figure, Cost) else figure.value
    return {name: value, f"{name}_low": figure.low, f"{name}_high": figure.high}


def _times(cost: Cost, factor: float) -> Cost:
    return replace(cost, terms=tuple(term.times(factor) for term in cost.terms))


def layers(phase: str, works: Iterable[Work], array: ArraySpec) -> list[dict[str, Any]]:
    """A roofline point for each product of a phase: intensity, ridge, which roof binds, stalls.

    Raises ValueError if a buffer of the array is too small for a product.
    """
    from sim.cycles import run

    rows = []
    for work in works:
        done = run.simulate(work.product, array)
        if not done.clocks:
            continue
        point = roofline.Point(
            name=work.product.name,
            operations=2.0 * done.macs,
            moved={"dram": done.dram_bits / 8},
            machine=machine(done),
            seconds=done.seconds,
        )
        rows.append(
            {
                "phase": phase,
                "layer": point.name,
                "copies": work.copies,
                "clocks": done.clocks,
                "bit_operations": 2 * done.macs,
                "dram_bytes": point.moved["dram"],
                "bit_operations_per_byte": point.intensity(),
                "ridge": point.machine.ridge(),
                "binds": point.binds,
                "attained": point.attained,
                "bound_with_stalls": done.bound,
                **{f"{name}_stalls": count for name, count in done.stalls.items()},
            }
        )
    return rows


def machine(done: Run) -> roofline.Machine:
    """Roofs of the array of a run: what its PEs do in a beat of this product, in every PE and clock."""
    array, clock = done.array, done.array.clock_hz
    # Beats are counted by output; an array works on a tile of them at once.
    peak = 2.0 * done.macs / done.beats * array.tile_rows * array.tile_tokens
    return roofline.Machine(operations=peak * clock, bytes={"dram": array.dram_bits_per_cycle * clock / 8})


def sparsity(formats: Iterable[WeightFormat], tech: str) -> list[str]:
    """What the N:M patterns of formats cost and save in a PE, as sentences."""
    from cost_models.sparsity import price

    used = {(one.keep, one.of) for fmt in formats for one in fmt.passes if one.of > 1}
    if not used:
        return []
    found = price.verdicts(tech or "generic_ge")
    return [one.sentence for one in found if (one.sparse.keep, one.sparse.of) in used]


def of_equal_area(array: ArraySpec, reference: ArraySpec, tech: str) -> ArraySpec:
    """An array with as many rows as come closest to another's area; port and buffers are the other's.

    Raises ValueError if even one row takes more than the other's area.
    """
    same = replace(
        array,
        **{
            name: getattr(reference, name)
            for name in ("weight_buffer_bits", "activation_buffer_bits", "dram_bits_per_cycle", "clock_hz")
        },
    )
    wanted = area.array_area(reference, tech).total

    def total(rows: int) -> float:
        return float(area.array_area(replace(same, rows=rows), tech).total)

    if total(1) > wanted:
        raise ValueError(
            f"pe must fit at least one row of {array.columns} into {wanted:.4g}, not {total(1):.4g}"
        )
    low, high = 1, 2
    while total(high) <= wanted:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if total(middle) <= wanted else (low, middle)
    nearest = low if wanted - total(low) <= total(high) - wanted else high
    return replace(same, rows=nearest)
