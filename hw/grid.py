"""An array as one PE of many rows and tokens, so that all that runs, writes or proves a PE takes an array.

A beat's words are those of the PEs side by side: weights and masks by row, activations by column; the flags
go to every PE.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hw.spec import ArraySpec, Beat, PeSpec, Resources, Segment, Step


@dataclass(frozen=True, kw_only=True)
class Grid(PeSpec):
    """``array`` as a PE. Accumulator ``(r * columns + c) * outputs + k`` is number k of the PE at r, c."""

    lanes: int = field(init=False)
    acc_width: int = field(init=False)
    array: ArraySpec

    def __post_init__(self) -> None:
        object.__setattr__(self, "lanes", self.array.pe.lanes)
        object.__setattr__(self, "acc_width", self.array.pe.acc_width)
        super().__post_init__()

    def beat_range(self) -> tuple[int, int]:
        return self.array.pe.beat_range()

    def words(self) -> dict[str, int]:
        return {name: bits * self._copies(name) for name, bits in self.array.pe.words().items()}

    def flags(self) -> tuple[str, ...]:
        return self.array.pe.flags()

    def _copies(self, word: str) -> int:
        return self.array.columns if word == "x" else self.array.rows

    @property
    def primitives(self) -> str:
        return self.array.pe.primitives

    @property
    def rows(self) -> int:
        return self.array.rows * self.array.pe.rows

    @property
    def tokens(self) -> int:
        return self.array.columns * self.array.pe.tokens

    @property
    def outputs(self) -> int:
        return self.array.rows * self.array.columns * self.array.pe.outputs

    def place(self, output: int) -> tuple[int, int]:
        row, column, own = self._where(output)
        inner_row, inner_token = self.array.pe.place(own)
        return row * self.array.pe.rows + inner_row, column * self.array.pe.tokens + inner_token

    def _where(self, output: int) -> tuple[int, int, int]:
        """Row and column of the PE that holds an accumulator, and the accumulator's number in it."""
        at, own = divmod(output, self.array.pe.outputs)
        row, column = divmod(at, self.array.columns)
        return row, column, own

    def golden(self, acc: int, beat: Beat, output: int = 0) -> int:
        row, column, own = self._where(output)
        cut = {
            name: getattr(beat, name) >> bits * (column if name == "x" else row) & ((1 << bits) - 1)
            for name, bits in self.array.pe.words().items()
        }
        return self.array.pe.golden(acc, replace(beat, **cut), own)

    def steps(self, segment: Segment) -> tuple[Step, ...]:
        return self.array.pe.steps(segment)

    def w_code(self, segment: Segment) -> Any:
        return self.array.pe.w_code(segment)

    def x_code(self, segment: Segment) -> Any:
        return self.array.pe.x_code(segment)

    def dot(self, items: Any, segment: Segment) -> Any:
        return self.array.pe.dot(items, segment)

    def columns(self, segment: Segment) -> int:
        return self.array.pe.columns(segment)

    def latency(self) -> int:
        return self.array.latency()

    def resources(self) -> Resources:
        return self.array.resources()

    def create(self) -> Any:
        from hw.array import create
        from hw.pipeline import require_ports

        require_ports(self)
        return create(self.array)
