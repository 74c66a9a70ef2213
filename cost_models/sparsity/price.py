"""What a pattern of zeros saves and what it costs: bits, cycles, detection, area.

Sources: Mishra et al., arXiv:2104.08378 (2:4); Liu et al., S2TA, HPCA 2022; Albericio et al., Bit-Pragmatic,
MICRO 2017 (essential bits, lanes in step); Shi et al., BitWave, HPCA 2024 (zero planes).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cost_models import tech as techs
from cost_models.sparsity import sweep
from cost_models.sparsity.designs import Datapath
from cost_models.tech import Tech
from cost_models.uncertain import Cost, Interval, Term, ratio
from hw.integers import require_int

TERMS = ("essential", "naf", "booth")


def stored_bits(bits: int, keep: int, of: int, code: str = "index") -> float:
    """Bits of a stored N:M matrix by dense weight: ``index`` of each kept one, or a ``coded`` pattern.

    >>> [stored_bits(b, 2, 4) for b in (1, 2, 4, 8)], stored_bits(1, 2, 4, "coded")
    ([1.5, 2.0, 3.0, 5.0], 1.25)
    """
    require_int("bits", bits, 1)
    require_int("of", of, 1)
    require_int("keep", keep, 1, of)
    if code not in ("index", "coded"):
        raise ValueError(f"code must be index or coded, not {code!r}")
    if keep == of:
        return float(bits)
    if code == "index":
        return keep / of * (bits + (of - 1).bit_length())
    return (keep * bits + (comb(of, keep) - 1).bit_length()) / of


def word_is_zero(density: float, lanes: int) -> float:
    """Chance that a word of so many lanes is all zero where each is nonzero with a chance, alone.

    >>> round(word_is_zero(0.1, 64), 5)
    0.00118
    """
    if not 0 <= density <= 1:
        raise ValueError(f"density must be from 0 to 1, not {density!r}")
    require_int("lanes", lanes, 1)
    return float((1 - density) ** lanes)


@dataclass(frozen=True, kw_only=True)
class Skipping:
    """Words of a plane that need no beat."""

    words: int  #: of the whole plane
    zero: int  #: of them all zero
    imbalance: float  #: beats of the busiest row over the mean, rows being PEs that wait for each other
    flag_bits: float  #: stored, by entry, to know a zero word beforehand
    gates: float  #: or the gates that see one: an OR of every word as it passes [two-input gates]

    @property
    def cycles(self) -> float:
        """Cycles left, of 1, where PEs wait for the busiest."""
        return (1 - self.zero / self.words) * self.imbalance if self.words else 0.0


def skipping(plane: NDArray[Any], lanes: int) -> Skipping:
    """What skipping zero words of a plane [PEs, columns] leaves. Raises ValueError unless it is a matrix."""
    require_int("lanes", lanes, 1)
    if plane.ndim != 2 or not plane.size:
        raise ValueError(f"plane must be a matrix with entries, not of shape {plane.shape!r}")
    rows, columns = plane.shape
    words = -(-columns // lanes)
    padded = np.zeros((rows, words * lanes), bool)
    padded[:, :columns] = plane != 0
    live = padded.reshape(rows, words, lanes).any(axis=2).sum(axis=1)
    mean = float(live.mean())
    return Skipping(
        words=rows * words,
        zero=rows * words - int(live.sum()),
        imbalance=float(live.max()) / mean if mean else 1.0,
        flag_bits=words / columns,
        gates=float(lanes - 1),
    )


def terms(values: NDArray[np.integer[Any]], kind: str) -> NDArray[np.int64]:
    """Terms of integers: ones of the magnitude, nonzero digits of the non-adjacent form, or radix-4 Booth.

    >>> [terms(np.array([0, 3, 7, -6]), kind).tolist() for kind in TERMS]
    [[0, 2, 3, 2], [0, 2, 2, 2], [0, 2, 2, 2]]
    """
    if kind not in TERMS:
        raise ValueError(f"kind must be one of {', '.join(TERMS)}, not {kind!r}")
    if not np.issubdtype(values.dtype, np.integer):
        raise TypeError(f"values must be integers, not {values.dtype}")
    wide = values.astype(np.int64)
    if kind == "essential":
        return np.bitwise_count(np.abs(wide)).astype(np.int64)
    if kind == "naf":
        # The non-adjacent form of n has a one or minus one where 3n and n differ, halved.
        return np.bitwise_count((3 * np.abs(wide)) ^ np.abs(wide)).astype(np.int64)
    count = np.zeros(wide.shape, np.int64)
    rest, before = wide, np.zeros_like(wide)
    while ((rest != 0) & (rest != -1)).any() or (rest + before).any():
        low, high = rest & 1, rest >> 1 & 1
        count += -2 * high + low + before != 0
        before, rest = high, rest >> 2
    return count


@dataclass(frozen=True, kw_only=True)
class Serial:
    """Cycles of weights that pass term by term."""

    mean_terms: float  #: of a weight
    cycles: float  #: of a word whose lanes wait for the one of most terms
    bits: int  #: cycles of a PE that takes every bit

    @property
    def speedup(self) -> float:
        """Over a PE that takes every bit."""
        return self.bits / self.cycles if self.cycles else float("inf")


def serial(values: NDArray[np.integer[Any]], lanes: int, bits: int, kind: str = "essential") -> Serial:
    """Cycles of real weights on lanes in step; every word takes one cycle at least."""
    require_int("lanes", lanes, 1)
    require_int("bits", bits, 1)
    found = terms(values, kind).ravel()
    if not found.size:
        raise ValueError("values must hold at least one integer, not none")
    words = np.zeros(-(-len(found) // lanes) * lanes, np.int64)
    words[: len(found)] = found
    longest = np.maximum(words.reshape(-1, lanes).max(axis=1), 1)
    return Serial(mean_terms=float(found.mean()), cycles=float(longest.mean()), bits=bits)


def datapath_area(design: Datapath, tech: Tech | str) -> Cost:
    """Cell area of a shipped datapath; the tool's noise is the cost's own error.

    Raises ValueError for a datapath that was not synthesized.
    """
    tech = techs.resolve(tech)
    points = sweep.stored()
    if design.name not in points:
        raise ValueError(f"design must be one of {', '.join(points)}, not {design.name!r}")
    return point_area(points[design.name], tech)


def point_area(point: sweep.Point, tech: Tech) -> Cost:
    """Cell area of a synthesized datapath in a technology."""
    flop = techs.load("generic_ge").constant("area_flop").value
    gates = Term(part="gates", quantity=point.gates, constants=(tech.constant("area_ge"),))
    flops = Term(part="registers", quantity=point.flops / flop, constants=(tech.constant("area_flop"),))
    return Cost(unit=tech.area_unit, terms=(gates, flops), fit=point.spread)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A pattern against dense, the same columns a clock."""

    dense: Datapath
    sparse: Datapath
    area: Interval  #: sparse over dense
    bits: float  #: stored by dense weight, an index each
    coded: float  #: the same, coded by block

    @property
    def sentence(self) -> str:
        """What the figures say; where the range crosses 1 they say nothing."""
        d, s = self.dense, self.sparse
        where = {"beside": "registered beside the weights", "outside": "held outside the PE"}[s.index]
        how = f"an index {where}" + (", counted from the first possible column" if s.ordered else "")
        return (
            f"{s.keep}:{s.of} {verb(self.area)} {_kind(d)} area ({d.columns} columns a clock, {how}: "
            f"{span(self.area)}) and {_stored(self.bits, self.coded, d.w_bits)}."
        )


