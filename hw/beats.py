"""Beats in bulk: the operands of many clocks as arrays, and what a run of them through a PE yields.

`hw.spec.Beat` defines one beat; `Beats` holds any number in numpy arrays, and packs them the way the port
``i.payload`` of a PE expects. Every engine that executes a PE takes `Beats` and returns a `Run`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.spec import FLAGS, Beat, PeSpec, require_int

#: Bits of `Beats.flags`, in the order of `FLAGS`.
W_BIPOLAR, X_BIPOLAR, FIRST, SHIFT, NEG, LAST = (1 << bit for bit in range(6))

#: One-bit fields of a beat, and their bits in `Beats.flags`.
FIELDS = {name: 1 << bit for bit, name in enumerate(FLAGS)}
WORDS = ("w", "x", "mask")


@dataclass(frozen=True, kw_only=True, eq=False)
class Beats:
    """``n`` beats. Bit ``b % 64`` of column ``b // 64`` is bit b of a word; bits beyond its width are 0."""

    lanes: int
    w: NDArray[np.uint64]  #: words of weight planes, [n, ceil(w_bits / 64)]
    x: NDArray[np.uint64]  #: words of activation planes, likewise
    mask: NDArray[np.uint64]  #: lanes that count, likewise; [n, 0] where the PE has no mask
    flags: NDArray[np.uint8]  #: [n], a sum of W_BIPOLAR, X_BIPOLAR, FIRST, SHIFT, NEG, LAST
    w_bits: int | None = None  #: bits of a word; None: ``lanes``
    x_bits: int | None = None
    mask_bits: int | None = None

    def __post_init__(self) -> None:
        require_int("lanes", self.lanes, 1)
        if self.flags.dtype != np.uint8 or self.flags.ndim != 1:
            raise ValueError(f"flags must be uint8 [n], not {_kind(self.flags)}")
        for name in WORDS:
            self._check(name, getattr(self, name), self.bits(name))
        if np.any(self.flags >= 1 << len(FIELDS)):
            raise ValueError(f"flags must be below {1 << len(FIELDS)}, not {int(self.flags.max())}")

    def _check(self, name: str, words: NDArray[np.uint64], bits: int) -> None:
        shape = (len(self.flags), -(-bits // 64))
        if words.dtype != np.uint64 or words.shape != shape:
            raise ValueError(f"{name} must be uint64 {list(shape)}, not {_kind(words)}")
        if bits % 64 and np.any(words[:, -1] >> np.uint64(bits % 64)):
            worst = int(np.max(words[:, -1]))
            raise ValueError(f"{name} must be 0 beyond bit {bits - 1}, not {worst:#x} in its last word")

    def bits(self, word: str) -> int:
        """Bits of the word ``w``, ``x`` or ``mask`` of a beat."""
        own: int | None = getattr(self, f"{word}_bits")
        return self.lanes if own is None else own

    def __len__(self) -> int:
        return len(self.flags)

    @property
    def lasts(self) -> NDArray[np.bool_]:
        """[n]: beats that finish an item."""
        return (self.flags & LAST) != 0

    @classmethod
    def from_list(cls, beats: Sequence[Beat], spec: PeSpec) -> Beats:
        """The same beats as arrays, for the PE ``spec``. Raises ValueError if a word has too many bits."""
        widths = _widths(spec)
        words = {
            name: _split([getattr(beat, name) for beat in beats] if bits else [0] * len(beats), bits, name)
            for name, bits in widths.items()
        }
        flags = [sum(bit for name, bit in FIELDS.items() if getattr(beat, name)) for beat in beats]
        return cls._of(spec.lanes, widths, {**words, "flags": np.array(flags, np.uint8)})

    def to_list(self) -> list[Beat]:
        """The same beats one by one."""
        return list(self)

    def __iter__(self) -> Iterator[Beat]:
        for w, x, mask, flags in zip(self.w, self.x, self.mask, self.flags.tolist(), strict=True):
            named = {name: bool(flags & bit) for name, bit in FIELDS.items()}
            yield Beat(w=_join(w), x=_join(x), mask=_join(mask), **named)

    @classmethod
    def concatenate(cls, parts: Sequence[Beats]) -> Beats:
        """``parts`` one after the other.

        Raises ValueError if there is none, or if their lanes or widths differ.
        """
        if not parts:
            raise ValueError("parts must hold at least one Beats, not ()")
        for what in ("lanes", *(f"{word}_bits" for word in WORDS)):
            kinds = sorted({part.lanes if what == "lanes" else part.bits(what[:-5]) for part in parts})
            if len(kinds) > 1:
                raise ValueError(f"parts must have equal {what}, not {kinds!r}")
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in (*WORDS, "flags")}
        widths = {word: parts[0].bits(word) for word in WORDS}
        return cls._of(parts[0].lanes, widths, arrays)

    @classmethod
    def random(cls, spec: PeSpec, n: int, seed: int) -> Beats:
        """``n`` beats of every kind that ``spec`` reads, the last one finishing an item: test vectors.

        Items average five beats. Half of the masks are full, some empty; flags are independent coins except
        that the beat after a ``last`` is mostly, not always, a ``first`` (without it an accumulator runs on).
        The same ``seed`` gives the same beats.
        """
        rng = np.random.default_rng(seed)
        widths = _widths(spec)
        full = {name: _full(n, bits) for name, bits in widths.items()}
        w, x, mask = (rng.integers(0, 1 << 64, f.shape, np.uint64) & f for f in full.values())
        density = rng.random((n, 1))
        mask = np.where(density < 0.5, full["mask"], np.where(density < 0.55, np.uint64(0), mask))
        free = sum(FIELDS[name] for name in spec.flags() if name not in ("first", "last"))
        flags = rng.integers(0, LAST, n, np.uint8) & np.uint8(free)
        lasts = rng.random(n) < 0.2
        lasts[-1:] = True
        follows = np.concatenate([np.ones(min(n, 1), bool), lasts[:-1]])
        flags |= np.where(follows & (rng.random(n) < 0.9), FIRST, 0).astype(np.uint8)
        flags |= np.where(lasts, LAST, 0).astype(np.uint8)
        return cls._of(spec.lanes, widths, {"w": w, "x": x, "mask": mask, "flags": flags})

    @classmethod
    def _of(cls, lanes: int, widths: dict[str, int], arrays: dict[str, Any]) -> Beats:
        named: dict[str, Any] = {**arrays, **_named(widths)}
        return cls(lanes=lanes, **named)

    def payload(self, spec: PeSpec) -> NDArray[np.uint32]:
        """The packed port ``i.payload`` of a PE, uint32 [n, words], low word first.

        The fields are those of `PeSpec.fields`, the first from bit 0 on.

        Raises ValueError if the words of the beats are not those of the PE.
        """
        widths = _widths(spec)
        for name, bits in {"lanes": spec.lanes, **_named(widths)}.items():
            own = self.lanes if name == "lanes" else self.bits(name[:-5])
            if own != bits:
                raise ValueError(f"{name} must be {bits} for this PE, not {own!r}")
        total = sum(spec.fields().values())
        words = np.zeros((len(self), -(-total // 64)), np.uint64)
        offset = 0
        for name in spec.words():
            source = getattr(self, name)
            for column in range(source.shape[1]):
                _put(words, source[:, column], offset + 64 * column)
            offset += widths[name]
        for name in spec.flags():
            _put(words, (self.flags & FIELDS[name] != 0).astype(np.uint64), offset)
            offset += 1
        half_words = words.astype("<u8", copy=False).view("<u4")
        return np.ascontiguousarray(half_words[:, : -(-total // 32)], dtype=np.uint32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What an engine that executed a PE observed."""

    items: NDArray[
        np.int64
    ]  #: in the order they were handed over: [n], of a PE of several outputs [n, outputs]
    cycles: int  #: clocks up to and including the one that took the last item (`PeSpec.stalled_cycles`)


def side_by_side(values: Sequence[int], width: int) -> int:
    """``values`` in fields of ``width`` bits, the first in the lowest; negative ones in two's complement."""
    return sum((value % (1 << width)) << width * at for at, value in enumerate(values))


def _widths(spec: PeSpec) -> dict[str, int]:
    """Bits of each word of a PE's beats, 0 of one it lacks."""
    return {name: spec.words().get(name, 0) for name in WORDS}


def _named(widths: dict[str, int]) -> dict[str, int]:
    return {f"{name}_bits": bits for name, bits in widths.items()}


def _full(n: int, bits: int) -> NDArray[np.uint64]:
    """Words of ``bits`` ones, [n, ceil(bits / 64)]."""
    words = np.full((n, -(-bits // 64)), np.iinfo(np.uint64).max)
    words[:, -1:] >>= np.uint64(-bits % 64)
    return words


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
