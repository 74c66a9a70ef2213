"""Parameters of a whole accelerator: an array of processing elements, buffers, scale units, bus.

Built on the compute contract: what `hw.spec` says of the array holds here too.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw.accelerator.buffer import BufferSpec
from hw.accelerator.requantize import RequantizeSpec
from hw.accelerator.scale import FORMS, ScaleSpec
from hw.grid import Grid
from hw.spec import ArraySpec, require_int

#: Widths of the fields of a step of the table [bits], the first in the lowest bits.
STEP_FIELDS = {
    "w": 8,  #: which of the weight words of a chunk of columns
    "x": 8,  #: which of the activation words
    "bubble": 1,  #: one beat without operands, whatever the number of chunks
    "first": 1,
    "last": 1,
    "shift": 1,
    "neg": 1,
    "w_bipolar": 1,
    "x_bipolar": 1,
}

#: Depths of a half may not pass this: addresses have 16 bits, the top one of which is the half [entries].
DEEPEST = 1 << 15


@dataclass(frozen=True, kw_only=True)
class AcceleratorSpec:
    """An array and what surrounds it. Depths are entries of one half of a double-buffered memory."""

    array: ArraySpec
    bus: int = 64  #: bits of the streams in and out
    w_depth: int = 256  #: weight words of every row
    x_depth: int = 256  #: activation words of every column
    mask_depth: int = 64  #: masks of every row, where the PE has one
    scale_depth: int = 256  #: mantissas of every column
    requant_depth: int = 64  #: factors of an output row
    step_depth: int = 128  #: steps of the table
    #: a mantissa [bits], two's complement: one of 16 bits times a zero point of 8
    scale_bits: int = 24
    sum_bits: int = 64  #: a sum of scaled items [bits]
    scaling: str = "parallel"  #: form of the scale units
    queue: int = 4  #: descriptors that wait for the array

    def __post_init__(self) -> None:
        for name in ("w_depth", "x_depth", "mask_depth", "scale_depth", "requant_depth", "step_depth"):
            require_int(name, getattr(self, name), 1, DEEPEST)
            if getattr(self, name) & (getattr(self, name) - 1):
                raise ValueError(f"{name} must be a power of two, not {getattr(self, name)!r}")
        for name in ("scale_bits", "queue"):
            require_int(name, getattr(self, name), 1)
        require_int("bus", self.bus, 64)
        if self.bus % 64:
            raise ValueError(f"bus must be a multiple of 64, not {self.bus!r}")
        require_int("scale_bits", self.scale_bits, 1, self.bus)
        if self.sum_bits not in (16, 32, 64):
            raise ValueError(f"sum_bits must be one of 16, 32, 64, not {self.sum_bits!r}")
        if self.scaling not in FORMS:
            raise ValueError(f"scaling must be one of {', '.join(FORMS)}, not {self.scaling!r}")
        pe = self.array.pe
        if pe.outputs != pe.rows * pe.tokens:
            raise ValueError(
                f"pe must have an accumulator per row and token ({pe.rows} x {pe.tokens}), not {pe.outputs!r}"
            )
        require_int("rows of the array", self.rows, 1, 255)
        require_int("columns of the array", self.columns, 1, 255)

    @property
    def rows(self) -> int:
        """Output channels of a tile."""
        return self.array.rows * self.array.pe.rows

    @property
    def columns(self) -> int:
        """Tokens of a tile."""
        return self.array.columns * self.array.pe.tokens

    def items(self) -> list[list[int]]:
        """Where the item of [row][column] stands among the array's items."""
        grid, found = Grid(array=self.array), [[0] * self.columns for _ in range(self.rows)]
        for output in range(grid.outputs):
            row, column = grid.place(output)
            found[row][column] = output
        return found

    @property
    def masked(self) -> bool:
        """Whether beats have a mask."""
        return "mask" in self.array.pe.words()

    def buffers(self) -> dict[str, BufferSpec]:
        """The memories that commands fill, by name."""
        words = self.array.pe.words()
        factor = self.requantizer()
        shapes = {
            "w": (self.array.rows, words["w"], self.w_depth),
            "x": (self.array.columns, words["x"], self.x_depth),
            "mask": (self.array.rows, words.get("mask", 0), self.mask_depth),
            "scale": (self.columns, self.scale_bits, self.scale_depth),
            "requant": (1, factor.mantissa_bits + factor.shift_bits, self.requant_depth),
            "steps": (1, sum(STEP_FIELDS.values()), self.step_depth),
        }
        if not self.masked:
            del shapes["mask"]
        return {
            name: BufferSpec(elements=elements, bits=bits, depth=depth, bus=self.bus)
            for name, (elements, bits, depth) in shapes.items()
        }

    def scale_unit(self, user_bits: int = 0) -> ScaleSpec:
        """The scale units of all columns."""
        return ScaleSpec(
            columns=self.columns,
            rows=self.rows,
            item_bits=self.array.pe.acc_width,
            scale_bits=self.scale_bits,
            sum_bits=self.sum_bits,
            user_bits=user_bits,
            form=self.scaling,
        )

    def requantizer(self, user_bits: int = 0) -> RequantizeSpec:
        """The one unit behind all columns that narrows sums to bytes."""
        return RequantizeSpec(sum_bits=self.sum_bits, user_bits=user_bits)

    @property
    def memory_bits(self) -> int:
        """Bits of all operand buffers."""
        return sum(buffer.memory_bits for buffer in self.buffers().values())

    def cycles(self, *, items: int, beats: int, rows: int, columns: int) -> int:
        """Clocks of one tile whose operands are in the buffers; see `hw.accelerator.timing.tile_cycles`.

        Parameters: items of an output, beats of an item, rows and columns in use.
        """
        from hw.accelerator import timing  # which is made of this class

        return timing.tile_cycles(self, items=items, beats=beats, rows=rows, columns=columns)

    @property
    def contexts(self) -> int:
        """Items that may be on their way from the sequencer to the scale units, with room to spare."""
        return self.array.latency() + 4