def verb(area: Interval) -> str:
    """What an area ratio does, by its whole range."""
    if area.low > 1:
        return "costs"
    return "saves" if area.high < 1 else "neither clearly costs nor saves"


def span(area: Interval) -> str:
    """A ratio as a change with its range.

    >>> span(Interval(value=0.59, low=0.58, high=0.612))
    '-41 % [-42 to -39 %]'
    """
    low, value, high = (round(100 * (end - 1)) for end in (area.low, area.value, area.high))
    return f"{value:+d} % [{low:+d} to {high:+d} %]"


def _kind(design: Datapath) -> str:
    if design.one_bit:
        return "a 1-bit popcount PE"
    if design.w_bits == design.act_bits:
        return f"an INT{design.w_bits} PE"
    return f"a W{design.w_bits}A{design.act_bits} PE"


def _stored(bits: float, coded: float, dense: int) -> str:
    words = f"{bits:g} bits a dense weight ({coded:g} with coded blocks) for {dense}"
    if min(bits, coded) > dense:
        return f"costs stored bits too: {words}"
    if max(bits, coded) < dense:
        return f"saves stored bits: {words}"
    return f"saves stored bits only if blocks are coded, or none: {words}"


def verdict(sparse: Datapath, tech: Tech | str) -> Verdict:
    """A pattern against the dense datapath of the same columns."""
    dense = Datapath(columns=sparse.columns, w_bits=sparse.w_bits, act_bits=sparse.act_bits)
    return Verdict(
        dense=dense,
        sparse=sparse,
        area=ratio(datapath_area(sparse, tech), datapath_area(dense, tech)),
        bits=stored_bits(sparse.w_bits, sparse.keep, sparse.of),
        coded=stored_bits(sparse.w_bits, sparse.keep, sparse.of, "coded"),
    )


def verdicts(tech: Tech | str = "generic_ge") -> list[Verdict]:
    """Every pattern that was synthesized, in the order of the sweep."""
    return [verdict(one, tech) for one in sweep.designs() if one.keep < one.of]


def sentences(tech: Tech | str = "generic_ge") -> list[str]:
    """What sparsity costs and saves, as the figures say it."""
    chance = word_is_zero(0.1, 64)
    random = (
        f"Of random zeros a popcount PE skips nothing: at one nonzero of ten, {chance:.1%} of its 64-lane "
        "words are all zero; what is left is fewer toggles."
    )
    found = verdicts(tech)
    return [headline(found), *(one.sentence for one in found), random]


def headline(found: Iterable[Verdict]) -> str:
    """2:4 with an index beside the weights, by what it does to the area and the bits of each PE.

    PEs of one verdict stand together; the words follow from the ranges alone.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for one in found:
        s = one.sparse
        if (s.keep, s.of, s.index, s.ordered) != (2, 4, "beside", False):
            continue
        bits = "more" if one.bits > s.w_bits else "fewer" if one.bits < s.w_bits else "as many"
        groups.setdefault((verb(one.area), bits), []).append(f"{_kind(s)} ({span(one.area)})")
    parts = [
        f"{word} area of {', '.join(pes)}, which then stores {bits} bits"
        for (word, bits), pes in groups.items()
    ]
    return f"2:4 with a plain index {'; it '.join(parts)}."
