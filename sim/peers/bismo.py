"""BISMO's dot-product array: cycles, peak and resources by its published formulas.

Source: Umuroglu et al., BISMO, FPL 2018, arXiv:1806.08862, and its second generation, arXiv:1901.00370; cost
fits as in the released code of both (EECS-NTNU/bismo).
"""

from __future__ import annotations

from dataclasses import dataclass

from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec, require_int

#: LUTs of a dot-product unit: per bit of its width, and constant; by generation.
LUT_FIT = {"v1": (2.04, 109.41), "v2": (1.17, 44.1)}
RESULT_LUT = 120.1  #: LUTs of result logic per dot-product unit, both generations
BRAM_DEPTH, BRAM_WIDTH = 1024, 32  #: shape of a block RAM as the formula takes it


@dataclass(frozen=True, kw_only=True)
class Dpa:
    """``rows`` x ``columns`` dot-product units of ``lanes`` bits."""

    rows: int
    lanes: int
    columns: int
    clock_hz: float = 200e6

    def __post_init__(self) -> None:
        for name in ("rows", "lanes", "columns"):
            require_int(name, getattr(self, name), 1)

    def cycles(self, m: int, k: int, n: int, left_bits: int, right_bits: int) -> int:
        """Clocks of the execute stage for [m, k] times [k, n], without pipeline and synchronisation."""
        tiles = -(-m // self.rows) * -(-n // self.columns)
        return tiles * left_bits * right_bits * -(-k // self.lanes)

    def fetch_bytes(self, m: int, k: int, n: int, left_bits: int, right_bits: int) -> int:
        """Bytes the fetch stage reads: the right matrix once, the left once for every tile of columns.

        Rows of bits are padded to the array's lanes.
        """
        words = -(-k // self.lanes) * self.lanes
        left = -(-m // self.rows) * self.rows * left_bits * words
        right = -(-n // self.columns) * self.columns * right_bits * words
        return (right + left * -(-n // self.columns)) // 8

    @property
    def peak_gops(self) -> float:
        """Binary operations a second [G]: a multiply and an add for every pair of bits."""
        return 2 * self.rows * self.lanes * self.columns * self.clock_hz / 1e9

    def lut(self, generation: str = "v2") -> float:
        """LUTs of the array by the released fit.

        Raises ValueError for an unknown generation.
        """
        if generation not in LUT_FIT:
            raise ValueError(f"generation must be one of {', '.join(LUT_FIT)}, not {generation!r}")
        slope, constant = LUT_FIT[generation]
        return self.rows * self.columns * (slope * self.lanes + constant + RESULT_LUT)

    def bram(self, left_depth: int, right_depth: int) -> int:
        """Block RAMs of operand buffers that hold so many words of every row and column.

        Differs in: the released code divides integers before it rounds up.
        """
        left, right = (-(-depth // BRAM_DEPTH) for depth in (left_depth, right_depth))
        return -(-self.lanes // BRAM_WIDTH) * (self.rows * left + self.columns * right)

    def array(self, dram_bits_per_cycle: int = 64) -> ArraySpec:
        """The same array here; on integers its compute clocks are `cycles` and the pipeline."""
        return ArraySpec(
            pe=BitSerial(lanes=self.lanes),
            rows=self.rows,
            columns=self.columns,
            clock_hz=self.clock_hz,
            dram_bits_per_cycle=dram_bits_per_cycle,
        )
