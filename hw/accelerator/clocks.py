"""Clocks of a whole session, exact: words in at one a clock, every run allowed to begin, tiles taken at once.

The parts of the accelerator as what they are to time: queues and counters, moved on clock by clock. For runs
whose operands are in the buffers `hw.accelerator.timing` has recurrences; here loads also wait for runs to be
done with the half that they fill, and runs for the packets before them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hw.accelerator.commands import FILLS, Command, Load, Opcode
from hw.accelerator.frontend import LATE
from hw.accelerator.spec import AcceleratorSpec
from hw.accelerator.timing import PACK, Item, items_of

#: Clocks of a packet before the first word of its payload: its header, and the verdict on it.
HEAD = 2
#: Clocks from a run's last word to the one that offers it to the queue: it is checked.
CHECK = 1

Half = tuple[str, int]  #: a buffer, and 0 or 1


@dataclass(frozen=True, kw_only=True)
class Packet:
    """A packet as the front end knows it."""

    payload: int  #: words behind the header
    fills: Half | None = None  #: what a load waits for
    holds: tuple[Half, ...] = ()  #: what a run reads
    items: Sequence[Item] = ()  #: of a run


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of an item on its way from the array to the drain."""

    item: Item
    last: bool  #: of the item

    @property
    def leaves(self) -> bool:
        """Whether anything of it goes to the drain: sums, or the end of a run."""
        return self.item.finishes or (self.item.ends and self.last)


