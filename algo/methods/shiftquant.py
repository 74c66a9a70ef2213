"""ShiftQuant: channels in groups by the size of their range, group scales apart by powers of two alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.build import exponent_ints, mantissa_ints
from algo.bitplane.format import Digit, Format
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Plane
from algo.bitplane.scales import Grid
from algo.formats import grouping
from algo.formats.grouped import check_choice, check_integer
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = (
    "Guo et al., Towards Accurate and Efficient Sub-8-Bit Integer Training, arXiv:2411.10948 (ShiftQuant)"
)
FORMATS: tuple[str, ...] = ()  #: the method is its own format

_SIDES = ("weights", "activations", "both")
_SCALES = ("row", "tensor")
_WIDEST = 8  #: bits of a code, and groups: together they take at most 15 planes, of both sides 22
_FACTOR = "balance"

Floats = NDArray[np.float64]
Int = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Width of the codes, count of the groups, and whose ranges say which channel is in which."""

    bits: int = 4  #: of a code, two's complement, its smallest number unused
    groups: int = 4  #: of channels; scales 1, 1/2, 1/4, .. of the first one's
    side: Literal["weights", "activations", "both"] = "weights"  #: whose channels are grouped
    scale: Literal["row", "tensor"] = "row"  #: what shares the first group's scale

    def __post_init__(self) -> None:
        for name, least in (("bits", 2), ("groups", 1)):
            check_integer(name, getattr(self, name), least)
            if getattr(self, name) > _WIDEST:
                raise ValueError(f"{name} must be at most {_WIDEST}, not {getattr(self, name)!r}")
        check_choice("side", self.side, _SIDES)
        check_choice("scale", self.scale, _SCALES)

    @property
    def most(self) -> int:
        """Largest shift of a column."""
        return (2 if self.side == "both" else 1) * (self.groups - 1)

    @property
    def top(self) -> int:
        """Largest code."""
        return (1 << (self.bits - 1)) - 1


