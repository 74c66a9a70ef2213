"""What stands in the report's tables, as text: columns with units and meaning, and what to read first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import floor, hypot, log10
from typing import TYPE_CHECKING

from planeforge.study_config import REFERENCE, Study
from planeforge.study_rows import Accuracy
from planeforge.study_table import Result, energy_against

if TYPE_CHECKING:
    from cost_models.uncertain import Constant, Interval

MM2 = 1e6  #: [um2]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the main table: heading, unit, meaning, and its cells."""

    heading: str
    meaning: str
    cell: Callable[[Result], str]
    unit: str = ""
    group: str = ""  #: heading over several columns
    small: Callable[[Result], str] = lambda _: ""  #: small print under the figure


def figure(value: float | None, digits: int = 3) -> str:
    """A number to so many significant digits, without exponents where they can be avoided.

    >>> figure(0.012345), figure(12345.6), figure(0.0), figure(1.5e-6), figure(None)
    ('0.0123', '12,346', '0', '1.50e-06', '–')
    """
    if value is None:
        return "–"
    if value == 0:
        return "0"
    places = digits - 1 - floor(log10(abs(value)))
    if places > digits + 3:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, places)}f}"


def percent(share: float | None) -> str:
    """A share as a percentage, unit not included."""
    return figure(None if share is None else 100 * share)


def plus_minus(error: float | None) -> str:
    """A standard error as small print."""
    return "" if error is None else f"±{figure(error, 2)}"


def between(low: float, high: float) -> str:
    """A range as small print."""
    return f"{figure(low, 2)} – {figure(high, 2)}"


def main_columns(study: Study, results: Sequence[Result]) -> list[Column]:
    """Columns of the main table after the format's name, in order."""
    table = study.table
    exact = f"Exact integers, {table.act_bits}-bit activations"
    return [
        # Perplexity and bits of the weights alone are in the CSV: no room here for what says the same.
        *_accuracy(
            "Weights alone",
            lambda r: r.row.weights_only,
            "with the weights as stored and float32 activations. The table is sorted by it",
        )[:1],
        *_accuracy(
            exact,
            lambda r: r.row.hardware,
            f"with activations rounded to {table.act_bits} bits per token and all sums in exact integers: "
            "what the hardware computes, to the last bit",
        ),
        *_storage(),
        *_hardware(study, results),
    ]


def _accuracy(group: str, score: Callable[[Result], Accuracy | None], how: str) -> list[Column]:
    def take(name: str) -> Callable[[Result], float | None]:
        return lambda r: getattr(score(r), name, None)

    return [
        Column(
            group=group,
            heading="KL",
            unit="nats/token",
            meaning=f"Mean Kullback-Leibler divergence from the fp16 model's next-token distribution, {how}. "
            "± is one standard error over windows; both models see the same windows: a paired error.",
            cell=lambda r: figure(take("kl")(r)),
            small=lambda r: plus_minus(take("kl_se")(r)),
        ),
        Column(
            group=group,
            heading="Perplexity",
            unit="per token",
            meaning="Of the held-out text. Comparable only between models of one tokenizer.",
            cell=lambda r: figure(take("perplexity")(r), 4),
        ),
        Column(
            group=group,
            heading="Bits",
            unit="per character",
            meaning="Of the held-out text: comparable between tokenizers. ± is one standard error, mostly of "
            "the text and shared by all rows; differences between rows are far more certain (see KL).",
            cell=lambda r: figure(take("bits_per_character")(r), 4),
            small=lambda r: plus_minus(take("bits_per_character_se")(r)),
        ),
    ]


def _storage() -> list[Column]:
    return [
        Column(
            group="Bits per weight",
            heading="Stored",
            unit="bits",
            meaning="Everything the decoder needs, counted from the bytes of the arrays as written to disk: "
            "planes, masks, scales, offsets, zero points, exponents.",
            cell=lambda r: f"{r.row.stored_bits:.3f}",
        ),
        Column(
            group="Bits per weight",
            heading="Published",
            unit="bits",
            meaning="By the formula the method's or format's authors print.",
            cell=lambda r: f"{r.row.published_bits:.3f}",
        ),
        Column(
            group="Relative squared error",
            heading="Weights",
            unit="%",
            meaning="||W − Q||² / ||W||², mean over weights of all layers; Q is what is stored, all rounding "
            "included.",
            cell=lambda r: percent(r.row.weight_error),
        ),
        Column(
            group="Relative squared error",
            heading="Outputs",
            unit="%",
            meaning="||X(W − Q)ᵀ||² / ||XWᵀ||² on the calibration tokens, mean over weights of all layers; X "
            "is what reaches the layer behind layers already quantized.",
            cell=lambda r: percent(r.row.output_error),
        ),
    ]


