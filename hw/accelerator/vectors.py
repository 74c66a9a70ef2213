"""A driver's session as vectors: register accesses, words in, and all that must come back, by the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from hw.accelerator import clocks, registers
from hw.accelerator.axi_lite import OKAY, SLVERR
from hw.accelerator.commands import Command, Error, Load, Opcode, Run, factor_entry, header
from hw.accelerator.control import COMPLETIONS
from hw.accelerator.model import Model
from hw.accelerator.spec import AcceleratorSpec

#: Opcode that no packet has, and the tag of the packet that asks for it.
UNKNOWN, UNKNOWN_TAG = 0xFF, 0xBAD


class Act(IntEnum):
    """What a step of a session does."""

    WRITE = 0  #: a register, and get this response
    READ = 1  #: a register, and get this value (where the mask is 1) and response
    POLL = 2  #: read until the value is this
    STREAM = 3  #: let words in and out, until all of them are
    IRQ = 4  #: wait until the interrupt line is this


#: Fields of a step as a number, the highest first, and their bits.
STEP_BITS = {"act": 4, "response": 4, "offset": 16, "mask": 32, "value": 32}


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of a session."""

    act: Act
    offset: int = 0
    value: int = 0
    mask: int = 0xFFFFFFFF
    response: int = OKAY
    text: str  #: for a reader

    def packed(self) -> int:
        """The step as a number; see `STEP_BITS`."""
        total = 0
        for name, bits in STEP_BITS.items():
            total = total << bits | int(getattr(self, name))
        return total


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """What goes in and what must come out."""

    words: tuple[int, ...]  #: of the stream in, TLAST above the data
    out: tuple[int, ...]  #: of the stream out: TLAST, TKEEP, data from the top
    steps: tuple[Step, ...]
    runs: int
    beats: int
    clocks: int  #: without stalls, from the first word in to the last one out


def of(spec: AcceleratorSpec, commands: Sequence[Command]) -> Vectors:
    """A session of ``commands``, then the last run again with narrow sums, then a packet that must fail.

    Raises ValueError if the commands do not run without error, or no tile comes out of them.
    """
    model = Model(spec)
    for command in commands:
        model.packet(command.words(spec))
    wrong = {completion.error.name for completion in model.completions if completion.error}
    if wrong or not model.tiles:
        raise ValueError(f"commands must bring out tiles and no error, not {', '.join(wrong) or 'no tile'}")
    more = _narrowed(spec, commands[-1], model.tiles[-1])
    given = [*commands, *more]
    unknown = [header(UNKNOWN, UNKNOWN_TAG, 0, 1), 0]
    for packet in (*(command.words(spec) for command in more), unknown):
        model.packet(packet)
    packets = [*(command.words(spec) for command in given), unknown]
    return Vectors(
        words=tuple(
            word | (at == len(packet) - 1) << spec.bus for packet in packets for at, word in enumerate(packet)
        ),
        out=tuple(word for tile in model.tiles for word in _words(spec, tile)),
        steps=tuple(_session(spec, model)),
        runs=len(model.completions) - 1,
        beats=model.beats,
        clocks=clocks.cycles(spec, given),
    )


def _narrowed(spec: AcceleratorSpec, last: Command, tile: bytes) -> list[Command]:
    """The last run once more, its sums as bytes, some of them clipped; nothing if it is part of a tile."""
    if not (isinstance(last, Run) and last.clear and last.drain):
        return []
    rows = last.rows * last.tiles
    if rows > spec.requant_depth:
        return []
    size = spec.sum_bits // 8
    sums = [int.from_bytes(tile[at : at + size], "little", signed=True) for at in range(0, len(tile), size)]
    # Half of what would bring the largest sum into a byte.
    shift = max(max(map(abs, sums)).bit_length() - 1, 0)
    factors = [factor_entry(127 - row, shift, spec) for row in range(rows)]
    load = Load(opcode=Opcode.LOAD_REQUANT, address=spec.requant_depth, entries=factors)
    return [load, replace(last, narrow=True, requant_base=spec.requant_depth, tag=(last.tag + 1) & 0xFFFF)]


