"""An array's Verilog folder, with vectors whose items the PE's own definition gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from amaranth.back import rtlil
from numpy.typing import NDArray

from hw import array, verilog
from hw.beats import FIELDS, Beats, side_by_side
from hw.spec import ArraySpec


def export(spec: ArraySpec, directory: Path, beats: int, seed: int) -> None:
    """Write the folder with so many random beats; see `hw.verilog.write`."""
    verilog.write(design(spec, beats, seed), directory, clock_hz=spec.clock_hz)


def design(spec: ArraySpec, beats: int, seed: int) -> verilog.Design:
    """The array with random vectors: flags in common, words of every row and column their own."""
    pe, copies = spec.pe, array.copies(spec)
    common = Beats.random(pe, beats, seed)
    by_row = [Beats.random(pe, beats, seed + 1 + row) for row in range(spec.rows)]
    by_column = [Beats.random(pe, beats, seed + 1 + spec.rows + c) for c in range(spec.columns)]
    grid = [
        pe.items(replace(common, w=row.w, mask=row.mask, x=column.x), output)
        for row in by_row
        for column in by_column
        for output in range(pe.outputs)
    ]
    fields = [(f"{name}[{at}]", pe.words()[name]) for name, count in copies.items() for at in range(count)]
    words = [
        (_integers(getattr(one, name)), bits)
        for name, bits in pe.words().items()
        for one in (by_column if name == "x" else by_row)
    ]
    flags = [((common.flags & FIELDS[flag] != 0).tolist(), 1) for flag in pe.flags()]
    lasts = tuple(common.lasts.tolist())
    return verilog.Design(
        module="array",
        spec=spec,
        rtlil=str(rtlil.convert(array.create(spec), name="array", emit_src=False)),
        fields=(*fields, *((flag, 1) for flag in pe.flags())),
        item_bits=pe.acc_width * len(grid),
        latency=pe.latency(),
        beats=tuple(
            _packed([(values[at], bits) for values, bits in (*words, *flags)]) for at in range(beats)
        ),
        lasts=lasts,
        items=tuple(side_by_side(items, pe.acc_width) for items in zip(*grid, strict=True)),
        cycles=pe.stalled_cycles(lasts),
    )


def _integers(words: NDArray[np.uint64]) -> list[int]:
    return [int.from_bytes(row.astype("<u8").tobytes(), "little") for row in words]


def _packed(fields: list[tuple[int, int]]) -> int:
    """Values of so many bits each, side by side, the first in the lowest."""
    total = offset = 0
    for value, bits in fields:
        total |= int(value) << offset
        offset += bits
    return total
