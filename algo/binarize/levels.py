"""Codebooks of the stored forms, and first guesses of their amounts.

Bit 0 of a code is the sign plane's bit. A first guess takes each row's entries for normally distributed.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from algo.binarize.codebook import PRUNED, Codebook, Codes
from algo.binarize.zone import Bools, Floats

#: Levels of least squared error for a normal distribution of zero mean, in mean magnitudes: Lloyd-Max
#: quantizers of 4 (0.4528, 1.510) and 6 levels (0.3177, 1.000, 1.894 standard deviations) over sqrt(2/pi).
#: Source: Max, Quantizing for minimum distortion, IRE Trans. Inf. Theory 6, 1960, table I.
FOUR = (0.5675, 1.8925)
SIX = (0.3982, 1.2533, 2.3738)
#: The same four levels as two scales: +-MIDDLE +-HALF.
MIDDLE, HALF = (FOUR[1] + FOUR[0]) / 2, (FOUR[1] - FOUR[0]) / 2

#: Kinds of entries.
REST, SALIENT, HIGH, LOW = 0, 1, 2, 3
_BITS = tuple(product((-1.0, 1.0), repeat=2))  #: digits of (bit 1, bit 0) of codes 0 .. 3

#: What a row stores of a block for `four_levels`.
FOUR_LEVEL_AMOUNTS = (
    "offset_mean",
    "offset_difference",
    "scale_mean",
    "scale_difference",
    "salient_offset",
    "salient_scale1",
    "salient_scale2",
)
ROW_COLUMN_AMOUNTS = ("high_scale", "low_scale", "salient_scale1", "salient_scale2")
ROW_COLUMN_FACTORS = (0, 1, 0, 1)  #: which column factor each of these amounts is multiplied by
THREE_ZONE_AMOUNTS = (
    "outer_offset",
    "outer_scale",
    "middle_offset",
    "middle_scale",
    "inner_offset",
    "inner_scale",
    "salient_offset",
    "salient_scale1",
    "salient_scale2",
)


def four_levels(shared_mean: bool) -> Codebook:
    """Two zones of a sign plane each; bit 1 of a code is the zone or, salient, the second sign.

    Entries of kind `HIGH` and `LOW` have their zone fixed: only the sign is theirs to choose.
    """
    coefs = np.zeros((4, 4, len(FOUR_LEVEL_AMOUNTS)))
    for code, (second, sign) in enumerate(_BITS):
        coefs[REST, code, :4] = (1, 0.0 if shared_mean else second, sign, sign * second)
        coefs[SALIENT, code, 4:] = (1, sign, second)
    coefs[HIGH, :2] = coefs[REST, 2:]
    coefs[LOW, :2] = coefs[REST, :2]
    return Codebook(coefs, np.array([4, 4, 2, 2]))


def row_column() -> Codebook:
    """Two zones without mean; the column factors stand in the codebook's ``columns``."""
    coefs = np.zeros((2, 4, len(ROW_COLUMN_AMOUNTS)))
    for code, (second, sign) in enumerate(_BITS):
        coefs[REST, code, 0 if second > 0 else 1] = sign
        coefs[SALIENT, code, 2:] = (sign, second)
    return Codebook(coefs, np.array([4, 4]))


def three_zones() -> Codebook:
    """Three zones of a sign plane each: code 2 * zone + sign, the outer zone first."""
    coefs = np.zeros((2, 6, len(THREE_ZONE_AMOUNTS)))
    for zone, sign in product(range(3), (0, 1)):
        coefs[REST, 2 * zone + sign, 2 * zone : 2 * zone + 2] = (1, 2 * sign - 1)
    for code, (second, first) in enumerate(_BITS):
        coefs[SALIENT, code, 6:] = (1, first, second)
    return Codebook(coefs, np.array([6, 4]))


def guess_four(block: Floats, kinds: Codes) -> Floats:
    """First amounts of `four_levels`, [rows, 7]."""
    mean, size = _spread(block, (kinds != SALIENT) & (kinds != PRUNED))
    top_mean, top = _spread(block, kinds == SALIENT)
    zero = np.zeros(len(block))
    parts = (mean, zero, MIDDLE * size, HALF * size, top_mean, MIDDLE * top, HALF * top)
    return np.stack(parts, axis=1)


def guess_row_column(block: Floats, kinds: Codes, columns: Floats) -> Floats:
    """First amounts of `row_column`, [rows, 4], for column factors [2, k]."""
    even = np.where(columns[0] != 0, block / np.where(columns[0] != 0, columns[0], 1.0), 0.0)
    size = _spread(even, kinds == REST, centred=False)[1]
    top = _spread(even, kinds == SALIENT, centred=False)[1]
    return np.stack((FOUR[1] * size, FOUR[0] * size, MIDDLE * top, HALF * top), axis=1)


def guess_three(block: Floats, kinds: Codes) -> Floats:
    """First amounts of `three_zones`, [rows, 9]."""
    mean, size = _spread(block, kinds == REST)
    top_mean, top = _spread(block, kinds == SALIENT)
    zones = [part for level in SIX[::-1] for part in (mean, level * size)]
    return np.stack([*zones, top_mean, MIDDLE * top, HALF * top], axis=1)


def _spread(block: Floats, mask: Bools, centred: bool = True) -> tuple[Floats, Floats]:
    """Mean and mean deviation of each row on a mask, [rows] each; 0 where a row has none."""
    count = np.maximum(mask.sum(axis=1), 1)
    mean = np.where(mask, block, 0.0).sum(axis=1) / count if centred else np.zeros(len(block))
    return mean, np.where(mask, np.abs(block - mean[:, None]), 0.0).sum(axis=1) / count
