"""The BitMoD evaluation: five accelerators, six models, a prompt of 256 tokens and one generated token.

Cycles are those of the released closed form, exactly; energies are of its model on its constants, with the
ranges of these. Means are over the models.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from cost_models import bitmod as costs
from cost_models.uncertain import Cost, Interval, ratio
from sim import decoders
from sim.peers import bitmod

MODELS = ("opt-1.3b", "phi-2", "yi-6b", "llama-2-7b", "llama-2-13b", "llama-3-8b")
CONTEXT = 256  #: tokens of the prompt, and positions the generated token attends to
GENERATED = 20  #: tokens behind the prompt in the third comparison
CLOCK_HZ = 1e9  #: of every array of the evaluation
REFERENCE = "fp16"
SOURCE = "Chen et al., BitMoD, HPCA 2025, arXiv:2411.11745; closed form and arrays of commit e445a5f"
#: tokens of a phase's unit of work
TOKENS = {"prefill": CONTEXT, "generation": 1}


def study() -> dict[str, Any]:
    """Rows of every model, accelerator and phase, and means of the accelerators over the models."""
    rows = [
        row(model, name, phase) for model in MODELS for name in bitmod.ACCELERATORS for phase in bitmod.PHASES
    ]
    return {
        "study": "bitmod",
        "source": SOURCE,
        "context": CONTEXT,
        "clock_hz": CLOCK_HZ,
        "rows": rows,
        "accelerators": [accelerator(name) for name in bitmod.ACCELERATORS],
        "means": means(),
        "constants": sources(),
    }


@cache
def energy(model: str, name: str, phase: str) -> Cost:
    """Energy of a phase [pJ]."""
    decoder = decoders.get(model)
    machine = bitmod.ACCELERATORS[name]
    moved = bitmod.traffic(decoder, name, phase, CONTEXT)
    return costs.energy(
        name,
        pes=machine.rows[phase] * machine.columns[phase],
        compute_clocks=cycles(model, name, phase).compute,
        steps=moved.steps,
        words=(moved.weight_word, moved.input_word),
        weights=moved.weights,
        inputs=moved.inputs,
        outputs=moved.outputs,
    )


def row(model: str, name: str, phase: str) -> dict[str, Any]:
    """One line of the study."""
    clocks = cycles(model, name, phase)
    cost, reference = energy(model, name, phase), energy(model, REFERENCE, phase)
    relative = ratio(cost, reference)
    return {
        "model": model,
        "accelerator": name,
        "phase": phase,
        "cycles": clocks.total,
        "compute_cycles": clocks.compute,
        "dram_cycles": clocks.dram,
        "energy_pj": cost.total,
        "energy_low_pj": cost.low,
        "energy_high_pj": cost.high,
        **{f"energy_{part}_pj": pj for part, pj in cost.breakdown.items()},
        "energy_over_fp16": relative.value,
        "energy_over_fp16_low": relative.low,
        "energy_over_fp16_high": relative.high,
        "energy_per_token_pj": cost.total / TOKENS[phase],
        "power_w": cost.total * 1e-12 / (clocks.total / CLOCK_HZ),
    }


def accelerator(name: str) -> dict[str, Any]:
    """Arrays and areas of an accelerator."""
    machine = bitmod.ACCELERATORS[name]
    pes = {phase: machine.rows[phase] * machine.columns[phase] for phase in bitmod.PHASES}
    area = costs.array_area(name, pes["prefill"])
    return {
        "accelerator": name,
        "array_prefill": f"{machine.rows['prefill']}x{machine.columns['prefill']}",
        "array_generation": f"{machine.rows['generation']}x{machine.columns['generation']}",
        "pes": pes["prefill"],
        "area_mm2": area.total / 1e6,
        "area_low_mm2": area.low / 1e6,
        "area_high_mm2": area.high / 1e6,
    }


@cache
def cycles(model: str, name: str, phase: str) -> bitmod.Cycles:
    """Cycles of a phase."""
    return bitmod.cycles(decoders.get(model), name, phase, CONTEXT)


def taken(model: str, name: str, work: str) -> int:
    """Cycles of a phase, or of ``both``: the prompt and `GENERATED` tokens."""
    return sum(times * cycles(model, name, phase).total for phase, times in _work(work).items())


@cache
def spent(model: str, name: str, work: str) -> Cost:
    """Energy of a phase, or of ``both`` [pJ]."""
    terms = [
        term.times(float(times))
        for phase, times in _work(work).items()
        for term in energy(model, name, phase).terms
    ]
    return Cost(unit="pJ", terms=tuple(terms))


def _work(work: str) -> dict[str, int]:
    return {"prefill": 1, "generation": GENERATED} if work == "both" else {work: 1}


def speedup(name: str, over: str, work: str) -> float:
    """Mean over the models of the cycles of ``over`` by those of ``name``."""
    return _mean(taken(model, over, work) / taken(model, name, work) for model in MODELS)


def saving(name: str, over: str, work: str) -> Interval:
    """Mean over the models of the energy of ``over`` by that of ``name``; what both share cancels."""
    found = [ratio(spent(model, over, work), spent(model, name, work)) for model in MODELS]
    return Interval(
        value=_mean(one.value for one in found),
        low=_mean(one.low for one in found),
        high=_mean(one.high for one in found),
    )


def means() -> list[dict[str, Any]]:
    """Speed and energy against FP16, ANT and OliVe."""
    found = []
    for work in (*bitmod.PHASES, "both"):
        for name in bitmod.ACCELERATORS:
            for over in ("fp16", "ant", "olive"):
                if name in ("fp16", over):
                    continue
                less = saving(name, over, work)
                found.append(
                    {
                        "work": work,
                        "accelerator": name,
                        "over": over,
                        "speedup": speedup(name, over, work),
                        "energy_ratio": less.value,
                        "energy_ratio_low": less.low,
                        "energy_ratio_high": less.high,
                    }
                )
    return found


def sources() -> list[str]:
    """A line of provenance for every constant; the buffers' widths stand for one line."""
    used = [
        constant
        for name in bitmod.ACCELERATORS
        for phase in bitmod.PHASES
        for model in MODELS
        for constant in energy(model, name, phase).constants
    ]
    lines = dict.fromkeys(one.line() for one in used if one.kind != "derived")
    buffers = {one.source: None for one in used if one.kind == "derived"}
    return [*lines, *(f"bitmod.buffer, by width, log-log between: {source}" for source in buffers)]


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
