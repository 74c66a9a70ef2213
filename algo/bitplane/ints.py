"""Small integers packed without gaps: scale mantissas, zero points, exponents.

What hardware multiplies by may be wider than what is stored of it: a `Coding` says how a stored code of a few
bits becomes a mantissa (an E8M0 scale is 8 bits in the file and a power of two in the product).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]

WIDEST = 32  #: bits of an entry that is stored as it is
WIDEST_CODED = 48  #: bits of a mantissa behind a code
#: Stored bits of each real number beside affine codes: a step or the offset, two's complement.
STEP_BITS = 32


def _minifloat(mantissa: int, finite: int) -> Int:
    """Integers of the first ``finite`` codes of an unsigned float, in units of its smallest value."""
    code = np.arange(finite)
    binade, share = code >> mantissa, code & ((1 << mantissa) - 1)
    return np.where(binade == 0, share, (share + (1 << mantissa)) << np.maximum(binade - 1, 0))


@cache
def _tables() -> Mapping[str, Int]:
    """Mantissa of every code of the kinds that are tables, rising."""
    return {
        "power": np.left_shift(1, np.arange(WIDEST_CODED - 1, dtype=np.int64)),
        # E4M3 without its sign; 127 is NaN.
        "ue4m3": _minifloat(3, 127),
        # 255 is NaN by the E4M3 convention; see `algo.bitplane.scales`.
        "ue5m3": _minifloat(3, 255),
    }


KINDS: Mapping[str, str] = {
    "power": "8 bits: the exponent of a power of two above the row's",
    "ue4m3": "8 bits: E4M3 without sign, in units of 2**-9",
    "ue5m3": "8 bits: 5 exponent and 3 mantissa bits, in units of 2**-17",
    "affine": "8 bits, two's complement: offset + step * code, a step to every `span` entries",
}
CODE_BITS = 8  #: width of a stored code, of every kind


@dataclass(frozen=True, eq=False)
class Coding:
    """How stored codes of `CODE_BITS` become mantissas; a row of codes may serve a tile of rows."""

    kind: str  #: key of `KINDS`
    tile: int = 1  #: rows that share their codes
    span: int = 256  #: affine: entries, in row order, that share a step
    steps: Int = field(default_factory=lambda: np.zeros(0, np.int64))  #: affine: [ceil(entries/span)]
    offset: int = 0  #: affine

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"coding must be one of {', '.join(KINDS)}, not {self.kind!r}")
        for name in ("tile", "span"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)!r}")

    def mantissas(self, codes: Int) -> Int:
        """What hardware multiplies by, of codes [rows, groups]; one row of codes to a tile.

        Raises ValueError for a code that stands for nothing.
        """
        if self.kind == "affine":
            steps = np.repeat(self.steps, self.span)[: codes.size].reshape(codes.shape)
            return self.offset + steps * codes
        table = _tables()[self.kind]
        if codes.size and int(codes.max()) >= len(table):
            raise ValueError(f"codes must be below {len(table)} for {self.kind}, not {int(codes.max())}")
        return np.asarray(table[codes])

    def codes(self, mantissas: Int) -> Int:
        """Codes of mantissas [rows, groups], a row of codes to a tile.

        Raises ValueError if a mantissa has no code, or differs within a tile.
        """
        kept = mantissas[:: self.tile]
        if self.tile > 1 and not np.array_equal(
            np.repeat(kept, self.tile, axis=0)[: len(mantissas)], mantissas
        ):
            raise ValueError(f"values must be equal in every {self.tile} rows, and are not")
        if self.kind == "affine":
            steps = np.repeat(self.steps, self.span)[: kept.size].reshape(kept.shape)
            found = (kept - self.offset) // np.where(steps == 0, 1, steps)
        else:
            table = _tables()[self.kind]
            found = np.minimum(np.searchsorted(table, kept), len(table) - 1)
        wrong = self.mantissas(found) != kept
        if np.any(wrong):
            raise ValueError(f"values must have a {self.kind} code, not {int(kept[wrong].flat[0])}")
        return found

    def nbytes(self, shape: tuple[int, int]) -> int:
        """Bytes stored for mantissas of a shape."""
        more = STEP_BITS * (len(self.steps) + 1) // 8 if self.kind == "affine" else 0
        return -(-shape[0] // self.tile) * shape[1] * CODE_BITS // 8 + more


@dataclass(frozen=True, eq=False)
class Ints:
    """A 2-D array of integers of ``bits`` bits each; on disk a bit stream, least significant bit first."""

    values: NDArray[np.int64]  #: [rows, groups], or [1, groups] shared by all rows
    bits: int  #: width of one entry
    signed: bool  #: two's complement, else unsigned
    coding: Coding | None = None  #: how an entry is stored; None: as its ``bits``

    def __post_init__(self) -> None:
        if self.values.dtype != np.int64 or self.values.ndim != 2:
            raise ValueError(f"values must be int64 of two axes, not {self.values.dtype} {self.values.shape}")
        most = WIDEST if self.coding is None else WIDEST_CODED
        if not 1 <= self.bits <= most:
            raise ValueError(f"bits must be at least 1 and at most {most}, not {self.bits!r}")
        low = -(1 << (self.bits - 1)) if self.signed else 0
        high = low + (1 << self.bits) - 1
        if self.values.size and not low <= self.values.min() <= self.values.max() <= high:
            stray = self.values[(self.values < low) | (self.values > high)].flat[0]
            raise ValueError(f"values must lie in [{low}, {high}], not {int(stray)}")

    @classmethod
    def coded(cls, values: Int, coding: Coding) -> Ints:
        """Mantissas stored as codes, as wide as the largest needs.

        Raises ValueError if a mantissa has no code.
        """
        coding.codes(values)
        low, high = int(values.min(initial=0)), int(values.max(initial=0))
        bits = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0, 1) + (low < 0)
        return cls(values, bits, low < 0, coding)

    @property
    def stored_bits(self) -> float:
        """Bits in the file for each entry."""
        return self.bits if self.coding is None else 8 * self.nbytes / max(self.values.size, 1)

    @property
    def nbytes(self) -> int:
        """Bytes of the bit stream."""
        if self.coding is not None:
            return self.coding.nbytes((self.values.shape[0], self.values.shape[1]))
        return -(-self.values.size * self.bits // 8)

    def stream(self) -> NDArray[np.uint8]:
        """The bit stream, uint8 [nbytes], entries in row order; of affine codes steps and offset last."""
        if self.coding is None:
            return _stream(self.values, self.bits)
        codes = _stream(self.coding.codes(self.values), CODE_BITS)
        if self.coding.kind != "affine":
            return codes
        return np.concatenate([codes, _stream(np.append(self.coding.steps, self.coding.offset), STEP_BITS)])

    @classmethod
    def from_stream(
        cls,
        stream: NDArray[np.uint8],
        shape: tuple[int, int],
        bits: int,
        signed: bool,
        coding: Coding | None = None,
    ) -> Ints:
        """Entries of a bit stream; the inverse of `stream`. Steps and offset of a coding are the stream's.

        Raises ValueError if the stream's length does not fit shape and bits.
        """
        if coding is None:
            _check_length(stream, -(-shape[0] * shape[1] * bits // 8), shape, bits)
            return cls(_numbers(stream, shape, bits, signed), bits, signed)
        kept = (-(-shape[0] // coding.tile), shape[1])
        size, tail = kept[0] * kept[1], 0
        if coding.kind == "affine":
            tail = -(-size // coding.span) + 1
        _check_length(stream, size + tail * STEP_BITS // 8, kept, CODE_BITS)
        codes = _numbers(stream[:size], kept, CODE_BITS, coding.kind == "affine")
        if tail:
            reals = _numbers(stream[size:], (1, tail), STEP_BITS, True)[0]
            coding = Coding(coding.kind, coding.tile, coding.span, reals[:-1], int(reals[-1]))
        values = np.repeat(coding.mantissas(codes), coding.tile, axis=0)[: shape[0]]
        return cls(values, bits, signed, coding)


def _stream(values: Int, bits: int) -> NDArray[np.uint8]:
    if bits == 8:
        return (values.reshape(-1) & 255).astype(np.uint8)
    flat = values.reshape(-1, 1)
    return np.packbits(((flat >> np.arange(bits)) & 1).astype(np.uint8), bitorder="little")


def _check_length(stream: NDArray[np.uint8], wanted: int, shape: tuple[int, int], bits: int) -> None:
    if len(stream) != wanted:
        raise ValueError(f"stream must be {wanted} bytes for {shape} of {bits} bits, not {len(stream)}")


def _numbers(stream: NDArray[np.uint8], shape: tuple[int, int], bits: int, signed: bool) -> Int:
    size = shape[0] * shape[1]
    raw = np.unpackbits(stream, count=size * bits, bitorder="little").reshape(size, bits)
    values = (raw.astype(np.int64) << np.arange(bits)).sum(axis=1)
    if signed:
        values -= (values >> (bits - 1)) << bits
    return values.reshape(shape)
