"""Planner: parts of a matrix product as loads and runs, tile by tile.

A product is a list of parts. A part is one step table walked over pieces of columns: the same planes, the
same number of words, other operands and mantissas. Blocks of pieces that fit the buffers become loads and
runs that take turns with the halves, so that the next block loads while one is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hw.accelerator.commands import Command, Load, Opcode, Run
from hw.accelerator.spec import AcceleratorSpec

Int = NDArray[np.int64]
Entries = list[list[int]]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Pieces of columns that one step table serves, for all tiles of a product.

    ``w``, ``x`` and ``mask`` give the entries of a piece for a tile: of rows, of tokens, of rows. They stand
    chunk by chunk; of a chunk, the words of one after the other plane (or group of planes).
    """

    stream: int  #: which of the product's sums it adds to
    table: tuple[int, ...]  #: packed steps
    chunks: int  #: words of a piece's columns
    w_planes: int  #: weight entries of a chunk
    x_planes: int
    pieces: int
    w: Callable[[int, int], Entries]  #: (piece, tile of rows) -> entries
    x: Callable[[int, int], Entries]  #: (piece, tile of tokens) -> entries
    mask: Callable[[int, int], Entries] | None  #: None: the PE has none
    mantissas: Int  #: [pieces, tokens, rows]

    def entries(self) -> dict[str, int]:
        """Entries of a piece in each buffer, mantissas apart."""
        found = {"w": self.chunks * self.w_planes, "x": self.chunks * self.x_planes}
        return found if self.mask is None else found | {"mask": self.chunks}


