"""A grid of equal PEs in lockstep: weights along its rows, activations along its columns.

A beat of the array brings a weight word and a mask to each row and an activation word to each column; the
flags go to every PE. All items of a beat are handed over in one clock, so one handshake serves them all.

Two networks. *Broadcast*: a word reaches its whole row or column at once, through registers if asked for.
*Systolic* (Kung, "Why Systolic Architectures?", IEEE Computer 1982): a word moves from each PE to the next, a
clock a hop, so no wire is longer than a PE; the edges delay row r and column c by r and c clocks to keep
operands together, and finished items wait for the last PE's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from amaranth import Cat, EnableInserter, Module, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.pipeline import registered
from hw.spec import ArraySpec


def copies(spec: ArraySpec) -> dict[str, int]:
    """How many of each word a beat of the array brings: weights and masks by row, activations by column."""
    return {name: spec.columns if name == "x" else spec.rows for name in spec.pe.words()}


def payload_layout(spec: ArraySpec) -> data.StructLayout:
    """A beat on the port: arrays of the PE's words, then its flags."""
    words = spec.pe.words()
    arrays = {name: data.ArrayLayout(words[name], count) for name, count in copies(spec).items()}
    return data.StructLayout({**arrays, **dict.fromkeys(spec.pe.flags(), 1)})


class PeArray(wiring.Component):
    """RTL of `ArraySpec`: stream ``i`` of beats, stream ``o`` of items.

    Output k of the PE in row r, column c is ``o.payload[(r * columns + c) * outputs + k]``.
    """

    def __init__(self, spec: ArraySpec) -> None:
        self.spec = spec
        count = spec.rows * spec.columns * spec.pe.outputs
        items = data.ArrayLayout(signed(spec.pe.acc_width), count)
        super().__init__({"i": In(stream.Signature(payload_layout(spec))), "o": Out(stream.Signature(items))})

    def cells(self) -> Iterator[tuple[int, int]]:
        """Row and column of every PE."""
        return ((r, c) for r in range(self.spec.rows) for c in range(self.spec.columns))

    def connect(self, m: Module, pe: Any, valid: Any, words: dict[str, Any], flags: Any) -> None:
        """A PE's beat: its words, and the flags as they stand in the array's beat."""
        m.d.comb += [getattr(pe.i.payload, name).eq(word) for name, word in words.items()]
        m.d.comb += [pe.i.valid.eq(valid), Cat(self.flags_of(pe.i.payload)).eq(flags)]

    def flags_of(self, beat: Any) -> list[Any]:
        """The flags of a beat, in order."""
        return [getattr(beat, flag) for flag in self.spec.pe.flags()]


class BroadcastArray(PeArray):
    """Every PE takes a beat in the same clock."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        moves = Signal()
        valid, beat = self.i.valid, self.i.payload
        for level in range(self.spec.operand_registers):
            beat = registered(m, moves, beat, f"beat{level}")
            later = Signal(name=f"valid{level}")
            with m.If(moves):
                m.d.sync += later.eq(valid)
            valid = later
        grid: list[Any] = []
        for row, column in self.cells():
            pe = self.spec.pe.create()
            m.submodules[f"pe_{row}_{column}"] = pe
            words = {n: getattr(beat, n)[column if n == "x" else row] for n in self.spec.pe.words()}
            self.connect(m, pe, valid, words, Cat(self.flags_of(beat)))
            m.d.comb += pe.o.ready.eq(self.o.ready)
            grid.append(pe)
        # The PEs never part: one speaks for all.
        m.d.comb += [
            moves.eq(grid[0].i.ready),
            self.i.ready.eq(moves),
            self.o.valid.eq(grid[0].o.valid),
            self.o.payload.as_value().eq(Cat(Value.cast(pe.o.payload) for pe in grid)),
        ]
        return m


class SystolicArray(PeArray):
    """The PE in row r, column c takes a beat r + c clocks after the first PE."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec, moves = self.spec, Signal()
        m.d.comb += [moves.eq(~self.o.valid | self.o.ready), self.i.ready.eq(moves)]
        across, down = self.across(m, moves), self.down(m, moves)
        items: list[Any] = []
        for row, column in self.cells():
            pe = spec.pe.create()
            # Frozen from outside: a PE by itself goes on as long as it holds no item.
            m.submodules[f"pe_{row}_{column}"] = EnableInserter(moves)(pe)
            valid, flags, *words = across[row][column]
            named = dict(zip((n for n in spec.pe.words() if n != "x"), words, strict=True))
            self.connect(m, pe, valid, {**named, "x": down[column][row]}, flags)
            m.d.comb += pe.o.ready.eq(1)
            waits = spec.rows + spec.columns - 2 - row - column
            items.append(delayed(m, moves, Value.cast(pe.o.payload), waits, f"item_{row}_{column}"))
        m.d.comb += [self.o.valid.eq(pe.o.valid), self.o.payload.as_value().eq(Cat(items))]
        return m

    def across(self, m: Module, moves: Any) -> list[list[list[Any]]]:
        """What each PE of each row gets from its left: valid, flags, weight word and mask."""
        beat = self.i.payload
        names = [name for name in self.spec.pe.words() if name != "x"]
        found = []
        for row in range(self.spec.rows):
            values = [self.i.valid, Cat(self.flags_of(beat)), *(getattr(beat, n)[row] for n in names)]
            labels = ["valid", "flags", *names]
            chain = [
                hops(m, moves, value, row, self.spec.columns, f"{label}_{row}", resets=label == "valid")
                for label, value in zip(labels, values, strict=True)
            ]
            found.append([list(one) for one in zip(*chain, strict=True)])
        return found

    def down(self, m: Module, moves: Any) -> list[list[Any]]:
        """The activation word that each PE of each column gets from above."""
        words = self.i.payload.x
        count = self.spec.columns
        return [hops(m, moves, words[c], c, self.spec.rows, f"x_{c}") for c in range(count)]


def delayed(m: Module, moves: Any, value: Any, clocks: int, name: str, *, resets: bool = False) -> Any:
    """``value`` so many moves later."""
    for clock in range(clocks):
        later = Signal(Value.cast(value).shape(), name=f"{name}_{clock}", reset_less=not resets)
        with m.If(moves):
            m.d.sync += later.eq(value)
        value = later
    return value


def hops(
    m: Module, moves: Any, value: Any, skew: int, count: int, name: str, *, resets: bool = False
) -> list[Any]:
    """``value`` delayed by ``skew`` at the edge, then by one more at each of ``count`` PEs but the first."""
    found = [delayed(m, moves, value, skew, f"{name}_edge", resets=resets)]
    for hop in range(1, count):
        found.append(delayed(m, moves, found[-1], 1, f"{name}_hop{hop}", resets=resets))
    return found


def create(spec: ArraySpec) -> PeArray:
    """Amaranth component with exactly these parameters."""
    return SystolicArray(spec) if spec.network == "systolic" else BroadcastArray(spec)
