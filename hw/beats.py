"""Beats in bulk: the operands of many clocks as arrays, and what a run of them through a PE yields.

`hw.spec.Beat` defines one beat; `Beats` holds any number in numpy arrays, and packs them the way the port
``i.payload`` of a PE expects. Every engine that executes a PE takes `Beats` and returns a `Run`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw.spec import Beat, require_int

#: Bits of `Beats.flags`, in the order of the port's one-bit fields.
W_BIPOLAR, X_BIPOLAR, FIRST, SHIFT, NEG, LAST = (1 << bit for bit in range(6))

#: One-bit fields of a beat, and their bits in `Beats.flags`.
FIELDS = {
    "w_bipolar": W_BIPOLAR,
    "x_bipolar": X_BIPOLAR,
    "first": FIRST,
    "shift": SHIFT,
    "neg": NEG,
    "last": LAST,
}


def payload_bits(lanes: int) -> int:
    """Bits of a PE's port ``i.payload``: three words of ``lanes`` bits, then six flags."""
    return 3 * lanes + len(FIELDS)


@dataclass(frozen=True, kw_only=True, eq=False)
class Beats:
    """``n`` beats. Bit ``lane % 64`` of word ``lane // 64`` is that lane; bits beyond ``lanes`` are 0."""

    lanes: int
    w: NDArray[np.uint64]  #: words of weight planes, [n, ceil(lanes / 64)]
    x: NDArray[np.uint64]  #: words of activation planes, same shape
    mask: NDArray[np.uint64]  #: lanes that count, same shape
    flags: NDArray[np.uint8]  #: [n], a sum of W_BIPOLAR, X_BIPOLAR, FIRST, SHIFT, NEG, LAST

    def __post_init__(self) -> None:
        require_int("lanes", self.lanes, 1)
        if self.flags.dtype != np.uint8 or self.flags.ndim != 1:
            raise ValueError(f"flags must be uint8 [n], not {_kind(self.flags)}")
        shape = (len(self.flags), -(-self.lanes // 64))
        for name in ("w", "x", "mask"):
            words = getattr(self, name)
            if words.dtype != np.uint64 or words.shape != shape:
                raise ValueError(f"{name} must be uint64 {list(shape)}, not {_kind(words)}")
            spare = words[:, -1] >> np.uint64(self.lanes % 64) if self.lanes % 64 else np.uint64(0)
            if np.any(spare):
                worst = int(np.max(words[:, -1]))
                raise ValueError(
                    f"{name} must be 0 beyond lane {self.lanes - 1}, not {worst:#x} in its last word"
                )
        if np.any(self.flags >= 1 << len(FIELDS)):
            raise ValueError(f"flags must be below {1 << len(FIELDS)}, not {int(self.flags.max())}")

    def __len__(self) -> int:
        return len(self.flags)

    @property
    def lasts(self) -> NDArray[np.bool_]:
        """[n]: beats that finish an item."""
        return (self.flags & LAST) != 0

    @classmethod
    def from_list(cls, beats: Sequence[Beat], lanes: int) -> Beats:
        """The same beats as arrays. Raises ValueError if a word has more than ``lanes`` bits."""
        require_int("lanes", lanes, 1)
        words = {
            name: _split([getattr(beat, name) for beat in beats], lanes, name) for name in ("w", "x", "mask")
        }
        flags = [sum(bit for name, bit in FIELDS.items() if getattr(beat, name)) for beat in beats]
        return cls(lanes=lanes, **words, flags=np.array(flags, np.uint8))

    def to_list(self) -> list[Beat]:
        """The same beats one by one."""
        return list(self)

    def __iter__(self) -> Iterator[Beat]:
        for w, x, mask, flags in zip(self.w, self.x, self.mask, self.flags.tolist(), strict=True):
            named = {name: bool(flags & bit) for name, bit in FIELDS.items()}
            yield Beat(w=_join(w), x=_join(x), mask=_join(mask), **named)

    @classmethod
    def concatenate(cls, parts: Sequence[Beats]) -> Beats:
        """``parts`` one after the other. Raises ValueError if there is none, or if their lanes differ."""
        if not parts:
            raise ValueError("parts must hold at least one Beats, not ()")
        lanes = sorted({part.lanes for part in parts})
        if len(lanes) > 1:
            raise ValueError(f"parts must have equal lanes, not {lanes!r}")
        arrays = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("w", "x", "mask", "flags")
        }
        return cls(lanes=lanes[0], **arrays)

    @classmethod
    def random(cls, lanes: int, n: int, seed: int) -> Beats:
        """``n`` beats of every kind, the last one finishing an item: test vectors, reproducible by ``seed``.

        Items average five beats. Half of the masks are full, some empty; flags are independent coins except
        that the beat after a ``last`` is mostly, not always, a ``first`` (without it an accumulator runs on).
        """
        rng = np.random.default_rng(seed)
        shape = (n, -(-lanes // 64))
        full = np.full(shape, np.iinfo(np.uint64).max)
        full[:, -1] >>= np.uint64(-lanes % 64)
        w, x, mask = (rng.integers(0, 1 << 64, shape, np.uint64) & full for _ in range(3))
        density = rng.random((n, 1))
        mask = np.where(density < 0.5, full, np.where(density < 0.55, np.uint64(0), mask))
        flags = rng.integers(0, LAST, n, np.uint8) & np.uint8(W_BIPOLAR | X_BIPOLAR | SHIFT | NEG)
        lasts = rng.random(n) < 0.2
        lasts[-1:] = True
        follows = np.concatenate([np.ones(min(n, 1), bool), lasts[:-1]])
        flags |= np.where(follows & (rng.random(n) < 0.9), FIRST, 0).astype(np.uint8)
        flags |= np.where(lasts, LAST, 0).astype(np.uint8)
        return cls(lanes=lanes, w=w, x=x, mask=mask, flags=flags)

    def payload(self, lanes: int) -> NDArray[np.uint32]:
        """The packed port ``i.payload`` of a PE of ``lanes`` lanes, uint32 [n, words], low word first.

        Fields from bit 0 up: w, x, mask (``lanes`` bits each), w_bipolar, x_bipolar, first, shift, neg, last.
        A PE may have more lanes than the beats: their masks are 0, so they do not count.

        Raises ValueError if the PE has fewer lanes.
        """
        require_int("lanes", lanes, self.lanes)
        words = np.zeros((len(self), -(-payload_bits(lanes) // 64)), np.uint64)
        for field, source in enumerate((self.w, self.x, self.mask)):
            for column in range(source.shape[1]):
                _put(words, source[:, column], field * lanes + 64 * column)
        _put(words, self.flags.astype(np.uint64), 3 * lanes)
        half_words = words.astype("<u8", copy=False).view("<u4")
        return np.ascontiguousarray(half_words[:, : -(-payload_bits(lanes) // 32)], dtype=np.uint32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What an engine that executed a PE observed."""

    items: NDArray[np.int64]  #: items in the order they were handed over
    cycles: int  #: clocks up to and including the one that took the last item (`PeSpec.stalled_cycles`)


def _kind(array: NDArray[np.generic]) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _split(words: list[int], lanes: int, name: str) -> NDArray[np.uint64]:
    """Python integers as rows of 64-bit words."""
    for word in words:
        if word >> lanes:
            raise ValueError(f"{name} must be below 2**{lanes}, not {word:#x}")
    columns = -(-lanes // 64)
    data = b"".join(word.to_bytes(8 * columns, "little") for word in words)
    return np.frombuffer(data, "<u8").reshape(len(words), columns).astype(np.uint64)


def _join(words: NDArray[np.uint64]) -> int:
    return int.from_bytes(words.astype("<u8", copy=False).tobytes(), "little")


def _put(words: NDArray[np.uint64], field: NDArray[np.uint64], offset: int) -> None:
    """OR ``field`` into ``words`` at bit ``offset``."""
    column, shift = divmod(offset, 64)
    words[:, column] |= field << np.uint64(shift)
    if shift and column + 1 < words.shape[1]:
        words[:, column + 1] |= field >> np.uint64(64 - shift)
