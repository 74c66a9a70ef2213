"""Codes in streams of power-of-two widths, so that every stream is aligned: 6 bits as 2 + 4.

As in Wu et al., ZeroQuant(4+2), arXiv:2312.08583, section 4.1, and FP6-LLM, arXiv:2401.14112, section 5; here
a row of codes is a row of each stream, in words of 64 bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
WORD = 64  #: bits


def segments(bits: int) -> tuple[int, ...]:
    """Widths of the streams, the top bits first: the powers of two of ``bits``, rising.

    >>> segments(6), segments(5), segments(7)
    ((2, 4), (1, 4), (1, 2, 4))
    """
    if not 1 <= bits <= 8:
        raise ValueError(f"bits must be at least 1 and at most 8, not {bits!r}")
    return tuple(1 << p for p in range(4) if bits >> p & 1)


def pack_split(codes: Codes, bits: int) -> list[NDArray[np.uint64]]:
    """Streams uint64 [rows, words] of codes uint8 [rows, columns], one for each of `segments`.

    Raises ValueError if a code has more bits.
    """
    if codes.dtype != np.uint8 or codes.ndim != 2:
        raise ValueError(f"codes must be uint8 of two axes, not {codes.dtype} {list(codes.shape)}")
    if codes.size and int(codes.max()) >> bits:
        raise ValueError(f"codes must have {bits} bits, not {int(codes.max())}")
    found, below = [], bits
    for width in segments(bits):
        below -= width
        part = (codes >> below) & ((1 << width) - 1)
        each = WORD // width
        padded = np.zeros((len(codes), -(-codes.shape[1] // each) * each), np.uint64)
        padded[:, : codes.shape[1]] = part
        shifts = (np.arange(each) * width).astype(np.uint64)
        words = np.bitwise_or.reduce(padded.reshape(len(codes), -1, each) << shifts, axis=2)
        found.append(words)
    return found


def unpack_split(streams: list[NDArray[np.uint64]], bits: int, columns: int) -> Codes:
    """Codes uint8 [rows, columns] of their streams; the inverse of `pack_split`.

    Raises ValueError if the streams do not fit bits and columns.
    """
    wanted = [-(-columns // (WORD // width)) for width in segments(bits)]
    if [stream.shape[1] for stream in streams] != wanted:
        raise ValueError(
            f"streams must have {wanted} words a row, not {[stream.shape[1] for stream in streams]}"
        )
    codes, below = np.zeros((len(streams[0]), columns), np.uint8), bits
    for width, stream in zip(segments(bits), streams, strict=True):
        below -= width
        shifts = (np.arange(WORD // width) * width).astype(np.uint64)
        each = (stream[:, :, None] >> shifts) & np.uint64((1 << width) - 1)
        codes |= (each.reshape(len(stream), -1)[:, :columns] << np.uint64(below)).astype(np.uint8)
    return codes


def as_fp16(codes: Codes, exponent: int, mantissa: int) -> NDArray[np.float16]:
    """Codes of a float read as fp16: sign to bit 15, the rest to the bits below fp16's exponent's top.

    The number is the code's value times ``2**(bias - 15)``, subnormals too; ``2**(15 - bias)`` undoes it.
    """
    wide = codes.astype(np.uint16)
    magnitude = wide & ((1 << (exponent + mantissa)) - 1)
    sign = wide >> (exponent + mantissa) & 1
    return (sign << 15 | magnitude << (10 - mantissa)).astype(np.uint16).view(np.float16)
