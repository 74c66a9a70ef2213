"""A layer through a method in rotated form: weights and what it reads turned by blocks of Hadamard's matrix.

Source: Egiazarian et al., "Bridging the Gap Between Promise and Performance for Microscaling FP4
Quantization", arXiv:2509.23202, section 4; differs in: powers of two in place of sqrt(block), so that the
rotation is exact (`algo.bitplane.hadamard`); any method, not GPTQ alone.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.hadamard import check_block, rotated_activations, rotated_weights
from algo.formats.quantized import Calibration, Quantized


def quantize(
    module: ModuleType,
    weight: NDArray[np.float64],
    calibration: Calibration | None,
    config: Any,
    block: int | None,
) -> Quantized:
    """``module.quantize`` of a weight [rows, columns], rotated by blocks of columns, or as it is if None.

    Parameters: calibration, of the activations as the planes will meet them: rotated.
    Returns what decodes to the weight before the rotation.
    Raises ValueError if ``block`` is no power of two above 1 or does not divide the columns, and what the
    method raises.
    """
    if block is None:
        made: Quantized = module.quantize(weight, calibration, config)
        return made
    check_block(weight.shape[1], block)
    made = module.quantize(rotated_weights(weight, block), calibration, config)
    if made.inner is not None:
        return replace(made, inner=replace(made.inner, rotate=block))
    return replace(made, matrix=replace(made.matrix, rotate=block))


def rotated_hessian(hessian: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    """The Hessian [columns, columns] of rotated activations, from that of the activations as they come.

    Raises ValueError as `algo.bitplane.hadamard.check_block`.
    """
    return rotated_activations(np.ascontiguousarray(rotated_activations(hessian, block).T), block).T
