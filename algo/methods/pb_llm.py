"""PB-LLM: the salient tenth of the weights at 8 bit, the rest binarized about their mean.

Which weights are salient costs a bit of each weight, which the published 1.7 leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.binarize.compensation import COMPENSATIONS, compensate
from algo.binarize.curvature import known
from algo.bitplane import words
from algo.bitplane.build import exponent_ints, mantissa_ints
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.planes import Plane, gather
from algo.bitplane.scales import Grid, round_scale
from algo.formats import grouping
from algo.formats.grouped import GroupConfig, check_choice, check_integer, check_number
from algo.formats.quantized import Calibration, Quantized, checked_weight
from algo.formats.salient import terms as salient_terms

SOURCE = "Shang et al., PB-LLM, arXiv:2310.00034, section 3, as released (github.com/hahnyuan/PB-LLM)"
FORMATS: tuple[str, ...] = ()  #: the method is its own format
METRICS = ("hessian", "magnitude")

_SCALE_FORMAT = "fp16"
_WIDEST = 16  #: bits: beyond it a salient weight costs more than it did in fp16

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Config(GroupConfig):
    """The released defaults, at the tenth of salient weights of the paper's 1.7 bits."""

    salient: float = 0.1  #: share of the weights at ``bits``
    bits: int = 8  #: of a salient weight
    metric: str = "hessian"  #: salience: "hessian", w**2 / U_jj**2, or "magnitude", |w|
    compensation: str = "diag"  #: "diag" (released), "exact" or "none"
    damping: float = 0.01  #: added to the Hessian's diagonal, in means of it

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("salient", self.salient, below=1)
        check_integer("bits", self.bits)
        if self.bits > _WIDEST:
            raise ValueError(f"bits must be at most {_WIDEST}, not {self.bits!r}")
        check_choice("metric", self.metric, METRICS)
        check_choice("compensation", self.compensation, COMPENSATIONS)
        check_number("damping", self.damping)


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """One column block as it was fitted."""

    weights: Floats  #: [rows, k], as earlier blocks left them
    salient: Bools  #: [rows, k]
    mean: Floats  #: [rows, 1], of the others
    scale: Floats  #: [rows, 1], the others' mean distance from it
    sign: Bools  #: [rows, k], True = +1; without meaning on salient entries
    code_scale: Floats  #: [rows, 1], of the salient entries' grid
    top: int  #: largest code

    def codes(self, step: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Codes [rows, k] and zero points [rows, 1] of the salient entries on a grid of this step."""
        kept = np.where(self.salient, self.weights, 0.0)
        zero = grouping.zero_points(kept.min(axis=1, keepdims=True), step, self.top)
        return np.clip(grouping.codes_of(kept, step) + zero, 0, self.top), zero

    def values(self) -> Floats:
        """The real block [rows, k], the salient entries as coded, the scalars of the others unrounded."""
        codes, zero = self.codes(self.code_scale)
        others = self.mean + np.where(self.sign, self.scale, -self.scale)
        return np.where(self.salient, self.code_scale * (codes - zero), others)


def needs_calibration(config: Config) -> bool:
    """Unless nothing but the weights is looked at and no error is pushed on."""
    return config.metric == "hessian" or config.compensation != "none"


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """Salient weights on min/max grids, ``mu + a * sign(w - mu)`` for the others, block after block.

    In each block of ``group`` columns the ``salient`` share with the largest metric, over all rows together,
    is salient. Per row, mu and a are the mean of the others and their mean distance from it; the salient
    entries have the grid of `algo.methods.rtn`, spanned by themselves and 0.

    Parameters: weight, float64 [rows, columns]; calibration, its Hessian is read.
    Returns: Quantized; published_bits ``share * bits + (1 - share)``; notes "loss", as `algo.methods.billm`
    has it, "salient_share", as rounded to whole weights, and "dead_columns".
    Raises: ValueError if the weight is not finite or not of two axes, calibration is missing where metric or
    compensation ask for it, has another width or is no sum of squares, or a scalar does not fit fp16.
    Source: `SOURCE`; differs in: weights are chosen in each block, the released code chooses them in the
    whole layer before the first block; the columns of a block are binarized together; salient codes are
    chosen with their scale as stored; no training follows (the paper's QAT part); float64.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    needed_for = f"metric {config.metric} and compensation {config.compensation}" * needs_calibration(config)
    curve = known(weight.shape[1], calibration, config.damping, needed_for)

    def fit(block: Floats, here: slice) -> Block:
        conditional = curve.diagonal[here]
        metric = block**2 / conditional**2 if config.metric == "hessian" else np.abs(block)
        return fit_block(block, metric, config)

    blocks, loss = compensate(weight, curve, config.group, config.compensation, fit)
    share = sum(int(block.salient.sum()) for block in blocks) / weight.size
    return Quantized(
        matrix=_packed(blocks, config),
        published_bits=config.salient * config.bits + (1 - config.salient),
        notes={"loss": loss, "salient_share": share, "dead_columns": int(curve.dead.sum())},
    )


def fit_block(block: Floats, metric: Floats, config: Config) -> Block:
    """Part a block by ``metric``, both [rows, k], and fit both parts of each row."""
    count = round(config.salient * block.size)
    salient = np.zeros(block.shape, np.bool_)
    salient.flat[np.argsort(-metric, axis=None, kind="stable")[:count]] = True
    size = np.maximum(np.sum(~salient, axis=1, keepdims=True), 1)
    mean = np.where(salient, 0.0, block).sum(axis=1, keepdims=True) / size
    centred = block - mean
    kept = np.where(salient, block, 0.0)
    top = (1 << config.bits) - 1
    low, high = kept.min(axis=1, keepdims=True), kept.max(axis=1, keepdims=True)
    return Block(
        weights=block.copy(),
        salient=salient,
        mean=mean,
        scale=np.where(salient, 0.0, np.abs(centred)).sum(axis=1, keepdims=True) / size,
        sign=centred >= 0,
        code_scale=grouping.min_max(low, high, top, _SCALE_FORMAT),
        top=top,
    )


def _packed(blocks: list[Block], config: Config) -> PackedMatrix:
    def joined(name: str) -> Floats:
        return np.concatenate([getattr(block, name) for block in blocks], axis=1)

    scalars = {name: round_scale(joined(name), _SCALE_FORMAT) for name in ("scale", "mean", "code_scale")}
    grid = Grid.covering(*scalars.values())
    ints = {name: mantissa_ints(grid, values) for name, values in scalars.items()}
    ints["code_scale"] = grouping.visible_mantissas(grid, scalars["code_scale"])
    steps = grid.values(ints["code_scale"].values)
    coded = [block.codes(steps[:, [g]]) for g, block in enumerate(blocks)]
    codes, zero = (np.concatenate(parts, axis=1) for parts in zip(*coded, strict=True))
    ints["code_zero"] = Ints(zero, config.bits, signed=False)

    salient, sign = joined("salient").astype(np.bool_), joined("sign").astype(np.bool_)
    coded_planes = {
        f"code{p}": gather((codes >> p & 1).astype(np.bool_), salient, "salient", "extra planes")
        for p in range(config.bits)
    }
    return PackedMatrix(
        rows=sign.shape[0],
        columns=sign.shape[1],
        group=min(config.group, sign.shape[1]),
        terms=salient_terms(config.bits),
        planes={
            "salient": Plane(words.pack(salient), "masks"),
            "sign": gather(sign, ~salient, "~salient"),
            **coded_planes,
        },
        ints=ints,
        exponent=exponent_ints(grid),
    )
