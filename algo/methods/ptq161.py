"""PTQ1.61: the input channels that meet the largest activations at 4 bit, all others at one.

The mask is one bit a column, shared by all rows: its cost vanishes, and the dense planes of either kind of
column are gathered once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.build import exponent_ints, mantissa_ints
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.planes import Plane, gather
from algo.bitplane.scales import Grid, round_scale
from algo.formats import grouping
from algo.formats.grouped import check_integer, check_number
from algo.formats.quantized import Calibration, Quantized, checked_weight
from algo.formats.salient import terms as salient_terms

SOURCE = "Zhao et al., PTQ1.61, arXiv:2502.13179, sections 3.2 and 3.3"
FORMATS: tuple[str, ...] = ()  #: the method is its own format

_SCALE_FORMAT = "fp16"
_WIDEST = 16  #: bits: beyond it a salient weight costs more than it did in fp16

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Config:
    """The published share of columns and their width."""

    salient: float = 0.2  #: share of the columns at ``bits``
    bits: int = 4  #: of a weight in a salient column

    def __post_init__(self) -> None:
        check_number("salient", self.salient, below=1)
        check_integer("bits", self.bits)
        if self.bits > _WIDEST:
            raise ValueError(f"bits must be at most {_WIDEST}, not {self.bits!r}")


def needs_calibration(config: Config) -> bool:
    """Always: the activations say which columns are salient."""
    return True


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """Salient columns on each row's min/max grid, ``mu + a * sign(w - mu)`` for the rest of the row.

    Salient is the ``salient`` share of the columns with the largest activation magnitudes, of equal ones the
    first. mu is the mean of the row's other weights, a their mean distance from it; the grid, 0 included, is
    that of `algo.methods.rtn`.

    Parameters: weight, float64 [rows, columns]; calibration, its peaks are read.
    Returns: Quantized; published_bits ``share * bits + (1 - share) + 1 / rows``; salient_columns, one count.
    Raises: ValueError if the weight is not finite or not of two axes, calibration is missing or of another
    width, or a scalar does not fit fp16.
    Source: `SOURCE`; differs in: no restorative training before and no learned scales after (the release
    learns a and one more factor per row and per column, from ``a = mean |w|``); salient codes are chosen
    with their scale as stored.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    salient = _salient(weight.shape[1], calibration, config.salient)
    return Quantized(
        matrix=_packed(weight, salient, config.bits),
        published_bits=config.salient * config.bits + (1 - config.salient) + 1 / len(weight),
        salient_columns=(int(salient.sum()),),
    )


def _salient(columns: int, calibration: Calibration | None, share: float) -> Bools:
    if calibration is None:
        raise ValueError("calibration must be given for ptq161, not None")
    if len(calibration.peak) != columns:
        raise ValueError(f"peak must have {columns} columns as the weight has, not {len(calibration.peak)}")
    chosen = np.zeros(columns, np.bool_)
    chosen[np.argsort(-calibration.peak, kind="stable")[: round(share * columns)]] = True
    return chosen


def _packed(weight: Floats, salient: Bools, bits: int) -> PackedMatrix:
    rows, columns = weight.shape
    top = (1 << bits) - 1
    others = weight[:, ~salient]
    count = max(others.shape[1], 1)
    mean = others.sum(axis=1, keepdims=True) / count
    scale = np.abs(others - mean).sum(axis=1, keepdims=True) / count
    kept = weight[:, salient]
    low = kept.min(axis=1, keepdims=True, initial=0)
    step = grouping.min_max(low, kept.max(axis=1, keepdims=True, initial=0), top, _SCALE_FORMAT)

    scalars = {"scale": round_scale(scale, _SCALE_FORMAT), "mean": round_scale(mean, _SCALE_FORMAT)}
    scalars["code_scale"] = step
    grid = Grid.covering(*scalars.values())
    ints = {name: mantissa_ints(grid, values) for name, values in scalars.items()}
    ints["code_scale"] = grouping.visible_mantissas(grid, step)
    step = grid.values(ints["code_scale"].values)
    zero = grouping.zero_points(low, step, top)
    ints["code_zero"] = Ints(zero, bits, signed=False)
    codes = np.clip(grouping.codes_of(weight, step) + zero, 0, top)

    code_planes = {
        f"code{p}": gather((codes >> p & 1).astype(np.bool_), salient, "salient", "extra planes")
        for p in range(bits)
    }
    return PackedMatrix(
        rows=rows,
        columns=columns,
        group=columns,
        terms=salient_terms(bits),
        planes={
            "salient": Plane(words.pack(salient[None]), "masks"),
            "sign": gather(weight >= mean, ~salient, "~salient"),
            **code_planes,
        },
        ints=ints,
        exponent=exponent_ints(grid),
    )
