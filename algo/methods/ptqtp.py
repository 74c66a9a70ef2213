"""PTQTP: the sum of two planes of trits, each with a scale of its own; one plane or three, or two tied.

A trit is stored as two planes, its plus and its minus: four plane bits a weight. Packed five to a byte two
trits would take 3.2, which no popcount can read; that packing is not what is stored here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit, Format
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Plane
from algo.compiled import kernel
from algo.formats import grouping, trits
from algo.formats.grouped import GroupConfig, check_integer, check_switch
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = "Xiao et al., PTQTP, arXiv:2509.16989, section 3"
FORMATS: tuple[str, ...] = ()  #: the method is its own format

_SCALE_FORMAT = "fp16"
_RIDGE = 1e-8  #: first ridge, raised tenfold while the system's condition number exceeds the next
_CONDITION = 1e6
_STILL = 1e-4  #: change of the scales, relative to themselves, at which they stand
#: Both trits of every code, fewer set ones first: the one taken of equally near codes.
_CODES = np.array([(0, 0), (1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)], np.int64)
#: Tied, a pair of trits is an integer from -4 to 4.
_TIED = Format(
    name="tied trits",
    digit=Digit.UNIPOLAR,
    coefs=(1, 2, 4, -8),
    group=128,
    published_bits=2 * math.log2(3),
    source=SOURCE,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Config(GroupConfig):
    """The published group, number of rounds and of planes."""

    rounds: int = 50  #: of scales and codes, at most
    planes: int = 2  #: of trits, 1 to 3
    tied: bool = False  #: whether the first of two scales is three times the second

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("rounds", self.rounds)
        check_integer("planes", self.planes)
        check_switch("tied", self.tied)
        if self.planes > trits.MOST:
            raise ValueError(f"planes must be at most {trits.MOST}, not {self.planes!r}")
        if self.tied and self.planes != 2:
            raise ValueError(f"planes must be 2 where they are tied, not {self.planes!r}")


def needs_calibration(config: Config) -> bool:
    """Never: the weights say it all."""
    return False


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """``a1 T1 + a2 T2 ..``, T in {-1, 0, +1}: scales by ridge regression and the nearest code, in turns.

    Both planes begin as sign(w), sign(0) = +1. The ridge of the 2 x 2 system grows tenfold from 1e-8 while
    its condition number exceeds 1e6. Of all rounds the one of least squared error is kept.

    Parameters: weight, float64 [rows, columns]; calibration, not used.
    Returns: Quantized; published_bits ``log2(3)`` a plane, the paper's "2 x 1.58 bit", which counts no scale.
    Raises: ValueError if the weight is not finite, not of two axes, or a scale does not fit fp16.
    Source: `SOURCE`; differs in: the scales stand still when they change by less than 1e-4 of themselves, in
    the paper by 1e-4; the limit of the condition number is an own choice where the paper only has it adapt;
    the last codes are chosen by the scales as stored; two plane bits a trit are stored, see the module; one
    plane, three and tied pairs (integers from -4 to 4 in four planes, see `algo.formats.trits`) are not the
    paper's.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    if config.tied:
        return _tied(weight, config)
    rows, columns = weight.shape
    several = range(1, config.planes + 1)
    if config.planes == 2:
        fitted, _ = fit_scales(weight, config.group, config.rounds)
    else:
        fitted = trits.fit(weight, config.group, config.rounds, trits.codes(config.planes))
    named = {f"scale{p}": fitted[p - 1] for p in several}
    ints, exponent = grouping.stored_scalars(named, _SCALE_FORMAT)
    scales = np.stack([grouping.real_scalars(ints[name], exponent) for name in ints])
    if config.planes == 2:
        found = nearest(weight, scales, config.group)
    else:
        found = trits.nearest(weight, scales, config.group, trits.codes(config.planes))
    planes = {
        f"{sign}{p}": Plane(words.pack(found[p - 1] == digit), "sign planes" if p == 1 else "extra planes")
        for p in several
        for sign, digit in (("plus", 1), ("minus", -1))
    }
    matrix = PackedMatrix(
        rows=rows,
        columns=columns,
        group=min(config.group, columns),
        terms=tuple(
            Term(planes=(f"plus{p}", f"minus{p}"), coefs=(1, -1), digit=Digit.UNIPOLAR, scale=f"scale{p}")
            for p in several
        ),
        planes=planes,
        ints=ints,
        exponent=exponent,
    )
    return Quantized(matrix=matrix, published_bits=config.planes * math.log2(3))


