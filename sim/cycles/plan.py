"""A product cut into tile jobs: two operands in tiles, columns in chunks that fit the buffers.

The nest is ``outer tile > block of inner tiles > chunk of columns > inner tile``. One operand is outer
(weights where ``outer`` is "rows"), the other inner. Output-stationary is a block of one tile: the
chunks of an output follow each other. Weight-stationary (of either operand) is a block as large as the
partial sums' buffer: a chunk of the outer operand meets the whole block. Tables have an entry per chunk and
kind of tile (whole, or ragged at the edge), so a plan's size does not grow with the number of jobs.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hw.spec import ArraySpec, signed_bits
from sim.cycles.product import Pass, Product, kept

Int = NDArray[np.int64]

#: Columns of `Plan.work`: clocks of all items of a chunk, of the first, of the others at the pace of the
#: scale unit; items; words a row reads of planes and of masks, words a column reads of activations.
BUSY, LEAD, REST, ITEMS, PLANE_WORDS, MASK_WORDS, X_WORDS = range(7)


class Facts(Protocol):
    """What the real bits of a matrix let an array skip."""

    def work(self, pieces: list[tuple[int, int]], product: Product, array: ArraySpec) -> Int:
        """Beats, plane words, mask words, activation words: int64 [row tiles, pieces, passes, 4]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Tile jobs of a product on an array."""

    product: Product
    array: ArraySpec
    chunks: tuple[tuple[int, int], ...]  #: first column, and the one behind the last
    block: int  #: inner tiles that share a chunk of the outer operand
    outer_streams: bool  #: a chunk of the outer operand is fetched for every block; else a tile of it once
    inner_resident: bool  #: the inner operand is fetched once and stays; else again for every outer tile
    work: Int  #: [kinds of row tiles, chunks, 7]; kinds: whole and last, or every row tile by itself
    weight_bits: Int  #: [2, chunks] bits fetched for a row tile, whole and last
    activation_bits: Int  #: [2, chunks] bits fetched for a token tile, whole and last

    @property
    def row_tiles(self) -> int:
        return -(-self.product.rows // self.array.tile_rows)

    @property
    def token_tiles(self) -> int:
        return -(-self.product.tokens // self.array.tile_tokens)

    @property
    def rows_outer(self) -> bool:
        """Whether weights are the outer operand."""
        return self.array.outer == "rows"

    @property
    def outer_tiles(self) -> int:
        return self.row_tiles if self.rows_outer else self.token_tiles

    @property
    def inner_tiles(self) -> int:
        return self.token_tiles if self.rows_outer else self.row_tiles

    @property
    def blocks(self) -> int:
        return -(-self.inner_tiles // self.block)

    @property
    def jobs(self) -> int:
        return self.row_tiles * self.token_tiles * len(self.chunks)

    @property
    def per_row_tile(self) -> bool:
        """Whether `work` has an entry for every row tile."""
        return len(self.work) == self.row_tiles

    def live(self, tiles: str) -> tuple[int, int]:
        """Rows, or tokens, of a whole and of the last tile of "rows" or "tokens"."""
        total, size = (
            (self.product.rows, self.array.tile_rows)
            if tiles == "rows"
            else (self.product.tokens, self.array.tile_tokens)
        )
        return min(size, total), (total - 1) % size + 1 if total else 0


def plan(product: Product, array: ArraySpec, facts: Facts | None = None) -> Plan:
    """How ``array`` runs ``product``.

    Parameters: facts, what the stored bits let the array skip; without them nothing is skipped.

    Raises ValueError if a buffer cannot hold what the array needs at once; the message has both sizes.
    """
    rows, tokens = min(array.tile_rows, product.rows), min(array.tile_tokens, product.tokens)
    weights = _Operand("weight_buffer_bits", rows, product.rows, product.stored.row, product.stored.shared)
    row_bits = product.token_row + product.token_bits
    acts = _Operand("activation_buffer_bits", tokens, product.tokens, row_bits, 0)
    outer, inner = (weights, acts) if array.outer == "rows" else (acts, weights)
    streams = outer.lanes * outer.bits > outer.slot(array)
    resident = inner.all * inner.bits + inner.shared <= getattr(array, inner.buffer)
    limit = product.columns
    if streams:
        limit = min(limit, outer.columns(product, array))
    if not resident:
        limit = min(limit, inner.columns(product, array))
    step = lcm(array.pe.lanes, *(one.of for one in product.passes))
    chunks = _chunks(product, limit, step)
    return Plan(
        product=product,
        array=array,
        chunks=chunks,
        block=_block(product, array),
        outer_streams=streams,
        inner_resident=resident,
        work=_work(product, array, chunks, facts),
        weight_bits=_bits(chunks, product, product.stored.row, 0, array.tile_rows, product.rows),
        activation_bits=_bits(
            chunks, product, product.token_row, product.token_bits, array.tile_tokens, product.tokens
        ),
    )


@dataclass(frozen=True)
class _Operand:
    """One of the two operands: how much of it a tile and the whole of it take."""

    buffer: str  #: field of the array that holds it
    lanes: int  #: rows or tokens of a whole tile
    all: int  #: rows or tokens in all
    bits: int  #: of one row or token, all columns
    shared: int

    def slot(self, array: ArraySpec) -> int:
        size: int = getattr(array, self.buffer)
        return size // array.buffers

    def columns(self, product: Product, array: ArraySpec) -> int:
        """Columns of a tile that fit a slot.

        Raises ValueError if not even a word of them does.
        """
        if not self.lanes:
            return product.columns
        fixed = product.token_bits if self.buffer.startswith("activation") else 0
        room = self.slot(array) // self.lanes - fixed
        fit = room * product.columns // max(1, self.bits - fixed)
        least = min(lcm(array.pe.lanes, *(one.of for one in product.passes)), product.group, product.columns)
        if fit < least:
            needed = array.buffers * self.lanes * (-(-(self.bits - fixed) * least // product.columns) + fixed)
            raise ValueError(
                f"{self.buffer} must be at least {needed} for {array.buffers} times {self.lanes} x {least} "
                f"columns, not {getattr(array, self.buffer)!r}"
            )
        return min(fit, product.columns)


def _chunks(product: Product, limit: int, step: int) -> tuple[tuple[int, int], ...]:
    """Column ranges of at most ``limit``: whole groups, or whole words of one group."""
    columns, group = product.columns, product.group
    if limit >= columns:
        return ((0, columns),)
    if limit >= group:
        return _even(0, columns, limit, group)
    found: list[tuple[int, int]] = []
    for start in range(0, columns, group):
        found += _even(start, min(start + group, columns), limit, step)
    return tuple(found)


def _even(start: int, stop: int, limit: int, step: int) -> tuple[tuple[int, int], ...]:
    """Ranges of whole steps, at most ``limit`` columns each, as few and as even as can be."""
    steps, most = -(-(stop - start) // step), limit // step
    size = -(-steps // -(-steps // most)) * step
    return tuple((first, min(first + size, stop)) for first in range(start, stop, size))


def _block(product: Product, array: ArraySpec) -> int:
    """Inner tiles whose partial sums are held at once."""
    if array.dataflow == "output-stationary":
        return 1
    tile = array.tile_rows * array.tile_tokens * array.pe.acc_width
    held = array.result_buffer_bits // array.buffers // tile
    if not held:
        raise ValueError(
            f"result_buffer_bits must be at least {array.buffers * tile} for {array.buffers} times the "
            f"partial sums of a tile, not {array.result_buffer_bits!r}"
        )
    rows, tokens = -(-product.rows // array.tile_rows), -(-product.tokens // array.tile_tokens)
    return max(1, min(held, tokens if array.outer == "rows" else rows))


def pieces(product: Product, chunk: tuple[int, int]) -> list[tuple[int, int]]:
    """Column ranges of the items of a chunk: its groups, or the part of one."""
    first, stop = chunk
    found = []
    while first < stop:
        behind = min(stop, (first // product.group + 1) * product.group)
        found.append((first, behind))
        first = behind
    return found


def item(columns: int, one: Pass, product: Product, array: ArraySpec) -> tuple[int, int, int, int]:
    """Beats of one item over ``columns``, and the words it reads of planes, masks and activations.

    An operand that stays in the PEs is read once for all planes it meets.
    """
    packed = kept(columns, one) if array.pack_kept else columns
    segment = product.segment(one, packed)
    width = array.pe.columns(segment)
    words, gathered = -(-packed // width), -(-columns // width)
    steps = [step for step in array.pe.steps(segment) if not step.bubble]
    planes, masks = sum(len(step.w) for step in steps), len(steps)
    if weights_stay(array) or array.planes == "inside":
        planes = masks = len({plane for step in steps for plane in step.w})
    x_words = gathered * sum(len(step.x) for step in steps)
    beats = array.pe.beats(segment) if array.planes == "outermost" else words * len(steps)
    if array.dataflow == "weight-stationary" and array.outer == "tokens":
        x_words = gathered * len({plane for step in steps for plane in step.x})
    return beats, 0 if one.sums else words * planes, words * masks if one.masked else 0, x_words


def weights_stay(array: ArraySpec) -> bool:
    """Whether a chunk of weights stays in the PEs while tokens pass."""
    return array.dataflow == "weight-stationary" and array.outer == "rows"


def check_width(made: Plan) -> None:
    """Refuse an array whose accumulators may not hold an item of the plan.

    Raises ValueError with both widths.
    """
    product, array = made.product, made.array
    columns = max(stop - first for chunk in made.chunks for first, stop in pieces(product, chunk))
    for one in product.passes:
        reach = _reach(one.weight) * _reach(product.activation) * kept(columns, one)
        needed = signed_bits(-reach, reach)
        if array.pe.acc_width < needed:
            raise ValueError(
                f"acc_width must be at least {needed} for {columns} columns of {len(one.weight)} x "
                f"{len(product.activation)} planes, not {array.pe.acc_width!r}"
            )


def _reach(places: tuple[int, ...]) -> int:
    """Largest magnitude of an integer of these places, every digit 0 or 1, or a single one -1 or +1."""
    return max(sum(p for p in places if p > 0), -sum(p for p in places if p < 0))


def _work(
    product: Product, array: ArraySpec, chunks: tuple[tuple[int, int], ...], facts: Facts | None
) -> Int:
    tiles = -(-product.rows // array.tile_rows)
    last = (product.rows - 1) % array.tile_rows + 1
    kinds = tiles if facts is not None and array.skip != "none" else 2
    known: dict[tuple[int, int], tuple[int, int, int, int]] = {}
    table = np.zeros((kinds, len(chunks), 7), np.int64)
    for at, chunk in enumerate(chunks):
        parts = pieces(product, chunk)
        if facts is not None and array.skip != "none":
            counted = facts.work(parts, product, array).reshape(tiles, -1, 4)
        else:
            items = []
            for first, stop in parts:
                for number, one in enumerate(product.passes):
                    key = (stop - first, number)
                    if key not in known:
                        known[key] = item(stop - first, one, product, array)
                    items.append(known[key])
            counted = np.array([items] * 2, np.int64).reshape(2, -1, 4)
        scale = np.full(kinds, min(array.tile_rows, product.rows) * array.scale_clocks)
        scale[-1] = last * array.scale_clocks
        table[:, at] = _paced(counted, scale)
    return table


def _paced(counted: Int, scale: Int) -> Int:
    """Columns of `Plan.work` from items int64 [kinds, items, 4]; an item without beats is not handed over."""
    beats = counted[..., 0]
    real = beats > 0
    lead_at = real.argmax(axis=1)
    kinds = np.arange(len(beats))
    pace = np.where(real, np.maximum(beats, scale[:, None]), 0)
    lead, rest = beats[kinds, lead_at], pace.sum(axis=1) - pace[kinds, lead_at]
    summed = counted.sum(axis=1)
    return np.stack(
        [summed[:, 0], lead, rest, real.sum(axis=1), summed[:, 1], summed[:, 2], summed[:, 3]], axis=1
    ).astype(np.int64)


def _bits(
    chunks: tuple[tuple[int, int], ...], product: Product, row: int, fixed: int, size: int, total: int
) -> Int:
    """Bits of a tile's chunk, [2, chunks]: a row's spread over its columns, and ``fixed`` in the first.

    Rounded so that the chunks of a row add up to it.
    """
    columns = product.columns
    share = np.array([row * stop // columns - row * first // columns for first, stop in chunks], np.int64)
    share[0] += fixed
    lanes = np.array([min(size, total), (total - 1) % size + 1 if total else 0], np.int64)
    return lanes[:, None] * share
