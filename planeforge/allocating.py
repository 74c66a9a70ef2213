"""Mixed precision: which option of a menu each layer of a model gets, under a budget, as a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planeforge import settings, texts, windows
from planeforge.hardware import DEFAULT_ARRAY, DEFAULT_PE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from algo.plan import Choice
    from algo.sensitivity import LayerSensitivity

Moved = Callable[[float, str], None]
Layers = Mapping[str, "LayerSensitivity"]

RANKED = ("lim", "zd", "luq")  #: rules that rank the layers and share out two options
RULES = ("ip", "baq", *RANKED)
LOSSES = ("kl", "output")  #: divergence with one layer switched, or squared output error of the layer
WINDOWS = 16  #: of calibration text that the divergence is measured on


def allocate(
    model: Path,
    by: str,
    budget: float,
    menu: Sequence[str],
    output: Path,
    *,
    calib: Path | None = None,
    loss: str = "kl",
    max_cycles: int | None = None,
    pe: str = DEFAULT_PE,
    array: str = DEFAULT_ARRAY,
    act_bits: int = 8,
    clusters: int | None = None,
    seed: int = 0,
    progress: Moved = lambda share, doing: None,
) -> dict[str, Any]:
    """Choose an option for each layer of a Hugging Face directory and write the plan.

    Parameters: by, one of `RULES`; budget, stored bits per weight over all quantized layers; menu, options
    as `choice` reads them; loss, one of `LOSSES` (the divergence holds the whole model); max_cycles, of one
    token through all layers on the array, rule ip only; clusters, K of rule luq, None for the paper's; seed,
    of its k-means.
    Returns the figures `planeforge allocate --json` prints.
    Raises ValueError for an unknown rule or option, settings that do not go together, or a budget that
    cannot be met.
    """
    from algo import checkpoint as door
    from algo import plan, sensitivity
    from algo.allocation.importance import CLUSTERS
    from algo.block_source import ShardedBlocks

    _check(by, budget, menu, max_cycles, clusters)
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, not {loss!r}")
    if not output.parent.is_dir():  # before the long work
        raise ValueError(f"output folder must exist, not {str(output.parent)!r}")
    choices = [choice(text) for text in menu]
    count = _counter(pe, array, act_bits)
    checkpoint = door.outline(model)
    measured = sensitivity.measure(
        ShardedBlocks(checkpoint),
        choices,
        windows.cut(checkpoint, calib).ids,
        cycles=count,
        loss=_switch(model, calib) if loss == "kl" and by not in RANKED else None,
        clusters=(clusters or CLUSTERS) if by == "luq" else None,
        seed=seed,
        progress=lambda done, total, layer: progress(done / total, layer),
    )
    chosen, score = _chosen(measured, by, budget, max_cycles)
    layers = {name: choices[at] for name, at in zip(measured, chosen, strict=True)}
    plan.write(output, plan.Plan(layers=layers, by=by, budget=budget))
    return {
        "model": str(model),
        "by": by,
        "budget": budget,
        "max_cycles": max_cycles,
        **_sums(measured, chosen),
        "layers": _rows(measured, menu, chosen, score),
        "uniform": [
            {"option": text, **_sums(measured, [at] * len(measured))} for at, text in enumerate(menu)
        ],
        "output": str(output),
    }


def _switch(model: Path, calib: Path | None) -> Callable[[str, NDArray[Any]], float]:
    from algo import checkpoint as door
    from algo import evaluation
    from algo.switching import Switch

    whole = door.load(model)
    return Switch(whole, evaluation.tokens(whole, texts.calibration(calib)), WINDOWS)


def choice(text: str) -> Choice:
    """An option of a menu: ``METHOD`` or ``METHOD:key=value,key=value``, ``format`` among the keys.

    Raises ValueError for an unknown method, format or setting.
    """
    from algo.plan import Choice

    method, _, given = text.partition(":")
    module = settings.method(method)
    pairs = settings.pairs(given.split(",") if given else [])
    format_name = pairs.pop("format", None)
    return Choice(method=method, config=settings.configure(module, format_name, pairs))


def _check(by: str, budget: float, menu: Sequence[str], max_cycles: int | None, clusters: int | None) -> None:
    if by not in RULES:
        raise ValueError(f"by must be one of {', '.join(RULES)}, not {by!r}")
    if not 0 < budget < float("inf"):
        raise ValueError(f"budget must be a finite number above 0 [bits per weight], not {budget!r}")
    if by in RANKED and len(menu) != 2:
        raise ValueError(f"menu must hold two options for {by}, which ranks the layers, not {len(menu)}")
    if len(menu) < 2 or len(set(menu)) < len(menu):
        raise ValueError(f"menu must hold two options or more, each once, not {', '.join(menu) or 'none'}")
    if max_cycles is not None and by != "ip":
        raise ValueError(f"max-cycles must be left out for {by} (rule ip takes it), not {max_cycles!r}")
    if clusters is not None and by != "luq":
        raise ValueError(f"clusters must be left out for {by} (rule luq takes it), not {clusters!r}")


def _counter(pe: str, array: str, act_bits: int) -> Callable[[Any], int]:
    """Clocks of one token through a quantized layer, stage after stage."""
    from planeforge import hardware
    from sim.schedule import shape

    spec = hardware.array(array, pe)
    return lambda quantized: sum(spec.cycles(shape(stage, act_bits, 1)) for stage in quantized.stages)


def _chosen(
    measured: Layers, by: str, budget: float, max_cycles: int | None
) -> tuple[list[int], dict[str, list[float]]]:
    """Index of each layer's option, and by which figures."""
    if by == "ip":
        return _by_integer_program(measured, budget, max_cycles), {}
    return _by_curvature(measured, budget) if by == "baq" else _by_rank(measured, by, budget)


