"""A zone: entries of a column block that share, in every row, one offset and one scale per sign plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Zone:
    """``offset[i] + sum_s scales[s, i] * columns[s, j] * sign_s[i, j]`` on the mask, 0 off it."""

    at: Indices  #: [c], the columns of the block the zone may lie in
    mask: Bools  #: [rows, c]
    offset: Floats  #: [rows]
    scales: Floats  #: [order, rows]
    signs: Bools  #: [order, rows, c], True = +1; without meaning off the mask
    columns: Floats | None = None  #: [order, c] real factors of columns; None: 1

    @property
    def order(self) -> int:
        """Sign planes."""
        return len(self.scales)

    def values(self) -> Floats:
        """The real entries, [rows, c]."""
        values = np.zeros(self.mask.shape)
        self._add(values, np.arange(len(self.at)))
        return values

    def add_to(self, block: Floats) -> None:
        """Add the real entries to those of the block, [rows, k]."""
        self._add(block, self.at)

    def _add(self, out: Floats, at: Indices) -> None:
        from algo.binarize.lanes import add_zone

        columns = np.ones((self.order, len(self.at))) if self.columns is None else self.columns
        add_zone(out, at, self.mask, self.offset, self.scales, self.signs, columns)


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """One column block, parted and binarized, before any scalar is rounded."""

    salient: Bools  #: [k], columns with a second sign plane
    high: Zone  #: of the salient columns, all of them or, split by magnitude, those at or above the threshold
    low: Zone | None  #: of the salient columns, those below it
    zones: Sequence[Zone]  #: of the other columns, the zone of the largest magnitudes first
    keep: Bools | None = None  #: [rows, k], entries that are not pruned; None: all

    def values(self) -> Floats:
        """The real block, [rows, k]."""
        total = np.zeros((len(self.high.mask), len(self.salient)))
        for zone in (self.high, self.low, *self.zones):
            if zone is not None:
                zone.add_to(total)
        return total

    def bits(self, zone: Zone | None, stage: int) -> Bools:
        """A zone's sign plane in the whole block, [rows, k]; False off the zone."""
        return self._placed(zone, None if zone is None else zone.signs[stage] & zone.mask)

    def mask(self, zone: Zone | None) -> Bools:
        """A zone's mask in the whole block, [rows, k]."""
        return self._placed(zone, None if zone is None else zone.mask)

    def _placed(self, zone: Zone | None, bits: Bools | None) -> Bools:
        whole = np.zeros((len(self.high.mask), len(self.salient)), np.bool_)
        if zone is not None and bits is not None:
            whole[:, zone.at] = bits
        return whole

    @property
    def sign(self) -> Bools:
        """First sign plane of every entry, [rows, k]."""
        found = self.bits(self.high, 0) | self.bits(self.low, 0)
        for zone in self.zones:
            found |= self.bits(zone, 0)
        return found

    @property
    def second(self) -> Bools:
        """Second sign plane, on the salient columns; [rows, k]."""
        return self.bits(self.high, 1) | self.bits(self.low, 1)
