"""Integer scale unit: items times mantissas, summed over the slots of an output, exactly.

A column of processing elements shares one unit: its rows' items come one after the other, each row with a sum
of its own. Sums wrap modulo ``2**sum_bits``, so that software's bound on the final sum is all that counts.
The columns of an array work in lockstep, hence one handshake for all of them.

The serial form is the shift-add multiplier of textbooks, the mantissa's sign bit first, one bit a clock:
``product = 2 product + (bit ? item : 0)``, begun with ``-item`` for the sign.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.spec import require_int, wrap

FORMS = ("parallel", "serial")


@dataclass(frozen=True, kw_only=True)
class Product:
    """What a unit is given: an item and its mantissa for each column, and where they go."""

    items: tuple[int, ...]
    mantissas: tuple[int, ...]
    row: int  #: which of a column's sums
    first: bool = False  #: the sum starts from 0
    last: bool = False  #: the sum is handed over
    user: int = 0  #: bits handed over with the sum, as they are


@dataclass(frozen=True, kw_only=True)
class ScaleSpec:
    """sum[column][row] <- (0 if first else sum[column][row]) + item[column] * mantissa[column]"""

    columns: int = 1  #: units in lockstep
    rows: int = 1  #: sums of a column
    item_bits: int = 32  #: an item, two's complement
    scale_bits: int = 16  #: a mantissa, two's complement
    sum_bits: int = 64  #: a sum, two's complement, wraps
    user_bits: int = 0  #: what travels beside a sum
    form: str = "parallel"  #: one of `FORMS`: a multiplier, or one bit of the mantissa a clock

    def __post_init__(self) -> None:
        for name in ("columns", "rows", "item_bits", "scale_bits", "sum_bits"):
            require_int(name, getattr(self, name), 1)
        require_int("user_bits", self.user_bits, 0)
        if self.form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, not {self.form!r}")

    def golden(self, sums: Sequence[Sequence[int]], beat: Product) -> list[list[int]]:
        """Sums [columns][rows] after ``beat``, from those before it: the definition of the unit."""
        after = [list(column) for column in sums]
        for column, item, mantissa in zip(after, beat.items, beat.mantissas, strict=True):
            start = 0 if beat.first else column[beat.row]
            column[beat.row] = wrap(start + item * mantissa, self.sum_bits)
        return after

    def handed_over(self, beats: Iterable[Product]) -> list[tuple[list[int], int]]:
        """The sums of all columns, and the user bits, of each ``last`` beat in order."""
        sums, out = [[0] * self.rows for _ in range(self.columns)], []
        for beat in beats:
            sums = self.golden(sums, beat)
            if beat.last:
                out.append(([column[beat.row] for column in sums], beat.user))
        return out

    def interval(self) -> int:
        """Clocks from one beat to the next."""
        return self.scale_bits if self.form == "serial" else 1

    def latency(self) -> int:
        """Clocks from the edge that takes a ``last`` beat to the one that hands over its sums."""
        return self.interval() + 1

    def stalled_cycles(
        self, lasts: Iterable[bool], offered: Iterable[bool] = (), ready: Iterable[bool] = ()
    ) -> int:
        """Clocks for a run of beats, up to and including the one that takes the last sums.

        Parameters as in `hw.spec.PeSpec.stalled_cycles`. A beat is worked on for `interval` clocks, and
        leaves for the sums as soon as none waits to be handed over that the sink does not take.
        """
        queue = list(lasts)
        offers, takes = iter(offered), iter(ready)
        position, waiting, clock, pending = 0, False, 0, sum(queue)
        left, finishing, handing = -1, False, False  # left: clocks of work, -1 without a beat
        while pending:
            offer, taken = next(offers, True), next(takes, True)
            waiting = position < len(queue) and (waiting or offer)
            pending -= handing and taken
            done = left == 0 and (taken or not handing)
            handing = finishing if done else handing and not taken
            if left < 0 or done:
                left = -1
                if waiting:
                    left, finishing = self.interval() - 1, queue[position]
                    position, waiting = position + 1, False
            else:
                left = max(left - 1, 0)
            clock += 1
        return clock

    def create(self) -> ScaleUnit:
        """Amaranth component with exactly these parameters."""
        return ScaleUnit(self)


def beat_layout(spec: ScaleSpec) -> data.StructLayout:
    """A beat on port ``i``."""
    return data.StructLayout(
        {
            "items": data.ArrayLayout(signed(spec.item_bits), spec.columns),
            "mantissas": data.ArrayLayout(signed(spec.scale_bits), spec.columns),
            "row": range(spec.rows),
            "first": 1,
            "last": 1,
            "user": spec.user_bits,
        }
    )


def sums_layout(spec: ScaleSpec) -> data.StructLayout:
    """What is handed over on port ``o``."""
    sums = data.ArrayLayout(signed(spec.sum_bits), spec.columns)
    return data.StructLayout({"sums": sums, "user": spec.user_bits})


class ScaleUnit(wiring.Component):
    """RTL of `ScaleSpec`: stream ``i`` of beats, stream ``o`` of sums."""

    def __init__(self, spec: ScaleSpec) -> None:
        self.spec = spec
        super().__init__(
            {"i": In(stream.Signature(beat_layout(spec))), "o": Out(stream.Signature(sums_layout(spec)))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec = self.spec
        busy = Signal()
        left = Signal(range(spec.interval()))  # clocks of work left for the beat
        leaves = Signal()  # the product is whole and goes to its sum
        m.d.comb += [
            leaves.eq(busy & (left == 0) & (~self.o.valid | self.o.ready)),
            self.i.ready.eq(~busy | leaves),
        ]
        control = self.hold(m)
        with m.If(self.i.ready):
            m.d.sync += busy.eq(self.i.valid)
        products = self.multiply(m, left)
        self.add(m, leaves, products, control)
        with m.If(leaves):
            m.d.sync += self.o.valid.eq(control.last)
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        return m

    def hold(self, m: Module) -> Any:
        """What belongs to the beat at work, besides its numbers."""
        beat = self.i.payload
        members = ("row", "first", "last", "user")
        control = Signal(data.StructLayout({name: beat_layout(self.spec)[name].shape for name in members}))
        with m.If(self.i.ready):
            m.d.sync += [getattr(control, name).eq(getattr(beat, name)) for name in members]
        return control

    def multiply(self, m: Module, left: Any) -> list[Any]:
        """The products of the beat at work, complete once nothing is left to do."""
        spec, beat = self.spec, self.i.payload
        width = spec.item_bits + spec.scale_bits
        products = [Signal(signed(width), name=f"product{c}", reset_less=True) for c in range(spec.columns)]
        if spec.form == "parallel":
            with m.If(self.i.ready):
                m.d.sync += [p.eq(beat.items[c] * beat.mantissas[c]) for c, p in enumerate(products)]
            return products
        with m.If(self.i.ready):
            m.d.sync += left.eq(spec.interval() - 1)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        for c, product in enumerate(products):
            item = Signal(signed(spec.item_bits), name=f"item{c}", reset_less=True)
            bits = Signal(spec.scale_bits, name=f"bits{c}", reset_less=True)  # the next one on top
            with m.If(self.i.ready):
                given = beat.mantissas[c].as_unsigned()
                m.d.sync += [
                    item.eq(beat.items[c]),
                    bits.eq(given << 1),
                    product.eq(Mux(given[-1], -beat.items[c], 0)),
                ]
            with m.Elif(left != 0):
                m.d.sync += [bits.eq(bits << 1), product.eq((product << 1) + Mux(bits[-1], item, 0))]
        return products

    def add(self, m: Module, leaves: Any, products: list[Any], control: Any) -> None:
        """Products onto the sums of their row, and into the port."""
        spec = self.spec
        m.submodules.sums = sums = memory.Memory(
            shape=data.ArrayLayout(signed(spec.sum_bits), spec.columns), depth=spec.rows, init=[]
        )
        # Read and written in one clock: a row may come twice in a row.
        before, after = sums.read_port(domain="comb"), sums.write_port()
        total = [
            (Mux(control.first, 0, before.data[c]) + product)[: spec.sum_bits]
            for c, product in enumerate(products)
        ]
        m.d.comb += [
            before.addr.eq(control.row),
            after.addr.eq(control.row),
            after.en.eq(leaves),
            after.data.as_value().eq(Cat(total)),
        ]
        with m.If(leaves):
            m.d.sync += [
                self.o.payload.sums.as_value().eq(Cat(total)),
                self.o.payload.user.eq(control.user),
            ]
