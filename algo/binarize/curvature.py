"""The Hessian of a layer's output error, made into the triangular factor that block compensation reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_triangular

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curvature:
    """Upper triangular ``U`` with ``U.T @ U = inverse(damped Hessian)``.

    ``U[j, j]**2`` is the inverse curvature of column j once the columns before it are fixed.
    """

    factor: Floats  #: [columns, columns]
    dead: NDArray[np.bool_]  #: [columns], input channels that were 0 on all calibration tokens

    @property
    def diagonal(self) -> Floats:
        """Diagonal of the factor, [columns]."""
        return np.ascontiguousarray(np.diagonal(self.factor))


def flat(columns: int) -> Curvature:
    """The curvature of a layer nothing is known about: all columns weigh the same, none leans on another."""
    return Curvature(np.eye(columns), np.zeros(columns, np.bool_))


def curvature(hessian: ArrayLike, columns: int, damping: float) -> Curvature:
    """Factor the inverse of a damped Hessian.

    A dead channel (diagonal 0) gets diagonal 1; then ``damping`` times the diagonal's mean is added to it.

    Parameters: hessian, float [columns, columns], symmetric; its scale does not matter to any user.
    Raises: ValueError if it has another shape, is not finite, or is not positive definite when damped.
    Source: Frantar et al., GPTQ, arXiv:2210.17323, section 4, step 3; differs in: float64, and the factor
    is the inverse of a reversed Cholesky factor, so no inverse matrix is formed.
    """
    array = np.array(hessian, np.float64)
    if array.shape != (columns, columns):
        raise ValueError(f"hessian must have shape [{columns}, {columns}], not {list(array.shape)}")
    if not np.all(np.isfinite(array)):
        raise ValueError("hessian must be finite, not NaN or infinity")
    diagonal = np.diagonal(array).copy()
    dead = diagonal == 0
    diagonal[dead] = 1
    np.fill_diagonal(array, diagonal + damping * diagonal.mean())
    try:
        reverse = np.linalg.cholesky(array[::-1, ::-1])
    except np.linalg.LinAlgError:
        raise ValueError(
            f"hessian must be positive definite at damping {damping:g}, not indefinite: is it a sum of x x^T?"
        ) from None
    upper = np.ascontiguousarray(reverse[::-1, ::-1])
    return Curvature(solve_triangular(upper, np.eye(columns), lower=False), dead)
