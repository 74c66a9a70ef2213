"""``planeforge quantize``: one tensor or a whole model through a method."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from planeforge.output import progress, show, table


@dataclass(frozen=True, kw_only=True)
class _Options:
    """What the command line gave, but for source and output."""

    method: str | None
    plan: Path | None
    format_name: str | None
    given: dict[str, str]
    rotate: int | None
    calib: Path | None
    holdout: Path | None
    sequences: int | None
    length: int | None
    seed: int | None
    device: str | None
    restart: bool


def quantize(
    source: str = typer.Argument(..., help=".npy, .safetensors[::tensor] or a Hugging Face directory."),
    method: str | None = typer.Option(None, help="Quantization method (planeforge methods)."),
    plan: Path | None = typer.Option(None, help="For a model: a method for each layer, JSON, instead."),
    format_name: str | None = typer.Option(None, "--format", help="Number format (planeforge formats)."),
    calib: Path | None = typer.Option(None, help="Activations .npy [tokens, columns]; for a model: a text."),
    holdout: Path | None = typer.Option(None, help="Held-out activations .npy, for the error on them."),
    settings: list[str] = typer.Option([], "--set", help="A setting of the method, key=value."),
    rotate: int | None = typer.Option(
        None, help="Rotate blocks of so many columns first, and activations likewise (Hadamard)."
    ),
    sequences: int | None = typer.Option(
        None, help="For a model: so many windows at random places; default: all of the text, in order."
    ),
    length: int | None = typer.Option(None, help="For a model: tokens of a window; default: its context."),
    seed: int | None = typer.Option(None, help="For a model: of the random places; default: 0."),
    device: str | None = typer.Option(None, help="For a model: cpu (default), cuda or auto."),
    restart: bool = typer.Option(False, "--restart", help="For a model: discard what a killed run left."),
    output: Path = typer.Option(..., "-o", "--output", help="Packed file; for a model: a folder."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Quantize into packed bitplanes and count every bit that is stored.

    A model is read block by block; a killed command, given again, goes on from the last whole block.

    Example: planeforge quantize w.npy --method billm --calib x.npy -o w.packed
    """
    from planeforge.settings import pairs

    options = _Options(
        method=method,
        plan=plan,
        format_name=format_name,
        given=pairs(settings),
        rotate=rotate,
        calib=calib,
        holdout=holdout,
        sequences=sequences,
        length=length,
        seed=seed,
        device=device,
        restart=restart,
    )
    figures = (
        _model(Path(source), options, output) if Path(source).is_dir() else _tensor(source, options, output)
    )
    show(figures, as_json, lambda: _print(figures))


def _tensor(source: str, options: _Options, output: Path) -> dict[str, Any]:
    from algo.bitplane import store
    from algo.checkpoint import read_activations, read_tensor
    from planeforge import quantizing
    from planeforge.settings import configure
    from planeforge.settings import method as find

    for name in ("plan", "sequences", "length", "seed", "device"):
        value = getattr(options, name)
        if value is not None:
            raise ValueError(f"{name} must be left out for a single tensor, not {str(value)!r}")
    if options.restart:
        raise ValueError("restart must be left out for a single tensor: it is quantized in one go")
    if options.method is None:
        raise ValueError("method must be given (planeforge methods lists them)")
    configure(find(options.method), options.format_name, options.given)
    weight = read_tensor(source)
    columns = weight.shape[1]
    x = None if options.calib is None else read_activations(options.calib, columns, "calib")
    held = None if options.holdout is None else read_activations(options.holdout, columns, "holdout")
    made = quantizing.quantize(
        weight,
        options.method,
        options.format_name,
        calibration=x,
        holdout=held,
        rotate=options.rotate,
        **options.given,
    )
    store.save(output, made.matrices, made.provenance)
    return {**made.figures, "output": str(output)}


def _model(source: Path, options: _Options, output: Path) -> dict[str, Any]:
    from planeforge import model_quantizing

    if options.holdout is not None:
        raise ValueError("holdout must be left out for a model (planeforge eval scores it on held-out text)")
    request = model_quantizing.Request(
        quantizer=_quantizer(options),
        calib=options.calib,
        sequences=options.sequences,
        length=options.length,
        seed=options.seed or 0,
        device=options.device or "cpu",
    )
    with progress(f"quantize {options.method or options.plan}") as moved:
        return model_quantizing.quantize(source, request, output, restart=options.restart, progress=moved)


def _quantizer(options: _Options) -> Any:
    """The one choice for all layers, or the plan."""
    from algo import plan
    from planeforge.settings import configure
    from planeforge.settings import method as find

    if (options.method is None) == (options.plan is None):
        given = "neither" if options.method is None else "both"
        raise ValueError(f"method or plan must be given for a model, one of them, not {given}")
    if options.plan is None:
        method = str(options.method)
        config = configure(find(method), options.format_name, options.given)
        return plan.Choice(method=method, config=config, rotate=options.rotate)
    if options.format_name is not None or options.given or options.rotate is not None:
        raise ValueError(
            "format, rotate and settings must be left out with a plan, which holds them for each layer"
        )
    return plan.read(options.plan)


def _print(figures: dict[str, Any]) -> None:
    rows = [
        {"figure": key, "value": value}
        for key, value in figures.items()
        if value is not None and not isinstance(value, dict | list)
    ]
    rows += [{"figure": f"bits: {role}", "value": bits} for role, bits in figures["breakdown"].items()]
    if figures.get("salient_columns"):
        rows.append({"figure": "salient columns per block", "value": figures["salient_columns"]})
    table(rows)


COMMANDS = {"quantize": quantize}
