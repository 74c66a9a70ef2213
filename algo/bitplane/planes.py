"""The ways a plane is stored: whole, only where a mask is set, a number per N:M pattern, a bit per group.

Whichever it is, it stands for words uint64 [rows, ceil(columns/64)]; what is billed is what is stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.words import Words

#: What a stored array is for; the order of the storage bill.
ROLES = (
    "sign planes",
    "extra planes",
    "masks",
    "indices",
    "scales",
    "offsets",
    "zeros",
    "exponents",
    "factors",
)
WIDEST_PATTERN = 64  #: columns: every binomial of 64 fits an uint64


@dataclass(frozen=True, eq=False)
class Plane:
    """Every bit stored: words uint64 [rows, ceil(columns/64)], or [1, ...] where all rows share them."""

    words: Words
    role: str = "sign planes"

    def __post_init__(self) -> None:
        _check_role(self.role)
        if self.words.dtype != np.uint64 or self.words.ndim != 2:
            raise ValueError(f"words must be uint64 of two axes, not {self.words.dtype} {self.words.shape}")

    @property
    def nbytes(self) -> int:
        """Bytes stored."""
        return self.words.nbytes


@dataclass(frozen=True, eq=False)
class Gathered:
    """Bits stored only where a mask is set, row after row, gapless; 0 elsewhere.

    With a column mask that all rows share this is the dense plane of the gathered columns; with an N:M mask
    it is what a sparse PE reads.
    """

    words: Words  #: uint64 [ceil(bits/64)], bit i is bit ``i % 64`` of word ``i // 64``
    on: str  #: the mask, an expression over planes stored before this one
    role: str = "sign planes"

    def __post_init__(self) -> None:
        _check_role(self.role)
        if self.words.dtype != np.uint64 or self.words.ndim != 1:
            raise ValueError(f"words must be uint64 of one axis, not {self.words.dtype} {self.words.shape}")

    @property
    def nbytes(self) -> int:
        """Bytes stored."""
        return self.words.nbytes

    def spread(self, mask: Words, columns: int) -> Words:
        """Words [rows, ceil(columns/64)] of the whole plane, ``mask`` being the words of ``on``.

        Raises ValueError if the plane holds another number of bits than the mask has.
        """
        count = int(words.popcount(mask).sum())
        if len(self.words) != words.word_count(count):
            raise ValueError(
                f"words must be {words.word_count(count)} for the {count} entries of {self.on!r}, "
                f"not {len(self.words)}"
            )
        whole = words.unpack(mask, columns).copy()
        whole[whole] = words.unpack(self.words, count) if count else np.zeros(0, np.bool_)
        return words.pack(whole)


@dataclass(frozen=True, eq=False)
class PerGroup:
    """One bit for each row and column group, which all columns of the group read: which value set it has."""

    bits: NDArray[np.bool_]  #: [rows, groups], or [1, groups] where all rows share them
    role: str = "indices"

    def __post_init__(self) -> None:
        _check_role(self.role)
        if self.bits.dtype != np.bool_ or self.bits.ndim != 2:
            raise ValueError(f"bits must be boolean of two axes, not {self.bits.dtype} {self.bits.shape}")

    @property
    def nbytes(self) -> int:
        """Bytes of the bit stream."""
        return -(-self.bits.size // 8)

    def stream(self) -> NDArray[np.uint8]:
        """The bits, gapless, uint8 [nbytes], in row order."""
        return np.packbits(self.bits.reshape(-1), bitorder="little")

    @classmethod
    def from_stream(cls, stream: NDArray[np.uint8], shape: tuple[int, int], role: str) -> PerGroup:
        """Bits of a stream; the inverse of `stream`.

        Raises ValueError if the stream's length does not fit the shape.
        """
        size = shape[0] * shape[1]
        if len(stream) != -(-size // 8):
            raise ValueError(f"stream must be {-(-size // 8)} bytes for {shape} bits, not {len(stream)}")
        bits = np.unpackbits(stream, count=size, bitorder="little").astype(np.bool_)
        return cls(bits.reshape(shape), role)

    def spread(self, columns: int, group: int) -> Words:
        """Words [rows, ceil(columns/64)] of the whole plane."""
        return words.pack(self.bits[:, np.arange(columns) // group])


def gather(bits: NDArray[np.bool_], mask: NDArray[np.bool_], on: str, role: str = "sign planes") -> Gathered:
    """The entries of ``bits`` on ``mask``, both boolean [rows, columns], as they are stored."""
    return Gathered(words.pack(bits[np.broadcast_to(mask, bits.shape)]), on, role)


@dataclass(frozen=True, eq=False)
class Pattern:
    """Exactly ``kept`` of every ``of`` columns of a row are set; stored as one number per group of columns.

    The number is the rank of the pattern among all of its kind: positions ``p1 < p2 < ..`` have the rank
    ``sum_i C(p_i, i)`` (combinatorial number system), which takes ``ceil(log2 C(of, kept))`` bits. A last
    group that the row cuts short fills up beyond the last column.
    """

    codes: NDArray[np.uint64]  #: [rows, ceil(columns/of)], or [1, ...] where all rows share them
    kept: int
    of: int
    role: str = "indices"

    def __post_init__(self) -> None:
        _check_role(self.role)
        if not 1 <= self.of <= WIDEST_PATTERN:
            raise ValueError(f"of must be at least 1 and at most {WIDEST_PATTERN}, not {self.of!r}")
        if not 0 <= self.kept <= self.of:
            raise ValueError(f"kept must be at least 0 and at most {self.of}, not {self.kept!r}")
        if self.codes.dtype != np.uint64 or self.codes.ndim != 2:
            raise ValueError(f"codes must be uint64 of two axes, not {self.codes.dtype} {self.codes.shape}")
        limit = math.comb(self.of, self.kept)
        if self.codes.size and int(self.codes.max()) >= limit:
            raise ValueError(f"codes must be below {limit}, not {int(self.codes.max())}")

    @property
    def bits(self) -> int:
        """Width of one code."""
        return (math.comb(self.of, self.kept) - 1).bit_length()

    @property
    def nbytes(self) -> int:
        """Bytes of the bit stream."""
        return -(-self.codes.size * self.bits // 8)

    @classmethod
    def of_bits(cls, bits: NDArray[np.bool_], kept: int, of: int, role: str = "indices") -> Pattern:
        """The pattern of boolean [rows, columns].

        Raises ValueError if a group of columns holds another number of ones than ``kept``, or a short last
        group more than that, or fewer than room beyond the last column can make up for.
        """
        rows, columns = bits.shape
        groups = -(-columns // of)
        padded = np.zeros((rows, groups * of), np.bool_)
        padded[:, :columns] = bits
        padded = padded.reshape(rows, groups, of)
        _fill_up(padded[:, -1], columns - (groups - 1) * of, kept)
        found = padded.sum(axis=2)
        if np.any(found != kept):
            stray = int(found[found != kept].flat[0])
            raise ValueError(f"bits must hold {kept} of every {of} columns, not {stray}")
        table = _binomials()
        rank = np.cumsum(padded, axis=2)
        worth = table[np.arange(of), rank]
        return cls(np.where(padded, worth, 0).sum(axis=2, dtype=np.uint64), kept, of, role)

    def spread(self, columns: int) -> Words:
        """Words [rows, ceil(columns/64)] of the plane."""
        table = _binomials()
        left, missing = self.codes.copy(), np.full(self.codes.shape, self.kept)
        bits = np.zeros((*self.codes.shape, self.of), np.bool_)
        for place in range(self.of - 1, -1, -1):
            worth = table[place, missing]
            here = (left >= worth) & (missing > 0)
            bits[:, :, place] = here
            left -= np.where(here, worth, np.uint64(0))
            missing -= here
        return words.pack(bits.reshape(len(self.codes), -1)[:, :columns])

    def stream(self) -> NDArray[np.uint8]:
        """The codes as a bit stream, uint8 [nbytes], least significant bit first, rows in order."""
        bits = (self.codes.reshape(-1, 1) >> np.arange(self.bits, dtype=np.uint64)) & np.uint64(1)
        return np.packbits(bits.astype(np.uint8), bitorder="little")

    @classmethod
    def from_stream(
        cls, stream: NDArray[np.uint8], shape: tuple[int, int], kept: int, of: int, role: str
    ) -> Pattern:
        """The pattern of a bit stream; the inverse of `stream`.

        Raises ValueError if the stream's length does not fit.
        """
        empty = cls(np.zeros(shape, np.uint64), kept, of, role)
        if len(stream) != empty.nbytes:
            raise ValueError(f"stream must be {empty.nbytes} bytes for {shape} codes, not {len(stream)}")
        size = shape[0] * shape[1]
        raw = np.unpackbits(stream, count=size * empty.bits, bitorder="little").reshape(size, empty.bits)
        places = np.arange(empty.bits, dtype=np.uint64)
        return cls(
            (raw.astype(np.uint64) << places).sum(axis=1, dtype=np.uint64).reshape(shape), kept, of, role
        )


Stored = Plane | Gathered | Pattern | PerGroup


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise ValueError(f"role must be one of {', '.join(ROLES)}, not {role!r}")


def _fill_up(last: NDArray[np.bool_], width: int, kept: int) -> None:
    """Set entries beyond ``width`` of a short last group, from the left, until ``kept`` are set."""
    missing = kept - last[:, :width].sum(axis=1)
    room = np.arange(last.shape[1] - width)
    last[:, width:] = room[None] < missing[:, None]


@lru_cache(maxsize=1)
def _binomials() -> NDArray[np.uint64]:
    """``C(n, k)``, uint64 [64, 65]."""
    return np.array(
        [[math.comb(n, k) for k in range(WIDEST_PATTERN + 1)] for n in range(WIDEST_PATTERN)], np.uint64
    )
