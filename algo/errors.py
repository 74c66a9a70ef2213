"""How far a quantized matrix is from the one it replaces. All figures are shares of energy, without unit."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from algo.bitplane.rows import blocks


def weight_error(weight: ArrayLike, quantized: ArrayLike) -> float:
    """``||W - Q||**2 / ||W||**2``, both [rows, columns]; see `_share` for a W of zeros.

    Raises ValueError if the shapes differ.
    """
    w, q = _pair(weight, quantized)
    return _share(float(np.sum((w - q) ** 2)), float(np.sum(w**2)))


def output_error(activations: ArrayLike, weight: ArrayLike, quantized: ArrayLike) -> float:
    """``||X (W - Q)^T||**2 / ||X W^T||**2``, X [tokens, columns]; see `_share` for an output of zeros.

    Raises ValueError if the shapes do not fit.
    """
    w, q = _pair(weight, quantized)
    x = np.asarray(activations, np.float64)
    if x.ndim != 2 or x.shape[1] != w.shape[1]:
        raise ValueError(f"activations must have shape [tokens, {w.shape[1]}], not {list(x.shape)}")
    return _share(float(np.sum((x @ (w - q).T) ** 2)), float(np.sum((x @ w.T) ** 2)))


def output_error_by_hessian(hessian: ArrayLike, weight: ArrayLike, quantized: ArrayLike) -> float:
    """The `output_error` on the tokens a Hessian was summed over, ``tr(D H D^T) / tr(W H W^T)``, D = W - Q.

    Parameters: hessian, float [columns, columns], any multiple of ``X^T X``, undamped.
    Raises ValueError if the shapes do not fit.
    """
    w, q = _pair(weight, quantized)
    h = np.asarray(hessian, np.float64)
    if h.shape != (w.shape[1], w.shape[1]):
        raise ValueError(f"hessian must have shape [{w.shape[1]}, {w.shape[1]}], not {list(h.shape)}")
    return _share(_energy(w - q, h), _energy(w, h))


def _pair(weight: ArrayLike, quantized: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    w, q = np.asarray(weight, np.float64), np.asarray(quantized, np.float64)
    if w.ndim != 2 or w.shape != q.shape:
        raise ValueError(
            f"weight and quantized must be matrices of one shape, not {list(w.shape)} and {list(q.shape)}"
        )
    return w, q


def _energy(matrix: np.ndarray, hessian: np.ndarray) -> float:
    total = 0.0
    for here in blocks(*matrix.shape):
        total += float(np.einsum("ij,ij->", matrix[here] @ hessian, matrix[here]))
    # A sum of squares: what rounding leaves below 0 is 0.
    return max(0.0, total)


def _share(error: float, whole: float) -> float:
    """``error / whole``; of nothing: 0 if there is no error, infinity if there is one."""
    if whole > 0:
        return error / whole
    return 0.0 if error == 0 else float("inf")
