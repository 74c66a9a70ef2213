"""Ternary weights by the absmean rule of BitNet b1.58 and its kin, applied after training."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.build import from_digits
from algo.bitplane.format import Format
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.rows import blocks, stacked
from algo.formats import catalog, grouping
from algo.formats.grouped import FormatConfig, check_choice, check_integer
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = (
    "BitNet b1.58: Ma et al., arXiv:2402.17764, section 2 (absmean); Nielsen and Schneider-Kamp, "
    "arXiv:2407.09527 (absmedian); TriLM: Kaushal et al., arXiv:2407.12327 (a scale a shard)"
)
#: rules for gamma
RULES = ("absmean", "absmedian")


def _is_ternary(fmt: Format) -> bool:
    """Digits -1, 0, +1, nothing else."""
    return {int(v) for v in fmt.values()} == {-1, 0, 1} and not fmt.zero


FORMATS = catalog.accepted_by(_is_ternary, first=catalog.TERNARY_G128)


@dataclass(frozen=True, kw_only=True)
class Config(FormatConfig):
    """Which ternary format, how many columns share a scale, and what it is taken from."""

    allowed = FORMATS
    format: str = FORMATS[0]
    rule: str = RULES[0]  #: mean or median of magnitudes
    shards: int = 0  #: equal shares of the rows with a gamma each, over all columns; 0: one a row and group

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("rule", self.rule, RULES)
        check_integer("shards", self.shards, least=0)


def needs_calibration(config: Config) -> bool:
    """Never: the weights say it all."""
    return False


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """``gamma * clip(rne(w / gamma), -1, 1)``, gamma the mean or the lower median of ``|w|``.

    Parameters: weight, float64 [rows, columns]; calibration, not used.
    Raises: ValueError if the weight is not finite, not of two axes, has fewer rows than shards, or its scales
    do not fit their format.
    Source: `SOURCE`; differs in: a gamma per row and column group, or per shard of rows (the papers: one per
    tensor, or per shard of a model split over devices), rounded to its stored form before the codes are
    chosen, and stored in every row; weights are rounded after training, not trained so; no epsilon beside
    gamma, a group with gamma 0 is all zeros. Of an even number of magnitudes the median is the lower middle
    one, as torch has it.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    fmt = config.chosen()
    if config.shards > len(weight):
        raise ValueError(f"shards must be at most {len(weight)}, the rows of the matrix, not {config.shards}")
    of_rows = _of_shards(weight, config) if config.shards else None
    parts = [
        _rows(weight[here], fmt, config.rule, None if of_rows is None else of_rows[here])
        for here in blocks(*weight.shape)
    ]
    return Quantized(matrix=stacked(parts), published_bits=fmt.published_bits)


def _of_shards(weight: NDArray[np.float64], config: Config) -> NDArray[np.float64]:
    """Gamma of each row's shard, [rows, 1]."""
    edges = np.arange(config.shards + 1) * len(weight) // config.shards
    gamma = np.empty((len(weight), 1))
    for first, end in pairwise(edges):
        magnitudes = np.abs(weight[first:end]).reshape(1, -1)
        gamma[first:end] = _typical(magnitudes, magnitudes.shape[1], config.rule)
    return gamma


def _typical(magnitudes: NDArray[np.float64], group: int, rule: str) -> NDArray[np.float64]:
    """Mean or lower median of each row over each column group, [rows, groups]."""
    if rule == "absmean":
        return grouping.means(magnitudes, group)
    first = grouping.starts(magnitudes.shape[1], group)
    return np.stack([_lower_median(magnitudes[:, at : at + group]) for at in first], axis=1)


def _lower_median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    middle = (values.shape[1] - 1) // 2
    found: NDArray[np.float64] = np.partition(values, middle, axis=1)[:, middle]
    return found


def _rows(
    weight: NDArray[np.float64], fmt: Format, rule: str, of_rows: NDArray[np.float64] | None
) -> PackedMatrix:
    if of_rows is None:
        typical = _typical(np.abs(weight), fmt.group, rule)
    else:
        typical = np.repeat(of_rows, len(grouping.starts(weight.shape[1], fmt.group)), axis=1)
    gamma = grouping.stored_scale(typical, fmt.scale)
    codes = grouping.codes_of(weight, grouping.spread(gamma, weight.shape[1], fmt.group))
    return from_digits(fmt, np.clip(codes, -1, 1), gamma)
