"""The register map: one table, from which the RTL, the driver, a document and a C header are made."""

from __future__ import annotations

from dataclasses import dataclass

from hw.accelerator.commands import VERSION, Error
from hw.accelerator.spec import AcceleratorSpec

#: What software may do with a register.
ACCESS = {
    "ro": "read only",
    "rw": "read and write",
    "wo": "write only, reads as 0",
    "w1c": "read; a written 1 clears its bit",
    "pop": "read only; reading takes the value away",
}

MAP_VERSION = 1  #: of this map
ID = 0x43414650  #: "PFAC" as bytes in memory


@dataclass(frozen=True, kw_only=True)
class Field:
    """Bits of a register."""

    name: str
    low: int  #: lowest bit
    bits: int
    text: str

    @property
    def mask(self) -> int:
        """The field's bits in the register."""
        return ((1 << self.bits) - 1) << self.low


@dataclass(frozen=True, kw_only=True)
class Register:
    """Four bytes at ``offset``."""

    name: str
    offset: int
    access: str  #: key of `ACCESS`
    text: str
    fields: tuple[Field, ...]


def _fields(*given: tuple[str, int, str]) -> tuple[Field, ...]:
    """Fields side by side from bit 0, as (name, bits, text); an empty name leaves bits unused."""
    found, low = [], 0
    for name, bits, text in given:
        if name:
            found.append(Field(name=name, low=low, bits=bits, text=text))
        low += bits
    return tuple(found)


#: Error flags beyond those of packets.
SHELL_ERRORS = {
    "completion_lost": "a run completed while no place for it was left in COMPLETION",
    "doorbell_lost": "DOORBELL was rung for more runs than it can count",
}
_PACKET_ERRORS = {
    Error.VERSION: "a packet of an unknown version",
    Error.OPCODE: "an unknown opcode, or one for a buffer that this accelerator lacks",
    Error.LENGTH: "a packet ended too early or too late",
    Error.COUNT: "a count of 0, or more rows, columns than there are",
    Error.ADDRESS: "an address beyond its half of a buffer",
    Error.TABLE: "a step table that does not begin and end an item",
    Error.ORDER: "a run continues a tile that failed or never began, or repeats one it does not finish",
}
COUNTERS = {
    "run": "a beat went to the array",
    "idle": "nothing to do",
    "wait_in": "work is on its way, but no run may begin yet",
    "wait_out": "a beat is held up by what comes after it",
}
EVENTS = {
    "done": "a run completed",
    "error": "an error flag was raised",
    "idle": "the last run completed and no packet is under way",
}
COUNTER_BITS = 64


def _bits(texts: dict[str, str]) -> tuple[Field, ...]:
    return _fields(*((name, 1, text) for name, text in texts.items()))


def _table() -> tuple[Register, ...]:
    errors = {error.name.lower(): text for error, text in _PACKET_ERRORS.items()} | SHELL_ERRORS
    rows: list[tuple[str, str, str, tuple[Field, ...]]] = [
        ("ID", "ro", "What this is", _fields(("id", 32, f"{ID:#x}"))),
        (
            "VERSION",
            "ro",
            "What it understands",
            _fields(("packets", 8, "version of the packets"), ("map", 8, "version of this map")),
        ),
        (
            "SHAPE",
            "ro",
            "Size of a tile",
            _fields(("rows", 8, "output rows"), ("columns", 8, "tokens"), ("lanes", 16, "columns of a beat")),
        ),
        (
            "WIDTHS",
            "ro",
            "Widths in bits",
            _fields(
                ("acc", 8, "of an item"),
                ("scale", 8, "of a mantissa"),
                ("sum", 8, "of a sum"),
                ("bus", 8, "of the streams, in units of 64"),
            ),
        ),
        ("DEPTHS0", "ro", "Entries of a half", _fields(("w", 16, "weights"), ("x", 16, "activations"))),
        (
            "DEPTHS1",
            "ro",
            "Entries of a half",
            _fields(("mask", 16, "masks, 0 if there are none"), ("scale", 16, "mantissas")),
        ),
        (
            "DEPTHS2",
            "ro",
            "Entries of a half",
            _fields(("requant", 16, "factors"), ("steps", 16, "steps of the table")),
        ),
        (
            "FEATURES",
            "ro",
            "What is built in",
            _fields(
                ("masked", 1, "beats have masks"),
                ("serial", 1, "scale units take a clock for each bit of a mantissa"),
                ("", 6, ""),
                ("queue", 8, "runs that wait for the array"),
            ),
        ),
        (
            "CONTROL",
            "rw",
            "What to do",
            _fields(
                ("auto", 1, "runs need no doorbell"),
                ("quiet", 1, "runs that complete are counted, but do not go to COMPLETION"),
                ("reset", 1, "drop all packets, runs, credits and completions; reads as 0"),
                ("clear", 1, "set the counters to 0; reads as 0"),
                ("snapshot", 1, "copy the counters to where they are read; reads as 0"),
            ),
        ),
        (
            "STATUS",
            "ro",
            "What is going on",
            _fields(
                ("idle", 1, "every run has completed and no packet is under way"),
                ("completions", 1, "COMPLETION holds one"),
                ("", 14, ""),
                ("credits", 16, "runs that may still begin"),
            ),
        ),
        ("DOORBELL", "wo", "Let runs begin", _fields(("count", 16, "so many more"))),
        ("ERRORS", "w1c", "What went wrong", tuple(_one_up(errors))),
        ("IRQ_ENABLE", "rw", "Events that raise the interrupt", _bits(EVENTS)),
        ("IRQ_STATUS", "w1c", "Events that happened", _bits(EVENTS)),
        (
            "COMPLETION",
            "pop",
            "How runs, and packets that failed, ended; oldest first",
            _fields(
                ("tag", 16, "of the packet"),
                ("error", 3, "number of its bit in ERRORS, 0 if none"),
                ("", 12, ""),
                ("valid", 1, "there was one"),
            ),
        ),
        ("COMPLETED", "ro", "Runs that completed", _fields(("count", 32, "modulo 2**32"))),
        ("FAILED", "ro", "Packets that failed", _fields(("count", 32, "modulo 2**32"))),
    ]
    for name, text in COUNTERS.items():
        for part, which in enumerate(("LO", "HI")):
            about = f"Clocks at the last snapshot: {text}"
            rows.append(
                (
                    f"{name.upper()}_{which}",
                    "ro",
                    about,
                    _fields(("clocks", 32, f"bits {32 * part} to {32 * part + 31}")),
                )
            )
    return tuple(
        Register(name=name, offset=4 * at, access=access, text=text, fields=fields)
        for at, (name, access, text, fields) in enumerate(rows)
    )


