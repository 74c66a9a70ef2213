"""What a matrix product makes an array do: clocks, toggles, items, bits moved, counted on the real data.

The array walks its rows tile by tile and, for each, all tokens (output-stationary). Every output is made by
one PE, which sees the output's own beats in order, so toggles add up output by output: those of a weight
operand depend on the row alone, those of an activation operand on the token alone. The step from one output
to the next is not counted, nor are idle PEs at ragged edges, whose operands stand still.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.activations import Activations
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.storage import stored_bytes
from hw.beats import Beats
from hw.spec import Activity, ArraySpec
from sim import schedule

RESULT_BITS = 32  #: an output leaves as float32
SCALE_BITS = 32  #: a token's scale enters as float32
SAMPLE = 256  #: rows, and tokens, whose toggles are counted; the others are taken as their like


def activity(
    matrix: PackedMatrix, activations: Sequence[Activations], array: ArraySpec, *, sample: int = SAMPLE
) -> Activity:
    """Counts of one product on an array.

    Parameters: sample, rows and tokens (evenly spread) whose toggles are counted; all where there are fewer.
    With more the toggles are scaled up, the rest stays exact.

    Raises ValueError as `sim.schedule.work` does.
    """
    tokens = len(activations[0].values)
    shape = schedule.shape(matrix, activations[0].bits, tokens)
    if not tokens:
        return Activity()
    rows_at, tokens_at = _spread(matrix.rows, sample), _spread(tokens, sample)
    by_row = schedule.work(matrix, activations, array.pe, tokens_at[:1], rows_at)
    by_token = schedule.work(matrix, activations, array.pe, tokens_at, rows_at[:1])
    row_share, token_share = matrix.rows / len(rows_at), tokens / len(tokens_at)
    w = _toggles(by_row.beats, "w", len(rows_at)) * row_share * tokens
    mask = _toggles(by_row.beats, "mask", len(rows_at)) * row_share * tokens
    x = _toggles(by_token.beats, "x", len(tokens_at)) * token_share * matrix.rows
    outputs = tokens * matrix.rows
    beats = outputs * (len(by_row.beats) // len(rows_at))
    items = outputs * len(by_row.streams)
    return Activity(
        cycles=array.cycles(shape),
        beats=beats,
        w_toggles=round(w),
        x_toggles=round(x),
        mask_toggles=round(mask),
        items=items,
        scale_products=items,
        weight_buffer_bits=_weight_reads(matrix, activations, array, tokens),
        activation_buffer_bits=beats * array.pe.lanes * _tiles(matrix.rows, array.rows) // matrix.rows,
        result_bits=outputs * RESULT_BITS,
        dram_bits=dram_bits(matrix, activations, array),
    )


def dram_bits(matrix: PackedMatrix, activations: Sequence[Activations], array: ArraySpec) -> int:
    """Bits between the array and external memory: weights as stored, activations, results.

    Weights come once if a tile of rows fits their buffer, else again for every tile of tokens; activations
    come once if all fit theirs, else again for every tile of rows.
    """
    tokens = len(activations[0].values)
    weight = 8 * sum(stored_bytes(matrix).values())
    tile = weight * min(array.rows, matrix.rows) // matrix.rows
    if tile > array.weight_buffer_bits:
        weight *= _tiles(tokens, array.columns)
    into = sum(act.values.size * act.bits + tokens * SCALE_BITS for act in activations)
    if into > array.activation_buffer_bits:
        into *= _tiles(matrix.rows, array.rows)
    return weight + into + tokens * matrix.rows * RESULT_BITS


def _weight_reads(
    matrix: PackedMatrix, activations: Sequence[Activations], array: ArraySpec, tokens: int
) -> int:
    """Bits read from the weight buffer: planes, masks and mantissas, once per row and tile of tokens."""
    bits = 0
    for term in matrix.terms:
        act = activations[matrix.streams.index(term.col)]
        sums = term.zero is not None or term.offset is not None
        words = sum(
            -(-min(matrix.group, matrix.columns - first) // array.pe.lanes)
            for first in range(0, matrix.columns, matrix.group)
        )
        masked = term.mask is not None
        reads = len(term.planes) * (1 + masked) + (masked if sums else 0)
        bits += words * array.pe.lanes * act.bits * reads
        names = [name for name in (term.scale, term.zero, term.offset) if name is not None]
        bits += matrix.groups * sum(matrix.ints[name].bits for name in names)
    return bits * matrix.rows * _tiles(tokens, array.columns)


def _spread(count: int, sample: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, max(1, sample))).astype(np.int64))


def _tiles(count: int, size: int) -> int:
    return -(-count // size)


def _toggles(beats: Beats, name: str, outputs: int) -> int:
    """Bits that change between successive beats of an output, over all outputs."""
    words = getattr(beats, name).reshape(outputs, -1, getattr(beats, name).shape[1])
    return int(np.bitwise_count(words[:, 1:] ^ words[:, :-1]).sum())
