"""``planeforge cost``: area of a PE and its array; energy and power of a packed layer on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from planeforge.hardware import DEFAULT_ARRAY, DEFAULT_PE
from planeforge.output import show, table


def cost(
    out: Path | None = typer.Argument(None, help="Packed file or folder, for energy; without: area only."),
    pe: str = typer.Option(DEFAULT_PE, help="PE, as NAME or NAME:key=value,..."),
    array: str = typer.Option(DEFAULT_ARRAY, help="PE array, ROWSxCOLUMNS."),
    tech: str = typer.Option("asap7", help="Technology (planeforge techs)."),
    dram: str = typer.Option("lpddr5", help="External memory."),
    layer: str = typer.Option("", help="Which matrix, where the file holds several."),
    activations: Path | None = typer.Option(None, help="Float activations, .npy; default: random normal."),
    tokens: int = typer.Option(16, min=1, help="Tokens in a batch."),
    act_bits: int = typer.Option(8, help="Bits of an activation integer; 1: -1/+1."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Estimate area, energy and power, each with its parts, its error band and its sources.

    Example: planeforge cost w.packed --pe bitserial:lanes=64 --tech asap7
    """
    from cost_models.area import array_area, pe_area
    from cost_models.energy import energy
    from planeforge import hardware
    from sim.activity import check_countable

    spec = hardware.array(array, pe)
    costs: dict[str, Any] = {
        "area of one PE": pe_area(spec.pe.resources(), tech),
        f"area of the {array} array": array_area(spec, tech),
    }
    figures: dict[str, Any] = {"pe": pe, "array": array, "tech": tech}
    if out is not None:
        check_countable(spec)
        run = _run(out, layer, activations, tokens, act_bits, spec)
        costs["energy"] = energy(run.activity, spec, tech, dram=dram)
        seconds = run.cycles / spec.clock_hz
        figures |= {
            "tokens": len(run.outputs),
            "cycles": run.cycles,
            "utilisation": run.utilisation,
            "clock_hz": spec.clock_hz,
            "energy_per_token_pj": costs["energy"].total / len(run.outputs),
            "power_w": costs["energy"].total * 1e-12 / seconds,
        }
    figures["costs"] = {name: _described(made) for name, made in costs.items()}
    show(figures, as_json, lambda: _print(figures))


def _run(out: Path, layer: str, activations: Path | None, tokens: int, act_bits: int, spec: Any) -> Any:
    import numpy as np

    from algo.checkpoint import read_activations
    from planeforge import simulating
    from planeforge.packed import chosen, read

    matrix = next(iter(chosen(read(out)[0], layer).values()))
    x: Any = np.random.default_rng(0).normal(size=(tokens, matrix.columns))
    if activations is not None:
        x = read_activations(activations, matrix.columns, "activations")[:tokens]
    return simulating.simulate(matrix, x, act_bits=act_bits, array=spec)


def _described(made: Any) -> dict[str, Any]:
    return {
        "total": made.total,
        "low": made.low,
        "high": made.high,
        "unit": made.unit,
        "breakdown": made.breakdown,
        "sources": made.sources,
    }


def _print(figures: dict[str, Any]) -> None:
    plain = [{"figure": k, "value": v} for k, v in figures.items() if k != "costs"]
    table(plain)
    rows = []
    for name, made in figures["costs"].items():
        total = {"what": name, "value": made["total"], "unit": made["unit"]}
        rows.append(total | {"low": made["low"], "high": made["high"]})
        for part, value in made["breakdown"].items():
            rows.append(
                {"what": f"  {part}", "value": value, "unit": made["unit"], "low": None, "high": None}
            )
    table(rows, "costs (estimates; low and high from the ranges of their constants)")
    sources = dict.fromkeys(line for made in figures["costs"].values() for line in made["sources"])
    print("sources:\n" + "\n".join(f"  {line}" for line in sources))


COMMANDS = {"cost": cost}
