"""GPTQ: columns rounded one by one, the error of each pushed into the columns not yet touched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.binarize.compensation import Feedback
from algo.binarize.curvature import Curvature, curvature
from algo.binarize.lanes import LANES
from algo.bitplane import words
from algo.bitplane.build import from_digits
from algo.bitplane.format import Format
from algo.bitplane.scales import Grid
from algo.compiled import kernel
from algo.formats import catalog, compensated, grouping, nearest, scaling
from algo.formats.grouped import IntegerConfig, check_number
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = "Frantar et al., GPTQ, arXiv:2210.17323, section 4, as released (github.com/IST-DASLab/gptq)"

_BLOCK = 128  #: columns between updates of all later ones, as released; it does not change the result

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


#: Integers with a zero point, and every block format (`algo.formats.blocks`) that rounds to the nearest.
FORMATS = catalog.Offered(
    catalog.accepted_by(
        # One plane cannot hold a sign.
        lambda fmt: catalog.is_unsigned(fmt) and len(fmt.coefs) > 1,
        first=catalog.INT4_G128,
    ),
    lambda fmt: fmt.rounding != "sr",
)


@dataclass(frozen=True, kw_only=True)
class Config(IntegerConfig):
    """Which integers, how many columns share a scale and a zero point, and the damping."""

    allowed = FORMATS
    damping: float = 0.01  #: added to the Hessian's diagonal, in means of it

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("damping", self.damping)


def needs_calibration(config: Config) -> bool:
    """Always: the Hessian says where an error can be made up for."""
    return True


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """Round ``weight`` column by column, ``e = (w_j - q_j) / U_jj``, ``w_k -= e * U_jk`` for all k > j.

    U is upper triangular with ``U.T @ U = inverse(damped Hessian)``. At the first column of a group its
    scale and zero point are fitted, as `algo.methods.rtn` does, to the weights as they then are; the scales
    of block formats are those of the weights as given.

    Parameters: weight, float64 [rows, columns]; calibration, its Hessian is read.
    Returns: Quantized; notes "loss", ``sum e**2`` over all weights, which is
    ``sum (w - q) @ (damped Hessian) @ (w - q).T``, and "dead_columns".
    Raises: ValueError if the weight is not finite or not of two axes, calibration is missing, its Hessian
    has another width or is no sum of squares, or a scale does not fit its format.
    Source: `SOURCE`; differs in: codes and errors are those of the scale as stored, on its row's grid; a
    group that begins inside a block of the released code is fitted to weights of before that block, here to
    the current ones; no order but the columns' own; float64 (the factor as `curvature` says).
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    if calibration is None:
        raise ValueError("calibration must be given for gptq, not None")
    curve = curvature(calibration.hessian, weight.shape[1], config.damping)
    return quantize_with(weight, curve, config.chosen())


def quantize_with(weight: Floats, curve: Curvature, fmt: Format) -> Quantized:
    """`quantize` under a curvature that is already factored."""
    live = np.where(curve.dead, 0.0, weight)
    if fmt.tables:
        return _with_tables(live, curve, fmt)
    rows, columns = live.shape
    first = grouping.starts(columns, fmt.group)
    low, high = np.minimum.reduceat(live, first, axis=1), np.maximum.reduceat(live, first, axis=1)
    exponent = Grid.covering(grouping.min_max(low, high, fmt.high, fmt.scale)).exponent

    codes = np.empty((rows, columns), np.int64)
    scale, zero = np.empty((rows, len(first))), np.empty((rows, len(first)), np.int64)
    losses = np.empty(rows)
    again = np.arange(rows)
    while len(again):
        grid = Grid(exponent[again])
        run = _run(live[again], curve, fmt, grid)
        codes[again], scale[again], zero[again], losses[again] = run.codes, run.scale, run.zero, run.losses
        # Pushed errors may widen a later group beyond its row's grid: such a row starts over on a wider one.
        wider = np.maximum(Grid.covering(run.scale).exponent, grid.exponent)
        exponent[again] = wider
        again = again[wider > grid.exponent]
    return Quantized(
        matrix=from_digits(fmt, codes, scale, zero),
        published_bits=fmt.published_bits,
        notes={"loss": float(losses.sum()), "dead_columns": int(curve.dead.sum())},
    )


