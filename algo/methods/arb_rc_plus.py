"""ARB-RC's storage, filled better: the same planes, row scales and column scales, fitted to the output.

Both bits of a weight are chosen together as the nearest of its four levels, errors are fed back inside the
block, and bits, row scales and column scales take turns against the curvature of the block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.binarize import coded, joint, levels
from algo.binarize.codebook import Codebook, Codes
from algo.binarize.curvature import Curvature
from algo.binarize.joint import JointSettings
from algo.binarize.zone import Floats
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = (
    "planeforge; the stored form is that of Li et al., ARB-LLM, arXiv:2410.03129 (ARB-RC), "
    "the feedback that of Frantar et al., GPTQ, arXiv:2210.17323"
)
FORMATS: tuple[str, ...] = ()  #: the method is its own format


@dataclass(frozen=True, kw_only=True)
class Config(JointSettings):
    """Defaults that store ARB-RC's planes with narrower scalars."""


def needs_calibration(config: Config) -> bool:
    """Always: bits and scales are fitted to the layer's output."""
    return True


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """Binarize ``weight`` in ARB-RC's form, bits and scales fitted together.

    Parameters: weight, float64 [rows, columns]; calibration, of its inputs.
    Returns: Quantized; published_bits 1 + r as ARB-LLM counts, r the share of salient columns.
    Raises: ValueError as `algo.methods.billm_plus.quantize` does.
    Source: `SOURCE`; differs in: as billm+; the column factors of a block are one least-squares solution
    over all rows and both factors, rounded to fp16.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    curve = config.curvature("arb-rc+", weight.shape[1], calibration)
    blocks, grid, loss = joint.fit_layer(weight, curve, config, _RowColumn(curve, config))
    counts = tuple(int(np.sum(block.kinds[0] == levels.SALIENT)) for block in blocks)
    factors = np.concatenate([block.columns[:2] for block in blocks], axis=1).astype(np.float16)
    return Quantized(
        matrix=coded.row_column_planes(blocks, grid, config.group, tuple(factors)),
        published_bits=1 + sum(counts) / weight.shape[1],
        salient_columns=counts,
        notes={"loss": loss, "dead_columns": int(curve.dead.sum())},
    )


class _RowColumn:
    """Two zones and two salient planes; the first of each shares a column factor, and the second."""

    ties = levels.ROW_COLUMN_FACTORS

    def __init__(self, curve: Curvature, config: Config) -> None:
        self.book: Codebook = levels.row_column()
        self._diagonal, self._config = curve.diagonal, config

    def kinds(self, block: Floats, here: slice) -> Codes:
        kinds = np.full(block.shape, levels.REST, np.uint8)
        kinds[:, self._config.salient_columns((block / self._diagonal[here]) ** 2)] = levels.SALIENT
        return kinds

    def guess(self, block: Floats, kinds: Codes, factors: Floats) -> Floats:
        return levels.guess_row_column(block, kinds, factors)
