"""``planeforge cost``: area of a PE and its array; energy and power of a packed layer on it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from planeforge.hardware import DEFAULT_ARRAY, DEFAULT_PE
from planeforge.output import show, table

if TYPE_CHECKING:
    from cost_models.tech import Tech
    from cost_models.uncertain import Cost
    from hw.spec import ArraySpec
    from planeforge.layer_energy import LayerRun

#: how a figure that is a cost over a known number stands in the results
_ENDS = ("", "_low", "_high")
_TECH = (
    "Technology or FPGA fabric (planeforge techs), NAME@NODE[:VDD] to scale one, such as nangate45@22:0.8, "
    "or a TOML file of your own (planeforge techs --template)."
)


def cost(
    out: Path | None = typer.Argument(None, help="Packed file or folder, for energy; without: area only."),
    pe: str = typer.Option(DEFAULT_PE, help="PE, as NAME or NAME:key=value,..."),
    array: str = typer.Option(DEFAULT_ARRAY, help="PE array, ROWSxCOLUMNS."),
    tech: str = typer.Option("asap7", help=_TECH),
    dram: str = typer.Option("lpddr5", help="External memory."),
    layer: str = typer.Option("", help="Which matrix, where the file holds several."),
    activations: Path | None = typer.Option(None, help="Float activations, .npy; default: random normal."),
    tokens: int = typer.Option(16, min=1, help="Tokens in a batch."),
    act_bits: int = typer.Option(8, help="Bits of an activation integer; 1: -1/+1."),
    activity: str = typer.Option(
        "measured",
        help="Toggles inside the PEs: measured, of the layer's own bits, or random, of random ones.",
    ),
    explain: str = typer.Option("", help="Arithmetic and sources of a cost, a part or a constant, or all."),
    sweep: str = typer.Option(
        "", help="NAME=LOW:HIGH, such as dram_pj_per_bit=0.6:20: where the order of parts flips."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Estimate area, energy and power, each with its parts, its error band and its sources.

    Example: planeforge cost w.packed --pe bitserial:lanes=64 --tech asap7 --explain dram
    """
    from cost_models import tech as techs
    from planeforge import hardware

    process, spec = techs.load(tech), hardware.array(array, pe)
    figures: dict[str, Any] = {"pe": pe, "array": array, "tech": tech} | _warned(process)
    if process.area_unit == "LUT":
        if out is not None:
            raise ValueError(f"tech must be one with energies to price a layer, not the FPGA fabric {tech!r}")
        costs = _tables(spec, array, process.name)
    else:
        costs = _areas(spec, array, process)
        figures |= _calibrated(spec.pe, process) | _buffers(spec, process)
    if out is not None:
        run = _run(out, layer, activations, tokens, act_bits, spec, activity)
        costs |= _energies(run, process, dram)
        figures |= _ran(run, costs["energy"]) | run.figures(process)
    if explain:
        figures["explanation"] = _explained(costs, explain)
    if sweep:
        figures["sweep"] = _swept(costs, sweep)
    figures["costs"] = {name: _described(made) for name, made in costs.items()}
    show(figures, as_json, lambda: _print(figures, costs, explain))


def _warned(tech: Tech) -> dict[str, Any]:
    for warning in tech.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return {"warnings": list(tech.warnings)} if tech.warnings else {}


def _areas(spec: ArraySpec, array: str, tech: Tech) -> dict[str, Cost]:
    """Areas, with the noise of the tool that the fits are to."""
    from cost_models import tech as techs
    from cost_models.area import array_area, pe_area

    noise = techs.design("tool_noise").value
    costs = {"area of one PE": replace(pe_area(spec.pe, tech), noise=noise)}
    if "sram_area" in tech.constants:
        costs[f"area of the {array} array"] = replace(array_area(spec, tech), noise=noise)
    return costs


