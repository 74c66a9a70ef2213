"""Code matrices in the order that the byte kernels read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim.kernels.codes import Int
from sim.kernels.contract import aligned
from sim.kernels.dots_kernels import Columns, Laid
from sim.kernels.dots_tile import BLOCKS, PANEL, ROWS

#: Columns whose sums stay in 32 bits: 255 * 128 a column for the codes and as much for their zero.
RUN = 32768
BLOCK = 32 * ROWS  #: rows laid out at once


class Extent(Protocol):
    """What is laid out: rows, and columns in groups of which the last may be short."""

    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def group(self) -> int: ...
    @property
    def groups(self) -> int: ...


class Coding(Protocol):
    """What codes mean: ``multiplier * (step * code - zero)``; multiplier [rows or 1, groups or 1]."""

    @property
    def bits(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def zero(self) -> int: ...
    @property
    def multiplier(self) -> Int: ...


def columns(matrix: Extent, bits: Sequence[int]) -> Columns:
    """Groups as runs of quads, padded to what the narrowest codes fill bytes with, where that is smallest."""

    def size(fields: int) -> int:
        quads = int(padded(matrix, fields).quads[-1])
        return sum(quads * 4 // _fields(width, fields) for width in bits)

    return padded(matrix, min((8, 4, 2, 1), key=size))


def padded(matrix: Extent, quads: int) -> Columns:
    """Groups as runs of a multiple of ``quads`` quads each."""
    first = [0]
    while first[-1] < matrix.columns:
        end = (first[-1] // matrix.group + 1) * matrix.group
        first.append(min(end, first[-1] + RUN, matrix.columns))
    starts = np.array(first)
    sizes = -(-np.diff(starts) // (4 * quads)) * quads
    return Columns(
        width=matrix.columns,
        first=starts[:-1],
        last=starts[1:],
        quads=np.concatenate([[0], np.cumsum(sizes)]),
        group=starts[:-1] // matrix.group,
    )


def repeated(columns: Columns, times: int) -> Columns:
    """The same columns several times over, each time a group of their own; there was one group."""
    sizes = np.tile(np.diff(columns.quads), times)
    return Columns(
        width=columns.width,
        first=np.tile(columns.first, times),
        last=np.tile(columns.last, times),
        quads=np.concatenate([[0], np.cumsum(sizes)]),
        group=np.repeat(np.arange(times), len(columns.group)),
    )


def _fields(bits: int, most: int) -> int:
    """Codes of a width in a byte, at most as many as the columns are padded for."""
    return next(fields for fields in (8, 4, 2, 1) if fields * bits <= 8 and fields <= most)


def lay(
    matrix: Extent,
    code: Coding,
    codes_of: Callable[[slice], NDArray[np.uint8]],
    rest: Int | None,
    columns: Columns,
) -> Laid:
    """A code matrix, given as the codes of some rows, and what multiplies the sums of the activations."""
    most = int(np.gcd.reduce([8, *columns.quads.tolist()]))
    fields, quads = _fields(code.bits, most), int(columns.quads[-1])
    panels = -(-matrix.rows // ROWS)
    codes = aligned(panels * quads * PANEL // fields)
    shaped = codes.reshape(panels, quads // fields, PANEL)
    for first in range(0, matrix.rows, BLOCK):
        values = codes_of(slice(first, first + BLOCK))
        part = slice(first // ROWS, first // ROWS + -(-len(values) // ROWS))
        if fields == 1:
            values *= np.uint8(code.step)
        shaped[part] = _packed(in_quads(values, columns), fields)
    return Laid(
        codes=codes,
        folds=fields.bit_length() - 1,
        step=1 if fields == 1 else code.step,
        zero=code.zero,
        multipliers=per_group(matrix, code.multiplier),
        rest=np.empty(0, np.int32) if rest is None else per_group(matrix, rest),
    )


def in_quads(values: NDArray[np.uint8], columns: Columns) -> NDArray[np.uint8]:
    """Codes, given run after run, as [panels * ROWS, quads * 4], rows and runs padded with 0."""
    rows = -(-len(values) // ROWS) * ROWS
    padded = np.zeros((rows, int(columns.quads[-1]) * 4), np.uint8)
    if padded.shape == values.shape:
        return np.ascontiguousarray(values)
    sizes = columns.last - columns.first
    moved = columns.quads[:-1] * 4 - (np.cumsum(sizes) - sizes)
    places = np.repeat(moved, sizes) + np.arange(sizes.sum())
    padded[: len(values), places] = values
    return padded


def _packed(values: NDArray[np.uint8], fields: int) -> NDArray[np.uint8]:
    """Codes as [panels, vectors, PANEL] bytes."""
    panels = len(values) // ROWS
    quads = values.view(np.uint32).reshape(panels, BLOCKS, 2, 8, -1)
    turned = np.ascontiguousarray(quads.transpose(0, 4, 1, 3, 2)).view(np.uint8)
    split = turned.reshape(panels, -1, fields, PANEL)
    bits = 8 // fields
    packed = split[:, :, 0].copy()
    for field in range(1, fields):
        packed |= split[:, :, field] << (bits * field)
    return packed


def per_group(matrix: Extent, values: Int) -> NDArray[np.int32]:
    """[panels, groups, ROWS] in the order of lanes, flat; rows of padding 0."""
    panels = -(-matrix.rows // ROWS)
    padded = np.zeros((panels * ROWS, matrix.groups), np.int32)
    padded[: matrix.rows] = values
    lanes = padded.reshape(panels, BLOCKS, 2, 8, matrix.groups).transpose(0, 4, 1, 3, 2)
    return np.ascontiguousarray(lanes).reshape(-1)
