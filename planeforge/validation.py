"""``docs/validation.md``: published figures that the models are held against, with ratios and reasons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from cost_models import bitmod as costs
from cost_models import validate
from cost_models.calibration import overview
from cost_models.sparsity import price
from cost_models.validate import Row
from planeforge.builtin import bitmod
from sim.peers.bismo import Dpa

COMMAND = "planeforge validate -o docs/validation.md"
#: technology that the sentences on sparsity are said for
TECH = "generic_ge"


def rows() -> tuple[Row, ...]:
    """Every target with what the models and the simulator compute for it."""
    return validate.rows({**validate.models(), **_bitmod(), **_bismo()})


def _bitmod() -> Mapping[str, Callable[[], float]]:
    speed, less = bitmod.speedup, bitmod.saving

    def mean(name: str, over: str, what: Callable[[str, str, str], float]) -> float:
        return (what(name, over, "prefill") + what(name, over, "both")) / 2

    def energy(name: str, over: str, work: str) -> float:
        return less(name, over, work).value

    def area(name: str, pes: int) -> float:
        # The released area leaves out the factor for place and route that its energy has.
        return costs.array_area(name, pes).total / costs.constant("system", "placement").value / 1e6

    lossless, lossy = "bitmod-lossless", "bitmod-lossy"
    return {
        "bitmod_both_lossless_fp16": lambda: speed(lossless, "fp16", "both"),
        "bitmod_prefill_lossless_fp16": lambda: speed(lossless, "fp16", "prefill"),
        **{
            f"bitmod_{work}_lossy_{over}": partial(speed, lossy, over, work)
            for work in ("prefill", "both")
            for over in ("ant", "olive")
        },
        **{f"bitmod_mean_lossy_{o}": partial(mean, lossy, o, speed) for o in ("ant", "olive")},
        "bitmod_energy_lossless_fp16": lambda: mean(lossless, "fp16", energy),
        **{f"bitmod_energy_lossy_{o}": partial(mean, lossy, o, energy) for o in ("ant", "olive")},
        "bitmod_released_lossy_prefill": lambda: speed(lossy, "fp16", "prefill"),
        "bitmod_released_lossy_generation": lambda: speed(lossy, "fp16", "generation"),
        "bitmod_array_fp16": lambda: area("fp16", 768),
        "bitmod_array_bitmod": lambda: area("bitmod-lossy", 1024),
    }


def _bismo() -> Mapping[str, Callable[[], float]]:
    return {"bismo_peak": lambda: Dpa(rows=8, lanes=256, columns=8, clock_hz=200e6).peak_gops / 1e3}


def document() -> str:
    """The report as Markdown; the same text on every machine."""
    found = rows()
    computed = [row for row in found if row.ours is not None]
    compared = [row for row in computed if row.ratio is not None]
    far = [row for row in compared if row.far]
    near = len(compared) - len(far)
    lines = [
        "# Validation",
        "",
        f"Made by `{COMMAND}`; do not edit.",
        "Published figures beside what the models say of the same thing.",
        f"Of {len(found)} rows {len(computed)} are computed.",
        f"Of {len(compared)} with a published figure {near} lie within {validate.CLOSE:.0%} of it.",
        "The reason of every other stands below its table, and so does that of every row not computed.",
        "A ratio near 1 says that two figures agree under conditions that differ, not that either is right.",
    ]
    for section in dict.fromkeys(row.section for row in found):
        lines += ["", f"## {section}", "", *validate.table(r for r in found if r.section == section)]
        if section == "Sparsity":
            lines += ["", *_sparsity()]
    lines += ["", "## Calibration", "", *overview.lines()]
    return "\n".join(lines) + "\n"


def _sparsity() -> list[str]:
    """What the synthesized datapaths say of N:M patterns, as sentences."""
    head = [
        "What patterns of zeros cost, all parts together: gates, selects, registers and stored bits.",
        "Synthesized on this project's own library; in brackets the range over flip-flops of 4 to 10 gates",
        "(the smallest and largest of five open libraries) and the tool's noise.",
        "",
    ]
    return head + [f"* {sentence}" for sentence in price.sentences(TECH)]
