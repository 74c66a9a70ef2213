"""Zeros of packed matrices, counted: words that could be skipped, terms of digits, the price of skipping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from algo.bitplane import decode
from algo.bitplane.matrix import PackedMatrix
from cost_models.sparsity import price


def rows(matrices: Mapping[str, PackedMatrix], lanes: int) -> list[dict[str, Any]]:
    """A row for each term of each matrix: its digits on their mask, their magnitude's planes, their terms.

    Every row of a matrix stands for a PE; PEs wait for the one with the most words left.

    Raises ValueError for less than one lane.
    """
    return [
        {"layer": name, "term": number} | figures(decode.digits(matrix, term), lanes)
        for name, matrix in matrices.items()
        for number, term in enumerate(matrix.terms)
    ]


def figures(digits: np.ndarray[Any, Any], lanes: int) -> dict[str, Any]:
    """Zeros of integer digits [rows, columns]; columns that fill no word count as zero."""
    magnitude = np.abs(digits)
    bits = max(1, int(magnitude.max(initial=0)).bit_length())
    whole = price.skipping(digits, lanes)
    planes = [price.skipping(magnitude >> place & 1, lanes) for place in range(bits)]
    words = sum(plane.words for plane in planes)
    serial = {kind: price.serial(digits, lanes, bits, kind) for kind in price.TERMS}
    density = float((digits != 0).mean())
    return {
        "lanes": lanes,
        "nonzero": density,
        "magnitude_bits": bits,
        "zero_words": whole.zero / whole.words,
        "zero_words_if_random": price.word_is_zero(density, lanes),
        "zero_plane_words": sum(plane.zero for plane in planes) / words,
        # Planes pass one after the other: each waits for its own busiest row.
        "plane_cycles_left": sum(plane.cycles for plane in planes) / bits,
        "imbalance": max(plane.imbalance for plane in planes),
        "flag_bits_per_weight": sum(plane.flag_bits for plane in planes),
        "detect_gates": max(plane.gates for plane in planes),
        **{f"{kind}_terms": one.mean_terms for kind, one in serial.items()},
        **{f"{kind}_cycles": one.cycles for kind, one in serial.items()},
    }


def patterns(tech: str) -> list[dict[str, Any]]:
    """A row for each N:M pattern that was synthesized, in a technology."""
    return [
        {
            "operands": f"W{v.sparse.w_bits}A{v.sparse.act_bits}",
            "pattern": f"{v.sparse.keep}:{v.sparse.of}",
            "index": v.sparse.index + (", ordered" if v.sparse.ordered else ""),
            "area_ratio": v.area.value,
            "area_ratio_low": v.area.low,
            "area_ratio_high": v.area.high,
            "verdict": price.verb(v.area),
            "bits_per_dense_weight": v.bits,
            "bits_coded": v.coded,
            "dense_bits": v.sparse.w_bits,
        }
        for v in price.verdicts(tech)
    ]
