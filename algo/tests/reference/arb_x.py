"""ARB-X: with the signs of ARB frozen, mean and scales refitted to the output on calibration data.

A row's entries A of a group and the Gram matrix G of the group's columns: the loss is (A - Q) G (A - Q)^T.
Groups do not see each other.

Source: ARB-LLM, arXiv:2410.03129, section 3.3, released code (1e-10 in the denominators).
"""

from __future__ import annotations

import numpy as np

from algo.tests.reference.arb import first_order, second_order
from algo.tests.reference.primitives import Array, Mask

EPSILON = 1e-10  #: added to the denominators, as released


def coefficient(direction: Array, target: Array, gram: Array) -> float:
    """The multiple of ``direction`` that is closest to ``target`` under the Gram matrix."""
    return float(direction @ gram @ target) / (float(direction @ gram @ direction) + EPSILON)


def aware_first(a: Array, gram: Array, scale: float, signs: Array) -> tuple[float, float]:
    """One step for a first-order group: mean, then scale."""
    ones = np.ones(len(a))
    mean = coefficient(ones, a - scale * signs, gram)
    return mean, coefficient(signs, a - mean * ones, gram)


def aware_second(
    a: Array, gram: Array, scales: tuple[float, float], signs: tuple[Array, Array]
) -> tuple[float, float, float]:
    """One step for a second-order group: mean, first scale, second scale."""
    ones = np.ones(len(a))
    mean = coefficient(ones, a - scales[0] * signs[0] - scales[1] * signs[1], gram)
    one = coefficient(signs[0], a - mean * ones - scales[1] * signs[1], gram)
    two = coefficient(signs[1], a - mean * ones - one * signs[0], gram)
    return mean, one, two


def arb_x_row(a: Array, gram: Array, order: int, iterations: int) -> Array:
    """One row's entries of one group after ARB and as many data-aware steps."""
    if order == 1:
        mean, scale, signs = first_order(a, iterations)
        for _ in range(iterations):
            mean, scale = aware_first(a, gram, scale, signs)
        return mean + scale * signs
    mean, one, two, signs_one, signs_two = second_order(a, iterations)
    for _ in range(iterations):
        mean, one, two = aware_second(a, gram, (one, two), (signs_one, signs_two))
    return mean + one * signs_one + two * signs_two


def arb_x(a: Array, mask: Mask, order: int, iterations: int, gram: Array) -> Array:
    """Every row of the block [rows, k] on the mask; ``gram`` [k, k] is that of the block's columns."""
    out = np.zeros(a.shape)
    for i in range(len(a)):
        (on,) = np.nonzero(mask[i])
        if len(on):
            out[i, on] = arb_x_row(a[i, on], gram[np.ix_(on, on)], order, iterations)
    return out
