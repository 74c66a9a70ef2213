"""Weights to the nearest value of a table, and the codes of it as packed planes; a row at a time.

Between two neighbouring digits lies one boundary: their middle, or the next float64 above it where the
rounding rule sends the middle down. A weight's digit is found by counting the boundaries it has reached, so
every rule and every table is the same few instructions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.format import ROUNDINGS, Format
from algo.compiled import kernel

Floats = NDArray[np.float64]
Int = NDArray[np.int64]
Levels = NDArray[np.uint8]
Real = NDArray[np.floating[Any]]

#: Boundaries up to which all are counted; above, they are searched by halving.
_COUNTED = 31


@dataclass(frozen=True, eq=False)
class Grid:
    """The tables of a format, ready to round to; each padded to the longest."""

    digits: Floats  #: [tables, levels], rising
    codes: NDArray[np.uint8]  #: [tables, levels]
    bounds: Floats  #: [tables, levels - 1], the first number that is rounded to the level above
    zero: NDArray[np.int64]  #: [tables], the level of 0
    stochastic: bool

    @classmethod
    def of(cls, fmt: Format) -> Grid:
        """Of a format with tables."""
        sets = [fmt.levels(table) for table in range(len(fmt.tables))]
        most = max(len(digits) for digits, _ in sets)
        digits, codes = np.zeros((len(sets), most)), np.zeros((len(sets), most), np.uint8)
        bounds = np.full((len(sets), most - 1), np.inf)
        for table, (values, names) in enumerate(sets):
            digits[table] = np.pad(values, (0, most - len(values)), mode="edge")
            codes[table] = np.pad(names, (0, most - len(names)), mode="edge")
            bounds[table, : len(values) - 1] = boundaries(values, names, fmt.rounding)
        zero = np.argmin(np.abs(digits), axis=1).astype(np.int64)
        return cls(digits, codes, bounds, zero, fmt.rounding == "sr")


def boundaries(digits: Int, codes: NDArray[np.uint8], rounding: str) -> Floats:
    """The least float64 that is rounded to each digit but the first.

    Parameters: digits, int64, rising; codes, of them, whose last bit says which is even; rounding, key of
    `algo.bitplane.format.ROUNDINGS` (of "sr" those of "rne", which nothing reads).
    Raises ValueError for an unknown rule.
    """
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding must be one of {', '.join(ROUNDINGS)}, not {rounding!r}")
    low, high = digits[:-1], digits[1:]
    middle = (low + high) / 2
    up = {
        "rha": middle > 0,
        "rhz": middle < 0,
        "rhu": np.ones(len(middle), np.bool_),
        "rtl": np.zeros(len(middle), np.bool_),
    }.get(rounding, codes[1:] % 2 == 0)
    return np.where(up, middle, np.nextafter(middle, np.inf))


def round_to(fmt: Format, x: NDArray[np.floating], table: int = 0, seed: int = 0) -> Int:
    """Digits of a table nearest to ``x``, any shape, in digits; what lies outside becomes the outermost.

    Raises ValueError if x is not finite.
    """
    if not np.all(np.isfinite(x)):
        raise ValueError("values must be finite, not NaN or infinity")
    flat = np.ascontiguousarray(x, np.float64).reshape(1, -1)
    grid, one = Grid.of(fmt), np.ones((1, 1))
    at = np.full((1, 1), table, np.int64)
    levels = _levels(flat, one, at, flat.shape[1], grid, seed)
    return grid.digits[table][levels[0]].astype(np.int64).reshape(np.shape(x))


def _levels(weight: Floats, step: Floats, table: Int, group: int, grid: Grid, seed: int) -> NDArray[np.uint8]:
    found = np.empty(weight.shape, np.uint8)
    line = np.empty(weight.shape[1])
    count = np.empty(weight.shape[1])
    for row in range(len(weight)):
        row_levels(
            weight[row], step[row], table[row], group, False, grid.digits, grid.bounds, grid.zero,
            grid.stochastic, seed, row, line, count, found[row],
        )  # fmt: skip
    return found


def packed(
    weight: NDArray[np.floating],
    step: Floats,
    table: Int,
    group: int,
    fmt: Format,
    *,
    single: bool = False,
    seed: int = 0,
) -> words.Words:
    """Code planes uint64 [code_bits, rows, words] of weights over their steps.

    Parameters: weight, float32 or float64 [rows, columns]; step, float64 [rows, groups], what a digit is
    worth (0: all digits are 0); table, int64 [rows, groups]; single, divide in float32, once.
    """
    grid = Grid.of(fmt)
    rows, columns = weight.shape
    out = np.zeros((fmt.code_bits, rows, words.word_count(columns)), np.uint64)
    pack_rows(
        weight, step, table, min(group, columns), single, grid.digits, grid.bounds, grid.zero, grid.codes,
        grid.stochastic, seed, out,
    )  # fmt: skip
    return out


def squares(weight: NDArray[np.floating], step: Floats, table: Int, group: int, grid: Grid) -> Floats:
    """Squared error of each group, float64 [rows, groups], of the nearest values under steps and tables."""
    return sum_squares(weight, step, table, min(group, weight.shape[1]), grid.digits, grid.bounds)


@kernel(error_model="numpy")
def _uniform(seed: int, row: int, column: int) -> float:
    """A number in [0, 1) of a counter: splitmix64 of seed, row and column [Steele et al., OOPSLA 2014]."""
    z = np.uint64(seed) * np.uint64(0xD1342543DE82EF95) + np.uint64(row) * np.uint64(0x9E3779B97F4A7C15)
    z += (np.uint64(column) + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    for _ in range(2):
        z ^= z >> np.uint64(30)
        z *= np.uint64(0xBF58476D1CE4E5B9)
        z ^= z >> np.uint64(27)
        z *= np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return float(z >> np.uint64(11)) * 2.0**-53


@kernel(error_model="numpy", inline="never")
def row_levels(
    weight: Real,
    step: Floats,
    table: Int,
    group: int,
    single: bool,
    digits: Floats,
    bounds: Floats,
    zero: Int,
    stochastic: bool,
    seed: int,
    row: int,
    line: Floats,
    count: Floats,
    levels: Levels,
) -> None:
    """Levels uint8 [columns] of one row into ``levels``; ``line`` and ``count`` are room for it."""
    columns = len(weight)
    for g in range(len(step)):
        first, last = g * group, min((g + 1) * group, columns)
        source, shares = weight[first:last], line[first:last]
        if step[g] <= 0:
            shares[:] = 0.0
        elif single:
            divisor = np.float32(step[g])
            for c in range(last - first):
                shares[c] = np.float64(np.float32(source[c]) / divisor)
        else:
            wide = step[g]
            for c in range(last - first):
                shares[c] = np.float64(source[c]) / wide
    steps = bounds.shape[1]
    one = len(digits) == 1
    # Spans that stay in the first cache.
    span = 256 if one else group
    for first in range(0, columns, span):
        last = min(first + span, columns)
        size = last - first
        own = bounds[0 if one else table[first // group]]
        # Slices indexed from 0: an index that might be negative would keep the loops scalar.
        part, named = line[first:last], levels[first:last]
        if steps <= 31:
            for c in range(size):
                count[c] = 0.0
            for k in range(steps):
                bound = own[k]
                for c in range(size):
                    count[c] += 1.0 if part[c] >= bound else 0.0
            for c in range(size):
                named[c] = np.uint8(np.int64(count[c]))
        else:
            for c in range(first, last):
                low, high = 0, steps
                while low < high:
                    middle = (low + high) >> 1
                    if line[c] >= own[middle]:
                        low = middle + 1
                    else:
                        high = middle
                levels[c] = np.uint8(low)
    if stochastic:
        for c in range(columns):
            values = digits[table[c // group]]
            level = min(np.searchsorted(values, line[c], side="right") - 1, len(values) - 2)
            if level < 0:
                levels[c] = np.uint8(0)
                continue
            share = (line[c] - values[level]) / (values[level + 1] - values[level])
            levels[c] = np.uint8(level + (1 if _uniform(seed, row, c) < share else 0))


@kernel(error_model="numpy")
def pack_rows(
    weight: Real,
    step: Floats,
    table: Int,
    group: int,
    single: bool,
    digits: Floats,
    bounds: Floats,
    zero: Int,
    codes: Levels,
    stochastic: bool,
    seed: int,
    out: words.Words,
) -> None:
    """Code planes of every row into ``out``, uint64 [planes, rows, words]."""
    rows, columns = weight.shape
    line, count = np.empty(columns), np.empty(columns)
    levels = np.empty(columns, np.uint8)
    padded = np.zeros(out.shape[2] * 64, np.uint8)
    octets = padded.view(np.uint64)
    for r in range(rows):
        row_levels(
            weight[r], step[r], table[r], group, single, digits, bounds, zero, stochastic, seed, r,
            line, count, levels,
        )  # fmt: skip
        if len(codes) == 1:
            names = codes[0]
            for c in range(columns):
                padded[c] = names[levels[c]]
        else:
            for c in range(columns):
                padded[c] = codes[table[r, c // group], levels[c]]
        for w in range(out.shape[2]):
            for p in range(out.shape[0]):
                bits = np.uint64(0)
                for j in range(8):
                    # The low bits of eight bytes, brought together in the top byte of a product.
                    eight = (octets[w * 8 + j] >> np.uint64(p)) & np.uint64(0x0101010101010101)
                    bits |= ((eight * np.uint64(0x0102040810204080)) >> np.uint64(56)) << np.uint64(8 * j)
                out[p, r, w] = bits


@kernel(error_model="numpy")
def sum_squares(weight: Real, step: Floats, table: Int, group: int, digits: Floats, bounds: Floats) -> Floats:
    """Squared error of each row's groups, float64 [rows, groups]."""
    rows, columns = weight.shape
    out = np.zeros(step.shape)
    share, value = np.empty(group), np.empty(group)
    for r in range(rows):
        for g in range(step.shape[1]):
            first = g * group
            size = min(group, columns - first)
            own, values = bounds[table[r, g]], digits[table[r, g]]
            divisor = step[r, g] if step[r, g] > 0 else 1.0
            for c in range(size):
                share[c] = weight[r, first + c] / divisor
            if step[r, g] <= 0:
                value[:size] = 0.0
            elif len(own) <= 31:
                value[:size] = values[0]
                for k in range(len(own)):
                    bound, more = own[k], values[k + 1] - values[k]
                    for c in range(size):
                        value[c] += more if share[c] >= bound else 0.0
            else:
                for c in range(size):
                    value[c] = values[np.searchsorted(own, share[c], side="right")]
            for c in range(size):
                value[c] = (share[c] - value[c]) ** 2
            total = 0.0
            for c in range(size):
                total += value[c]
            out[r, g] = total * divisor * divisor
    return out


@kernel
def extremes(weight: Real, group: int) -> Floats:
    """Largest magnitude of each row's groups, float64 [rows, groups]; NaN where one is in it."""
    rows, columns = weight.shape
    groups = -(-columns // group)
    out = np.zeros((rows, groups))
    for r in range(rows):
        for g in range(groups):
            most = 0.0
            bad = False
            for c in range(g * group, min((g + 1) * group, columns)):
                size = abs(np.float64(weight[r, c]))
                most = max(most, size)
                bad |= not size < np.inf
            out[r, g] = np.nan if bad else most
    return out
