"""Small integers packed without gaps: scale mantissas, zero points, exponents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Ints:
    """A 2-D array of integers of ``bits`` bits each; on disk a bit stream, least significant bit first."""

    values: NDArray[np.int64]  #: [rows, groups], or [1, groups] shared by all rows
    bits: int  #: width of one entry
    signed: bool  #: two's complement, else unsigned

    def __post_init__(self) -> None:
        if self.values.dtype != np.int64 or self.values.ndim != 2:
            raise ValueError(f"values must be int64 of two axes, not {self.values.dtype} {self.values.shape}")
        if not 1 <= self.bits <= 32:
            raise ValueError(f"bits must be at least 1 and at most 32, not {self.bits!r}")
        low = -(1 << (self.bits - 1)) if self.signed else 0
        high = low + (1 << self.bits) - 1
        if self.values.size and not low <= self.values.min() <= self.values.max() <= high:
            stray = self.values[(self.values < low) | (self.values > high)].flat[0]
            raise ValueError(f"values must lie in [{low}, {high}], not {int(stray)}")

    @property
    def nbytes(self) -> int:
        """Bytes of the bit stream."""
        return -(-self.values.size * self.bits // 8)

    def stream(self) -> NDArray[np.uint8]:
        """The bit stream, uint8 [nbytes], entries in row order."""
        flat = self.values.reshape(-1, 1)
        bits = (flat >> np.arange(self.bits)) & 1
        return np.packbits(bits.astype(np.uint8), bitorder="little")

    @classmethod
    def from_stream(cls, stream: NDArray[np.uint8], shape: tuple[int, int], bits: int, signed: bool) -> Ints:
        """Entries of a bit stream; the inverse of `stream`.

        Raises ValueError if the stream's length does not fit shape and bits.
        """
        size = shape[0] * shape[1]
        if len(stream) != -(-size * bits // 8):
            raise ValueError(
                f"stream must be {-(-size * bits // 8)} bytes for {shape} of {bits} bits, not {len(stream)}"
            )
        raw = np.unpackbits(stream, count=size * bits, bitorder="little").reshape(size, bits)
        values = (raw.astype(np.int64) << np.arange(bits)).sum(axis=1)
        if signed:
            values -= (values >> (bits - 1)) << bits
        return cls(values.reshape(shape), bits, signed)