def _tied(weight: Floats, config: Config) -> Quantized:
    fmt = replace(_TIED, group=config.group)
    scale = grouping.stored_scale(trits.fit_tied(weight, config.group, config.rounds), fmt.scale)
    codes = grouping.codes_of(weight, grouping.spread(scale, weight.shape[1], config.group))
    matrix = from_digits(fmt, np.clip(codes, -trits.TIED, trits.TIED), scale)
    return Quantized(matrix=matrix, published_bits=fmt.published_bits)


@kernel
def nearest(weight: Floats, scales: Floats, group: int) -> NDArray[np.int8]:
    """Trits int8 [2, rows, columns] nearest to ``weight`` under scales float64 [2, rows, groups]."""
    rows, columns = weight.shape
    trits = np.empty((2, rows, columns), np.int8)
    for r in range(rows):
        for c in range(columns):
            code = _nearest(weight[r, c], scales[0, r, c // group], scales[1, r, c // group])
            trits[0, r, c], trits[1, r, c] = _CODES[code, 0], _CODES[code, 1]
    return trits


@kernel
def fit_scales(weight: Floats, group: int, rounds: int) -> tuple[Floats, Floats]:
    """Best scales of each (row, group), float64 [2, rows, groups], and the squared error of every round.

    The errors are summed over the matrix, float64 [rounds]; of a group that stands still, its last.
    """
    rows, columns = weight.shape
    groups = -(-columns // group)
    best, errors = np.zeros((2, rows, groups)), np.zeros(rounds)
    for r in range(rows):
        for g in range(groups):
            part = weight[r, g * group : min((g + 1) * group, columns)]
            count, magnitude = float(len(part)), 0.0
            for w in part:
                magnitude += abs(w)
            products = (count, count, count, magnitude, magnitude)
            a, b, least = 0.0, 0.0, np.inf
            for i in range(rounds):
                before_a, before_b = a, b
                a, b = _ridge(products)
                error, products = _recode(part, a, b)
                if error < least:
                    least, best[0, r, g], best[1, r, g] = error, a, b
                errors[i] += least
                change = (a - before_a) ** 2 + (b - before_b) ** 2
                if change <= _STILL**2 * (a * a + b * b):
                    for later in range(i + 1, rounds):
                        errors[later] += least
                    break
    return best, errors


@kernel
def _nearest(w: float, a: float, b: float) -> int:
    best, at = np.inf, 0
    for code in range(len(_CODES)):
        off = w - (a * _CODES[code, 0] + b * _CODES[code, 1])
        if off * off < best:
            best, at = off * off, code
    return at


@kernel
def _recode(part: Floats, a: float, b: float) -> tuple[float, tuple[float, float, float, float, float]]:
    """Squared error of the nearest codes, and their products: T1.T1, T2.T2, T1.T2, T1.w, T2.w."""
    error, n_a, n_b, n_ab, sum_a, sum_b = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for w in part:
        code = _nearest(w, a, b)
        s, t = float(_CODES[code, 0]), float(_CODES[code, 1])
        error += (w - (a * s + b * t)) ** 2
        n_a += s * s
        n_b += t * t
        n_ab += s * t
        sum_a += s * w
        sum_b += t * w
    return error, (n_a, n_b, n_ab, sum_a, sum_b)


@kernel(error_model="numpy")
def _ridge(products: tuple[float, float, float, float, float]) -> tuple[float, float]:
    """Scales by least squares under the smallest ridge that keeps the system well conditioned."""
    n_a, n_b, n_ab, sum_a, sum_b = products
    middle = (n_a + n_b) / 2
    spread = math.sqrt(((n_a - n_b) / 2) ** 2 + n_ab * n_ab)
    ridge = _RIDGE
    while middle + spread + ridge > _CONDITION * (middle - spread + ridge):
        ridge *= 10
    determinant = (n_a + ridge) * (n_b + ridge) - n_ab * n_ab
    return (
        ((n_b + ridge) * sum_a - n_ab * sum_b) / determinant,
        ((n_a + ridge) * sum_b - n_ab * sum_a) / determinant,
    )