def _one_up(errors: dict[str, str]) -> list[Field]:
    """Flags from bit 1: bit 0 would be the error that is none."""
    return [Field(name=name, low=at, bits=1, text=text) for at, (name, text) in enumerate(errors.items(), 1)]


TABLE = _table()
BY_NAME = {register.name: register for register in TABLE}
ADDRESS_BITS = (4 * len(TABLE) - 1).bit_length()


def table() -> tuple[Register, ...]:
    """All registers, by offset."""
    return TABLE


def offset(name: str) -> int:
    """Where a register lies [bytes]."""
    return BY_NAME[name].offset


def decode(name: str, value: int) -> dict[str, int]:
    """Fields of a register's value."""
    return {field.name: (value & field.mask) >> field.low for field in BY_NAME[name].fields}


def encode(name: str, **fields: int) -> int:
    """A register's value from its fields. Raises ValueError for an unknown field or one too large."""
    known = {field.name: field for field in BY_NAME[name].fields}
    value = 0
    for field_name, given in fields.items():
        if field_name not in known:
            raise ValueError(f"field of {name} must be one of {', '.join(known)}, not {field_name!r}")
        field = known[field_name]
        if not 0 <= given < 1 << field.bits:
            raise ValueError(f"{field_name} must be from 0 to {(1 << field.bits) - 1}, not {given!r}")
        value |= given << field.low
    return value


def constants(spec: AcceleratorSpec) -> dict[str, int]:
    """Values of the registers that say what an accelerator is."""
    depths = {name: buffer.depth for name, buffer in spec.buffers().items()}
    return {
        "ID": ID,
        "VERSION": encode("VERSION", packets=VERSION, map=MAP_VERSION),
        "SHAPE": encode("SHAPE", rows=spec.rows, columns=spec.columns, lanes=spec.array.pe.lanes),
        "WIDTHS": encode(
            "WIDTHS",
            acc=spec.array.pe.acc_width,
            scale=spec.scale_bits,
            sum=spec.sum_bits,
            bus=spec.bus // 64,
        ),
        "DEPTHS0": encode("DEPTHS0", w=depths["w"], x=depths["x"]),
        "DEPTHS1": encode("DEPTHS1", mask=depths.get("mask", 0), scale=depths["scale"]),
        "DEPTHS2": encode("DEPTHS2", requant=depths["requant"], steps=depths["steps"]),
        "FEATURES": encode(
            "FEATURES", masked=int(spec.masked), serial=int(spec.scaling == "serial"), queue=spec.queue
        ),
    }


def markdown() -> str:
    """The map as a document."""
    lines = [
        "# Registers",
        "",
        "32 bits each, little-endian, on the AXI4-Lite port `s_axi`. An address without a register, and a",
        "write to a register that is only read, answer SLVERR and do nothing else.",
        "",
        "| offset | name | access | what |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {r.offset:#04x} | {r.name} | {r.access} | {r.text} |" for r in TABLE]
    lines += ["", *(f"- `{key}`: {text}" for key, text in ACCESS.items())]
    for r in TABLE:
        lines += ["", f"## {r.name} ({r.offset:#04x})", "", f"{r.text}; {ACCESS[r.access]}.", ""]
        lines += ["| bits | field | what |", "| --- | --- | --- |"]
        for f in r.fields:
            where = f"{f.low + f.bits - 1}:{f.low}" if f.bits > 1 else f"{f.low}"
            lines.append(f"| {where} | {f.name} | {f.text} |")
    return "\n".join(lines) + "\n"


def c_header() -> str:
    """The map as a C header."""
    lines = ["#ifndef PLANEFORGE_REGISTERS_H", "#define PLANEFORGE_REGISTERS_H", ""]
    for r in TABLE:
        lines.append(f"/* {r.text} ({ACCESS[r.access]}) */")
        lines.append(f"#define PLANEFORGE_{r.name} {r.offset:#04x}u")
        for f in r.fields:
            name = f"PLANEFORGE_{r.name}_{f.name.upper()}"
            lines.append(f"#define {name}_SHIFT {f.low}u /* {f.text} */")
            lines.append(f"#define {name}_MASK {f.mask:#010x}u")
        lines.append("")
    return "\n".join([*lines, "#endif", ""])
