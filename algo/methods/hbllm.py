"""HBLLM: neighbours in a row as their mean and half their difference, and these binarized in two zones each.

A Haar pair stores two signs and two zone bits, as its two weights would: the low band's in the even column,
the high band's in the odd one. Which bit a column reads is wiring, so the pair costs hardware nothing but
twice the terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from algo.binarize.compensation import COMPENSATIONS, compensate
from algo.binarize.curvature import known
from algo.bitplane import words
from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Plane, Stored, gather
from algo.formats import grouping
from algo.formats.grouped import GroupConfig, check_choice, check_integer, check_number
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = "Chen et al., HBLLM, arXiv:2512.00862, section 3 (HBLLM-row)"
FORMATS: tuple[str, ...] = ()  #: the method is its own format

_SCALE_FORMAT = "fp16"
_THRESHOLDS = 40  #: percentiles tried, from 10 to 90 %, as published
_PAIRED = "odd(odd_columns)"  #: all columns but the last one of an odd number

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Value = TypeVar("Value", np.float64, np.bool_)


def _term(plane: str, mask: str, scale: str, offset: str | None = None) -> Term:
    return Term(planes=(plane,), coefs=(1,), digit=Digit.BIPOLAR, mask=mask, scale=scale, offset=offset)


_ROW_TERMS = (
    _term("even(haar)", "~even(zone)", "low_scale1", "low_mean"),
    _term("even(haar)", "even(zone)", "low_scale2", "low_mean"),
    _term("odd(haar) ^ odd_columns", f"~odd(zone) & {_PAIRED}", "high_scale1"),
    _term("odd(haar) ^ odd_columns", "odd(zone)", "high_scale2"),
    # The high band's mean comes with the sign of its column, which no offset has.
    _term("~odd_columns", _PAIRED, "high_mean"),
)
#: The difference of two rows is taken off the lower one by its negative scale.
_COLUMN_TERMS = (
    _term("upper(residual)", "salient", "residual_low"),
    _term("lower(residual)", "salient", "residual_high"),
)


@dataclass(frozen=True, kw_only=True)
class Config(GroupConfig):
    """The published blocks; how many salient columns are tried is an own choice."""

    salient_limit: int = 32  #: most salient columns of a block; 0 and powers of two up to it are tried
    compensation: str = "diag"  #: "diag" (as BiLLM's), "exact" or "none"
    damping: float = 0.01  #: added to the Hessian's diagonal, in means of it

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group % 2:
            raise ValueError(f"group must be even, not {self.group!r}")
        check_integer("salient_limit", self.salient_limit, least=0)
        check_choice("compensation", self.compensation, COMPENSATIONS)
        check_number("damping", self.damping)


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """Coefficients of each row about a mean they share, in two zones by their distance from it."""

    mean: Floats  #: [rows]
    scales: Floats  #: [2, rows], of the inner and the outer zone
    sign: Bools  #: [rows, n], True = +1
    outer: Bools  #: [rows, n]

    def values(self) -> Floats:
        """The coefficients, [rows, n]."""
        scale = np.where(self.outer, self.scales[1][:, None], self.scales[0][:, None])
        return self.mean[:, None] + np.where(self.sign, scale, -scale)


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """One column block, before any scalar is rounded."""

    low: Band  #: [rows, ceil(k / 2)]: means of the pairs, and an odd last column itself
    high: Band  #: [rows, k // 2]: half the differences of the pairs
    salient: Bools  #: [k], columns with a residual
    residual_sign: (
        Bools  #: [rows, k]: of a pair of rows the mean's in the upper, the difference's in the lower
    )
    residual: Floats  #: [2, rows], scales of means and differences; the latter negative in lower rows

    def values(self) -> Floats:
        """The real block, [rows, k]."""
        size = self.salient.size
        out = joined(self.low.values(), self.high.values(), size)
        upper, lower = _paired_rows(self.residual_sign)
        added = np.where(upper, 1.0, -1.0) * self.residual[0][:, None]
        added += np.where(lower, 1.0, -1.0) * self.residual[1][:, None]
        return out + np.where(self.salient, added, 0.0)

    def planes(self) -> tuple[Bools, Bools]:
        """Bits of the planes ``haar`` and ``zone``, both [rows, k]."""
        size = self.salient.size
        return (
            _interleaved(self.low.sign, self.high.sign, size),
            _interleaved(self.low.outer, self.high.outer, size),
        )

    def scalars(self) -> dict[str, Floats]:
        """Scalars of each row, [rows], by the names the terms use."""
        return {
            "low_scale1": self.low.scales[0],
            "low_scale2": self.low.scales[1],
            "low_mean": self.low.mean,
            "high_scale1": self.high.scales[0],
            "high_scale2": self.high.scales[1],
            "high_mean": self.high.mean,
            "residual_low": self.residual[0],
            "residual_high": self.residual[1],
        }


def needs_calibration(config: Config) -> bool:
    """Unless no error is pushed on."""
    return config.compensation != "none"


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """Haar pairs in each row, ``lo = (w0 + w1) / 2``, ``hi = (w0 - w1) / 2``, either band binarized in zones.

    A band of a row and block is ``mu + a * sign(c - mu)``, one mu for both zones and an a for each; the zones
    part at the best of 40 percentiles, 10 to 90 %, of ``|c - mu|``. The columns of largest norm are salient:
    the average of their neighbours stands in for them in the row transform, and what is left on them gets
    signs of its own, on Haar pairs of rows, with a scale for means and one for differences. How many are
    salient is the best, by squared error, of 0 and the powers of two up to ``salient_limit``. An odd last
    column is its own low coefficient, an odd last row its own mean. Blocks are compensated as in BiLLM.

    Parameters: weight, float64 [rows, columns]; calibration, its Hessian is read.
    Returns: Quantized; published_bits 1 + r, r the share of salient columns; notes "loss", as
    `algo.methods.billm` has it, and "dead_columns".
    Raises: ValueError if the weight is not finite or not of two axes, calibration is missing where
    compensation asks for it, has another width or is no sum of squares, or a scalar does not fit fp16.
    Source: `SOURCE`; differs in: zones part by the distance from the shared mean, by which they are
    binarized; the residual has no zones and no mean; the numbers of salient columns tried are own choices;
    scalars are rounded to fp16 and the row's grid when packed, after the compensation.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    needed_for = f"compensation {config.compensation}" * needs_calibration(config)
    curve = known(weight.shape[1], calibration, config.damping, needed_for)

    def fit(block: Floats, here: slice) -> Block:
        return fit_block(block, config.salient_limit)

    blocks, loss = compensate(weight, curve, config.group, config.compensation, fit)
    counts = tuple(int(block.salient.sum()) for block in blocks)
    return Quantized(
        matrix=_packed(blocks, config.group),
        published_bits=1 + sum(counts) / weight.shape[1],
        salient_columns=counts,
        notes={"loss": loss, "dead_columns": int(curve.dead.sum())},
    )


