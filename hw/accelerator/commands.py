"""Commands on the stream into the accelerator: packets that load a buffer, or run what the buffers hold.

A packet is a header of 64 bits and then words of the bus, the last one marked by TLAST::

    header     version [0:8]   opcode [8:16]   tag [16:32]   address [32:48]   count [48:64]
    load       ``count`` entries for the addresses from ``address`` on
    run        four words of 64 bits (`RUN_WORDS`), one to a bus word; ``count`` is 4

A load waits until no descriptor before it still reads the half it writes. So packets mean what they would
mean one after the other, while loads overlap with runs that read other halves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from hw.accelerator.spec import STEP_FIELDS, AcceleratorSpec
from hw.spec import Step, require_int

VERSION = 1  #: of the packet format


class Opcode(IntEnum):
    """What a packet asks for."""

    LOAD_W = 1
    LOAD_X = 2
    LOAD_MASK = 3
    LOAD_SCALE = 4  #: a mantissa for each column
    LOAD_REQUANT = 5
    LOAD_STEPS = 6
    LOAD_SCALE_ALL = 7  #: one mantissa for all columns
    RUN = 16


class Error(IntEnum):
    """Why a packet failed, and the bit of the error register that says so."""

    NONE = 0
    VERSION = 1  #: packet format unknown
    OPCODE = 2  #: unknown, or of a buffer that this accelerator lacks
    LENGTH = 3  #: TLAST came too early or too late
    COUNT = 4  #: a count is 0 or more than there is room for
    ADDRESS = 5  #: beyond a half
    TABLE = 6  #: the step table does not begin and end an item
    ORDER = 7  #: continues a tile that failed or never began, or repeats one that it does not finish


#: Buffer that a load fills.
FILLS = {
    Opcode.LOAD_W: "w",
    Opcode.LOAD_X: "x",
    Opcode.LOAD_MASK: "mask",
    Opcode.LOAD_SCALE: "scale",
    Opcode.LOAD_REQUANT: "requant",
    Opcode.LOAD_STEPS: "steps",
    Opcode.LOAD_SCALE_ALL: "scale",
}

#: Fields of the words behind a run's header, and their bits; the first in the lowest bits.
RUN_WORDS: tuple[dict[str, int], ...] = (
    {"w_base": 16, "mask_base": 16, "x_base": 16, "scale_base": 16},
    {"w_stride": 16, "mask_stride": 16, "x_stride": 16, "requant_base": 16},
    {"w_step": 8, "mask_step": 8, "x_step": 8, "rows": 8, "columns": 8, "flags": 8, "chunks": 16},
    {"groups": 16, "tiles": 16, "steps_base": 16, "steps": 16},
)

#: Bits of a run's ``flags``.
FLAGS = {"clear": 1, "drain": 2, "narrow": 4, "mask_stays": 8}


def packed(values: Mapping[str, int], widths: Mapping[str, int]) -> int:
    """Fields side by side, the first in the lowest bits. Raises ValueError if one is too wide."""
    total = offset = 0
    for name, bits in widths.items():
        require_int(name, values[name], 0, (1 << bits) - 1)
        total |= values[name] << offset
        offset += bits
    return total


def header(opcode: int, tag: int, address: int, count: int, version: int = VERSION) -> int:
    """First word of a packet."""
    widths = {"version": 8, "opcode": 8, "tag": 16, "address": 16, "count": 16}
    given = {"version": version, "opcode": opcode, "tag": tag, "address": address, "count": count}
    return packed(given, widths)


@dataclass(frozen=True, kw_only=True)
class Load:
    """Entries for consecutive addresses of a buffer, each a sequence of the buffer's elements."""

    opcode: Opcode
    address: int  #: of the first; the top bit is the half
    entries: Sequence[Sequence[int]] = field(repr=False)
    tag: int = 0

    def words(self, spec: AcceleratorSpec) -> list[int]:
        """The packet."""
        buffer = spec.buffers()[FILLS[self.opcode]]
        found = [header(self.opcode, self.tag, self.address, len(self.entries))]
        for entry in self.entries:
            if self.opcode == Opcode.LOAD_SCALE_ALL:
                found.append(entry[0] & ((1 << spec.scale_bits) - 1))
            else:
                found += buffer.pack(entry)
        return found


@dataclass(frozen=True, kw_only=True)
class Run:
    """A descriptor: beats from the buffers through the array, items onto sums, sums out.

    ``tiles`` times ``groups`` times, the steps of the table are walked; a step is a beat for each of
    ``chunks`` of columns (a bubble is one beat). Beat (group g, chunk c, step s) reads weight word
    ``w_base + g * w_stride + c * w_step + s.w`` and likewise; g goes on counting through the tiles for
    weights (and for masks, unless they stay), and begins anew for activations. Each item takes ``rows``
    entries of mantissas, from ``scale_base`` on; each tile that is narrowed takes ``rows`` factors.
    """

    w_base: int = 0
    mask_base: int = 0
    x_base: int = 0
    scale_base: int = 0
    requant_base: int = 0
    steps_base: int = 0
    w_stride: int = 0
    mask_stride: int = 0
    x_stride: int = 0
    w_step: int = 0
    mask_step: int = 0
    x_step: int = 0
    rows: int  #: output rows of the tile in use
    columns: int  #: and columns
    chunks: int = 1  #: words of a group's columns
    groups: int = 1
    tiles: int = 1
    steps: int  #: of the table
    clear: bool = True  #: sums start from 0
    drain: bool = True  #: sums are handed over at the end
    narrow: bool = False  #: as bytes, by the factors; otherwise as they are
    mask_stays: bool = False  #: masks begin anew with each tile
    tag: int = 0

    def words(self, spec: AcceleratorSpec) -> list[int]:
        """The packet; the same for every accelerator."""
        given = {name: getattr(self, name) for word in RUN_WORDS for name in word if name != "flags"}
        given["flags"] = sum(bit for name, bit in FLAGS.items() if getattr(self, name))
        return [
            header(Opcode.RUN, self.tag, 0, len(RUN_WORDS)),
            *(packed(given, word) for word in RUN_WORDS),
        ]


Command = Load | Run


def step_entry(
    step: Step, w: int, x: int, *, first: bool, last: bool, w_bipolar: bool = False, x_bipolar: bool = False
) -> list[int]:
    """A step as the table holds it; ``w`` and ``x`` number the words it reads of a chunk."""
    values = {
        "w": w,
        "x": x,
        "bubble": step.bubble,
        "first": first,
        "last": last,
        "shift": step.shift,
        "neg": step.neg,
        "w_bipolar": w_bipolar,
        "x_bipolar": x_bipolar,
    }
    return [packed({name: int(value) for name, value in values.items()}, STEP_FIELDS)]


def factor_entry(mantissa: int, shift: int, spec: AcceleratorSpec) -> list[int]:
    """A dyadic factor ``mantissa / 2**shift`` as the buffer of factors holds it."""
    unit = spec.requantizer()
    low = -(1 << (unit.mantissa_bits - 1))
    require_int("mantissa", mantissa, low, -low - 1)
    require_int("shift", shift, 0, (1 << unit.shift_bits) - 1)
    return [(mantissa % (1 << unit.mantissa_bits)) | shift << unit.mantissa_bits]
