"""Planes as words: one bit per entry, 64 columns to a ``uint64``.

Column ``k`` is bit ``k % 64`` of word ``k // 64``; the pad bits of the last word are 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WORD = 64  #: columns in a word

Words = NDArray[np.uint64]


def word_count(columns: int) -> int:
    """Words that hold ``columns`` bits."""
    return -(-columns // WORD)


def pack(bits: NDArray[np.bool_]) -> Words:
    """Words uint64 [..., ceil(columns/64)] of a boolean array [..., columns]."""
    bits = np.asarray(bits)
    if bits.dtype != np.bool_:
        raise TypeError(f"bits must be boolean, not {bits.dtype}")
    columns = bits.shape[-1]
    padded = np.zeros((*bits.shape[:-1], word_count(columns) * WORD), np.bool_)
    padded[..., :columns] = bits
    octets = np.packbits(padded, axis=-1, bitorder="little")
    return octets.view("<u8").astype(np.uint64, copy=False)


def unpack(words: Words, columns: int) -> NDArray[np.bool_]:
    """Boolean array [..., columns] of words uint64 [..., ceil(columns/64)]."""
    if words.shape[-1] != word_count(columns):
        raise ValueError(f"words must hold {word_count(columns)} words a row, not {words.shape[-1]}")
    octets = np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=columns, bitorder="little").view(np.bool_)


def valid(columns: int) -> Words:
    """Words uint64 [ceil(columns/64)] with a 1 for each column and 0 for each pad bit."""
    return pack(np.ones(columns, np.bool_))


def popcount(words: Words) -> NDArray[np.int64]:
    """Ones in the last axis of words."""
    return np.bitwise_count(words).sum(axis=-1, dtype=np.int64)