def fit_block(block: Floats, limit: int) -> Block:
    """The best of the blocks with 0, 1, 2, 4, .. salient columns, at most ``limit`` and not all."""
    order = np.argsort(-np.sum(block**2, axis=0), kind="stable")
    most = min(limit, block.shape[1] - 1)
    fits = []
    for count in (0, *(1 << p for p in range(most.bit_length()))):
        salient = np.zeros(block.shape[1], np.bool_)
        salient[order[:count]] = True
        fits.append(fit_salient(block, salient))
    return min(fits, key=lambda fitted: float(np.sum((block - fitted.values()) ** 2)))


def fit_salient(block: Floats, salient: Bools) -> Block:
    """The block [rows, k] with given salient columns, boolean [k]."""
    filled = _filled(block, salient)
    pairs = block.shape[1] // 2
    even, odd = filled[:, 0::2], filled[:, 1::2]
    low = even.copy()
    low[:, :pairs] = (even[:, :pairs] + odd) / 2
    bands = fit_band(low), fit_band((even[:, :pairs] - odd) / 2)
    left = np.where(salient, block - joined(bands[0].values(), bands[1].values(), block.shape[1]), 0.0)
    upper, lower = _paired_rows(left)
    mean, difference = (upper + lower) / 2, (upper - lower) / 2
    rows, count = len(block), max(int(salient.sum()), 1)
    parity = np.arange(rows) % 2
    scales = np.abs(np.stack([mean, difference])).sum(axis=2) / count
    scales[1] *= np.where(parity == 0, 1.0, -1.0)
    sign = np.where(parity[:, None] == 0, mean, difference) >= 0
    return Block(low=bands[0], high=bands[1], salient=salient, residual_sign=sign, residual=scales)


