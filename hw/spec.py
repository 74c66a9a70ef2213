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
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any


def wrap(value: int, width: int) -> int:
    """``value`` reduced to ``width``-bit two's complement."""
    half = 1 << (width - 1)
    return (value + half) % (2 * half) - half


def signed_bits(low: int, high: int) -> int:
    """Bits of the two's-complement register that holds every integer of [``low``, ``high``].

    >>> signed_bits(-128, 127), signed_bits(0, 128), signed_bits(0, 0)
    (8, 9, 1)
    """
    if low > high:
        raise ValueError(f"low must be at most high={high!r}, not {low!r}")
    return 1 + max((-low - 1).bit_length() if low < 0 else 0, high.bit_length() if high > 0 else 0)


def require_int(name: str, value: object, low: int, high: int | None = None) -> None:
    """Refuse a parameter that is no integer of [``low``, ``high``]."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, not {value!r}")
    if high is not None and value > high:
        raise ValueError(f"{name} must be at most {high}, not {value!r}")


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
class Resources:
    """Cells before technology mapping, as counts: what the area and energy models take.

    Units are instances, except ``flop`` (bits) and ``mux2`` (one-bit two-way multiplexers).
    """

    gate2: int = 0  #: two-input gates of the operand lanes (AND, XNOR, mask)
    full_adder: int = 0  #: full adders of the bit counters
    half_adder: int = 0  #: half adders of the bit counters
    adder_bit: int = 0  #: bits of carry-propagate adders
    mux2: int = 0
    flop: int = 0

    def __add__(self, other: Resources) -> Resources:
        mine, theirs = asdict(self), asdict(other)
        return Resources(**{cell: mine[cell] + theirs[cell] for cell in mine})

    def __mul__(self, copies: int) -> Resources:
        return Resources(**{cell: count * copies for cell, count in asdict(self).items()})


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What a run on an array did, as counts: what the energy model takes.

    Simulators return one, cost models take one. Counts are sums over all PEs where they speak of PEs.
    """

    cycles: int = 0  #: clocks the array ran, idle PEs included
    beats: int = 0  #: beats taken by PEs (one PE, one clock)
    w_toggles: int = 0  #: bits that changed in the PEs' weight operands between successive beats
    x_toggles: int = 0  #: the same for the activation operands
    mask_toggles: int = 0  #: the same for the masks
    product_toggles: int = 0  #: bits that changed in the lanes' two product bits, hit and base
    dot_toggles: int = 0  #: bits that changed in the PEs' registers of a beat's signed dot product
    accumulator_toggles: int = 0  #: bits that changed in the PEs' accumulators
    bubbles: int = 0  #: beats without operands, which only double the accumulator
    zero_beats: int = 0  #: beats whose weight word (on its mask) or activation word has no lane that counts
    shared_sum_beats: int = 0  #: beats of activation sums that every row makes alike
    items: int = 0  #: items handed over by PEs
    scale_products: int = 0  #: multiplications of an item by a scale mantissa
    weight_buffer_bits: int = 0  #: bits read from the on-chip weight buffer (planes, masks, scales)
    activation_buffer_bits: int = 0  #: bits read from the on-chip activation buffer
    result_bits: int = 0  #: bits of results written
    dram_bits: int = 0  #: bits moved to or from external memory

    def __post_init__(self) -> None:
        for name, count in asdict(self).items():
            require_int(name, count, 0)

    def __add__(self, other: Activity) -> Activity:
        mine, theirs = asdict(self), asdict(other)
        return Activity(**{name: mine[name] + theirs[name] for name in mine})


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A dot product an output needs ``count`` times: ``columns`` digits of given place values.

    ``weight`` and ``activation`` hold one signed power of two per plane: INT4 two's complement is
    ``(1, 2, 4, -8)``, one sign plane ``(1,)``, a trit ``(1, -1)``.
    """

    columns: int
    weight: tuple[int, ...]
    activation: tuple[int, ...]
    count: int = 1
    w_bipolar: bool = False  #: a weight plane's digits are -1/+1, not 0/1
    x_bipolar: bool = False  #: an activation plane's digits are -1/+1, not 0/1
    masked: bool = False  #: some entries count 0 whatever their digits
    kept: tuple[int, int] = (1, 1)  #: of every M columns at most N count: an N:M pattern, as (N, M)
    digits: tuple[int, ...] = ()  #: integers the weight planes make, ascending, if not all that they could

    def __post_init__(self) -> None:
        require_int("columns", self.columns, 0)
        require_int("count", self.count, 0)
        for name in ("weight", "activation"):
            for place in getattr(self, name):
                require_power_of_two(name, place)
        if any(b <= a for a, b in pairwise(self.digits)):
            raise ValueError(f"digits must ascend, not {self.digits!r}")

    @property
    def w_digits(self) -> tuple[int, ...]:
        """Integers that a column's weight planes stand for, ascending.

        >>> Segment(columns=1, weight=(1, -1), activation=(1,)).w_digits
        (-1, 0, 1)
        """
        if self.digits:
            return self.digits
        sums = {0}
        for place in self.weight:
            sums = {s + d for s in sums for d in (-place if self.w_bipolar else 0, place)}
        return tuple(sorted(sums))

    @property
    def w_range(self) -> tuple[int, int]:
        """Smallest and largest integer that a column's weight planes stand for."""
        return digit_range(self.weight, self.w_bipolar)

    @property
    def x_range(self) -> tuple[int, int]:
        """Smallest and largest integer that a column's activation planes stand for."""
        return digit_range(self.activation, self.x_bipolar)


