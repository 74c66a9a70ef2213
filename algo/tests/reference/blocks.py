"""The block loop: damping, inverse factor, partition and fit of every block, compensation.

Source: GPTQ, arXiv:2210.17323 (the loop), BiLLM, ARB-LLM and STBLLM (what happens to a block).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algo.tests.reference.arb import arb
from algo.tests.reference.arb_rc import arb_rc
from algo.tests.reference.arb_x import arb_x
from algo.tests.reference.nm import importance, keep_mask
from algo.tests.reference.partition import (
    break_point,
    columns_mask,
    salient_columns,
    salient_threshold,
    three_zones,
    trisection,
)
from algo.tests.reference.primitives import Array, Mask, rb

Groups = list[tuple[Mask, int]]  #: masks that part a block, each with the order of its fit


@dataclass
class ReferenceBlock:
    salient: list[int]  #: columns of the block, ascending
    #: on |P|: "break", "salient" with a bitmap; or "inner", "outer" of a trisection
    thresholds: dict[str, float]
    values: Array  #: float64 [rows, k], unrounded


def prepare(weight: Array, hessian: Array, damping: float) -> tuple[Array, Array]:
    """The weight without dead channels, and U upper with U^T U = (H + damping)^-1."""
    w, h = weight.copy(), hessian.copy()
    for j in range(len(h)):
        if h[j, j] == 0:
            h[j, j] = 1
            w[:, j] = 0
    h += damping * np.diagonal(h).mean() * np.eye(len(h))
    return w, np.linalg.cholesky(np.linalg.inv(h)).T


def fit_group(a: Array, mask: Mask, order: int, method: str, iterations: int, gram: Array) -> Array:
    """One group of a block by the method's own fit."""
    if method == "arb":
        return arb(a, mask, order, iterations)
    if method == "arb-x":
        return arb_x(a, mask, order, iterations, gram)
    if method == "arb-rc":
        return arb_rc(a, mask, order, iterations)
    return rb(a, mask, order)


def salient_groups(p: Array, salient: list[int], cgb: bool, thresholds: dict[str, float]) -> Groups:
    """The salient columns whole, or parted by the bitmap's threshold."""
    inside = columns_mask(salient, np.ones(p.shape, np.bool_))
    if not cgb:
        return [(inside, 2)]
    thresholds["salient"] = salient_threshold(p, salient)
    high = np.abs(p) >= thresholds["salient"]
    return [(inside & high, 2), (inside & ~high, 2)]


def two_zone_block(
    w: Array, p: Array, gram: Array, *, method: str, cgb: bool, limit: int, iterations: int
) -> ReferenceBlock:
    """BiLLM and the ARB family."""
    everywhere = np.ones(p.shape, np.bool_)
    salient = salient_columns(p, limit, everywhere)
    thresholds: dict[str, float] = {}
    groups = salient_groups(p, salient, cgb, thresholds)
    if method == "arb-x":
        base = sum((arb(p, mask, 2, iterations) for mask, _ in groups), np.zeros(p.shape))
        t = break_point(p, salient, base, gram)
    else:
        t = break_point(p, salient)
    thresholds["break"] = t
    outside = columns_mask([j for j in range(p.shape[1]) if j not in salient], everywhere)
    groups += [(outside & (np.abs(p) >= t), 1), (outside & (np.abs(p) < t), 1)]
    values = np.zeros(w.shape)
    for mask, order in groups:
        values = values + fit_group(w, mask, order, method, iterations, gram)
    return ReferenceBlock(salient, thresholds, values)


def three_zone_block(w: Array, p: Array, keep: Mask, limit: int) -> ReferenceBlock:
    """STBLLM on the kept entries."""
    salient = salient_columns(p, limit, keep)
    inner, outer = trisection(p, salient, keep)
    outside = columns_mask([j for j in range(p.shape[1]) if j not in salient], keep)
    values = rb(w, columns_mask(salient, keep), 2)
    for zone in three_zones(np.abs(p), outside, inner):
        values = values + rb(w, zone, 1)
    return ReferenceBlock(salient, {"inner": inner, "outer": outer}, values)


def push(w: Array, error: Array, u: Array, span: slice, compensation: str) -> None:
    """Move the error of the columns ``span`` into the columns right of them, in place."""
    inside, right = u[span, span], u[span, span.stop :]
    if compensation == "diag":
        w[:, span.stop :] -= (error / np.diagonal(inside)) @ right
    elif compensation == "exact":
        w[:, span.stop :] -= error @ np.linalg.inv(inside) @ right


def quantize(
    weight: Array,
    hessian: Array,
    *,
    method: str,
    cgb: bool = False,
    metric: str = "hessian",
    compensation: str = "diag",
    block: int = 128,
    damping: float = 0.01,
    limit: int = 49,
    nm: tuple[int, int] = (4, 8),
    iterations: int = 15,
) -> list[ReferenceBlock]:
    """Blocks of a layer by billm, arb, arb-x, arb-rc or stbllm.

    weight : float64 [rows, columns]
    hessian : float64 [columns, columns], 2 / sequences * sum X^T X, undamped
    """
    w, u = prepare(weight, hessian, damping)
    kept = np.ones(w.shape, np.bool_)
    if method == "stbllm":
        kept = keep_mask(importance(w, np.sqrt(np.diagonal(hessian) / 2)), *nm)
    found = []
    for start in range(0, w.shape[1], block):
        span = slice(start, min(start + block, w.shape[1]))
        part = w[:, span].copy()
        p = part**2 / np.diagonal(u)[span] ** 2 if metric == "hessian" else part
        if method == "stbllm":
            one = three_zone_block(part, p, kept[:, span], limit)
        else:
            one = two_zone_block(
                part, p, hessian[span, span] / 2, method=method, cgb=cgb, limit=limit, iterations=iterations
            )
        found.append(one)
        push(w, part - one.values, u, span, compensation)
    return found


def dense(found: list[ReferenceBlock]) -> Array:
    """All blocks side by side, float64 [rows, columns]."""
    return np.concatenate([one.values for one in found], axis=1)


def output_error(weight: Array, values: Array, hessian: Array) -> float:
    """trace(E H E^T) / trace(W H W^T)."""
    error = weight - values
    whole = float(np.trace(weight @ hessian @ weight.T))
    return float(np.trace(error @ hessian @ error.T)) / whole
