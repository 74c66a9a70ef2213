"""Round to nearest in any format: the baseline every other method is held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.build import from_digits
from algo.bitplane.format import Format
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.rows import by_blocks
from algo.formats import catalog, grouping, scaling
from algo.formats.grouped import IntegerConfig, check_integer
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = (
    "asymmetric min/max quantization: Nagel et al., arXiv:2106.08295, section 2.2; as the RTN rows of "
    "Frantar et al., GPTQ, arXiv:2210.17323"
)


#: Integers with a zero point, and every block format (`algo.formats.blocks`).
FORMATS = catalog.Offered(catalog.accepted_by(catalog.is_unsigned, first=catalog.INT4_G128))


@dataclass(frozen=True, kw_only=True)
class Config(IntegerConfig):
    """Which format, and how many columns share a scale."""

    allowed = FORMATS
    seed: int = 0  #: of stochastic rounding

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("seed", self.seed, 0)


def needs_calibration(config: Config) -> bool:
    """Never: the weights say it all."""
    return False


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """Round ``weight`` to the nearest value of each (row, group)'s grid.

    Block formats: to the nearest of the table's values times the group's scale, ties by the format's rule;
    see `algo.formats.scaling`. Integers with a zero point:
    ``lo = min(0, min w)``, ``hi = max(0, max w)``, ``s = (hi - lo) / (2**b - 1)``, ``z = rne(-lo / s)``,
    ``q = clip(rne(w / s) + z, 0, 2**b - 1)``; the matrix stands for ``s * (q - z)``. With b = 1 that is
    {0, s} or {-s, 0}, no sign: the row of the binarization papers that explodes.

    Parameters: weight, float64 [rows, columns], of block formats float32 as well; calibration, not used.
    Raises: ValueError if the weight is not finite, not of two axes, or its scales do not fit their format.
    Source: `SOURCE`, and that of the format; differs in: z and q are chosen with the scale as stored, not
    before its rounding; a group of zeros has scale 0 (released code: the range -1 .. 1, which also decodes to
    0); a scale too small for its format becomes the smallest it holds.
    """
    config = Config() if config is None else config
    fmt = config.chosen()
    if fmt.tables:
        matrix = scaling.quantize(_as_it_is(weight), fmt, config.seed)
        return Quantized(matrix=matrix, published_bits=fmt.published_bits)
    weight = checked_weight(weight)
    matrix = by_blocks(weight, lambda part: _rows(part, fmt))
    return Quantized(matrix=matrix, published_bits=fmt.published_bits)


def _rows(weight: NDArray[np.float64], fmt: Format) -> PackedMatrix:
    columns = weight.shape[1]
    first = grouping.starts(columns, fmt.group)
    low = np.minimum.reduceat(weight, first, axis=1)
    high = np.maximum.reduceat(weight, first, axis=1)

    scale = grouping.stored_scale(grouping.min_max(low, high, fmt.high, fmt.scale), fmt.scale)
    zero = grouping.zero_points(low, scale, fmt.high)
    codes = grouping.codes_of(weight, grouping.spread(scale, columns, fmt.group))
    codes = np.clip(codes + grouping.spread(zero, columns, fmt.group), 0, fmt.high)
    return from_digits(fmt, codes, scale, zero)


def _as_it_is(weight: NDArray[np.floating]) -> NDArray[np.floating]:
    """A float32 matrix uncopied, anything else as `checked_weight` has it; NaN is the scales' to find."""
    whole = isinstance(weight, np.ndarray) and weight.dtype == np.float32 and weight.ndim == 2 and weight.size
    return np.ascontiguousarray(weight) if whole else checked_weight(weight)