@dataclass(frozen=True, kw_only=True)
class Block:
    """Consecutive pieces of a part that are in the buffers together."""

    part: int
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Outputs that are computed together."""

    stream: int
    tokens: slice
    rows: slice


@dataclass
class Arena:
    """Who is where in a buffer. A half is given up as a whole, when the other one is full."""

    depth: int
    half: int = 0
    used: int = 0
    known: list[dict[object, int]] = field(default_factory=lambda: [{}, {}])

    def place(self, key: object, entries: int, *, alone: bool) -> tuple[int, bool]:
        """Address of a block, and whether it has to be loaded.

        With ``alone`` each new block gets a half of its own, which then loads while the other one is read.
        """
        for half, blocks in enumerate(self.known):
            if key in blocks:
                return half * self.depth + blocks[key], False
        if self.used + entries > self.depth or (alone and self.used):
            self.half, self.used = 1 - self.half, 0
            self.known[self.half].clear()
        address = self.used
        self.known[self.half][key] = address
        self.used += entries
        return self.half * self.depth + address, True


def blocks(spec: AcceleratorSpec, parts: Sequence[Part]) -> dict[int, list[Block]]:
    """What is in the buffers together, by stream. Raises ValueError if a piece does not fit a half."""
    found: dict[int, list[Block]] = {}
    for at, part in enumerate(parts):
        room = {name: buffer.depth for name, buffer in spec.buffers().items()}
        if len(part.table) > room["steps"]:
            raise ValueError(f"step_depth must be at least {len(part.table)}, not {room['steps']!r}")
        needed = part.entries() | {"scale": spec.rows}
        for name, entries in needed.items():
            if entries > room[name]:
                raise ValueError(f"{name}_depth must be at least {entries}, not {room[name]!r}")
        size = min(room[name] // entries for name, entries in needed.items())
        found.setdefault(part.stream, []).extend(
            Block(part=at, begin=begin, end=min(begin + size, part.pieces))
            for begin in range(0, part.pieces, size)
        )
    return found


@dataclass
class Planner:
    """Packets of a product, in order."""

    spec: AcceleratorSpec
    parts: Sequence[Part]
    tokens: int
    rows: int

    def __post_init__(self) -> None:
        self.blocks = blocks(self.spec, self.parts)
        self.arenas = {name: Arena(buffer.depth) for name, buffer in self.spec.buffers().items()}
        self.tiles: list[Tile] = []

    def held(self, *names: str) -> bool:
        """Whether all blocks of a tile fit a half of these buffers together."""
        for name in names:
            total = sum(
                (b.end - b.begin) * self.parts[b.part].entries()[name]
                for of_stream in self.blocks.values()
                for b in of_stream
            )
            if total > self.spec.buffers()[name].depth:
                return False
        return True

    def commands(self) -> Iterator[Command]:
        """Loads and runs. Activations stay for all rows if they fit a half, else weights for all tokens."""
        by_tokens = range(-(-self.tokens // self.spec.columns))
        by_rows = range(-(-self.rows // self.spec.rows))
        weights = ("w", "mask") if self.spec.masked else ("w",)
        rows_outside = not self.held("x") and self.held(*weights)
        stays = weights if rows_outside else ("x",) if self.held("x") else ()
        order = (
            [(t, r) for r in by_rows for t in by_tokens]
            if rows_outside
            else [(t, r) for t in by_tokens for r in by_rows]
        )
        before = None
        for tokens, rows in order:
            outer = rows if rows_outside else tokens
            if stays and outer != before:
                yield from self.prefetch(stays, tokens, rows)
            before = outer
            yield from self.tile(tokens, rows, stays)

    def prefetch(self, names: Sequence[str], tokens: int, rows: int) -> Iterator[Command]:
        """All of a tile's blocks in buffers where they stay, before a run reads that half."""
        for name in names:
            arena = self.arenas[name]
            if arena.used:  # what stays begins with a half of its own
                arena.half, arena.used = 1 - arena.half, 0
                arena.known[arena.half].clear()
            for of_stream in self.blocks.values():
                for block in of_stream:
                    yield from self.load(name, block, tokens, rows, alone=False)[1]

    def tile(self, tokens: int, rows: int, stays: Sequence[str]) -> Iterator[Command]:
        """One tile of every stream."""
        spec = self.spec
        here = slice(tokens * spec.columns, min((tokens + 1) * spec.columns, self.tokens))
        there = slice(rows * spec.rows, min((rows + 1) * spec.rows, self.rows))
        for stream, of_stream in self.blocks.items():
            for at, block in enumerate(of_stream):
                part, addresses = self.parts[block.part], {}
                for name in part.entries():
                    addresses[name], loads = self.load(name, block, tokens, rows, alone=name not in stays)
                    yield from loads
                addresses["steps"], loads = self.load_table(part)
                yield from loads
                addresses["scale"], loads = self.load_mantissas(part, block, here, there)
                yield from loads
                yield Run(
                    w_base=addresses["w"],
                    x_base=addresses["x"],
                    mask_base=addresses.get("mask", 0),
                    scale_base=addresses["scale"],
                    steps_base=addresses["steps"],
                    w_stride=part.chunks * part.w_planes,
                    x_stride=part.chunks * part.x_planes,
                    mask_stride=part.chunks,
                    w_step=part.w_planes,
                    x_step=part.x_planes,
                    mask_step=1,
                    rows=there.stop - there.start,
                    columns=here.stop - here.start,
                    chunks=part.chunks,
                    groups=block.end - block.begin,
                    steps=len(part.table),
                    clear=at == 0,
                    drain=at == len(of_stream) - 1,
                    tag=len(self.tiles) & 0xFFFF,
                )
            self.tiles.append(Tile(stream=stream, tokens=here, rows=there))

    def load(
        self, name: str, block: Block, tokens: int, rows: int, *, alone: bool
    ) -> tuple[int, list[Command]]:
        """Where a block's operands are, and what brings them there."""
        part, tile = self.parts[block.part], tokens if name == "x" else rows
        count = (block.end - block.begin) * part.entries()[name]
        address, missing = self.arenas[name].place((block, tile), count, alone=alone)
        if not missing:
            return address, []
        give = {"w": part.w, "x": part.x, "mask": part.mask}[name]
        assert give is not None
        entries = [entry for piece in range(block.begin, block.end) for entry in give(piece, tile)]
        opcode = {"w": Opcode.LOAD_W, "x": Opcode.LOAD_X, "mask": Opcode.LOAD_MASK}[name]
        return address, [Load(opcode=opcode, address=address, entries=entries)]

    def load_table(self, part: Part) -> tuple[int, list[Command]]:
        """The same for a step table."""
        address, missing = self.arenas["steps"].place(part.table, len(part.table), alone=False)
        entries = [[step] for step in part.table]
        return address, [Load(opcode=Opcode.LOAD_STEPS, address=address, entries=entries)] if missing else []

    def load_mantissas(
        self, part: Part, block: Block, tokens: slice, rows: slice
    ) -> tuple[int, list[Command]]:
        """The same for mantissas: one for all columns where the tokens have none of their own."""
        values = part.mantissas[block.begin : block.end, tokens, rows]
        by_row = np.moveaxis(values, 1, 2).reshape(-1, values.shape[1])  # [pieces * rows, tokens]
        common = bool(np.all(by_row == by_row[:, :1]))
        key = (block, rows.start) if common else (block, rows.start, tokens.start)
        address, missing = self.arenas["scale"].place(key, len(by_row), alone=True)
        if not missing:
            return address, []
        if common:
            entries = by_row[:, :1].tolist()
            return address, [Load(opcode=Opcode.LOAD_SCALE_ALL, address=address, entries=entries)]
        padded = np.pad(by_row, ((0, 0), (0, self.spec.columns - by_row.shape[1])))
        return address, [Load(opcode=Opcode.LOAD_SCALE, address=address, entries=padded.tolist())]