def digit_range(places: tuple[int, ...], bipolar: bool) -> tuple[int, int]:
    """Smallest and largest integer of planes of these places.

    >>> digit_range((1, 2, -4), False), digit_range((1, 2), True)
    ((-4, 3), (-3, 3))
    """
    low, high = sum(p for p in places if p < 0), sum(p for p in places if p > 0)
    return (low - high, high - low) if bipolar else (low, high)


def require_power_of_two(name: str, value: int) -> None:
    """Refuse a place value that is no signed power of two (Horner's scheme only doubles and negates)."""
    if value == 0 or abs(value) & (abs(value) - 1):
        raise ValueError(f"{name} must hold signed powers of two, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What one matrix product asks of a PE array: ``tokens`` x ``rows`` outputs, each all ``segments``."""

    tokens: int
    rows: int
    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        require_int("tokens", self.tokens, 0)
        require_int("rows", self.rows, 0)

    def macs(self) -> int:
        """One-bit multiply-accumulates of the product (plane pairs times entries)."""
        per_output = sum(s.count * s.columns * len(s.weight) * len(s.activation) for s in self.segments)
        return self.tokens * self.rows * per_output


@dataclass(frozen=True)
class Step:
    """The planes a beat takes of either operand, and what Horner's scheme asks of it.

    Planes are indices into ``weight`` and ``activation`` of a segment, or into a PE's own code of a digit
    (`PeSpec.w_code`). One may come twice: the top plane of two's complement extends the sign.
    """

    w: tuple[int, ...]  #: weight planes, the first in the lowest bits of the word
    x: tuple[int, ...]  #: activation planes likewise; neither has any in a bubble, which only doubles
    shift: bool
    neg: bool
    w_bipolar: bool | None = None  #: the beats' flag of this name; None: as the segment says
    x_bipolar: bool | None = None

    def kinds(self, segment: Segment) -> dict[str, bool]:
        """The flags that tell the kinds of digits, of the step's beats."""
        own = {"w_bipolar": self.w_bipolar, "x_bipolar": self.x_bipolar}
        return {name: getattr(segment, name) if kind is None else kind for name, kind in own.items()}

    @property
    def bubble(self) -> bool:
        """Whether no lane counts."""
        return not self.w

    @property
    def w_plane(self) -> int:
        """The one weight plane of a serial step; -1 in a bubble."""
        return self.w[0] if self.w else -1

    @property
    def x_plane(self) -> int:
        """The one activation plane of a serial step; -1 in a bubble."""
        return self.x[0] if self.x else -1


def horner(weight: tuple[int, ...], activation: tuple[int, ...]) -> tuple[Step, ...]:
    """Plane pairs of a product, highest place first; a lower place begins with a doubling.

    Pairs of one place follow each other in plane order. Where a place holds no pair, a bubble doubles.
    The last place is 1: ``sum_ij weight[i] * activation[j] * dot_ij`` results exactly.

    >>> [(s.w_plane, s.x_plane, s.shift, s.neg) for s in horner((1, -2), (1,))]
    [(1, 0, False, True), (0, 0, True, False)]
    """
    places: dict[int, list[tuple[int, int, bool]]] = {}
    for i, w in enumerate(weight):
        require_power_of_two("weight", w)
        for j, x in enumerate(activation):
            require_power_of_two("activation", x)
            exponent = (abs(w) * abs(x)).bit_length() - 1
            places.setdefault(exponent, []).append((i, j, (w < 0) != (x < 0)))
    steps: list[Step] = []
    for exponent in range(max(places, default=-1), -1, -1):
        pairs = places.get(exponent, [])
        doubling = bool(steps)
        if not pairs:
            steps.append(Step((), (), doubling, False))
        for i, j, neg in pairs:
            steps.append(Step((i,), (j,), doubling, neg))
            doubling = False
    return tuple(steps)


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

    def _network_flops(self) -> int:
        """Bits of the registers that operands and items pass outside the PEs."""
        words, rows, columns = self.pe.words(), self.rows, self.columns
        across = words["w"] + words.get("mask", 0)
        control = len(self.pe.flags()) + 1
        if self.network == "broadcast":
            return self.operand_registers * (rows * across + columns * words["x"] + control)
        skewed = rows * (rows - 1) // 2 + rows * (columns - 1)
        down = columns * (columns - 1) // 2 + columns * (rows - 1)
        waits = sum(r + c for r in range(rows) for c in range(columns))
        items = waits * self.pe.outputs * self.pe.acc_width
        return skewed * (across + control) + down * words["x"] + items

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