def fit_band(coefficients: Floats) -> Band:
    """Zones, mean and scales of each row of ``coefficients`` [rows, n]; n may be 0."""
    rows, n = coefficients.shape
    mean = coefficients.sum(axis=1) / max(n, 1)
    centred = coefficients - mean[:, None]
    distance = np.abs(centred)
    order = np.argsort(distance, axis=1, kind="stable")
    sums = np.zeros((rows, n + 1))
    np.cumsum(np.take_along_axis(distance, order, axis=1), axis=1, out=sums[:, 1:])
    # How many are in the inner zone: those up to the percentile, 10 % + i * 80 % / 39.
    inner = np.unique([1 + (39 + 8 * i) * max(n - 1, 0) // 390 for i in range(_THRESHOLDS)]).clip(max=n)
    total = sums[:, [-1]]
    # A zone of n entries at their mean distance a saves n a^2 of the squared error.
    saved = sums[:, inner] ** 2 / np.maximum(inner, 1)
    saved += (total - sums[:, inner]) ** 2 / np.maximum(n - inner, 1)
    cut = inner[np.argmax(saved, axis=1)]
    within = np.take_along_axis(sums, cut[:, None], axis=1)[:, 0]
    scales = np.stack([within / np.maximum(cut, 1), (total[:, 0] - within) / np.maximum(n - cut, 1)])
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(n), order.shape), axis=1)
    return Band(mean=mean, scales=scales, sign=centred >= 0, outer=rank >= cut[:, None])


def joined(low: Floats, high: Floats, columns: int) -> Floats:
    """Inverse of the row transform, [rows, columns]."""
    out = np.empty((len(low), columns))
    pairs = columns // 2
    out[:, 0::2] = low
    out[:, 0 : 2 * pairs : 2] += high
    out[:, 1::2] = low[:, :pairs] - high
    return out


def _interleaved(low: Bools, high: Bools, columns: int) -> Bools:
    out = np.empty((len(low), columns), np.bool_)
    out[:, 0::2], out[:, 1::2] = low, high
    return out


def _paired_rows(values: NDArray[Value]) -> tuple[NDArray[Value], NDArray[Value]]:
    """For each row the upper and the lower one of its pair; a last row without its pair is both."""
    rows = np.arange(len(values))
    return values[rows & ~1], values[np.minimum(rows | 1, len(values) - 1)]


def _filled(block: Floats, salient: Bools) -> Floats:
    """The block with each salient column the average of the nearest columns on both sides that are not."""
    filled, others = block.copy(), np.flatnonzero(~salient)
    for column in np.flatnonzero(salient):
        at = int(np.searchsorted(others, column))
        near = others[max(at - 1, 0) : at + 1]
        filled[:, column] = block[:, near].mean(axis=1)
    return filled


def _packed(blocks: Sequence[Block], group: int) -> PackedMatrix:
    haar, zone = (np.concatenate(parts, axis=1) for parts in zip(*(b.planes() for b in blocks), strict=True))
    rows, columns = haar.shape
    parts = [block.scalars() for block in blocks]
    scalars = {name: np.stack([part[name] for part in parts], axis=1) for name in parts[0]}
    planes: dict[str, Stored] = {
        "haar": Plane(words.pack(haar)),
        "zone": Plane(words.pack(zone), "masks"),
        "odd_columns": Plane(words.pack(np.arange(columns)[None] % 2 == 1), "masks"),
    }
    salient = np.concatenate([block.salient for block in blocks])
    terms: tuple[Term, ...] = _ROW_TERMS
    if np.any(salient):
        terms += _COLUMN_TERMS
        sign = np.concatenate([block.residual_sign for block in blocks], axis=1)
        planes["salient"] = Plane(words.pack(salient[None]), "masks")
        planes["residual"] = gather(sign, salient, "salient", "extra planes")
    used = {name for term in terms for name in (term.scale, term.offset)}
    ints, exponent = grouping.stored_scalars({n: v for n, v in scalars.items() if n in used}, _SCALE_FORMAT)
    return PackedMatrix(
        rows=rows,
        columns=columns,
        group=min(group, columns),
        terms=terms,
        planes=planes,
        ints=ints,
        exponent=exponent,
    )
