"""Activity by plane: what each weight plane of each term, and each activation plane, costs and could save."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix
from sim.activity.contents import Content, Source
from sim.activity.program import BUBBLE, SUM, Entry, Program

Int = NDArray[np.int64]

#: What a beat has that is summed over the beats of a plane.
SUMMED = (
    "beats",
    "zero_beats",
    "w_toggles",
    "x_toggles",
    "mask_toggles",
    "product_toggles",
    "dot_toggles",
    "accumulator_toggles",
)


@dataclass(frozen=True, kw_only=True)
class PlaneActivity:
    """One plane's share of a run. The planes of either side add up to the whole run.

    Toggles belong to the beat that a step leads to.
    """

    side: str  #: "weight" or "activation"
    term: int  #: index of the term; -1 for an activation plane
    stream: int  #: index of the activation stream
    plane: str  #: expression of a weight plane, "sum" of activations alone, "bit i", or "bubble"
    place: int  #: its place value; 0 for a bubble
    words: int  #: words of ``lanes`` bits the plane has: rows (or tokens) x words of a row
    zero_words: int  #: of them, those without a lane that counts
    group_planes: int  #: rows (or tokens) x groups
    zero_planes: int  #: of them, those without a lane that counts
    bits: int  #: bits that count: on the mask, or of an activation plane all
    ones: int  #: of them, those set
    beats: int  #: beats taken by PEs
    zero_beats: int  #: of them, those without a lane that counts because either word is zero
    w_toggles: int  #: bits changed in the weight operand
    x_toggles: int  #: in the activation operand
    mask_toggles: int  #: in the mask
    product_toggles: int  #: in the two product bits of the lanes
    dot_toggles: int  #: in the register of a beat's dot product
    accumulator_toggles: int  #: in the accumulator


def sources(matrix: PackedMatrix, program: Program) -> dict[tuple[int, int], Source]:
    """What to survey of the rows, by term and plane."""
    found = {}
    for entry in program.entries:
        if entry.w_plane == BUBBLE:
            continue
        term = matrix.terms[entry.term]
        text = None if entry.w_plane == SUM else term.planes[entry.w_plane]
        bipolar = entry.w_plane != SUM and term.digit is Digit.BIPOLAR
        found[entry.term, entry.w_plane] = Source(
            program.texts.index(text), program.texts.index(term.mask), bipolar
        )
    return found


def table(
    matrix: PackedMatrix,
    program: Program,
    places: tuple[int, ...],
    by_entry: dict[str, Int],
    weight: Content,
    activation: Content,
) -> tuple[PlaneActivity, ...]:
    """The planes of either side, bubbles last.

    Parameters: by_entry, int64 [entries] of each of `SUMMED`; weight, of what `sources` names, in its order;
    activation, of every activation plane.
    """
    order = list(sources(matrix, program))
    found = []
    for (term, plane), entries in _grouped(program.entries, "term", "w_plane").items():
        stream = program.entries[entries[0]].stream
        at = None if plane == BUBBLE else order.index((term, plane))
        label, place = _label(matrix, term, plane)
        found.append(_row("weight", term, stream, label, place, _of(weight, at), by_entry, entries))
    for (stream, plane), entries in _grouped(program.entries, "stream", "x_plane").items():
        bubble = plane == BUBBLE
        at = None if bubble else stream * len(places) + plane
        label, place = ("bubble", 0) if bubble else (f"bit {plane}", places[plane])
        found.append(_row("activation", -1, stream, label, place, _of(activation, at), by_entry, entries))
    return tuple(found)


def _label(matrix: PackedMatrix, term: int, plane: int) -> tuple[str, int]:
    if plane in (SUM, BUBBLE):
        return ("sum", 1) if plane == SUM else ("bubble", 0)
    return matrix.terms[term].planes[plane], matrix.terms[term].coefs[plane]


def _of(content: Content, at: int | None) -> dict[str, int]:
    """What a plane's words hold; a bubble has none."""
    if at is None:
        return dict.fromkeys(("words", "zero_words", "group_planes", "zero_planes", "bits", "ones"), 0)
    return {
        "words": content.words * content.ones.shape[1],
        "zero_words": int(content.zero_words[at].sum()),
        "group_planes": content.planes,
        "zero_planes": int(content.zero_planes[at]),
        "bits": int(content.bits[at].sum()),
        "ones": int(content.ones[at].sum()),
    }


def _grouped(entries: tuple[Entry, ...], *names: str) -> dict[tuple[int, int], list[int]]:
    """Entries by two of their attributes, sorted; bubbles come last."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, entry in enumerate(entries):
        first, second = (getattr(entry, name) for name in names)
        groups.setdefault((first, second), []).append(index)
    order = {SUM: 1, BUBBLE: 2}
    return dict(sorted(groups.items(), key=lambda item: (item[0][0], order.get(item[0][1], 0), item[0][1])))


def _row(
    side: str,
    term: int,
    stream: int,
    label: str,
    place: int,
    content: dict[str, int],
    by_entry: dict[str, Int],
    entries: list[int],
) -> PlaneActivity:
    return PlaneActivity(
        side=side,
        term=term,
        stream=stream,
        plane=label,
        place=place,
        **content,
        **{name: int(by_entry[name][entries].sum()) for name in SUMMED},
    )