def packets_of(spec: AcceleratorSpec, commands: Sequence[Command]) -> Iterator[Packet]:
    """Commands as the front end meets them; runs with the items that the table they walk makes of them."""
    buffers = spec.buffers()
    table: dict[int, int] = {}
    for command in commands:
        words = len(command.words(spec)) - 1
        if isinstance(command, Load):
            if command.opcode == Opcode.LOAD_STEPS:
                table |= {command.address + at: entry for at, (entry,) in enumerate(command.entries)}
            name = FILLS[command.opcode]
            yield Packet(payload=words, fills=(name, command.address // buffers[name].depth))
        else:
            steps = [table.get(command.steps_base + at, 0) for at in range(command.steps)]
            yield Packet(
                payload=words,
                holds=tuple(
                    (name, getattr(command, f"{name}_base") // b.depth % 2) for name, b in buffers.items()
                ),
                items=items_of(command, steps),
            )


def cycles(spec: AcceleratorSpec, commands: Sequence[Command]) -> int:
    """Clocks from the one that offers the first word to the one that takes the last tile's last word.

    The commands must be sound, see `hw.accelerator.model`. 0 if no tile comes out.
    """
    clocks = Clocks(spec, packets_of(spec, commands))
    while clocks.busy():
        clocks.skip()
        clocks.step()
    return clocks.drained + spec.requantizer().latency() + PACK + 1 if clocks.drained else 0


@dataclass
class Clocks:
    """All parts at the beginning of a clock."""

    spec: AcceleratorSpec
    packets: Iterator[Packet]
    clock: int = 0
    packet: Packet | None = None  #: at the front end
    wait: int = 0  #: clocks until its payload, or until a run is offered to the queue
    words: int = 0  #: of a load that have still to come
    held_by: Counter[Half] = field(default_factory=Counter)  #: runs that read a half
    runs: deque[Packet] = field(default_factory=deque)
    run: Packet | None = None  #: at the sequencer, with its place:
    item: int = 0
    beat: int = 0
    offered: bool = False  #: a beat is offered to the array
    ends: bool = False  #: and is its item's last
    pipe: int = 0  #: the array: a bit a clock of its latency, 1 for an item's last beat
    contexts: deque[tuple[Packet, Item]] = field(default_factory=deque)
    held: tuple[Packet, Item] | None = None  #: at the collector, with its row:
    row: int = 0
    presented: Row | None = None  #: offered to the scale units
    scaled: Row | None = None  #: in them, for so many clocks more:
    left: int = 0
    summed: Row | None = None  #: offered to the queue of rows
    rows: deque[Row] = field(default_factory=deque)
    column: int = 0  #: at the drain
    drained: int = 0  #: clock in which the last sum of a tile left it
    under_way: int = 0  #: runs that have not ended

    def __post_init__(self) -> None:
        self.out_of_array = 1 << (self.spec.array.latency() - 1)
        self.interval = self.spec.scale_unit().interval()
        self.most_rows = max(self.spec.rows, 2)
        self.next_packet()

    def busy(self) -> bool:
        """Whether anything is left to happen."""
        return self.packet is not None or self.under_way > 0

    def skip(self) -> None:
        """As many clocks as only count: beats of an item, words of a packet; nothing is behind the array."""
        waits = (self.held, self.presented, self.scaled, self.summed)
        if self.rows or any(part is not None for part in waits) or (self.offered and self.ends):
            return
        free = self.array_free()
        beats = self.beats_left()
        words = self.words_left()
        known = [clocks for clocks in (free, beats, words) if clocks is not None]
        clocks = min(known, default=0)
        if clocks <= 0:
            return
        self.clock += clocks
        self.pipe <<= clocks
        self.offered, self.ends = self.run is not None, False
        if self.run is not None:
            self.beat += clocks
        if self.packet is not None and self.wait:
            self.wait -= clocks
        elif words is not None:
            self.words -= clocks

    def array_free(self) -> int | None:
        """Clocks until an item comes out of the array; None if there is none in it."""
        return self.spec.array.latency() - self.pipe.bit_length() if self.pipe else None

    def beats_left(self) -> int | None:
        """Clocks until an item's last beat is issued; None if no run is there."""
        if self.run is None:
            return 0 if self.runs else None
        return self.run.items[self.item].beats - 1 - self.beat

    def words_left(self) -> int | None:
        """Clocks until the front end does more than count; None if it does not count at all."""
        if self.packet is None:
            return None
        if self.wait:
            return self.wait
        if self.packet.fills is None:
            return 0 if len(self.runs) < self.spec.queue else None
        return self.words - 1 if not self.held_by[self.packet.fills] else None

    def step(self) -> None:
        """One clock: what moves is found from the end to the beginning, then everything moves at once."""
        row_room = len(self.rows) < self.most_rows
        leaves = self.scaled is not None and not self.left and (self.summed is None or row_room)
        unit_ready = self.scaled is None or leaves
        goes = self.held is not None and (self.presented is None or unit_ready)
        final = self.held is not None and self.row == self.held[1].rows - 1
        out = bool(self.pipe & self.out_of_array)
        takes = (self.held is None or (goes and final)) and bool(self.contexts) and out
        moves = takes or not out
        context_room = len(self.contexts) < self.spec.contexts
        queue_room, queued = len(self.runs) < self.spec.queue, bool(self.runs)

        freed: list[Half] = []
        self.drain()
        self.scale(row_room, leaves, unit_ready)
        self.collect(goes, final, takes, unit_ready, freed)
        over = self.sequence(moves, context_room, freed)
        if (self.run is None or over) and queued:
            self.run, self.item, self.beat = self.runs.popleft(), 0, 0
        elif over:
            self.run = None
        self.front(queue_room)
        self.held_by.subtract(freed)
        self.clock += 1

    def drain(self) -> None:
        """A sum a clock; the end of a run without sums takes one too."""
        if not self.rows:
            return
        row = self.rows[0]
        self.column += 1
        if self.column >= (row.item.columns if row.item.finishes else 1):
            self.rows.popleft()
            self.column = 0
            self.under_way -= row.last and row.item.ends
            if row.item.finishes:
                self.drained = self.clock

    def scale(self, row_room: bool, leaves: bool, ready: bool) -> None:
        """Rows into the scale units, and their sums into the queue of rows."""
        if self.summed is not None and row_room:
            self.rows.append(self.summed)
            self.summed = None
        if leaves and self.scaled is not None and self.scaled.leaves:
            self.summed = self.scaled
        if ready:
            self.scaled, self.left = self.presented, self.interval - 1
        elif self.left:
            self.left -= 1

    def collect(self, goes: bool, final: bool, takes: bool, ready: bool, freed: list[Half]) -> None:
        """Items out of the array, and row after row to the scale units."""
        if self.held is not None and goes:
            run, item = self.held
            self.presented = Row(item=item, last=final)
            self.row += 1
            if final:
                self.held = None
                if item.ends:
                    freed += [half for half in run.holds if half[0] in LATE]
        elif ready:
            self.presented = None
        if takes:
            self.held, self.row = self.contexts.popleft(), 0

    def sequence(self, moves: bool, context_room: bool, freed: list[Half]) -> bool:
        """Beats into the array; returns whether the run at hand is over."""
        free, over = moves or not self.offered, False
        if moves:
            self.pipe = (self.pipe << 1 | (self.offered and self.ends)) & (2 * self.out_of_array - 1)
            self.offered = False
        if self.run is None:
            return False
        item = self.run.items[self.item]
        ends = self.beat == item.beats - 1
        if free and (context_room or not ends):
            self.offered, self.ends = True, ends
            self.beat += 1
            if ends:
                self.contexts.append((self.run, item))
                self.item, self.beat = self.item + 1, 0
                over = self.item == len(self.run.items)
                if over:
                    freed += [half for half in self.run.holds if half[0] not in LATE]
        return over

    def front(self, queue_room: bool) -> None:
        """Words in: a load once nobody reads its half, a run to the queue."""
        if self.packet is None:
            return
        if self.wait:
            self.wait -= 1
        elif self.packet.fills is not None:
            if not self.held_by[self.packet.fills]:
                self.words -= 1
                if not self.words:
                    self.next_packet()
        elif queue_room:
            self.runs.append(self.packet)
            self.held_by.update(self.packet.holds)
            self.under_way += 1
            self.next_packet()

    def next_packet(self) -> None:
        """The next one's header comes in the next clock."""
        self.packet = next(self.packets, None)
        if self.packet is not None:
            self.words = self.packet.payload
            self.wait = HEAD if self.packet.fills else HEAD + self.packet.payload + CHECK
