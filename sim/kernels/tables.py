"""One- and two-bit codes by tables of subset sums in registers, six columns a lookup.

For each token the 64 sums of every six activations are made once; a weight's six bits are then the index, and
one ``vpermi2w`` adds six columns of 32 rows (the idea of T-MAC, Wei et al., arXiv:2407.00088; differs in: 64
entries of 16 bits, so that no table is rounded). Sums stay in 16 bits for 240 columns of 8-bit activations,
which they always fit.

Where that instruction is one operation (Zen 4 and later) this is the fastest kernel for one token; on Intel
it is two on one port, and `sim.kernels.dots` is as fast or faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.activations import Activations
from algo.bitplane.matrix import PackedMatrix
from sim.kernels import cpu, dots_layout, landing
from sim.kernels.codes import Code, Codes, Int, lower
from sim.kernels.contract import Sums, aligned
from sim.kernels.dots import INT32
from sim.kernels.dots_kernels import Block, Columns, take_activations
from sim.kernels.dots_tile import BLOCKS, ROWS
from sim.kernels.tables_kernels import BOTH, TABLE, Looked, add_lookups, make_tables

NAME = "tables"
GOLDEN = "algo.bitplane.decode.integer_sums"

WIDEST = 2  #: bits of a code; wider ones are cheaper to multiply
TOKENS = 16  #: more are always cheaper to multiply

#: Nanoseconds, estimates. A call; an activation (its share of a table); a bit of a weight, from 4096 x 4096:
#: on a Cascade Lake a median beside `sim.kernels.dots`, on a Zen 4 that of a prototype (0.075 ms).
CALL, ACTIVATION, BIT, BIT_ZEN = 1.2e4, 3.0, 0.0115, 0.0045
SCALE = 0.2  #: a group's sum of a row

_NONE = np.empty(0, np.int64)


def prepare(matrix: PackedMatrix, stream: str | None) -> Tables | None:
    """The stream's codes as indices; None where they are wide or the CPU has no lookup of 16-bit lanes."""
    if not cpu.has("avx512bw"):
        return None
    lowered = lower(matrix, stream)
    stored = [code.multiplier for code in lowered.codes] + ([] if lowered.rest is None else [lowered.rest])
    if any(int(np.abs(values).max(initial=0)) > INT32 for values in stored):
        return None
    return Tables(matrix, lowered) if all(code.bits <= WIDEST for code in lowered.codes) else None


@dataclass(eq=False)
class Tables:
    """Weights as 16-bit indices, 32 rows side by side; laid out when first used."""

    matrix: PackedMatrix
    lowered: Codes

    @cached_property
    def columns(self) -> Columns:
        return dots_layout.padded(self.matrix, 4)

    @cached_property
    def looked(self) -> tuple[Looked, ...]:
        """The code matrices; the first carries the rest."""
        rests = [self.lowered.rest] + [None] * (len(self.lowered.codes) - 1)
        pairs = zip(self.lowered.codes, rests, strict=True)
        return tuple(lay(self.matrix, code, rest, self.columns) for code, rest in pairs)

    def cost(self, bits: int, tokens: int, mantissas: bool) -> float | None:
        """Nanoseconds; see `sim.kernels.contract.Prepared`."""
        if bits > 8 or tokens > TOKENS:
            return None
        rows, columns = -(-self.matrix.rows // BOTH) * BOTH, int(self.columns.quads[-1]) * 4
        bit = BIT_ZEN if cpu.name().startswith("znver") else BIT
        sums = SCALE * rows * len(self.columns.group) * (2.0 if mantissas else 1.0)
        each = sum(code.bits * bit * rows * columns + sums for code in self.lowered.codes)
        return CALL + tokens * (each + ACTIVATION * columns)

    def add(self, act: Activations, out: Sums) -> None:
        """Add the stream's sums; see `sim.kernels.contract.Prepared`."""
        columns, width = self.columns, int(self.columns.quads[-1]) * 4
        x, sums = np.empty(width, np.int8), np.empty(len(columns.group), np.int64)
        tables = aligned(width // 16 * TABLE * 2).view(np.int16)
        for token, values in enumerate(act.values):
            mantissas = _NONE
            if act.mantissa is not None:
                mantissas = np.ascontiguousarray(act.mantissa[token], np.int64)
            take_activations(np.ascontiguousarray(values), 1, columns, 0, -1, x, sums)
            make_tables(x, tables)
            block = Block(x, sums, mantissas, 1)
            for looked in self.looked:
                add_lookups(
                    looked, columns, block, tables, self.matrix.rows, landing.Sums(out[token], 0, False)
                )


def lay(matrix: PackedMatrix, code: Code, rest: Int | None, columns: Columns) -> Looked:
    """A code matrix as indices."""
    words, blocks = int(columns.quads[-1]) // 4, -(-matrix.rows // BOTH)
    indices = aligned(blocks * words * code.bits * BOTH * 2).view(np.uint16)
    shaped = indices.reshape(blocks, words, code.bits, BOTH)
    step = 8 * BOTH
    for first in range(0, matrix.rows, step):
        values = dots_layout.in_quads(code.values(matrix, slice(first, first + step)), columns)
        for bit in range(code.bits):
            part = _indices((values >> bit & 1).astype(np.uint8))
            shaped[first // BOTH : first // BOTH + len(part), :, bit] = part
    return Looked(
        indices=indices,
        bits=code.bits,
        step=code.step,
        zero=code.zero,
        multipliers=_whole(dots_layout.per_group(matrix, code.multiplier), blocks, matrix.groups),
        rest=_NO_REST if rest is None else _whole(dots_layout.per_group(matrix, rest), blocks, matrix.groups),
    )


_NO_REST = np.empty(0, np.int32)


def _indices(bits: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Bits [rows, columns] as [blocks, words, BOTH] in the order of lanes."""
    rows = -(-len(bits) // BOTH) * BOTH
    packed = np.zeros((rows, bits.shape[1] // 16), np.uint16)
    packed[: len(bits)] = np.packbits(bits, axis=1, bitorder="little").view(np.uint16)
    lanes = packed.reshape(-1, 2 * BLOCKS, 2, 8, packed.shape[1]).transpose(0, 4, 1, 3, 2)
    return lanes.reshape(len(lanes), -1, BOTH)


def _whole(values: NDArray[np.int32], blocks: int, groups: int) -> NDArray[np.int32]:
    """Multipliers with a panel of 0 after the last where their number is odd."""
    full = np.zeros(2 * blocks * groups * ROWS, np.int32)
    full[: len(values)] = values
    return full