def _tables(spec: ArraySpec, array: str, family: str) -> dict[str, Cost]:
    from cost_models import fpga
    from hw.grid import Grid

    grid = fpga.luts(Grid(array=spec), family)
    return {"tables of one PE": fpga.luts(spec.pe, family), f"tables of the {array} array": grid}


def _calibrated(pe: Any, tech: Tech) -> dict[str, Any]:
    """What the calibrations say beside area: mapping, clock, tables on FPGAs, and goals that they miss."""
    from cost_models import area, fpga, timing
    from cost_models.calibration import store
    from cost_models.calibration.measure import FPGAS

    if not area.is_calibrated(pe):
        return {"calibration": "pooled: this PE is in no sweep"}
    found: dict[str, Any] = {"mapping": area.mapping(pe, tech), "area_fit_error": area.fit_error(pe, tech)}
    if tech.name in store.names():
        clock = timing.period(pe, tech)
        found["clock_period_ps"] = [1e12 * end for end in (clock.value, clock.low, clock.high)]
    for family in FPGAS:
        if fpga.is_calibrated(pe, family):
            tables = fpga.luts(pe, family)
            found[f"luts_{family}"] = [tables.total, tables.low, tables.high]
    missed = area.missed(pe, tech)
    return found | ({"calibration_goals_missed": missed} if missed else {})


def _buffers(spec: ArraySpec, tech: Tech) -> dict[str, Any]:
    """Which macros of the technology's kit would hold the buffers in words of 64 bits, and what they take."""
    from cost_models import memory
    from cost_models.sram import BANK

    if "sram_area" not in tech.constants:
        return {}
    found = {}
    for name in ("weight", "activation"):
        bits = getattr(spec, f"{name}_buffer_bits")
        chosen = memory.choose(bits, BANK.bits, tech)
        taken = _cost("um2", memory.area(name, bits, tech, chosen.macro))
        found[f"{name}_buffer"] = f"{chosen}, {taken.total:.4g} um2 [{taken.low:.4g}, {taken.high:.4g}]"
    return found


def _cost(unit: str, *terms: Any) -> Cost:
    from cost_models.uncertain import Cost

    return Cost(unit=unit, terms=terms)


def _run(
    out: Path,
    layer: str,
    activations: Path | None,
    tokens: int,
    act_bits: int,
    spec: ArraySpec,
    activity: str,
) -> LayerRun:
    import numpy as np

    from algo.checkpoint import read_activations
    from planeforge import layer_energy
    from planeforge.packed import chosen, read

    matrix = next(iter(chosen(read(out)[0], layer).values()))
    x: Any = np.random.default_rng(0).normal(size=(tokens, matrix.columns))
    if activations is not None:
        x = read_activations(activations, matrix.columns, "activations")[:tokens]
    return layer_energy.run(matrix, x, act_bits, spec, activity)


def _energies(run: LayerRun, tech: Tech, dram: str) -> dict[str, Cost]:
    """Energy of the run, and what its external memory takes beside the bits that it moves."""
    from cost_models import dram as external

    seconds = run.activity.cycles / run.array.clock_hz
    return {
        "energy": run.energy(tech, dram),
        "external memory, with rows opened and background": external.energy(
            run.activity.dram_bits, seconds, dram
        ),
    }


def _ran(run: LayerRun, energy: Cost) -> dict[str, Any]:
    """What the run did, and its energy by token and time; each energy with its band."""
    from cost_models import montecarlo

    seconds, tokens = run.activity.cycles / run.array.clock_hz, run.tokens
    ends = (energy.total, energy.low, energy.high)
    likely = montecarlo.band(energy)
    return {
        "tokens": tokens,
        "cycles": run.activity.cycles,
        "utilisation": run.utilisation,
        "clock_hz": run.array.clock_hz,
        **{f"energy_per_token_pj{end}": pj / tokens for end, pj in zip(_ENDS, ends, strict=True)},
        **{f"power_w{end}": pj * 1e-12 / seconds for end, pj in zip(_ENDS, ends, strict=True)},
        "energy_90_percent_of_draws_pj": [likely.value, likely.low, likely.high],
    }


