"""Integer codes times integer activations, as bytes: the dense kernel for two to sixteen bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.activations import Activations
from algo.bitplane.matrix import PackedMatrix
from sim.kernels import dots_layout, landing
from sim.kernels.codes import Codes, lower
from sim.kernels.contract import Sums, aligned, unchanging
from sim.kernels.dots_kernels import (
    NEAR,
    TOKENS,
    Block,
    Columns,
    Laid,
    multiply,
    multiply_one,
    take_activations,
)
from sim.kernels.dots_tile import PANEL, ROWS, fast

NAME = "dots"
GOLDEN = "algo.bitplane.decode.integer_sums"

BLOCK_BYTES = 2 << 20  #: activations of one pass over the weights; 0.5 to 4 MiB differ by less than a tenth
INT32 = 2**31 - 1
_NONE, _NO_BYTES = np.empty(0, np.int64), np.empty(0, np.uint8)


def prepare(matrix: PackedMatrix, stream: str | None) -> Dots | None:
    """The stream's codes; None where a multiplier or a rest does not fit 32 bits."""
    lowered = lower(matrix, stream)
    stored = [code.multiplier for code in lowered.codes] + ([] if lowered.rest is None else [lowered.rest])
    if any(int(np.abs(values).max(initial=0)) > INT32 for values in stored):
        return None
    return Dots(matrix, lowered)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Nanoseconds on one core; estimates, from medians of the shapes of `benchmarks/bench_int8.py`."""

    call: float  #: a call
    take: float  #: an activation, made a byte
    one: Mapping[int, float]  #: a code of so many bits times one token
    unpack: float  #: a code, made a byte
    product: float  #: a code times a token of several
    scale: float  #: a group's sum of a row and token


FAST = Speed(  # Cascade Lake, 2.5 GHz, with AVX512-VNNI
    call=1.2e4,
    take=1.0,
    one={1: 0.010, 2: 0.015, 4: 0.033, 8: 0.1},
    unpack=0.025,
    product=0.0055,
    scale=0.2,
)
PLAIN = Speed(  # the same machine held to AVX2
    call=1.2e4,
    take=1.0,
    one={1: 0.09, 2: 0.09, 4: 0.1, 8: 0.15},
    unpack=0.03,
    product=0.041,
    scale=0.2,
)


@dataclass(eq=False)
class Dots:
    """Weights as bytes, or as many codes in a byte as fit; laid out when first multiplied."""

    matrix: PackedMatrix
    lowered: Codes

    @cached_property
    def columns(self) -> Columns:
        return dots_layout.columns(self.matrix, self.widths)

    @property
    def widths(self) -> list[int]:
        """Bits of each code matrix."""
        return [code.bits for code in self.lowered.codes]

    @cached_property
    def laid(self) -> tuple[Laid, ...]:
        """The code matrices; the first carries the rest."""
        rests = [self.lowered.rest] + [None] * (len(self.lowered.codes) - 1)
        pairs = zip(self.lowered.codes, rests, strict=True)
        return tuple(
            dots_layout.lay(self.matrix, code, partial(code.values, self.matrix), rest, self.columns)
            for code, rest in pairs
        )

    def cost(self, bits: int, tokens: int, mantissas: bool) -> float | None:
        """Nanoseconds; see `sim.kernels.contract.Prepared`."""
        rows, quads = -(-self.matrix.rows // ROWS) * ROWS, int(self.columns.quads[-1])
        speed = FAST if fast() else PLAIN
        entries, sums = rows * quads * 4.0, rows * len(self.columns.group) * (2.0 if mantissas else 1.0)
        total = 0.0
        for bits_each in self.widths:
            width = next(width for width in (1, 2, 4, 8) if width >= bits_each)
            if tokens == 1:
                total += entries * speed.one[width] + sums * speed.scale
            else:
                padded = -(-tokens // TOKENS) * TOKENS
                unpacked = 0.0 if width == 8 else entries * speed.unpack
                total += unpacked + padded * (entries * speed.product + sums * speed.scale)
        return speed.call + len(_runs(bits)) * (total + tokens * quads * 4 * speed.take)

    def add(self, act: Activations, out: Sums) -> None:
        """Add the stream's sums; see `sim.kernels.contract.Prepared`."""
        self._take(act, partial(_sums, out, False))

    def put(self, act: Activations, out: Sums) -> None:
        """Write the stream's sums; see `sim.kernels.contract.Writes`."""
        if not self.laid:
            out[:] = 0
        self._take(act, partial(_sums, out, True))

    def convert(self, act: Activations, factor: NDArray[np.float64], out: NDArray[np.float32]) -> bool:
        """Write the layer's outputs; see `sim.kernels.contract.Converts`."""
        if len(self.laid) != 1 or len(_runs(act.bits)) != 1:
            return False
        scale, padded = act.scale.astype(np.float64), np.zeros(-(-len(factor) // ROWS) * ROWS)
        padded[: len(factor)] = factor
        self._take(act, lambda part, *_: landing.Outputs(out[part].reshape(-1), padded, scale[part]))
        return True

    def _take(self, act: Activations, target: Landing) -> None:
        tokens, quads = len(act.values), int(self.columns.quads[-1])
        if tokens == 1:
            self._add(act, slice(None), _NO_BYTES, target)
            return
        at_once = max(8, BLOCK_BYTES // (4 * quads) // 8 * 8)
        scratch = aligned(max(NEAR, quads * PANEL) if any(laid.folds for laid in self.laid) else 0)
        for start in range(0, tokens, at_once):
            self._add(act, slice(start, min(start + at_once, tokens)), scratch, target)

    def _add(self, act: Activations, part: slice, scratch: NDArray[np.uint8], target: Landing) -> None:
        values, columns = act.values[part], self.columns
        tokens = len(values)
        mantissas = _NONE
        if act.mantissa is not None:
            mantissas = np.ascontiguousarray(act.mantissa[part], np.int64).reshape(-1)
        together = 1 if tokens == 1 else TOKENS
        wide = aligned(2 * together * ROWS * 8).view(np.int64)
        wide[:] = 0
        narrow = np.zeros(ROWS if tokens == 1 else TOKENS, np.int32)
        for shift, keep in _runs(act.bits):
            x, sums = self._taken(act, part, shift, keep)
            block = Block(x, sums, mantissas, tokens)
            for laid in self.laid:
                to = target(part, shift, shift == 0 and laid is self.laid[0])
                if tokens == 1:
                    multiply_one(laid, columns, block, self.matrix.rows, narrow, wide, to)
                else:
                    multiply(laid, columns, block, self.matrix.rows, scratch, narrow, wide, to)

    def _taken(
        self, act: Activations, part: slice, shift: int, keep: int
    ) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        """Activations as `Block` wants them; layers that read the same ones may find them made."""
        keep_them, columns = act in unchanging and len(act.values[part]) == len(act.values), self.columns
        known = _TAKEN.get(act) if keep_them else None
        if known is not None and known[0] == (self._layout, shift):
            return known[1:]
        values = act.values[part]
        tokens = len(values)
        padded = 1 if tokens == 1 else -(-tokens // TOKENS) * TOKENS
        x = np.empty(padded * int(columns.quads[-1]) * 4, np.int8)
        sums = np.empty(tokens * len(columns.group), np.int64)
        take_activations(np.ascontiguousarray(values).reshape(-1), tokens, columns, shift, keep, x, sums)
        if keep_them:
            _TAKEN[act] = (self._layout, shift), x, sums
        return x, sums

    @cached_property
    def _layout(self) -> bytes:
        """What activations depend on of `columns`."""
        return b"".join(np.asarray(part).tobytes() for part in self.columns)


#: By activations, while they live: the layout and shift of their bytes, and these (at most `BLOCK_BYTES`).
_TAKEN: WeakKeyDictionary[Activations, tuple[tuple[bytes, int], NDArray[np.int8], NDArray[np.int64]]]
_TAKEN = WeakKeyDictionary()

#: ``(tokens, place of the bits, first of several)``: where these tokens' sums go.
Landing = Callable[[slice, int, bool], landing.Target]


def _sums(out: Sums, fresh: bool, part: slice, place: int, first: bool) -> landing.Sums:
    return landing.Sums(out[part].reshape(-1), place, fresh and first)


def _runs(bits: int) -> list[tuple[int, int]]:
    """Shifts and masks that cut activations into signed bytes: seven bits each, the rest at the top."""
    low = max(0, -(-(bits - 8) // 7))
    return [*((7 * run, 127) for run in range(low)), (7 * low, -1)]
