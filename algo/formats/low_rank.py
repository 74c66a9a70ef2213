"""The best matrices of low rank, deterministic and true to any scale of what they stand for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

Floats = NDArray[np.float64]

_ROUNDS = 200  #: at most; magnitudes have one singular value far above the rest, and 10 are usual
_STILL = 1e-12  #: change of a unit vector at which it stands


def leading(matrix: Floats) -> Floats:
    """Right singular vector [columns] of the largest singular value of ``matrix``, entries at least 0.

    Power iteration from the sum of the rows, the same for the same matrix and for any multiple of it. Zero
    for a matrix of zeros.
    """
    matrix = _near_one(matrix)
    vector = _unit(matrix.sum(axis=0))
    for _ in range(_ROUNDS):
        following = _unit(matrix.T @ (matrix @ vector))
        if np.max(np.abs(following - vector)) <= _STILL:
            return following
        vector = following
    return vector


def magnitudes(matrix: Floats) -> tuple[Floats, NDArray[np.float16]]:
    """Row vector float64 [rows] and column vector float16 [columns], whose product is nearest to ``matrix``.

    The column vector has root mean square 1 up to its rounding, so the row vector carries the magnitude.

    Parameters: matrix, float64 [rows, columns], entries at least 0.
    Source: Xu et al., OneBit, arXiv:2402.11295, section 3.2 (SVID on the magnitudes).
    """
    column = (leading(matrix) * np.sqrt(matrix.shape[1])).astype(np.float16)
    exact = column.astype(np.float64)
    return matrix @ exact / max(float(exact @ exact), 1.0), column


def truncated(matrix: Floats, rank: int) -> Floats:
    """Leading right singular vectors times root singular values, float64 [min(rank, rows, columns), columns].

    From the eigenvectors of the smaller Gram matrix; largest first. The sign of each vector is that of its
    entry of largest magnitude, made positive.
    """
    rows, columns = matrix.shape
    rank = min(rank, rows, columns)
    # A power of two first: the residuals of late blocks are small, and their squares are formed.
    power = int(np.frexp(np.abs(matrix).max(initial=0.0))[1])
    scaled = np.ldexp(matrix, -power)
    if rows < columns:
        _, vectors = eigh(scaled @ scaled.T, subset_by_index=[rows - rank, rows - 1])
        right = scaled.T @ vectors
        size = np.sqrt(np.sum(right**2, axis=0))
        right = np.divide(right, size, out=np.zeros_like(right), where=size > 1e-12)
    else:
        _, right = eigh(scaled.T @ scaled, subset_by_index=[columns - rank, columns - 1])
        size = np.sqrt(np.sum((scaled @ right) ** 2, axis=0))
    right = right[:, ::-1].T
    largest = np.argmax(np.abs(right), axis=1)
    right = right * np.where(right[np.arange(rank), largest] < 0, -1.0, 1.0)[:, None]
    return _shared(right, size[::-1], power)


def _shared(unit: Floats, size: Floats, power: int) -> Floats:
    """Unit vectors, brought near the root of their singular value ``size * 2**power`` by a power of two."""
    exponent = (np.frexp(size)[1] + power) // 2
    return np.where(size[:, None] > 0, np.ldexp(unit, exponent[:, None]), 0.0)


def _near_one(array: Floats) -> Floats:
    """Times a power of two, the largest magnitude then in 1/2 .. 1: squares of tiny numbers vanish."""
    return np.asarray(np.ldexp(array, -int(np.frexp(np.abs(array).max(initial=0.0))[1])))


def _unit(vector: Floats) -> Floats:
    scaled = _near_one(vector)
    return np.asarray(scaled / max(float(np.sqrt(scaled @ scaled)), 0.5))