def _hardware(study: Study, results: Sequence[Result]) -> list[Column]:
    reference = next((r for r in results if r.label == REFERENCE), None)
    by_label = {r.label: r for r in results}
    array = study.array
    group = f"On the {array.rows} × {array.columns} array of {study.table.pe.name} PEs"
    batch = f"a batch of {study.table.tokens} tokens of the held-out text"

    @cache
    def ratio(label: str) -> Interval | None:
        # By label: every cell asks, and a ratio's range is thousands of corners.
        return None if reference is None else energy_against(by_label[label], reference)

    def relative(r: Result) -> str:
        found = ratio(r.label)
        return "–" if found is None else f"{figure(found.value)} ×"

    def relative_range(r: Result) -> str:
        found = ratio(r.label)
        return "" if found is None or r.label == REFERENCE else between(found.low, found.high)

    return [
        Column(
            group=group,
            heading="Cycles",
            unit="per token",
            meaning=f"Clocks of the array for all quantized layers, {batch}, by the equation that equals the "
            "RTL's count; memory is taken to keep up.",
            cell=lambda r: figure(r.row.cycles_per_token),
        ),
        Column(
            group=group,
            heading="Port busy",
            unit="cycles/token",
            meaning=f"Clocks the {array.dram_bits_per_cycle}-bit port to external memory is busy. Memory, "
            "not the PEs, sets the pace where these are more than the cycles.",
            cell=lambda r: figure(r.memory_cycles_per_token),
        ),
        Column(
            group=group,
            heading="Utilisation",
            unit="%",
            meaning="Share of all lane slots of all clocks that did a one-bit multiply-accumulate of the "
            "product.",
            cell=lambda r: percent(r.row.utilisation),
        ),
        Column(
            group=group,
            heading="Area",
            unit="mm²",
            meaning="Of the whole array with its two buffers: one array runs every format, so it is the same "
            "in all rows. An estimate; the range is that of its constants.",
            cell=lambda r: figure(r.area.total / MM2),
            small=lambda r: between(r.area.low / MM2, r.area.high / MM2),
        ),
        Column(
            group=group,
            heading="Energy",
            unit="nJ/token",
            meaning=f"Of all quantized layers, {batch}: array, buffers, external memory. An estimate from "
            "counted toggles and beats; the range takes every constant at its own end.",
            cell=lambda r: figure(r.energy.total / 1e3),
            small=lambda r: between(r.energy.low / 1e3, r.energy.high / 1e3),
        ),
        Column(
            group=group,
            heading="Energy",
            unit="vs fp16",
            meaning="Relative to the fp16 row on the same array. A constant both use takes one value on both "
            "sides, so this range is narrower than those of the two energies.",
            cell=relative,
            small=relative_range,
        ),
        Column(
            heading="Time",
            unit="s",
            meaning="To quantize, score twice and count, on the machine that ran the study.",
            cell=lambda r: figure(sum(r.row.seconds.values()), 2),
        ),
    ]


def groups(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """Headings over the columns and how many columns each spans."""
    spans: list[tuple[str, int]] = []
    for column in columns:
        if spans and spans[-1][0] == column.group:
            spans[-1] = (column.group, spans[-1][1] + 1)
        else:
            spans.append((column.group, 1))
    return spans


def findings(results: Sequence[Result], act_bits: int) -> list[str]:
    """What the figures say, in a few sentences, each computed from them."""
    found = []
    formats = [r for r in results if r.label != REFERENCE]
    if formats:
        widest = max(formats, key=lambda r: r.row.stored_bits / r.row.published_bits)
        share = widest.row.stored_bits / widest.row.published_bits
        found.append(
            f"The widest gap between claim and file is {widest.label}'s: {widest.row.published_bits:.2f} "
            f"bits per weight as published, {widest.row.stored_bits:.2f} stored, {share:.2f} times as many."
        )
        found += _dominated(results)
    for r in results:
        if r.label == REFERENCE and r.row.hardware is not None:
            found.append(
                f"Rounding activations to {act_bits} bits alone, with fp16 weights, costs a KL of "
                f"{figure(r.kl)} nats/token: it hides what weights lose below that."
            )
    return found


def _dominated(results: Sequence[Result]) -> list[str]:
    """Who loses to somebody else in divergence and energy at once, by more than both are uncertain."""
    found = []
    for r in results:
        by = [other.label for other in results if _loses(r, other)]
        if by:
            names = ", ".join(by[:-1]) + (" and " if by[1:] else "") + by[-1]
            found.append(
                f"{r.label} loses in divergence and energy at once, beyond the errors of both, to {names}."
            )
    return found or [
        "No format loses to another in divergence and energy at once, beyond the errors of both."
    ]


def _loses(result: Result, other: Result) -> bool:
    """Divergence larger by over two standard errors of the difference, energy larger throughout its range."""
    scores = (result.row.hardware, other.row.hardware)
    errors = [0.0 if score is None else score.kl_se or 0.0 for score in scores]
    if result.kl - other.kl <= 2 * hypot(*errors):
        return False
    return energy_against(result, other).low > 1


def parts(
    rows: Sequence[tuple[str, Mapping[str, float]]], factor: float = 1.0
) -> tuple[list[str], list[list[str]]]:
    """A breakdown as a table: headings, then a row each with its total last."""
    names = list(dict.fromkeys(name for _, bill in rows for name in bill))
    lines = [
        [
            label,
            *(figure(factor * bill.get(name, 0.0)) for name in names),
            figure(factor * sum(bill.values())),
        ]
        for label, bill in rows
    ]
    return ["format", *names, "total"], lines


def constants(results: Sequence[Result]) -> list[Constant]:
    """Every number the costs rest on, once, by key."""
    found = {c.key: c for r in results for cost in (r.area, r.energy) for c in cost.constants}
    return [found[key] for key in sorted(found)]
