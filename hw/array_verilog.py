"""An array's Verilog folder, with vectors whose items the PE's own definition gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from amaranth.back import rtlil

from hw import array, verilog
from hw.beats import FIELDS, Beats
from hw.spec import ArraySpec


def export(spec: ArraySpec, directory: Path, beats: int, seed: int) -> None:
    """Write the folder with so many random beats; see `hw.verilog.write`."""
    verilog.write(design(spec, beats, seed), directory, clock_hz=spec.clock_hz)


def design(spec: ArraySpec, beats: int, seed: int) -> verilog.Design:
    """The array with random vectors: flags in common, words of every row and column their own."""
    lanes = spec.pe.lanes
    common = Beats.random(lanes, beats, seed)
    by_row = [Beats.random(lanes, beats, seed + 1 + row) for row in range(spec.rows)]
    by_column = [Beats.random(lanes, beats, seed + 1 + spec.rows + c) for c in range(spec.columns)]
    grid = [
        spec.pe.items(replace(common, w=row.w, mask=row.mask, x=column.x).to_list())
        for row in by_row
        for column in by_column
    ]
    words = [*(row.w for row in by_row), *(c.x for c in by_column), *(row.mask for row in by_row)]
    fields = [(f"{name}[{at}]", lanes) for name, count in _operands(spec) for at in range(count)]
    width = spec.pe.acc_width
    lasts = tuple(common.lasts.tolist())
    return verilog.Design(
        module="array",
        spec=spec,
        rtlil=str(rtlil.convert(array.create(spec), name="array", emit_src=False)),
        fields=(*fields, *((flag, 1) for flag in FIELDS)),
        item_bits=width * len(grid),
        latency=spec.pe.latency(),
        beats=tuple(
            _joined([int.from_bytes(w[at].astype("<u8").tobytes(), "little") for w in words], lanes)
            | int(common.flags[at]) << lanes * len(words)
            for at in range(beats)
        ),
        lasts=lasts,
        items=tuple(_joined(list(items), width) for items in zip(*grid, strict=True)),
        cycles=spec.pe.stalled_cycles(lasts),
    )


def _operands(spec: ArraySpec) -> tuple[tuple[str, int], ...]:
    return (("w", spec.rows), ("x", spec.columns), ("mask", spec.rows))


def _joined(values: list[int], width: int) -> int:
    """Values side by side, the first in the lowest bits, negative ones in two's complement."""
    return sum((value % (1 << width)) << width * at for at, value in enumerate(values))
