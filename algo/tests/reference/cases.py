"""Layers on which methods and references are compared: weight, Hessian and held-out activations.

Activations are correlated between channels. The Hessian is 2 / sequences times the sum of X^T X over the
sequences of the calibration set, undamped.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from algo.tests.reference.primitives import Array

Case = tuple[Array, Array, Array]  #: weight [rows, columns], Hessian [columns, columns], X [tokens, columns]
SEQUENCES = 4  #: the calibration tokens are this many sequences


def activations(rng: np.random.Generator, tokens: int, columns: int) -> Array:
    """[2, tokens, columns]: calibration and held-out tokens that share their correlation of channels."""
    mix = np.eye(columns) + rng.standard_normal((columns, columns)) / np.sqrt(columns)
    return rng.standard_normal((2, tokens, columns)) @ mix


def case(weight: Array, both: Array) -> Case:
    calibration, held_out = both
    return weight, 2 / SEQUENCES * calibration.T @ calibration, held_out


def gauss() -> Case:
    rng = np.random.default_rng(101)
    return case(0.02 * rng.standard_normal((12, 256)), activations(rng, 512, 256))


def heavy() -> Case:
    """Student t weights of 3 degrees of freedom."""
    rng = np.random.default_rng(102)
    return case(0.02 * rng.standard_t(3, (16, 192)), activations(rng, 512, 192))


def coldev() -> Case:
    """Columns of unlike scales, and activations with a few outlier channels."""
    rng = np.random.default_rng(103)
    weight = 0.02 * rng.standard_normal((14, 240)) * rng.lognormal(0, 0.7, 240)
    x = activations(rng, 512, 240)
    x[:, :, rng.choice(240, 6, replace=False)] *= 4
    return case(weight, x)


def ragged() -> Case:
    """A last block of 43 columns: fewer than the salient candidates, and no multiple of 8."""
    rng = np.random.default_rng(104)
    return case(0.02 * rng.standard_normal((13, 171)), activations(rng, 400, 171))


def degenerate() -> Case:
    """A zero row, a constant row, a dead channel, a column twice, fewer tokens than channels."""
    rng = np.random.default_rng(105)
    weight = 0.02 * rng.standard_normal((12, 200))
    weight[3] = 0
    weight[7] = 0.0125
    x = activations(rng, 24, 200)
    x[:, :, 150] = 0
    weight[:, 33], x[:, :, 33] = weight[:, 30], x[:, :, 30]
    x[0, :, 20] = 0  # dead in calibration only
    return case(weight, x)


ALL: dict[str, Callable[[], Case]] = {
    made.__name__: made for made in (gauss, heavy, coldev, ragged, degenerate)
}