def needs_calibration(config: Config) -> bool:
    """Where the channels of the activations are grouped."""
    return config.side != "weights"


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """Codes ``q`` of columns in groups ``k``, which stand for ``s * q * 2**-k``.

    Group of a column of range r: ``min(floor(log2(max r / r)), groups - 1)``. Side "weights": r is the
    column's largest weight, as a share of its row's largest where rows have their scales, and
    ``q = rne(w * 2**k / s)``. Side "activations": r is the calibration's peak; activations are multiplied by
    ``2**k`` before they are quantized, the shift back stands in the planes of plain codes ``rne(w / s)``.
    Side "both": either, and the shifts of a column add up. The digit of an entry is ``q << (most - k)``,
    ``most`` being ``groups - 1``, of both sides twice that: plane p of a code is plane ``p + most - k`` of
    it, ``bits + most`` planes in all, each chosen from the stored ones by the column's shift.

    Parameters: weight, float64 [rows, columns]; calibration, its peaks are read where the activations
    are grouped.
    Returns: Quantized; published_bits ``bits + ceil(log2 groups) / rows``, of both sides with twice that
    share; notes "shift 0" .., the columns of each.
    Raises: ValueError if the weight is not finite or not of two axes, or calibration is needed and missing or
    of another width.
    Source: `SOURCE`; differs in: thresholds are the powers of two themselves, the paper searches better ones;
    weights and activations of inference, not gradients; rounding to nearest; scales are 16-bit mantissas
    on a power of two of the row; by default a scale for each row (the paper: one for the tensor); the
    published bits leave out that scale.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    none = np.zeros(weight.shape[1], np.int64)
    own = none if config.side == "activations" else groups_of(_weight_peak(weight, config), config.groups)
    met = none if config.side == "weights" else groups_of(_known(len(none), calibration), config.groups)
    sides = 2 if config.side == "both" else 1
    return Quantized(
        matrix=_packed(np.ldexp(weight, own), own + met, met, config),
        published_bits=config.bits + sides * (config.groups - 1).bit_length() / len(weight),
        notes={f"shift {k}": float(np.sum(own + met == k)) for k in range(config.most + 1)},
    )


def groups_of(peak: Floats, groups: int) -> Int:
    """Group of each channel, int64 [channels], of the channels' ranges; exact at every power of two.

    ``min(floor(log2(max r / r)), groups - 1)``; a channel of zeros is in the last group.
    """
    most = peak.max()
    within = [np.ldexp(peak, k) <= most for k in range(1, groups)]
    return np.sum(within, axis=0, dtype=np.int64) if within else np.zeros(len(peak), np.int64)


def _weight_peak(weight: Floats, config: Config) -> Floats:
    size = np.abs(weight)
    if config.scale == "row":
        most = size.max(axis=1, keepdims=True)
        size = size / np.where(most > 0, most, 1.0)
    return np.asarray(size.max(axis=0))


def _known(columns: int, calibration: Calibration | None) -> Floats:
    if calibration is None:
        raise ValueError("calibration must be given for shiftquant of activations, not None")
    if len(calibration.peak) != columns:
        raise ValueError(f"peak must have {columns} columns as the weight has, not {len(calibration.peak)}")
    return calibration.peak


def _packed(balanced: Floats, shift: Int, met: Int, config: Config) -> PackedMatrix:
    """Codes of ``balanced`` [rows, columns] on one scale each row; ``met`` shifts activations."""
    rows, columns = balanced.shape
    size = np.abs(balanced).max(axis=None if config.scale == "tensor" else 1).reshape(-1, 1)
    grid = Grid.covering(size / config.top)
    scale = mantissa_ints(grid, size / config.top)
    codes = grouping.codes_of(balanced, np.broadcast_to(grid.values(scale.values), balanced.shape))
    codes = np.clip(codes, -config.top, config.top)

    most = config.most
    by_activations = config.side != "weights"
    coefs = Format.places((-(config.top << most), config.top << most))
    roles = ["extra planes"] * (config.bits - 1) + ["sign planes"]
    planes = {
        f"code{p}": Plane(words.pack((codes >> p & 1).astype(np.bool_)), role) for p, role in enumerate(roles)
    }
    index = {
        f"shift{i}": Plane(words.pack((shift >> i & 1).astype(np.bool_)[None]), "indices")
        for i in range(most.bit_length())
    }
    term = Term(
        planes=tuple(_moved(place, config) for place in range(len(coefs))),
        coefs=coefs,
        digit=Digit.UNIPOLAR,
        scale="scale",
        col=_FACTOR if by_activations else None,
    )
    factor = np.ldexp(np.float32(1), met).astype(np.float16)
    return PackedMatrix(
        rows=rows,
        columns=columns,
        group=columns,
        terms=(term,),
        planes={**planes, **index},
        ints={"scale": scale},
        exponent=exponent_ints(grid, -most),
        factors={_FACTOR: factor} if by_activations else {},
    )


def _moved(place: int, config: Config) -> str:
    """Plane ``place`` of ``code << (most - shift)``, as an expression over stored planes."""
    most = config.most
    size = 1 << most.bit_length()
    # A shift that no column can have reads like the last one, which keeps the choice short.
    bits = [place - (most - min(k, most)) for k in range(size)]
    inputs = [f"code{min(bit, config.bits - 1)}" if bit >= 0 else None for bit in bits]
    return _chosen(inputs, most.bit_length() - 1) or "code0 ^ code0"


def _chosen(inputs: list[str | None], index: int) -> str | None:
    """The input that shift bits ``index`` .. 0 name, the high bit first; None reads 0."""
    if len(inputs) == 1 or all(text == inputs[0] for text in inputs):
        return inputs[0]
    half = len(inputs) // 2
    low, high = _chosen(inputs[:half], index - 1), _chosen(inputs[half:], index - 1)
    if low == high:
        return low
    taken = [f"(shift{index} & {high})"] if high else []
    return f"({' | '.join([*([f'(~shift{index} & {low})'] if low else []), *taken])})"
