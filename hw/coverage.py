"""Functional coverage of a run: which situations its beats and stalls put a PE into, counted by name.

A comparison proves nothing about what never happened. Situations follow from the drive and the compute
contract alone (`PeSpec.stalled_cycles`: the pipeline moves as one), so they are the same for every engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hw.spec import Beat, PeSpec

#: Situations of the two handshakes, whatever the PE.
STALLS = (
    "gap before an item",
    "gap inside an item",
    "item refused",
    "item refused thrice running",
    "beat waits behind a refused item",
    "gap while an item is refused",
    "items in successive clocks",
    "both sides go on for ten clocks",
)


def situations(spec: PeSpec) -> tuple[str, ...]:
    """Names of all situations a run may put ``spec`` into."""
    flags = [f"{flag} {value}" for flag in spec.flags() for value in (0, 1)]
    bits = spec.words().get("mask", 0)
    masks = (["mask full", "mask empty"] if bits else []) + (["mask partial"] if bits > 1 else [])
    items = ["item of one beat", "item of several beats", "beat after an item that goes on with it"]
    signs = ["item positive", "item negative"]
    both = ["shift and neg"] if {"shift", "neg"} <= set(spec.flags()) else []
    return (*flags, *masks, *items, *signs, *both, *STALLS)


def count(
    spec: PeSpec, beats: Iterable[Beat], offered: Iterable[bool] = (), ready: Iterable[bool] = ()
) -> Counter[str]:
    """How often each of `situations` came up in a run; parameters as `PeSpec.stalled_cycles` takes them."""
    listed = list(beats)
    found = Counter(dict.fromkeys(situations(spec), 0))
    found.update(name for name in _of_beats(spec, listed) if name in found)
    found.update(_of_clocks(spec, [beat.last for beat in listed], offered, ready))
    return found


def _of_beats(spec: PeSpec, beats: list[Beat]) -> Iterator[str]:
    whole = (1 << spec.words().get("mask", 0)) - 1
    acc, length, after_last = 0, 0, False
    for beat in beats:
        yield from (f"{flag} {int(getattr(beat, flag))}" for flag in spec.flags())
        yield "mask full" if beat.mask == whole else "mask partial" if beat.mask else "mask empty"
        if beat.shift and beat.neg:
            yield "shift and neg"
        if after_last and not beat.first:
            yield "beat after an item that goes on with it"
        acc, length, after_last = spec.golden(acc, beat), length + 1, beat.last
        if beat.last:
            yield "item of one beat" if length == 1 else "item of several beats"
            yield "item positive" if acc > 0 else "item negative" if acc < 0 else "item zero"
            length = 0


@dataclass(frozen=True)
class _Clock:
    gap: bool  #: nothing is offered, although beats are left
    inside: bool  #: the beats before it have begun an item
    waiting: bool  #: a beat is offered
    refused: bool  #: an item is there and not taken
    handed: bool  #: an item is taken


def _of_clocks(
    spec: PeSpec, lasts: list[bool], offered: Iterable[bool], ready: Iterable[bool]
) -> Iterator[str]:
    refused = going = 0
    handed_before = False
    for clock in _clocks(spec, lasts, offered, ready):
        if clock.gap:
            yield "gap inside an item" if clock.inside else "gap before an item"
        refused = refused + 1 if clock.refused else 0
        if clock.refused:
            yield "item refused"
            yield "beat waits behind a refused item" if clock.waiting else "gap while an item is refused"
        if refused == 3:
            yield "item refused thrice running"
        if clock.handed and handed_before:
            yield "items in successive clocks"
        handed_before = clock.handed
        going = 0 if clock.gap or clock.refused else going + 1
        if going == 10:
            yield "both sides go on for ten clocks"


def _clocks(
    spec: PeSpec, lasts: list[bool], offered: Iterable[bool], ready: Iterable[bool]
) -> Iterator[_Clock]:
    """The clocks of a run up to the last item's."""
    offers, takes = iter(offered), iter(ready)
    pipeline = [False] * spec.latency()
    position, waiting, pending = 0, False, sum(lasts)
    while pending:
        offer, taken = next(offers, True), next(takes, True)
        left = position < len(lasts)
        waiting = left and (waiting or offer)
        yield _Clock(
            gap=left and not waiting,
            inside=position > 0 and not lasts[position - 1],
            waiting=waiting,
            refused=pipeline[-1] and not taken,
            handed=pipeline[-1] and taken,
        )
        pending -= pipeline[-1] and taken
        if taken or not pipeline[-1]:
            pipeline = [waiting and lasts[position], *pipeline[:-1]]
            position += waiting
            waiting = False
