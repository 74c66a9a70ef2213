"""DB-LLM's flexible dual binarization: two planes of 0 and 1, each with a scale of its own.

The two together take four values, ``{0, a1, a2, a1 + a2}``, as two-bit integers do, but the planes are
sparse and no zero point is stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Plane
from algo.compiled import kernel
from algo.formats import grouping
from algo.formats.grouped import GroupConfig, check_switch
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = "Chen et al., DB-LLM, arXiv:2402.11960, section 3.2 (flexible dual binarization)"
FORMATS: tuple[str, ...] = ()  #: the method is its own format

_SCALE_FORMAT = "fp16"
_STEPS = 40  #: steps tried, as fractions of the group's largest magnitude
_ROUNDS = 50  #: of assignment and least squares; on normal weights 20 change nothing any more
_TERMS = (
    Term(planes=("first",), coefs=(1,), digit=Digit.UNIPOLAR, scale="first_scale"),
    Term(planes=("second",), coefs=(1,), digit=Digit.UNIPOLAR, scale="second_scale"),
)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Config(GroupConfig):
    """The published group of two-bit weights."""

    group: int = 64  #: columns that share their two scales
    refit: bool = True  #: least squares for both scales, in the place of the paper's distillation

    def __post_init__(self) -> None:
        super().__post_init__()
        check_switch("refit", self.refit)


def needs_calibration(config: Config) -> bool:
    """Never: the weights say it all."""
    return False


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """``a1 * b1 + a2 * b2`` with b in {0, 1} and ``a1 = 2 s``, ``a2 = -s`` before the refit.

    ``b1 = [w >= (a1 + a2) / 2]`` and ``b2 = [w - a1 b1 <= a2 / 2]``: the nearest of the four values. s is the
    best, by squared error, of 40 fractions of the group's largest magnitude. With ``refit`` assignment and
    the 2 x 2 least squares for (a1, a2) then take turns, none of which can raise the squared error.

    Parameters: weight, float64 [rows, columns]; calibration, not used.
    Returns: Quantized; published_bits 2, which counts no scale.
    Raises: ValueError if the weight is not finite, not of two axes, or a scale does not fit fp16.
    Source: `SOURCE`; differs in: the paper takes s from its two-bit quantizer and learns a1 and a2 by
    distillation with straight-through gradients; planes are assigned by the scales as stored.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    rows, columns = weight.shape
    scales = fit_scales(weight, config.group, _ROUNDS if config.refit else 0)
    named = {"first_scale": scales[0], "second_scale": scales[1]}
    ints, exponent = grouping.stored_scalars(named, _SCALE_FORMAT)
    first, second = (
        grouping.spread(grouping.real_scalars(ints[name], exponent), columns, config.group) for name in named
    )
    planes = assign(weight, first, second)
    matrix = PackedMatrix(
        rows=rows,
        columns=columns,
        group=min(config.group, columns),
        terms=_TERMS,
        planes={
            "first": Plane(words.pack(planes[0])),
            "second": Plane(words.pack(planes[1]), "extra planes"),
        },
        ints=ints,
        exponent=exponent,
    )
    return Quantized(matrix=matrix, published_bits=2.0)


def assign(weight: Floats, first: Floats, second: Floats) -> tuple[Bools, Bools]:
    """Bits of both planes, nearest to ``weight`` under scales of the same shape; a plane of scale 0 is empty.

    Of two values equally near the one with more bits is taken, as the paper's inequalities have it.
    """
    near = [_second(weight - first * b, second) for b in (0, 1)]
    off = [np.abs(weight - first * b - second * near[b]) for b in (0, 1)]
    chosen = (off[1] <= off[0]) & (first != 0)
    return chosen, np.where(chosen, near[1], near[0])


def _second(left: Floats, scale: Floats) -> Bools:
    return np.asarray((np.abs(left - scale) <= np.abs(left)) & (scale != 0))


@kernel(error_model="numpy")
def fit_scales(weight: Floats, group: int, rounds: int) -> Floats:
    """Both scales of each (row, group), float64 [2, rows, groups], before any rounding."""
    rows, columns = weight.shape
    groups = -(-columns // group)
    scales = np.zeros((2, rows, groups))
    for r in range(rows):
        for g in range(groups):
            part = weight[r, g * group : min((g + 1) * group, columns)]
            best, at, peak = np.inf, 0.0, 0.0
            for w in part:
                peak = max(peak, abs(w))
            for i in range(1, _STEPS + 1):
                step = peak * (i / _STEPS)
                error = _statistics(part, 2 * step, -step)[0]
                if error < best:
                    best, at = error, step
            a, b = 2 * at, -at
            for _ in range(rounds):
                _, n_a, n_b, n_ab, sum_a, sum_b = _statistics(part, a, b)
                determinant = n_a * n_b - n_ab * n_ab
                before = (a, b)
                if determinant > 0:
                    a = (n_b * sum_a - n_ab * sum_b) / determinant
                    b = (n_a * sum_b - n_ab * sum_a) / determinant
                elif n_a > 0:  # one plane empty, or both the same: the other scale stays
                    a = (sum_a - n_ab * b) / n_a
                elif n_b > 0:
                    b = sum_b / n_b
                if (a, b) == before:
                    break
            scales[0, r, g], scales[1, r, g] = a, b
    return scales


@kernel
def _statistics(part: Floats, a: float, b: float) -> tuple[float, float, float, float, float, float]:
    """Squared error of the nearest values; ones of each plane and of both; sums of weights on each plane."""
    error, n_a, n_b, n_ab, sum_a, sum_b = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for w in part:
        without = abs(w - b) <= abs(w)
        within = abs(w - a - b) <= abs(w - a)
        off_without = w - b if without else w
        off_within = w - a - b if within else w - a
        if abs(off_within) <= abs(off_without):
            error += off_within * off_within
            n_a += 1
            sum_a += w
            if within:
                n_ab += 1
                n_b += 1
                sum_b += w
        else:
            error += off_without * off_without
            if without:
                n_b += 1
                sum_b += w
    return error, n_a, n_b, n_ab, sum_a, sum_b
