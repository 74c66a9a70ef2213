"""What a driver asks of an accelerator, and what it gets back, whatever executes the accelerator's RTL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hw.accelerator.spec import AcceleratorSpec

#: Clocks that a run goes on after its last tile, so that it is complete when registers are read.
AFTER = 8


@dataclass(frozen=True, kw_only=True)
class Session:
    """Register writes, then packets, then registers again once every tile has come."""

    writes: Sequence[tuple[int, int]]  #: (offset, value), before the first word
    words: Sequence[int]  #: of all packets
    lasts: Sequence[bool]  #: which of them end a packet
    tiles: int  #: packets that will come out
    finish: Sequence[tuple[int, int | None]]  #: (offset, value to write, or None to read), in order
    limit: int  #: clocks after which something hangs

    def __post_init__(self) -> None:
        if len(self.words) != len(self.lasts):
            raise ValueError(f"lasts must be {len(self.words)} flags, not {len(self.lasts)}")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came out."""

    tiles: list[bytes]
    reads: list[int]  #: by `Session.finish`
    clocks: int  #: from the first that offered a word to the one that took the last tile's last word


class Backend(Protocol):
    """Something that executes the RTL of an accelerator's shell.

    It ends early where the interrupt line rises; raises RuntimeError past the limit of clocks, or if a port
    breaks its protocol.
    """

    def __call__(self, spec: AcceleratorSpec, session: Session) -> Outcome: ...


def as_hex(session: Session) -> list[str]:
    """Words of the packets as text, each with a mark where a packet ends."""
    return [f"{word:x}{'!' if last else ''}" for word, last in zip(session.words, session.lasts, strict=True)]
