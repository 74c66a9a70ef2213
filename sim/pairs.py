"""Schedule of pairs: which terms of a matrix one pass of a two-plane PE yields, its beats, and its sums.

A pass gives the PE two sign planes p and q and a mask, and gets back the activations' dot products with p, q
and p XNOR q on the mask, and their sum. Terms on one mask take those as they are: a residual pair is p and q,
signs and zones are p, q and their XNOR, offsets come with any. Two terms on masks without a common entry
share a pass too: p holds each one's plane on its own mask, q says which mask it is, and half the sum and the
difference of two results are the two dot products. Which of the two holds is read off the expressions, so
that the number of beats does not hang on the bits that a matrix happens to hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.activations import Activations
from algo.bitplane.decode import check_fit
from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix, Term
from hw.beats import Beats
from hw.pe.twoplane import XNOR, P, Q, TwoPlane
from hw.spec import Segment, Shape
from sim import schedule, truth
from sim.operands import Slot, item

Int = NDArray[np.int64]
Table = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a pass yields of a term: ``sum_k halves[k] * accumulator k``, over 2."""

    term: Term
    digits: bool  #: True: digits times activations; False: the sum of the activations on the mask
    halves: tuple[int, ...]  #: of P, Q, XNOR, SUM


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Planes and mask of a pass in every group, as a term of two planes, and what it yields."""

    operands: Term
    shares: tuple[Share, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Summand:
    """What a share adds to the sums of an activation stream: its dot products, multiplied."""

    item: int  #: of an output's items the one that yields it
    stream: int
    halves: tuple[int, ...]
    multiplier: Int  #: [tokens, rows]


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """Beats of a tile, and what becomes of its items."""

    beats: Beats
    tokens: int
    rows: int
    streams: int
    items: int  #: of an output
    summands: tuple[Summand, ...]


def passes(matrix: PackedMatrix) -> tuple[Pass, ...]:
    """Passes that together yield every term of a matrix once.

    Raises ValueError if a term is no sign plane, or reads what a table of its expressions cannot hold.
    """
    for term in matrix.terms:
        if (term.digit, term.coefs, term.zero) != (Digit.BIPOLAR, (1,), None):
            raise ValueError(f"terms must each be one sign plane to be paired, not {term!r}")
    texts = tuple(dict.fromkeys(text for term in matrix.terms for text in (term.planes[0], _mask(term))))
    tables = truth.tables(texts)
    if tables is None:
        raise ValueError(
            f"expressions must join at most {truth.MOST_PLANES} planes entry by entry to be paired, "
            f"not {', '.join(texts)}"
        )
    known = dict(zip(texts, tables, strict=True))
    found: list[Pass] = []
    for stream in matrix.streams:
        terms = [term for term in matrix.terms if term.col == stream]
        singles = []
        for on_one_mask in _by_mask(terms, known):
            several, single = _on_one_mask(on_one_mask, known)
            found += several
            singles += single
        found += _on_two_masks(singles, known)
    return tuple(found)


def _mask(term: Term) -> str:
    """The mask as an expression; of every entry, one that is always true."""
    return f"{term.planes[0]} | ~({term.planes[0]})" if term.mask is None else term.mask


def _by_mask(terms: Sequence[Term], known: dict[str, Table]) -> list[list[Term]]:
    """Terms in lists of equal masks, however those are written."""
    lists: dict[bytes, list[Term]] = {}
    for term in terms:
        lists.setdefault(known[_mask(term)].tobytes(), []).append(term)
    return list(lists.values())


def _on_one_mask(terms: list[Term], known: dict[str, Table]) -> tuple[list[Pass], list[Pass]]:
    """Passes of terms on one mask: those that use two planes, and at most one that uses one."""
    mask, sums = known[_mask(terms[0])], _offsets(terms)
    several: list[Pass] = []
    while terms:
        p = terms[0]
        options = [_served(p, q, terms, mask, known) for q in terms]
        # Of those that serve as many, one whose second plane is stored, not computed.
        served = max(options, key=lambda shares: (len(shares), _is_stored(shares)))
        q = next((share.term for share in served if share.halves[Q]), p)
        operands = replace(p, planes=(*p.planes, *q.planes), coefs=(1, 1))
        terms = [term for term in terms if all(term is not share.term for share in served)]
        made = Pass(operands=operands, shares=(*served, *sums))
        sums = ()
        if len(served) == 1:
            return several, [made]
        several.append(made)
    return several, []


def _offsets(terms: Sequence[Term]) -> tuple[Share, ...]:
    return tuple(
        Share(term=term, digits=False, halves=(0, 0, 0, 2)) for term in terms if term.offset is not None
    )


def _served(
    p: Term, q: Term, terms: Sequence[Term], mask: Table, known: dict[str, Table]
) -> tuple[Share, ...]:
    """Terms that a pass of ``p`` and ``q`` yields."""
    bits = {at: known[term.planes[0]] for at, term in ((P, p), (Q, q))}
    bits[XNOR] = ~(bits[P] ^ bits[Q])
    shares = []
    for term in terms:
        plane = known[term.planes[0]]
        at = next((at for at in (P, Q, XNOR) if not np.any((plane ^ bits[at]) & mask)), None)
        if at is not None:
            halves = tuple(2 * (k == at) for k in range(4))
            shares.append(Share(term=term, digits=True, halves=halves))
    return tuple(shares)


def _is_stored(shares: Sequence[Share]) -> bool:
    return any(share.halves[Q] and share.term.planes[0].isidentifier() for share in shares)


def _on_two_masks(singles: Sequence[Pass], known: dict[str, Table]) -> Iterator[Pass]:
    """Passes of one plane, two of them as one where their masks have no entry in common."""
    left = list(singles)
    while left:
        first = left.pop(0)
        apart = [other for other in left if _are_apart(first.operands, other.operands, known)]
        if apart:
            left.remove(apart[0])
        yield _merged(first, apart[0]) if apart else first


def _are_apart(one: Term, other: Term, known: dict[str, Table]) -> bool:
    return not np.any(known[_mask(one)] & known[_mask(other)])


def _merged(one: Pass, other: Pass) -> Pass:
    """A pass on both masks: q is +1 on the second, -1 on the first, where sums and differences part."""
    a, b = one.operands, other.operands
    same = a.planes[0] == b.planes[0]
    p = a.planes[0] if same else f"({a.planes[0]}) & ({_mask(a)}) | ({b.planes[0]}) & ({_mask(b)})"
    mask = f"({_mask(a)}) | ({_mask(b)})"
    halves = {
        (0, True): (1, 0, -1, 0),
        (0, False): (0, -1, 0, 1),
        (1, True): (1, 0, 1, 0),
        (1, False): (0, 1, 0, 1),
    }
    shares = [
        replace(share, halves=halves[which, share.digits])
        for which, part in enumerate((one, other))
        for share in part.shares
    ]
    return Pass(operands=replace(a, planes=(p, _mask(b)), mask=mask), shares=tuple(shares))


def shape(matrix: PackedMatrix, act_bits: int, tokens: int) -> Shape:
    """The matrix product as the compute contract counts it for a two-plane PE."""
    places = (1,) if act_bits == 1 else (*(1 << i for i in range(act_bits - 1)), -(1 << (act_bits - 1)))
    sizes = np.bincount(matrix.group_of, minlength=matrix.groups).tolist()
    segments = [
        Segment(
            columns=size,
            weight=(1, 1),
            activation=places,
            count=sizes.count(size),
            w_bipolar=True,
            x_bipolar=act_bits == 1,
            masked=one.operands.mask is not None,
        )
        for one in passes(matrix)
        for size in sorted(set(sizes), reverse=True)
    ]
    return Shape(tokens=tokens, rows=matrix.rows, segments=tuple(segments))


def work(
    matrix: PackedMatrix, activations: Sequence[Activations], spec: TwoPlane, tokens: Int, rows: Int
) -> Work:
    """Beats of the outputs ``tokens`` x ``rows`` (indices); items in the order token, row, pass, group.

    Raises ValueError if the activations do not fit the matrix, its terms are no sign planes (`passes`), or an
    item may not fit an accumulator.
    """
    check_fit(matrix, activations)
    parts, flags, summands = [], [], []
    slots = [(one, group) for one in passes(matrix) for group in range(matrix.groups)]
    for number, (one, group) in enumerate(slots):
        stream = matrix.streams.index(one.operands.col)
        act, slot = activations[stream], Slot(term=one.operands, group=group, digits=True)
        for share in one.shares:
            part = Slot(term=share.term, group=group, digits=share.digits)
            schedule.check_width(matrix, part, act, spec)
            multiplier = schedule.multiplier(matrix, part, act, tokens, rows)
            summands.append(Summand(item=number, stream=stream, halves=share.halves, multiplier=multiplier))
        segment = schedule.segment(matrix, slot, act)
        operands, marks = item(matrix, slot, act, segment, spec, tokens[:, None], rows[:, None])
        parts.append(operands)
        flags.append(marks)
    return Work(
        beats=schedule.joined(parts, flags, spec),
        tokens=len(tokens),
        rows=len(rows),
        streams=len(matrix.streams),
        items=len(slots),
        summands=tuple(summands),
    )


def assemble(done: Work, items: Int) -> Int:
    """Integer sums [streams, tokens, rows] of a tile's items [n, 4].

    Raises ValueError if there is another number of items than the beats finish.
    """
    wanted = (done.tokens * done.rows * done.items, 4)
    if items.shape != wanted:
        raise ValueError(f"items must be {list(wanted)} for the tile, not {list(items.shape)}")
    by_output = items.reshape(done.tokens, done.rows, done.items, 4)
    sums = np.zeros((done.streams, done.tokens, done.rows), np.int64)
    for summand in done.summands:
        doubled = by_output[:, :, summand.item] @ np.array(summand.halves)
        sums[summand.stream] += doubled // 2 * summand.multiplier
    return sums
