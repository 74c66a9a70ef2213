"""BiLLM as its released code computes it, with the packed planes that code never writes.

Every weight ends with a sign bit and one second bit: the residual's sign on salient columns, the zone (at or
above the break-point) elsewhere. The published 1 + r bits count neither the zones nor the seven scalars of
each row and block; the storage bill here counts all of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.binarize.compensation import COMPENSATIONS, compensate
from algo.binarize.curvature import Curvature, curvature, flat
from algo.binarize.residual import Bools, Floats, Residual, binarize
from algo.binarize.search import choose_break_point, choose_salient
from algo.bitplane import words
from algo.bitplane.build import exponent_ints, mantissa_ints
from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Plane
from algo.bitplane.scales import Grid, round_scale
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = "Huang et al., BiLLM, arXiv:2402.04291, as released (github.com/Aaronhuang-778/BiLLM, dc137eb)"
FORMATS: tuple[str, ...] = ()  #: the method is its own format
METRICS = ("hessian", "magnitude")

_SCALE_FORMAT = "fp16"
_ON = Digit.BIPOLAR
#: What a (row, block) stores beside its planes, and where it stands in the matrix.
_TERMS = (
    Term(
        planes=("sign",),
        coefs=(1,),
        digit=_ON,
        mask="salient",
        scale="salient_scale1",
        offset="salient_offset",
    ),
    Term(planes=("second",), coefs=(1,), digit=_ON, mask="salient", scale="salient_scale2"),
    Term(
        planes=("sign",),
        coefs=(1,),
        digit=_ON,
        mask="second & ~salient",
        scale="high_scale",
        offset="high_offset",
    ),
    Term(
        planes=("sign",),
        coefs=(1,),
        digit=_ON,
        mask="~second & ~salient",
        scale="low_scale",
        offset="low_offset",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The released defaults."""

    group: int = 128  #: columns of a block, which share their scalars (released: "blocksize", "groupsize")
    damping: float = 0.01  #: added to the Hessian's diagonal, in means of it
    metric: str = "hessian"  #: what the searches look at: "hessian", w**2 / U_jj**2, or "magnitude", w
    salient_limit: int = 49  #: most salient columns a block may have
    compensation: str = "diag"  #: "diag" (released), "exact" or "none"

    def __post_init__(self) -> None:
        for name in ("group", "salient_limit"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}")
        if not isinstance(self.damping, int | float) or not 0 < self.damping < math.inf:
            raise ValueError(f"damping must be a finite number above 0, not {self.damping!r}")
        if self.metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}, not {self.metric!r}")
        if self.compensation not in COMPENSATIONS:
            raise ValueError(
                f"compensation must be one of {', '.join(COMPENSATIONS)}, not {self.compensation!r}"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """One column block, binarized in three groups, before any scalar is rounded."""

    salient: Bools  #: [k], columns with a second plane
    threshold: float  #: of the metric; what reaches it is high
    high: Bools  #: [rows, k], the zone bit of entries outside the salient columns
    groups: tuple[Residual, Residual, Residual]  #: salient (order 2), high, low (order 1)

    def values(self) -> Floats:
        """The real block, [rows, k]."""
        on_salient, on_high, on_low = self.groups
        return on_salient.values() + on_high.values() + on_low.values()

    def planes(self) -> tuple[Bools, Bools]:
        """Bits of the planes ``sign`` and ``second``, each [rows, k]."""
        on_salient, on_high, on_low = self.groups
        zoned = np.where(self.high, on_high.signs[0], on_low.signs[0])
        sign = np.where(self.salient, on_salient.signs[0], zoned)
        return sign, np.where(self.salient, on_salient.signs[1], self.high)

    def scalars(self) -> dict[str, Floats]:
        """Scalars of each row, [rows], by the names the terms use."""
        on_salient, on_high, on_low = self.groups
        return {
            "salient_scale1": on_salient.scales[0],
            "salient_scale2": on_salient.scales[1],
            "salient_offset": on_salient.offset,
            "high_scale": on_high.scales[0],
            "high_offset": on_high.offset,
            "low_scale": on_low.scales[0],
            "low_offset": on_low.offset,
        }


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """Binarize ``weight`` block by block, with compensation, and pack what the blocks hold.

    Parameters: weight, float64 [rows, columns]; hessian, float64 [columns, columns], (2/sequences) sum x x^T.
    Returns: Quantized; published_bits 1 + r, r the share of salient columns; notes "loss" (of the released
    log, before rounding) and "dead_columns".
    Raises: ValueError if the weight is not finite or not of two axes, the Hessian is missing where metric or
    compensation ask for it, has another width or is no sum of squares, or a scalar does not fit fp16.
    Source: `SOURCE`; differs in: the error pushed on is, as released, that against scalars before rounding;
    they are rounded to fp16 and to the row's grid when packed, so figures taken on the result include what
    the released code leaves out; entries equal to their mean take +1; short blocks work; float64.
    As released, a dead input channel's weights become 0 and are then binarized with their group.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    curve = _curvature(weight.shape[1], calibration, config)
    blocks, loss = fit_blocks(weight, curve, config)
    counts = tuple(int(block.salient.sum()) for block in blocks)
    return Quantized(
        matrix=_packed(blocks, config.group),
        published_bits=1 + sum(counts) / weight.shape[1],
        salient_columns=counts,
        notes={"loss": loss, "dead_columns": int(curve.dead.sum())},
    )


def fit_blocks(weight: Floats, curve: Curvature, config: Config) -> tuple[list[Block], float]:
    """The blocks of ``weight`` before rounding, and the loss of the released log."""

    def fit(block: Floats, diagonal: Floats) -> Block:
        return fit_block(block, block**2 / diagonal**2 if config.metric == "hessian" else block, config)

    live = np.where(curve.dead, 0.0, weight)
    return compensate(live, curve, config.group, config.compensation, fit)


def fit_block(block: Floats, metric: Floats, config: Config) -> Block:
    """Part a block by ``metric``, binarize it by its own values; both [rows, k].

    As released, all errors of the searches are those of the metric's own binarization, not of the weights'.
    """
    salient = choose_salient(metric, config.salient_limit)
    threshold = choose_break_point(metric, salient)
    high = (np.abs(metric) >= threshold) & ~salient
    low = ~high & ~salient
    groups = (
        binarize(block, np.broadcast_to(salient, block.shape), 2),
        binarize(block, high, 1),
        binarize(block, low, 1),
    )
    return Block(salient=salient, threshold=threshold, high=high, groups=groups)


def needs_calibration(config: Config) -> bool:
    """Unless nothing but the weights is looked at and no error is pushed on."""
    return config.metric == "hessian" or config.compensation != "none"


def _curvature(columns: int, calibration: Calibration | None, config: Config) -> Curvature:
    if calibration is not None:
        return curvature(calibration.hessian, columns, config.damping)
    if needs_calibration(config):
        raise ValueError(
            f"calibration must be given for metric {config.metric} and compensation {config.compensation}, "
            "not None"
        )
    return flat(columns)


def _packed(blocks: Sequence[Block], group: int) -> PackedMatrix:
    bits = [block.planes() for block in blocks]
    sign = np.concatenate([first for first, _ in bits], axis=1)
    second = np.concatenate([last for _, last in bits], axis=1)
    salient = np.concatenate([block.salient for block in blocks])
    scalars = [block.scalars() for block in blocks]
    rounded = {
        name: round_scale(np.stack([part[name] for part in scalars], axis=1), _SCALE_FORMAT)
        for name in scalars[0]
    }
    grid = Grid.covering(*rounded.values())
    return PackedMatrix(
        rows=sign.shape[0],
        columns=sign.shape[1],
        group=min(group, sign.shape[1]),
        terms=_TERMS,
        planes={
            "sign": Plane(words.pack(sign)),
            # A zone bit but for the few salient columns: counted with the masks.
            "second": Plane(words.pack(second), "masks"),
            "salient": Plane(words.pack(salient[None]), "masks"),
        },
        ints={name: mantissa_ints(grid, values) for name, values in rounded.items()},
        exponent=exponent_ints(grid),
    )
