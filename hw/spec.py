"""The compute contract: what a processing element (PE) and an array of them promise.

Everything that counts or builds hardware derives from the classes here: the simulator's cycle counts, the
RTL, the cost model's cells. Standard library only, so the contract can be read and run without any of them.

A PE consumes *beats*. A beat brings a word of weight planes, a word of activation planes and a mask, and
adds their dot product to an accumulator; a run of beats from ``first`` to ``last`` yields one *item*, an
exact integer. How many planes a word holds side by side is the PE's own: one of each where both operands are
serial, all bits of an integer where one is parallel. Horner's scheme keeps the shifter out of the datapath:
place values are visited from the highest down, and the first beat of each lower place doubles the accumulator
(BISMO, Umuroglu et al., FPL 2018; differs in: mask, signed digits on either side, several planes a beat).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from hw.counts import Activity, Resources
from hw.integers import require_int, signed_bits, wrap
from hw.segments import Segment, Shape, Step, digit_range, horner, require_power_of_two

__all__ = [
    "CHOICES",
    "DATAFLOWS",
    "FLAGS",
    "Activity",
    "ArraySpec",
    "Beat",
    "PeSpec",
    "Resources",
    "Segment",
    "Shape",
    "Step",
    "digit_range",
    "horner",
    "require_int",
    "require_power_of_two",
    "signed_bits",
    "wrap",
]


#: One-bit fields of a beat that a PE may read, in the order they stand on its port.
FLAGS = ("w_bipolar", "x_bipolar", "first", "shift", "neg", "last")


@dataclass(frozen=True, kw_only=True)
class Beat:
    """One clock's operands. Lane ``l`` of plane ``p`` is bit ``p * lanes + l`` of a word."""

    w: int  #: word of weight planes
    x: int  #: word of activation planes
    mask: int = 0  #: lanes that count, the others contribute 0; unread by a PE without a mask
    w_bipolar: bool = False  #: weight digit is -1/+1 (bit 1 = +1) instead of 0/1
    x_bipolar: bool = False  #: activation digit is -1/+1 instead of 0/1
    first: bool = False  #: the accumulator starts from 0
    shift: bool = False  #: the accumulator is doubled before the beat is added
    neg: bool = False  #: the beat is subtracted
    last: bool = False  #: the accumulator becomes an item

    def __post_init__(self) -> None:
        for name in ("w", "x", "mask"):
            require_int(name, getattr(self, name), 0)


