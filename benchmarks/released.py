"""BiLLM and the ARB family as released, in vectorised torch float32: the peer that ours is timed against.

Written after the papers and the order of work of the released repositories, not copied from them. Every
candidate of a search is fitted anew over the whole block. Nothing is made slow on purpose: columns are sliced
where the released code masks them, and the error of a split is taken on the columns it can change. Differs
also in that a short last block works; the fits say what is theirs.

Source: BiLLM, arXiv:2402.04291 (github.com/Aaronhuang-778/BiLLM, dc137eb); ARB-LLM, arXiv:2410.03129
(github.com/ZHITENGLI/ARB-LLM).
"""

from __future__ import annotations

import math

import torch
from released_fits import fit, residual_values
from torch import Tensor

BLOCK = 128  #: columns of a block
DAMPING = 0.01  #: added to the Hessian's diagonal, in means of it
LIMIT = 49  #: most salient columns of a block
METHODS = ("billm", "arb", "arb-rc", "arb-x", "arb-x-gemm")


def salient_search(p: Tensor, limit: int = LIMIT) -> Tensor:
    """Salient columns of a block, bool [k]: the best count of the columns ranked by their magnitudes."""
    k = p.shape[1]
    ranked = torch.argsort(p.abs().sum(0), descending=True, stable=True)
    ordered = p[:, ranked]
    best, chosen = math.inf, 1
    for count in range(1, min(limit, k - 1) + 1):
        error = 0.0
        for half in (ordered[:, :count], ordered[:, count:]):
            error += float((half - residual_values(half, None, 2)).square_().sum())
        if error < best:
            best, chosen = error, count
    salient = torch.zeros(k, dtype=torch.bool)
    salient[ranked[:chosen]] = True
    return salient


def quantiles(population: Tensor) -> list[float]:
    return torch.quantile(population, torch.linspace(0.1, 0.9, 81)).tolist()


def split(a: Tensor, high: Tensor, order: int) -> Tensor:
    """What is left of a matrix whose two groups are binarized each by itself."""
    mask = high.to(a.dtype)
    return a - residual_values(a, mask, order) - residual_values(a, 1 - mask, order)


def break_search(p: Tensor, salient: Tensor, base: Tensor | None = None, gram: Tensor | None = None) -> float:
    """Threshold on |P| of the other columns, infinity if there are none.

    ``base`` [rows, k] and ``gram`` [k, k] (ARB-X): the fit of the salient columns, and the Gram matrix by
    which the residual is weighed.
    """
    if bool(salient.all()):
        return math.inf
    rest = p[:, ~salient]
    magnitude = rest.abs()
    left = torch.zeros_like(p) if base is None else p - base
    best, found = math.inf, math.inf
    for t in quantiles(torch.where(salient, 0.0, p.abs()).flatten()):
        remainder = split(rest, magnitude >= t, 1)
        if gram is None:
            error = float(remainder.square_().sum())
        else:
            left[:, ~salient] = remainder
            error = float(((left @ gram) * left).sum())
        if error < best:
            best, found = error, t
    return found


def bitmap_search(p: Tensor, salient: Tensor) -> float:
    """Threshold on |P| inside the salient columns, infinity if nothing but zeros is there."""
    inside = p[:, salient]
    magnitude = inside.abs()
    population = magnitude[magnitude > 0]
    best, found = math.inf, math.inf
    for t in quantiles(population) if population.numel() else ():
        error = float(split(inside, magnitude >= t, 2).square_().sum())
        if error < best:
            best, found = error, t
    return found


def partition(p: Tensor, gram: Tensor, method: str, cgb: bool) -> list[tuple[Tensor, int]]:
    """Masks (0 and 1) that part a block, each with the order of its fit."""
    salient = salient_search(p)
    inside = salient.expand(p.shape)
    groups = [(inside.to(p.dtype), 2)]
    if cgb:
        high = p.abs() >= bitmap_search(p, salient)
        groups = [((inside & high).to(p.dtype), 2), ((inside & ~high).to(p.dtype), 2)]
    if method.startswith("arb-x"):
        base = sum((fit(p, mask, 2, "arb", gram) for mask, _ in groups), torch.zeros_like(p))
        t = break_search(p, salient, base, gram)
    else:
        t = break_search(p, salient)
    high = p.abs() >= t
    return [*groups, ((~inside & high).to(p.dtype), 1), ((~inside & ~high).to(p.dtype), 1)]


def fit_block(part: Tensor, p: Tensor, gram: Tensor, method: str, cgb: bool = False) -> Tensor:
    """Partition and fit of one block [rows, k]."""
    groups = partition(p, gram, method, cgb)
    return sum((fit(part, mask, order, method, gram) for mask, order in groups), torch.zeros_like(part))


def factor(hessian: Tensor) -> tuple[Tensor, Tensor]:
    """U upper with U^T U = (H + damping)^-1, and the dead channels, bool [columns]."""
    h = hessian.clone()
    diagonal = h.diagonal()
    dead = diagonal == 0
    diagonal[dead] = 1
    diagonal += DAMPING * diagonal.mean()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(h))
    return torch.linalg.cholesky(inverse, upper=True), dead


def push(w: Tensor, error: Tensor, u: Tensor, start: int, stop: int) -> None:
    """Move a block's error into the columns right of it, in place, by the diagonal as released."""
    scaled = error / u.diagonal()[start:stop]
    w[:, stop:].addmm_(scaled, u[start:stop, stop:], alpha=-1)


def metric_of(part: Tensor, u: Tensor, start: int, stop: int) -> Tensor:
    return (part / u.diagonal()[start:stop]).square_()


def quantize(weight: Tensor, hessian: Tensor, method: str, cgb: bool = False) -> Tensor:
    """The real matrix that a layer is replaced by, float32 [rows, columns].

    weight : [rows, columns]; hessian : [columns, columns], 2 / sequences * sum X^T X, undamped.

    Raises ValueError if there is no such method.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    w, hessian = weight.float().clone(), hessian.float()
    u, dead = factor(hessian)
    w[:, dead] = 0
    out = torch.zeros_like(w)
    for start in range(0, w.shape[1], BLOCK):
        stop = min(start + BLOCK, w.shape[1])
        part = w[:, start:stop]
        gram = hessian[start:stop, start:stop] / 2
        out[:, start:stop] = fit_block(part, metric_of(part, u, start, stop), gram, method, cgb)
        push(w, part - out[:, start:stop], u, start, stop)
    return out
