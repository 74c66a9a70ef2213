"""What travels between the parts of the accelerator."""

from __future__ import annotations

from amaranth.lib import data
from amaranth.utils import ceil_log2

from hw.accelerator.commands import RUN_WORDS
from hw.accelerator.spec import STEP_FIELDS, AcceleratorSpec
from hw.spec import FLAGS

ERROR_BITS = 3  #: of `commands.Error`
TAG_BITS = 16


def bus_layout(spec: AcceleratorSpec) -> data.StructLayout:
    """A word of the stream in."""
    return data.StructLayout({"data": spec.bus, "last": 1})


def out_layout(spec: AcceleratorSpec) -> data.StructLayout:
    """A word of the stream out; ``keep`` has a bit for each byte in use."""
    return data.StructLayout({"data": spec.bus, "keep": spec.bus // 8, "last": 1})


def ending() -> dict[str, int]:
    """How a packet ends: fields that follow it to its completion."""
    return {"error": ERROR_BITS, "tag": TAG_BITS}


def run_layout() -> data.StructLayout:
    """A descriptor on its way to the sequencer; one with an error only completes."""
    fields = {name: bits for word in RUN_WORDS for name, bits in word.items()}
    return data.StructLayout({**fields, **ending()})


def step_layout() -> data.StructLayout:
    """A step of the table."""
    return data.StructLayout(dict(STEP_FIELDS))


def beat_layout() -> data.StructLayout:
    """What the sequencer says of a beat; a bubble's operands are all 0."""
    return data.StructLayout({**dict.fromkeys(FLAGS, 1), "bubble": 1})


def context_layout(spec: AcceleratorSpec) -> data.StructLayout:
    """What the scale units must know of an item; without ``item``, only that a run ends."""
    buffers = spec.buffers()
    return data.StructLayout(
        {
            "item": 1,
            "first": 1,  # the tile's sums start from 0
            "finishes": 1,  # the tile's sums are handed over
            "narrow": 1,
            "end": 1,  # of the run
            "counted": 1,  # the run held its halves
            "scale": buffers["scale"].address_bits,
            "requant": buffers["requant"].address_bits,
            "rows": range(spec.rows + 1),
            "columns": range(spec.columns + 1),
            **ending(),
        }
    )


def passenger_layout(spec: AcceleratorSpec) -> data.StructLayout:
    """What travels beside a row of sums to the drain."""
    return data.StructLayout(
        {
            "data": 1,  # there are sums; otherwise only the end of a run
            "narrow": 1,
            "last": 1,  # row of the tile
            "end": 1,
            "columns": range(spec.columns + 1),
            "factor": spec.buffers()["requant"].bits,
            **ending(),
        }
    )


def value_passenger_layout() -> data.StructLayout:
    """What travels beside a single sum."""
    return data.StructLayout({"data": 1, "last": 1, "end": 1, **ending()})


def half_bit(spec: AcceleratorSpec, buffer: str) -> int:
    """The bit of a 16-bit address that is the half."""
    return ceil_log2(spec.buffers()[buffer].depth)
