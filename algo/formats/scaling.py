"""Scales of block formats: each rule, each format, as they are stored; and the table of every group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.build import EXPONENT_BITS, code_planes, coded_scales, exponent_ints, mantissa_ints
from algo.bitplane.format import Format
from algo.bitplane.ints import STEP_BITS, Coding, Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import PerGroup, Stored
from algo.bitplane.scales import CODED, MANTISSA_BITS, WIDTHS, Grid, round_scale
from algo.bitplane.words import Words
from algo.formats import grouping, nearest

Floats = NDArray[np.float64]
Int = NDArray[np.int64]

SPAN = 256  #: group scales that share a second scale [QLoRA, arXiv:2305.14314, section 3]
_E8M0 = 127  #: the exponents of E8M0 are -127 .. 127
_TOP = {"ue4m3": 448.0, "ue5m3": 114688.0}  #: largest scale


@dataclass(frozen=True, kw_only=True, eq=False)
class Scales:
    """What a format stores beside its codes, and what weights are divided by."""

    step: Floats  #: [rows, groups]: weights over it are digits; 0 where all digits are 0
    table: Int  #: [rows, groups], which of the format's tables
    stored: Ints
    exponent: Ints
    row: NDArray[np.float32] | None = None
    single: bool = False  #: weights are divided by the step in float32, once; the step is rounded to it too

    @property
    def worth(self) -> Floats:
        """What one digit stands for, float64 [rows, groups], exact; 0 where all digits are 0."""
        real = np.ldexp(self.stored.values.astype(np.float64), self.exponent.values)
        real = real if self.row is None else real * self.row[:, None].astype(np.float64)
        return np.where(self.step > 0, real, 0.0)


def fit(weight: NDArray[np.floating], fmt: Format) -> Scales:
    """Scales and tables of every group of ``weight``, float32 or float64 [rows, columns].

    Raises ValueError if the weight is not finite or a scale does not fit its format.
    """
    group = min(fmt.group, weight.shape[1])
    peak = nearest.extremes(weight, group)
    if np.any(np.isnan(peak)):
        raise ValueError("weight must be finite, not NaN or infinity")
    if fmt.tile > 1:
        first = np.arange(0, len(peak), fmt.tile)
        peak = np.repeat(np.maximum.reduceat(peak, first, axis=0), fmt.tile, axis=0)[: len(peak)]
    grid = nearest.Grid.of(fmt)
    tops = np.abs(grid.digits).max(axis=1)
    table = _tables(weight, peak, group, fmt, grid, tops)
    real = peak / tops[table]
    if fmt.scale == "e8m0":
        return _powers(weight, peak, group, fmt, grid)
    if fmt.scale in CODED:
        return _floats(peak, table, fmt)
    if fmt.scale == "int8":
        return _shares(real, table)
    if fmt.scale == "int8-256":
        return _second_level(real, table)
    rounded = grouping.visible_scale(np.ldexp(real, -fmt.unit), fmt.scale)
    scales = Grid.covering(rounded, bits=WIDTHS.get(fmt.scale, MANTISSA_BITS))
    stored = mantissa_ints(scales, rounded)
    return Scales(
        step=np.ldexp(scales.values(stored.values), fmt.unit),
        table=table,
        stored=stored,
        exponent=exponent_ints(scales, fmt.unit),
    )


def _tables(
    weight: NDArray[np.floating], peak: Floats, group: int, fmt: Format, grid: nearest.Grid, tops: Floats
) -> Int:
    """The table of each group with the least squared error under its own real scale; of equals the first."""
    table = np.zeros(peak.shape, np.int64)
    if len(tops) == 1:
        return table
    least = np.full(peak.shape, np.inf)
    for index, top in enumerate(tops):
        tried = np.full(peak.shape, index, np.int64)
        error = nearest.squares(weight, peak / top, tried, group, grid)
        table[error < least] = index
        least = np.minimum(least, error)
    return table


def _powers(
    weight: NDArray[np.floating], peak: Floats, group: int, fmt: Format, grid: nearest.Grid
) -> Scales:
    """Powers of two, by the format's rule."""
    top = float(np.abs(grid.digits).max())
    exponent = power_of(peak, top, fmt.rule) - fmt.unit
    factor = 4 / 3 if fmt.rule == "four_thirds" else 1.0
    table = np.zeros(peak.shape, np.int64)
    if fmt.rule == "mse":
        tried = np.stack([np.clip(exponent + by, -_E8M0, _E8M0) for by in (-2, -1, 0, 1)])
        errors = [nearest.squares(weight, np.ldexp(1.0, e + fmt.unit), table, group, grid) for e in tried]
        if fmt.tile > 1:
            errors = [_tiled(error, fmt.tile) for error in errors]
        # Of equals the rule's own, then the smaller.
        order = [2, 1, 0, 3]
        best = np.array(order)[np.argmin(np.stack(errors)[order], axis=0)]
        exponent = np.take_along_axis(tried, best[None], axis=0)[0]
    exponent = np.clip(exponent, -_E8M0, _E8M0)
    real = np.where(peak > 0, np.ldexp(1.0, exponent), 0.0)
    stored, rows = coded_scales(fmt, real, fmt.unit)
    row = None if factor == 1 else np.full(len(peak), factor, np.float32)
    step = np.where(peak > 0, np.ldexp(stored.values.astype(np.float64), rows.values), 0.0)
    if row is not None:
        step = step * float(row[0])
    return Scales(step=step, table=table, stored=stored, exponent=rows, row=row)