def _with_tables(weight: Floats, curve: Curvature, fmt: Format) -> Quantized:
    """`quantize_with` of a block format: its scales and tables are those of the weights as given.

    So each group's grid stands when its columns take up the errors of those before [static groups: Egiazarian
    et al., MR-GPTQ, arXiv:2509.23202, section 4].
    """
    rows, columns = weight.shape
    group, loss = min(fmt.group, columns), 0.0
    grid, scales = nearest.Grid.of(fmt), scaling.fit(weight, fmt)
    worth = scales.worth
    feedback = Feedback(curve, rows, _BLOCK)
    codes = np.empty((rows, columns), np.uint8)
    for start, stop in _blocks(columns, columns):
        here = slice(start, stop)
        block = np.ascontiguousarray((weight[:, here] + feedback.at(here)).T)
        error, found = compensated.round_columns(
            block, curve.square(here), scales.step, worth, scales.table, np.arange(start, stop) // group,
            scales.single, grid.digits, grid.bounds, grid.zero, grid.codes,
        )  # fmt: skip
        codes[:, here] = found.T
        feedback.push(error.T, here)
        loss += float(np.sum(error**2))
    planes = np.stack([words.pack((codes >> p & 1).astype(np.bool_)) for p in range(fmt.code_bits)])
    return Quantized(
        matrix=scaling.matrix_of(fmt, scales, planes, columns),
        published_bits=fmt.published_bits,
        notes={"loss": loss, "dead_columns": int(curve.dead.sum())},
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Run:
    codes: Codes  #: [rows, columns]
    scale: Floats  #: [rows, groups]
    zero: Codes  #: [rows, groups]
    losses: Floats  #: [rows]


def _run(weight: Floats, curve: Curvature, fmt: Format, grid: Grid) -> _Run:
    """All columns of some rows, with scales on a given grid."""
    rows, columns = weight.shape
    feedback = Feedback(curve, rows, fmt.group)
    groups = len(grouping.starts(columns, fmt.group))
    codes = np.empty((rows, columns), np.int64)
    scale, zero = np.empty((rows, groups)), np.empty((rows, groups), np.int64)
    losses = np.zeros(rows)
    for start, stop in _blocks(columns, fmt.group):
        g = start // fmt.group
        if start % fmt.group == 0:
            whole = slice(start, min(start + fmt.group, columns))
            scale[:, g], zero[:, g] = _fitted(weight[:, whole] + feedback.at(whole), fmt, grid)
        block = np.ascontiguousarray((weight[:, start:stop] + feedback.at(slice(start, stop))).T)
        square = curve.square(slice(start, stop))
        error, found = round_columns(block, square, scale[:, g], zero[:, g], fmt.high)
        codes[:, start:stop] = found.T
        feedback.push(error.T, slice(start, stop))
        losses += np.sum(error**2, axis=0)
    return _Run(codes=codes, scale=scale, zero=zero, losses=losses)


def _blocks(columns: int, group: int) -> list[tuple[int, int]]:
    """Runs of at most `_BLOCK` columns, none across the border of a group."""
    found = []
    for first in range(0, columns, group):
        end = min(first + group, columns)
        found += [(start, min(start + _BLOCK, end)) for start in range(first, end, _BLOCK)]
    return found


def _fitted(now: Floats, fmt: Format, grid: Grid) -> tuple[Floats, Codes]:
    """Scale as stored, and zero point, of each row of a group as it now is."""
    low, high = now.min(axis=1, keepdims=True), now.max(axis=1, keepdims=True)
    scale = grid.values(grid.mantissas(grouping.min_max(low, high, fmt.high, fmt.scale)))
    return scale[:, 0], grouping.zero_points(low, scale, fmt.high)[:, 0]


@kernel(error_model="numpy")
def round_columns(
    block: Floats, factor: Floats, scale: Floats, zero: Codes, top: int
) -> tuple[Floats, Codes]:
    """Round the columns of a block from first to last, each one's error pushed into those behind it.

    Parameters: block, float64 [columns, rows], transposed; factor, float64 [columns, columns], its square
    of U; scale and zero [rows]; top, the largest code.
    Returns: errors over U_jj, float64 [columns, rows], and codes, int64 [columns, rows].
    """
    columns, rows = block.shape
    errors, codes = np.empty((columns, rows)), np.empty((columns, rows), np.int64)
    tile, error = np.empty((columns, LANES)), np.empty(LANES)
    step, start = np.empty(LANES), np.empty(LANES)
    for first in range(0, rows, LANES):
        used = min(LANES, rows - first)
        for lane in range(LANES):  # lanes beyond the last row: scale 0, weight 0
            step[lane] = scale[first + lane] if lane < used else 0.0
            start[lane] = zero[first + lane] if lane < used else 0.0
            for j in range(columns):
                tile[j, lane] = block[j, first + lane] if lane < used else 0.0
        for j in range(columns):
            for lane in range(LANES):
                whole = np.rint(tile[j, lane] / step[lane]) if step[lane] > 0 else 0.0
                code = min(max(whole + start[lane], 0.0), float(top))
                error[lane] = (tile[j, lane] - step[lane] * (code - start[lane])) / factor[j, j]
                tile[j, lane] = code
            for lane in range(used):
                errors[j, first + lane] = error[lane]
                codes[j, first + lane] = np.int64(tile[j, lane])
            for k in range(j + 1, columns):
                push = factor[j, k]
                for lane in range(LANES):
                    tile[k, lane] -= error[lane] * push
    return errors, codes
