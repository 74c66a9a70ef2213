"""Energy of the accelerators of the BitMoD evaluation, by the released model on its own constants.

A PE costs its synthesized energy in every compute clock, busy or idle, times a factor for place and route; a
step of the array reads a word of either buffer; what is fetched and written back is written to a buffer by 64
bits; external memory costs an energy per bit. No leakage, clock tree or scale unit.

Source: Chen et al., BitMoD, HPCA 2025, arXiv:2411.11745; released simulator at commit e445a5f. Differs in:
buffers of widths between those tabulated are interpolated (log-log) where the release runs CACTI anew, and
every constant has a range.
"""

from __future__ import annotations

import tomllib
from bisect import bisect_left
from collections.abc import Mapping
from functools import cache
from math import exp, log
from pathlib import Path
from typing import Any

from cost_models.uncertain import Constant, Cost, Term

PATH = Path(__file__).parent / "bitmod.toml"


@cache
def _tables() -> Mapping[str, Any]:
    return tomllib.loads(PATH.read_text(encoding="utf-8"))


def constant(table: str, key: str) -> Constant:
    """A number of the evaluation. Raises ValueError naming the table's numbers."""
    entries = _tables()[table]
    common = {name: entry for name, entry in entries.items() if not isinstance(entry, dict)}
    known = [name for name, entry in entries.items() if isinstance(entry, dict)]
    if key not in known:
        raise ValueError(f"{table} must be one of {', '.join(known)}, not {key!r}")
    return Constant(key=f"bitmod.{table}.{key}", **(common | entries[key]))


def machine(accelerator: str) -> str:
    """Whose PE an accelerator has: lossless and lossy differ in nothing but the formats they run."""
    return "bitmod" if accelerator.startswith("bitmod-") else accelerator


def buffer(field: str, width: int) -> Constant:
    """A figure of a 512 KB buffer: ``read_word_pj``, ``write_64_pj`` or ``area_mm2``, by its word's width.

    Raises ValueError for a width out of the table.
    """
    table = _tables()["buffer"]
    widths, figures = table["widths"], table[field]
    if not widths[0] <= width <= widths[-1]:
        raise ValueError(f"width must be from {widths[0]} to {widths[-1]}, not {width!r}")
    at = max(1, bisect_left(widths, width))
    share = log(width / widths[at - 1]) / log(widths[at] / widths[at - 1])
    value = exp((1 - share) * log(figures[at - 1]) + share * log(figures[at]))
    return Constant(
        key=f"bitmod.buffer.{field}.{width}",
        value=value,
        low=value,
        high=value,
        unit="mm2" if field.endswith("mm2") else "pJ",
        node="28 nm",
        vdd="not published",
        kind="derived",
        source=table["source"],
        note="" if width in widths else "interpolated between tabulated widths",
    )


def energy(
    accelerator: str,
    *,
    pes: int,
    compute_clocks: int,
    steps: int,
    words: tuple[int, int],
    weights: int,
    inputs: int,
    outputs: int,
) -> Cost:
    """Energy of a phase [pJ] by part.

    Parameters: pes, of the array; steps, of the array; words, widths of the weight and the input buffer
    [bits]; weights, inputs, outputs, bits through the memory port.

    Raises ValueError for an unknown accelerator, or a buffer wider or narrower than the table.
    """
    scale = constant("system", "buffer")
    weight_word, input_word = words
    each = constant("pe", machine(accelerator))
    terms = (
        Term(
            part="compute", quantity=pes * compute_clocks, constants=(each, constant("system", "placement"))
        ),
        *(
            Term(
                part="buffer_reads", quantity=steps * copies, constants=(buffer("read_word_pj", word), scale)
            )
            for word, copies in _together(weight_word, input_word)
        ),
        *_writes({weight_word: weights}, {input_word: inputs + outputs}, scale),
        Term(
            part="dram",
            quantity=weights + inputs + outputs,
            constants=(constant("system", "dram"),),
        ),
    )
    return Cost(unit="pJ", terms=terms)


def _together(*words: int) -> list[tuple[int, int]]:
    return [(word, words.count(word)) for word in dict.fromkeys(words)]


def _writes(weights: Mapping[int, int], rest: Mapping[int, int], scale: Constant) -> list[Term]:
    words = dict.fromkeys((*weights, *rest))
    return [
        Term(
            part="buffer_writes",
            quantity=(weights.get(word, 0) + rest.get(word, 0)) / 64,
            constants=(buffer("write_64_pj", word), scale),
        )
        for word in words
    ]


def array_area(accelerator: str, pes: int) -> Cost:
    """Area of the PEs [um2], placed and routed by the factor that their energy has."""
    each = constant("area", machine(accelerator))
    return Cost(
        unit="um2",
        terms=(Term(part="pes", quantity=pes, constants=(each, constant("system", "placement"))),),
    )
