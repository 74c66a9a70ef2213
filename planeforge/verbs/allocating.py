"""``planeforge allocate``: mixed precision across a model's layers, as a plan for ``quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from planeforge.hardware import DEFAULT_ARRAY, DEFAULT_PE
from planeforge.output import progress, show, table


def allocate(
    model: Path = typer.Argument(..., help="Hugging Face directory."),
    by: str = typer.Option("ip", help="Rule: ip (exact), baq, lim, zd or luq."),
    budget: float = typer.Option(..., help="Stored bits per weight over all quantized layers, at most."),
    menu: list[str] = typer.Option(..., help="An option, METHOD:key=value,...; repeat for each."),
    calib: Path | None = typer.Option(None, help="Calibration text; default: the demo's."),
    loss: str = typer.Option("kl", help="What is added up: kl, divergence with one layer switched; output."),
    max_cycles: int | None = typer.Option(None, help="Clocks of one token through all layers (rule ip)."),
    pe: str = typer.Option(DEFAULT_PE, help="PE whose clocks are counted, NAME or NAME:key=value,..."),
    array: str = typer.Option(DEFAULT_ARRAY, help="Array of it, ROWSxCOLUMNS."),
    act_bits: int = typer.Option(8, help="Bits of an activation integer, for the clocks; 1: -1/+1."),
    clusters: int | None = typer.Option(None, min=1, help="Clusters of rule luq; default: 100."),
    seed: int = typer.Option(0, min=0, help="Of rule luq's clusters."),
    output: Path = typer.Option(..., "-o", "--output", help="Plan to write, JSON."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Give each layer one option of a menu: least summed loss within a budget of stored bits.

    Example: planeforge allocate path/to/model --budget 3.5 --menu rtn:format=int2-g128
    --menu rtn:format=int4-g128 -o plan.json
    """
    from planeforge import allocating

    with progress(f"allocate {by}") as moved:
        figures = allocating.allocate(
            model,
            by,
            budget,
            menu,
            output,
            calib=calib,
            loss=loss,
            max_cycles=max_cycles,
            pe=pe,
            array=array,
            act_bits=act_bits,
            clusters=clusters,
            seed=seed,
            progress=moved,
        )
    show(figures, as_json, lambda: _print(figures))


def _print(figures: dict[str, Any]) -> None:
    table(figures["layers"])
    planned = {"option": f"this plan, by {figures['by']}"}
    planned |= {key: figures[key] for key in ("bits_per_weight", "loss", "cycles_per_token")}
    table([planned, *figures["uniform"]], f"totals, budget {figures['budget']:g} bits per weight")
    print(figures["output"])


COMMANDS = {"allocate": allocate}
