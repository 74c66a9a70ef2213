"""Bits a product moves: from the on-chip buffers, and between the array and external memory."""

from __future__ import annotations

from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.storage import stored_bytes
from hw.spec import ArraySpec

RESULT_BITS = 32  #: an output leaves as float32
SCALE_BITS = 32  #: a token's scale enters as float32


def dram_bits(matrix: PackedMatrix, array: ArraySpec, tokens: int, act_bits: int) -> int:
    """Bits between the array and external memory: weights as stored, activations, results.

    Weights come once if a tile of rows fits their buffer, else again for every tile of tokens; activations
    come once if all fit theirs, else again for every tile of rows.
    """
    weight = 8 * sum(stored_bytes(matrix).values())
    tile = weight * min(array.tile_rows, matrix.rows) // matrix.rows
    if tile > array.weight_buffer_bits:
        weight *= tiles(tokens, array.tile_tokens)
    into = len(matrix.streams) * tokens * (matrix.columns * act_bits + SCALE_BITS)
    if into > array.activation_buffer_bits:
        into *= tiles(matrix.rows, array.tile_rows)
    return weight + into + tokens * matrix.rows * RESULT_BITS


def weight_reads(matrix: PackedMatrix, array: ArraySpec, tokens: int, act_bits: int) -> int:
    """Bits read from the weight buffer: planes, masks and mantissas, once per row and tile of tokens."""
    words = sum(
        -(-min(matrix.group, matrix.columns - first) // array.pe.lanes)
        for first in range(0, matrix.columns, matrix.group)
    )
    bits = 0
    for term in matrix.terms:
        masked = term.mask is not None
        sums = term.zero is not None or term.offset is not None
        reads = len(term.planes) * (1 + masked) + (masked if sums else 0)
        bits += words * array.pe.lanes * act_bits * reads
        names = [name for name in (term.scale, term.zero, term.offset) if name is not None]
        bits += round(matrix.groups * sum(matrix.ints[name].stored_bits for name in names))
    return bits * matrix.rows * tiles(tokens, array.columns)


def tiles(count: int, size: int) -> int:
    """Tiles of ``size`` that cover ``count``."""
    return -(-count // size)