def _tiled(error: Floats, tile: int) -> Floats:
    sums = np.add.reduceat(error, np.arange(0, len(error), tile), axis=0)
    return np.repeat(sums, tile, axis=0)[: len(error)]


def power_of(peak: Floats, top: float, rule: str) -> Int:
    """Exponent of two that a digit is worth, of a largest magnitude ``peak`` and a largest digit ``top``.

    "ceil": the least at which nothing saturates; the others: ``floor(log2 peak) - floor(log2 top)``.
    """
    some = np.where(peak > 0, peak, 1.0)
    if rule == "ceil":
        share, power = np.frexp(some / top)
        return (power - (share == 0.5)).astype(np.int64)
    return (np.frexp(some)[1] - np.frexp(top)[1]).astype(np.int64)


def _floats(peak: Floats, table: Int, fmt: Format) -> Scales:
    """E4M3 or E5M3 scales, all under one real factor of the matrix where the format has it.

    In float32, as the format's authors have it: ``T = max / (448 Q)``, ``scale = rne((peak / Q) / T)``.
    """
    largest = np.float32(fmt.high * 2.0**fmt.unit)
    highest = _TOP[fmt.scale]
    factor = np.float32(1)
    if fmt.tensor and np.any(peak):
        factor = np.float32(peak.max()) / np.float32(highest * float(largest))
        if factor == 0:
            raise ValueError(f"weight must be above float32's smallest, not at most {float(peak.max())!r}")
    wanted = peak.astype(np.float32) / largest / factor
    scale = round_scale(np.minimum(wanted.astype(np.float64), highest), fmt.scale)
    stored, exponent = coded_scales(fmt, scale, fmt.unit)
    divisor = scale.astype(np.float32) * factor
    row = np.full(len(peak), factor, np.float32) if fmt.tensor else None
    step = divisor.astype(np.float64) * 2.0**fmt.unit
    return Scales(step=step, table=table, stored=stored, exponent=exponent, row=row, single=True)


def _shares(real: Floats, table: Int) -> Scales:
    """8-bit shares of each row's largest scale, which is a real factor of the row."""
    most = real.max(axis=1)
    row = np.where(most > 0, most / 255, 1.0).astype(np.float32)
    row = np.where(row > 0, row, np.float32(1))
    share = np.clip(np.rint(real / row[:, None].astype(np.float64)), real > 0, 255).astype(np.int64)
    exponent = Ints(np.zeros((1, 1), np.int64), EXPONENT_BITS, signed=True)
    step = share.astype(np.float64) * row[:, None].astype(np.float64)
    return Scales(step=step, table=table, stored=Ints(share, 8, signed=False), exponent=exponent, row=row)


def _second_level(real: Floats, table: Int) -> Scales:
    """The mean of all scales, and for each its difference in 8 bits of a step that `SPAN` scales share."""
    mean = float(np.float32(real.mean()))
    off = (real - mean).reshape(-1)
    first = np.arange(0, off.size, SPAN)
    second = np.maximum.reduceat(np.abs(off), first) / 127
    # One grid for all: the largest scale takes all bits but two.
    power = int(np.frexp(max(real.max(), 1e-300))[1]) - (STEP_BITS - 2)
    steps = np.rint(np.ldexp(second.astype(np.float32).astype(np.float64), -power)).astype(np.int64)
    offset = int(np.rint(np.ldexp(mean, -power)))
    each = np.repeat(steps, SPAN)[: off.size]
    wanted = np.ldexp(off, -power) / np.where(each > 0, each, 1)
    codes = np.where(each > 0, np.clip(np.rint(wanted), -127, 127), 0).astype(np.int64)
    mantissas = (offset + each * codes).reshape(real.shape)
    stored = Ints.coded(mantissas, Coding("affine", span=SPAN, steps=steps, offset=offset))
    exponent = Ints(np.full((1, 1), power, np.int64), EXPONENT_BITS, signed=True)
    step = np.where(real > 0, np.ldexp(mantissas.astype(np.float64), power), 0.0)
    return Scales(step=np.maximum(step, 0.0), table=table, stored=stored, exponent=exponent)


def matrix_of(fmt: Format, scales: Scales, planes: Words, columns: int) -> PackedMatrix:
    """The packed matrix of code planes uint64 [code_bits, rows, words] under their scales."""
    index: dict[str, Stored] = {
        f"index{p}": PerGroup(((scales.table >> p) & 1).astype(np.bool_)) for p in range(fmt.index_bits)
    }
    term = Term(planes=fmt.expressions(), coefs=fmt.coefs, digit=fmt.digit, scale="scale")
    return PackedMatrix(
        rows=planes.shape[1],
        columns=columns,
        group=min(fmt.group, columns),
        terms=(term,),
        planes={**code_planes(fmt, planes), **index},
        ints={"scale": scales.stored},
        exponent=scales.exponent,
        row=scales.row,
    )


def quantize(weight: NDArray[np.floating], fmt: Format, seed: int = 0) -> PackedMatrix:
    """Every weight to the nearest value of its group's table, by the format's rules.

    Parameters: weight, float32 or float64 [rows, columns]; seed, of stochastic rounding.
    Raises ValueError if the weight is not finite or a scale does not fit its format.
    """
    scales = fit(weight, fmt)
    planes = nearest.packed(
        weight, scales.step, scales.table, fmt.group, fmt, single=scales.single, seed=seed
    )
    return matrix_of(fmt, scales, planes, weight.shape[1])