def _explained(costs: Mapping[str, Cost], name: str) -> list[dict[str, Any]]:
    from cost_models import explain

    return explain.explain(costs, name)


def _swept(costs: Mapping[str, Cost], text: str) -> dict[str, Any]:
    """The parts of the energy (of areas, where there is none) against one constant."""
    from cost_models import sweep

    whole = costs.get("energy", list(costs.values())[-1])
    parts: dict[str, list[Any]] = {}
    for term in whole.terms:
        parts.setdefault(term.part, []).append(term)
    return sweep.report(
        {part: replace(whole, terms=tuple(terms)) for part, terms in parts.items()}, sweep.Sweep.of(text)
    )


def _described(made: Cost) -> dict[str, Any]:
    return {
        "total": made.total,
        "low": made.low,
        "high": made.high,
        "unit": made.unit,
        "layers": {name: [found.low, found.high] for name, found in made.layers.items()},
        "breakdown": made.breakdown,
        "bands": _part_bands(made),
        "sources": made.sources,
    }


def _part_bands(made: Cost) -> dict[str, list[float]]:
    """Low and high of every part."""
    parts = {
        part: replace(made, terms=tuple(t for t in made.terms if t.part == part)) for part in made.breakdown
    }
    return {part: [one.low, one.high] for part, one in parts.items()}


def _plain(value: Any) -> Any:
    """A figure with its range as text."""
    if isinstance(value, list) and len(value) == 3:
        middle, low, high = value
        return f"{middle:.4g} [{low:.4g}, {high:.4g}]"
    return "; ".join(value) if isinstance(value, tuple | list) else value


def _print(figures: dict[str, Any], costs: Mapping[str, Cost], explained: str) -> None:
    shown = {k: v for k, v in figures.items() if k not in ("costs", "explanation", "sweep")}
    for name in [key for key in shown if f"{key}_low" in shown]:
        shown[name] = [shown[name], shown.pop(f"{name}_low"), shown.pop(f"{name}_high")]
    table([{"figure": k, "value": _plain(v)} for k, v in shown.items()])
    rows = []
    for name, made in figures["costs"].items():
        total = {"what": name, "value": made["total"], "unit": made["unit"]}
        rows.append(total | {"low": made["low"], "high": made["high"]})
        for part, value in made["breakdown"].items():
            low, high = made["bands"][part]
            rows.append({"what": f"  {part}", "value": value, "unit": made["unit"], "low": low, "high": high})
    table(rows, "costs (estimates; low and high from tool noise, fit and the ranges of their constants)")
    if "sweep" in figures:
        print_sweep(figures["sweep"])
    if explained:
        from cost_models import explain

        print(explain.text(costs, explained))
        return
    sources = dict.fromkeys(line for made in figures["costs"].values() for line in made["sources"])
    print("sources:\n" + "\n".join(f"  {line}" for line in sources))


def print_sweep(found: Mapping[str, Any]) -> None:
    """A sweep as text: the constant, where two change places, and the order on each stretch."""
    print(f"sweep of {found['constant']}")
    for crossing in found["crossings"]:
        print(
            f"  at {crossing['at']:.4g} {found['unit']}: {crossing['cheaper_above']} becomes cheaper than "
            f"{crossing['cheaper_below']}"
        )
    if not found["crossings"]:
        print(f"  no order flips from {found['from']:g} to {found['to']:g} {found['unit']}")
    for stretch in found["orders"]:
        order = ", ".join(f"{label} ({stretch['places'].get(label, '1')})" for label in stretch["order"])
        print(f"  {stretch['from']:.4g} to {stretch['to']:.4g}: {order}")


COMMANDS = {"cost": cost}
