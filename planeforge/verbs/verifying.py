"""``planeforge verify``: every engine against the judge, and faults that must be caught."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from planeforge.hardware import DEFAULT_PE
from planeforge.output import Failure, progress, show, table

if TYPE_CHECKING:
    from planeforge.faults import Planted
    from planeforge.verifying import Case, Outcome

DEFAULT_ENGINES = "torch,numba,integer,amaranth,cxxrtl,icarus,verilator"


def verify(
    out: Path = typer.Argument(..., help="Packed file, or the folder `quantize` made of a model."),
    engines: str = typer.Option(
        "", help=f"Comma-separated; default: {DEFAULT_ENGINES}; also: netlist; or with --accelerator: model."
    ),
    layer: str = typer.Option("", help="Only this matrix."),
    activations: Path | None = typer.Option(None, help="Float activations, .npy; else the model's own."),
    text: Path | None = typer.Option(None, help="Text a packed model reads; default: the held-out text."),
    act_bits: int = typer.Option(8, help="Bits of an activation integer; 1: -1/+1."),
    act_format: str = typer.Option("", help="Activation format in its place: mxfp4, nvint4, int8-g128, ..."),
    tokens: int = typer.Option(16, help="Tokens compared, at most."),
    pe: str = typer.Option(DEFAULT_PE, help="PE, as NAME or NAME:key=value,..."),
    array: str = typer.Option("", help="A whole array of it, ROWSxCOLUMNS[:key=value,...]."),
    accelerator: str = typer.Option(
        "", help="An accelerator around such an array, ROWSxCOLUMNS[:key=value,...]."
    ),
    inject: int = typer.Option(0, help="Plant so many single-bit faults; each must be caught."),
    seed: int = typer.Option(0, help="Of tiles, faults and, without activations, random inputs."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Prove every engine equal to torch int64, to the last bit, cycles included.

    With --accelerator whole sessions of a driver run: packets, buffers, scale units and drain too.

    Example: planeforge verify packed-model --inject 20
    """
    if accelerator and array:
        raise ValueError(f"array must be empty beside --accelerator, not {array!r}")
    reads = act_format or (f"int{act_bits}" if act_bits != 1 else "sign")
    cases = _cases(out, layer, activations, text, reads, tokens, seed)
    with progress("verify") as moved:
        run = _on_accelerator if accelerator else _on_pe
        outcomes, planted = run(cases, engines, pe, accelerator or array, inject, seed, moved)
    _report(outcomes, planted, as_json)
    missed = sum(not (fault.caught and fault.explained) for fault in planted)
    if missed or not all(o.agrees for o in outcomes):
        bad = [o.engine for o in outcomes if not o.agrees]
        told = [f"engines that differ or failed: {', '.join(bad)}"] if bad else []
        told += [f"faults missed: {missed} of {len(planted)}"] if missed else []
        raise Failure("; ".join(told))


Moved = Callable[[float, str], None]


def _on_pe(
    cases: list[Case], engines: str, pe: str, array: str, inject: int, seed: int, moved: Moved
) -> tuple[list[Outcome], list[Planted]]:
    from planeforge import faults, hardware, verifying

    spec = hardware.block(pe, array)
    outcomes = verifying.verify(cases, _names(engines or DEFAULT_ENGINES), spec, seed=seed, progress=moved)
    if not inject:
        return outcomes, []
    return outcomes, faults.inject(cases, _able(outcomes), spec, inject, seed=seed, progress=moved)


def _on_accelerator(
    cases: list[Case], engines: str, pe: str, accelerator: str, inject: int, seed: int, moved: Moved
) -> tuple[list[Outcome], list[Planted]]:
    from planeforge import accelerator_faults, accelerator_verifying, hardware

    spec = hardware.accelerator(accelerator, pe)
    names = _names(engines) or list(accelerator_verifying.DEFAULT_ENGINES)
    outcomes = accelerator_verifying.verify(cases, names, spec, seed=seed, progress=moved)
    if not inject:
        return outcomes, []
    return outcomes, accelerator_faults.inject(
        cases, _able(outcomes), spec, inject, seed=seed, progress=moved
    )


def _names(engines: str) -> list[str]:
    return [name for name in engines.split(",") if name]


def _able(outcomes: list[Outcome]) -> list[str]:
    """Engines that ran: one that could not has been reported, and catches nothing."""
    return [outcome.engine for outcome in outcomes if not outcome.failure]


def _report(outcomes: list[Outcome], planted: list[Planted], as_json: bool) -> None:
    from planeforge.verifying import summary

    result: dict[str, Any] = {"engines": summary(outcomes), "faults": [asdict(fault) for fault in planted]}

    def human() -> None:
        table(result["engines"], "engines against the judge")
        if planted:
            table(_by_kind(planted), f"{len(planted)} single-bit faults planted")

    show(result, as_json, human)


def _by_kind(planted: list[Planted]) -> list[dict[str, Any]]:
    pairs = Counter((fault.engine, fault.kind) for fault in planted)
    caught = Counter((fault.engine, fault.kind) for fault in planted if fault.caught and fault.explained)
    silent = Counter[tuple[str, str]]()
    for fault in planted:
        silent[fault.engine, fault.kind] += fault.silent_draws
    return [
        {
            "engine": engine,
            "fault in": kind,
            "planted": count,
            "caught": caught[engine, kind],
            "drawn again (silent to the judge too)": silent[engine, kind],
        }
        for (engine, kind), count in sorted(pairs.items())
    ]


def _cases(
    out: Path, layer: str, activations: Path | None, text: Path | None, reads: str, tokens: int, seed: int
) -> list[Case]:
    """The matrices on activations of the format ``reads``."""
    import numpy as np

    from algo.bitplane import activation_formats
    from algo.checkpoint import read_activations
    from planeforge.packed import chosen, read
    from planeforge.verifying import Case

    if tokens < 1:
        raise ValueError(f"tokens must be at least 1, not {tokens!r}")
    matrices = read(out)[0]
    matrices = chosen(matrices, layer) if layer or activations else matrices
    recorded: dict[str, Any] = {}
    if activations is not None:
        name, matrix = next(iter(matrices.items()))
        recorded[name] = read_activations(activations, matrix.columns, "activations")[:tokens]
    elif out.is_dir():
        from planeforge.packed_model import record

        recorded = record(out, tuple(matrices), text, tokens)
    else:
        rng = np.random.default_rng(seed)
        recorded = {name: rng.normal(size=(tokens, m.columns)) for name, m in matrices.items()}
    act = activation_formats.get(reads)
    regrouped = {name: act.regrouped(m) for name, m in matrices.items()}
    return [
        Case(name=name, matrix=m, activations=act.streams(m, recorded[name])) for name, m in regrouped.items()
    ]


COMMANDS = {"verify": verify}