def _by_integer_program(measured: Layers, budget: float, max_cycles: int | None) -> list[int]:
    from algo.allocation import integer_program

    weights = sum(layer.weights for layer in measured.values())
    losses = [[o.loss for o in layer.options] for layer in measured.values()]
    bits = [[o.bits for o in layer.options] for layer in measured.values()]
    cycles = [[o.cycles or 0 for o in layer.options] for layer in measured.values()]
    _affordable(bits, weights, budget)
    budgets: dict[str, float] = {"bits": int(budget * weights)}
    if max_cycles is not None:
        budgets["cycles"] = max_cycles
    return list(integer_program.allocate(losses, {"bits": bits, "cycles": cycles}, budgets).choices)


def _by_curvature(measured: Layers, budget: float) -> tuple[list[int], dict[str, list[float]]]:
    """BAQ across layers: each one's curvature from its loss at the dearest option, then greedy steps.

    The model ``c * 4**-bits`` replaces the losses measured at the other options.
    """
    from algo.allocation import baq

    layers = list(measured.values())
    weights = [layer.weights for layer in layers]
    bits = [[o.bits for o in layer.options] for layer in layers]
    _affordable(bits, sum(weights), budget)
    dearest = max(range(len(bits[0])), key=lambda at: sum(row[at] for row in bits))
    curvature = [
        layer.options[dearest].loss * 4.0 ** (layer.options[dearest].bits / layer.weights) for layer in layers
    ]
    modelled = [
        [c * 4.0 ** -(size / n) for size in row] for c, row, n in zip(curvature, bits, weights, strict=True)
    ]
    chosen = baq.greedy_options(modelled, bits, int(budget * sum(weights)))
    ideal = baq.closed_form(curvature, budget, weights)
    return chosen, {"closed_form_bits": ideal.tolist()}


def _by_rank(measured: Layers, by: str, budget: float) -> tuple[list[int], dict[str, list[float]]]:
    from algo.allocation import importance

    layers = list(measured.values())
    weights = [layer.weights for layer in layers]
    bits = [[o.bits for o in layer.options] for layer in layers]
    _affordable(bits, sum(weights), budget)
    low = min((0, 1), key=lambda at: sum(row[at] for row in bits))
    scores = [float(getattr(layer, by)) for layer in layers]
    high = importance.by_rank(
        # A larger ZD means a layer that matters less.
        [-score for score in scores] if by == "zd" else scores,
        weights,
        [row[low] / n for row, n in zip(bits, weights, strict=True)],
        [row[1 - low] / n for row, n in zip(bits, weights, strict=True)],
        average_bits=budget,
    )
    return [1 - low if kept else low for kept in high], {by: scores}


def _affordable(bits: Sequence[Sequence[int]], weights: int, budget: float) -> None:
    least = sum(min(row) for row in bits)
    if least > budget * weights:
        raise ValueError(
            f"budget must be at least {least / weights:.6g} bits per weight, what the smallest options "
            f"store, not {budget!r}"
        )


def _sums(measured: Layers, chosen: Sequence[int]) -> dict[str, Any]:
    picked = [layer.options[at] for layer, at in zip(measured.values(), chosen, strict=True)]
    weights = sum(layer.weights for layer in measured.values())
    return {
        "bits_per_weight": sum(option.bits for option in picked) / weights,
        "loss": sum(option.loss for option in picked),
        "cycles_per_token": sum(option.cycles or 0 for option in picked),
    }


def _rows(
    measured: Layers, menu: Sequence[str], chosen: Sequence[int], score: Mapping[str, Sequence[float]]
) -> list[dict[str, Any]]:
    rows = []
    for index, (name, layer) in enumerate(measured.items()):
        option = layer.options[chosen[index]]
        rows.append(
            {
                "layer": name,
                "option": menu[chosen[index]],
                "bits_per_weight": option.bits / layer.weights,
                "loss": option.loss,
                "cycles_per_token": option.cycles,
                **{key: values[index] for key, values in score.items()},
            }
        )
    return rows