def _words(spec: AcceleratorSpec, tile: bytes) -> Iterator[int]:
    """A tile as words of the stream out."""
    size = spec.bus // 8
    for at in range(0, len(tile), size):
        part = tile[at : at + size]
        keep, last = (1 << len(part)) - 1, at + size >= len(tile)
        yield last << (spec.bus + size) | keep << spec.bus | int.from_bytes(part, "little")


def _write(name: str, text: str, **fields: int) -> Step:
    value, offset = registers.encode(name, **fields), registers.offset(name)
    return Step(act=Act.WRITE, offset=offset, value=value, text=f"write {name}: {text}")


def _read(name: str, text: str, **fields: int) -> Step:
    return _value(Act.READ, name, text, registers.encode(name, **fields))


def _value(act: Act, name: str, text: str, value: int) -> Step:
    return Step(
        act=act, offset=registers.offset(name), value=value, text=f"{act.name.lower()} {name}: {text}"
    )


def _session(spec: AcceleratorSpec, model: Model) -> Iterator[Step]:
    """What a driver does, from reading what the accelerator is to clearing the interrupt."""
    *done, failed = model.completions
    quiet = int(len(model.completions) > COMPLETIONS)
    for name, value in registers.constants(spec).items():
        yield _value(Act.READ, name, registers.BY_NAME[name].text, value)
    yield _read("STATUS", "idle, nothing has begun", idle=1)
    yield _write("IRQ_ENABLE", "completed runs raise the interrupt", done=1)
    yield _write("CONTROL", "counters begin at 0", quiet=quiet, clear=1)
    yield _write("DOORBELL", "all runs may begin", count=len(done))
    yield _read("STATUS", "and none has yet", idle=1, credits=len(done))
    yield Step(act=Act.STREAM, text="words in and tiles out")
    yield Step(act=Act.IRQ, value=1, text="the interrupt line is up")
    idle = registers.encode("STATUS", idle=1, completions=1)
    yield _value(Act.POLL, "STATUS", "idle again, no run may begin", idle)
    yield _read("COMPLETED", "all runs", count=len(done))
    yield _read("FAILED", "the last packet", count=1)
    yield _read("ERRORS", "its opcode", opcode=1)
    for completion in [failed] if quiet else model.completions:
        ended = {"tag": completion.tag, "error": int(completion.error), "valid": 1}
        yield _read("COMPLETION", "how each ended, in order", **ended)
    yield _read("COMPLETION", "no more")
    yield _write("CONTROL", "counters to where they are read", quiet=quiet, snapshot=1)
    yield _read("RUN_LO", "a clock for each beat", clocks=model.beats & 0xFFFFFFFF)
    yield _read("RUN_HI", "a clock for each beat", clocks=model.beats >> 32)
    yield _read("IRQ_STATUS", "all three events happened", done=1, error=1, idle=1)
    yield _write("IRQ_STATUS", "cleared", done=1, error=1, idle=1)
    yield _read("IRQ_STATUS", "none is left")
    yield Step(act=Act.IRQ, value=0, text="the interrupt line is down")
    yield _write("ERRORS", "cleared", **{Error.OPCODE.name.lower(): 1})
    yield _read("ERRORS", "none is left")
    identity = replace(_write("ID", "refused: it is only read"), response=SLVERR)
    nowhere = registers.table()[-1].offset + 4
    yield identity
    yield Step(
        act=Act.READ, offset=nowhere, mask=0, response=SLVERR, text="read beyond the registers: refused"
    )


def as_text(steps: Sequence[Step]) -> str:
    """Steps as $readmemh reads them, each with what it does."""
    digits = sum(STEP_BITS.values()) // 4
    return "".join(f"{step.packed():0{digits}x}  // {step.text}\n" for step in steps)