@dataclass(frozen=True, kw_only=True)
class PeSpec(ABC):
    """Parameters of a PE. What it computes, how long, of what cells, and its RTL derive from them.

    Lanes beyond a segment's columns have 0 in every word, and must add nothing.
    """

    lanes: int = 64  #: columns of a beat
    acc_width: int = 32  #: an accumulator [bits], two's complement, wraps

    def __post_init__(self) -> None:
        require_int("lanes", self.lanes, 1)
        require_int("acc_width", self.acc_width, signed_bits(*self.beat_range()))

    def beat_range(self) -> tuple[int, int]:
        """Smallest and largest integer that a beat may add."""
        return -self.lanes, self.lanes

    def words(self) -> dict[str, int]:
        """Bits of each operand word on the port: ``w``, ``x`` and, if the PE has one, ``mask``."""
        return dict.fromkeys(("w", "x", "mask"), self.lanes)

    def flags(self) -> tuple[str, ...]:
        """Those of `FLAGS` that the PE reads."""
        return FLAGS

    def fields(self) -> dict[str, int]:
        """Bits of each field of a beat on the port, the first in the lowest bits."""
        return {**self.words(), **dict.fromkeys(self.flags(), 1)}

    @property
    def primitives(self) -> str:
        """The FPGA family whose cells the RTL names, and simulators need models of; else empty."""
        return ""

    @property
    def rows(self) -> int:
        """Rows of the matrix that a beat serves: their weights (and masks) stand side by side in a word."""
        return 1

    @property
    def tokens(self) -> int:
        """Tokens that a beat serves: their activations stand side by side in a word."""
        return 1

    @property
    def kept(self) -> tuple[int, int]:
        """Of every M columns of a segment the N that take lanes, as (N, M); (1, 1): all do.

        Where N < M, planes behind the weight's say which: the n-th kept column of a block, from 0 on, is its
        column n + code, a code being 0 to M - N.
        """
        return 1, 1

    @property
    def outputs(self) -> int:
        """Accumulators, handed over together; one for each of `rows` and `tokens` if nothing else is said."""
        return self.rows * self.tokens

    def place(self, output: int) -> tuple[int, int]:
        """Row and token that accumulator number ``output`` works for."""
        return divmod(output, self.tokens)

    @abstractmethod
    def golden(self, acc: int, beat: Beat, output: int = 0) -> int:
        """Accumulator number ``output`` after ``beat``, from the one before it: the definition of the PE."""

    @abstractmethod
    def latency(self) -> int:
        """Clocks from the edge that takes a ``last`` beat to the one that hands over its item."""

    @abstractmethod
    def resources(self) -> Resources:
        """Cells of one PE before technology mapping."""

    def parts(self) -> Mapping[str, Resources]:
        """`resources` by what they are for: cells of a part stand alike in PEs of all sizes."""
        return {"cells": self.resources()}

    def merged(self) -> Mapping[str, Resources]:
        """Cells of `parts`, by part, that are copies of others for a reason a synthesizer finds."""
        return {}

    def left(self) -> Mapping[str, Resources]:
        """`parts` as a synthesizer leaves them: less `merged`."""
        copies = self.merged()
        return {name: cells - copies.get(name, Resources()) for name, cells in self.parts().items()}

    def passed(self) -> int:
        """Flip-flops, of all stages, that hold a bit of the weight word as it came.

        The next PE of a systolic array's row gets that bit from a register of its own: one of the two goes.
        """
        return 0

    def shared(self) -> Mapping[str, str]:
        """Parts that read weights alone ("row") or activations alone ("column"), before any register.

        They are equal in all PEs of a row or column of a broadcast array: a synthesizer merges them there.
        """
        return {}

    @abstractmethod
    def create(self) -> Any:
        """Amaranth component with exactly these parameters; ports ``i`` (beats) and ``o`` (items)."""

    def items(self, beats: Iterable[Beat], output: int = 0) -> list[int]:
        """The items of accumulator ``output`` that a run of beats yields, by `golden`."""
        acc, out = 0, []
        for beat in beats:
            acc = self.golden(acc, beat, output)
            if beat.last:
                out.append(acc)
        return out

    def steps(self, segment: Segment) -> tuple[Step, ...]:
        """The beats of one word of ``segment``'s columns, in order.

        Raises ValueError if the PE cannot compute it.
        """
        return horner(segment.weight, segment.activation)

    def w_code(self, segment: Segment) -> Mapping[int, int] | None:
        """What the PE reads in place of ``segment``'s weight planes: a code by integer digit.

        Bit p of a code is plane p of the steps. Entries off a mask have digit 0, if there is such a code.
        None: the planes as they are stored (unipolar ones 0 off the mask).
        """
        return None

    def x_code(self, segment: Segment) -> Mapping[int, int] | None:
        """The same for activations."""
        return None

    def dot(self, items: Any, segment: Segment) -> Any:
        """The dot products of items of ``segment``, elementwise: an integer or an array of them."""
        return items

    def columns(self, segment: Segment) -> int:
        """Columns of ``segment`` that a beat covers."""
        keep, of = self.kept
        return self.lanes * of // keep

    def beats(self, segment: Segment) -> int:
        """Beats of one item of ``segment``. A segment without columns or planes takes none.

        Raises ValueError if the PE cannot compute it.
        """
        if not segment.columns or not segment.weight or not segment.activation:
            return 0
        words = -(-segment.columns // self.columns(segment))
        return sum(1 if step.bubble else words for step in self.steps(segment))

    def cycles(self, shape: Shape) -> int:
        """Clocks of all items of ``shape`` through one PE, from the first beat's edge to the last item's.

        Exact where neither side of the PE stalls; with stalls see `stalled_cycles`.
        """
        per_output = sum(s.count * self.beats(s) for s in shape.segments)
        total = -(-shape.tokens // self.tokens) * -(-shape.rows // self.rows) * per_output
        return total + self.latency() if total else 0

    def stalled_cycles(
        self,
        lasts: Iterable[bool],
        offered: Iterable[bool] = (),
        ready: Iterable[bool] = (),
    ) -> int:
        """Clocks for a run of beats when either side stalls.

        Parameters: lasts, the ``last`` flag of each beat in order; offered[c], whether the source begins to
        offer its next beat at clock c unless it already does (an offer stands until taken); ready[c],
        whether the sink would take an item at clock c. The pipeline moves as one: it halts exactly while an
        item waits at its end and the sink is not ready. Past its last entry neither side stalls.

        Returns clocks counted from 0 up to and including the one that takes the last item.
        """
        queue = list(lasts)
        offers, takes = iter(offered), iter(ready)
        pipeline = [False] * self.latency()  # True: a finished item travels in this stage
        position, waiting, clock, pending = 0, False, 0, sum(queue)
        while pending:
            offer, taken = next(offers, True), next(takes, True)
            waiting = position < len(queue) and (waiting or offer)
            moves = taken or not pipeline[-1]
            pending -= pipeline[-1] and taken
            if moves:
                pipeline = [waiting and queue[position], *pipeline[:-1]]
                position += waiting
                waiting = False
            clock += 1
        return clock


#: Fields of `ArraySpec` that its RTL does not depend on: what clocks are counted with.
UNBUILT = (
    "clock_hz", "weight_buffer_bits", "activation_buffer_bits", "dram_bits_per_cycle", "dataflow", "outer",
    "planes", "buffers", "result_buffer_bits", "dram_latency", "scale_clocks", "skip", "pack_kept",
)  # fmt: skip


def built(spec: Any) -> dict[str, Any]:
    """Fields of a PE, array or accelerator that its RTL is made from, those of specs within it as well."""
    return {
        field.name: built(value) if is_dataclass(value := getattr(spec, field.name)) else value
        for field in fields(spec)
        if not (isinstance(spec, ArraySpec) and field.name in UNBUILT)
    }


DATAFLOWS = ("output-stationary", "weight-stationary")
#: What a field of `ArraySpec` that is a word may be.
CHOICES = {
    "dataflow": DATAFLOWS,
    "outer": ("rows", "tokens"),
    "planes": ("outermost", "inside"),
    "skip": ("none", "planes", "words"),
    "network": ("broadcast", "systolic"),
}


@dataclass(frozen=True, kw_only=True)
class ArraySpec:
    """A grid of equal PEs: weights are broadcast along its rows, activations along its columns.

    A row of PEs works on `PeSpec.rows` output channels. All PEs take a beat in the same clock. A PE keeps
    its outputs (output-stationary); results of a tile drain while the next tile runs, so only the last drain
    shows. `cycles` counts compute alone, as the RTL does; the fields from ``dataflow`` on are what
    `sim.cycles` schedules with.
    """

    pe: PeSpec
    rows: int = 8  #: rows of PEs
    columns: int = 8  #: tokens worked on at once
    clock_hz: float = 500e6  #: assumed clock [Hz]; no timing closure is claimed by it
    weight_buffer_bits: int = 64 * 1024 * 8  #: on-chip buffer of weight planes, masks, scales [bits]
    activation_buffer_bits: int = 64 * 1024 * 8  #: on-chip buffer of activation planes [bits]
    dram_bits_per_cycle: int = 128  #: width of the port to external memory [bits per clock]
    dataflow: str = "output-stationary"  #: one of `DATAFLOWS`: what stays while the other operands pass
    outer: str = "rows"  #: outermost loop: "rows" (a tile of weights meets all tokens) or "tokens"
    planes: str = "outermost"  #: serial order of an item: plane pairs "outermost" (Horner) or "inside" a word
    buffers: int = 2  #: copies of a tile a buffer is split into; 2: one fills while the other is read
    result_buffer_bits: int = 64 * 1024 * 8  #: partial sums, where weights are stationary [bits]
    dram_latency: int = 0  #: clocks from a request to its first bits; the port serves one request at a time
    scale_clocks: int = 0  #: clocks of a column's shared unit per item; 0: every PE has a unit of its own
    skip: str = "none"  #: weights that cost no beat if zero in a whole row tile: "none", "planes", "words"
    pack_kept: bool = False  #: an N:M pattern's kept columns alone take lanes
    #: how operands reach the PEs: to a whole row or column at once, or from each PE to the next
    network: str = "broadcast"
    operand_registers: int = 0  #: registers before a broadcast, for its fan-out

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "weight_buffer_bits", "activation_buffer_bits", "buffers"):
            require_int(name, getattr(self, name), 1)
        for name in ("dram_bits_per_cycle", "result_buffer_bits"):
            require_int(name, getattr(self, name), 1)
        for name in ("dram_latency", "scale_clocks", "operand_registers"):
            require_int(name, getattr(self, name), 0)
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if not self.clock_hz > 0:
            raise ValueError(f"clock_hz must be positive, not {self.clock_hz!r}")

        if self.network == "systolic" and self.operand_registers:
            raise ValueError(f"operand_registers must be 0 in a systolic array, not {self.operand_registers}")

    @property
    def tile_rows(self) -> int:
        """Output channels of a tile."""
        return self.rows * self.pe.rows

    @property
    def tile_tokens(self) -> int:
        """Tokens of a tile."""
        return self.columns * self.pe.tokens

    def latency(self) -> int:
        """Clocks from the edge that takes a ``last`` beat to the one that hands over its items."""
        hops = self.rows + self.columns - 2 if self.network == "systolic" else self.operand_registers
        return self.pe.latency() + hops

    def resources(self) -> Resources:
        """Cells of all PEs, and of the registers between them."""
        return self.pe.resources() * (self.rows * self.columns) + Resources(flop=self._network_flops())

    def parts(self) -> Mapping[str, Resources]:
        """The cells that a synthesizer leaves, by what they are for: those equal in several PEs once."""
        pe, every = self.pe.left(), self.rows * self.columns
        copies, network = dict.fromkeys(pe, every), self._network_flops()
        if self.network == "broadcast":
            copies |= {name: getattr(self, f"{side}s") for name, side in self.pe.shared().items()}
        elif "control" in pe:
            # PEs that take a beat in the same clock have the same control, and so have the hops to them.
            clocks = self.rows + self.columns - 1
            copies["control"] = clocks
            network -= (self._hops() - (clocks - 1)) * (len(self.pe.flags()) + 1)
            # Of all but the last of them nobody asks whether an item is there, nor in any stage for `last`;
            # a stage's valid is the one that the hop behind it, or an earlier stage of the next PE, has.
            network -= (clocks - 1) * (2 * (self.pe.latency() - 1) + 1)
            network -= self.rows * (self.columns - 1) * self.pe.passed()
        parts = {name: cells * copies[name] for name, cells in pe.items()}
        return parts | {"network": Resources(flop=network)}

    def _hops(self) -> int:
        """Hops of all rows of a systolic array: those to its first PE, and those from PE to PE."""
        return self.rows * (self.rows - 1) // 2 + self.rows * (self.columns - 1)

    def _network_flops(self) -> int:
        """Bits of the registers that operands and items pass outside the PEs."""
        words, rows, columns = self.pe.words(), self.rows, self.columns
        across = words["w"] + words.get("mask", 0)
        control = len(self.pe.flags()) + 1
        if self.network == "broadcast":
            return self.operand_registers * (rows * across + columns * words["x"] + control)
        down = columns * (columns - 1) // 2 + columns * (rows - 1)
        waits = sum(r + c for r in range(rows) for c in range(columns))
        items = waits * self.pe.outputs * self.pe.acc_width
        return self._hops() * (across + control) + down * words["x"] + items

    def tiles(self, shape: Shape) -> int:
        """Output tiles of ``rows`` x ``columns`` that cover the product."""
        return -(-shape.rows // self.tile_rows) * -(-shape.tokens // self.tile_tokens)

    def cycles(self, shape: Shape) -> int:
        """Clocks of compute: tile after tile without a gap, then the pipeline's latency once."""
        per_output = sum(s.count * self.pe.beats(s) for s in shape.segments)
        total = self.tiles(shape) * per_output
        return total + self.latency() if total else 0

    def utilisation(self, shape: Shape) -> float:
        """Share of all lane slots of all clocks that did a one-bit multiply-accumulate of the product."""
        cycles = self.cycles(shape)
        slots = cycles * self.tile_rows * self.tile_tokens * self.pe.lanes
        return shape.macs() / slots if slots else 0.0
