"""What the released methods fit to one group of a block, vectorised over rows in torch float32.

``mask`` holds 0 and 1, float [rows, k]. ``arb-x`` forms its quadratic forms through [rows, k, k] temporaries,
as released; ``arb-x-gemm`` is the same method with two small products instead. Denominators that do not
change are taken out of the loops. An entry equal to its mean is +1 (released: 0), and a row without an entry
in a group is 0 without a detour through NaN.

Source: BiLLM, arXiv:2402.04291; ARB-LLM, arXiv:2410.03129.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ITERATIONS = 15  #: of ARB, and again of its data-aware steps
EPSILON = 1e-8  #: in denominators of ARB and ARB-RC
X_EPSILON = 1e-10  #: in denominators of ARB-X

Quadratic = Callable[[Tensor, Tensor, Tensor], Tensor]  #: (left, right, gram) -> left G right^T of every row


def sign(values: Tensor) -> Tensor:
    """-1 below zero, +1 elsewhere."""
    return torch.where(values < 0, -1.0, 1.0)


def row_sum(values: Tensor) -> Tensor:
    return values.sum(1, keepdim=True)


def residual(a: Tensor, mask: Tensor | None, order: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Mean, scale and masked signs of each stage; ``mask`` holds 0 and 1, or is None for a whole matrix."""
    rest = a if mask is None else a * mask
    count = float(a.shape[1]) if mask is None else row_sum(mask).clamp(min=1)
    stages = []
    for stage in range(order):
        mean = row_sum(rest) / count
        centred = rest - mean
        if mask is not None:
            centred = centred * mask
        scale = row_sum(centred.abs()) / count
        signs = sign(centred) if mask is None else sign(centred) * mask
        stages.append((mean, scale, signs))
        if stage + 1 < order:
            rest = centred - scale * signs
    return stages


def residual_values(a: Tensor, mask: Tensor | None, order: int) -> Tensor:
    """RB(A, M, order), 0 off the mask."""
    stages = residual(a, mask, order)
    mean, scale, signs = stages[0]
    out = mean + scale * signs
    for mean, scale, signs in stages[1:]:
        out = out + mean + scale * signs
    return out if mask is None else out * mask


def nearest(target: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Signs of the closest of -u-v, -u+v, +u-v, +u+v, the first of equals."""
    total, difference = u + v, u - v
    levels = torch.stack([-total, -difference, difference, total])
    index = (target - levels).abs_().argmin(0)
    return torch.where(index < 2, -1.0, 1.0), torch.where(index % 2 == 0, -1.0, 1.0)


def refined(a: Tensor, mask: Tensor, order: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """ARB1 or ARB2: mean, scales and masked signs."""
    stages = residual(a, mask, order)
    mean = torch.stack([stage[0] for stage in stages]).sum(0)
    scales, signs = [stage[1] for stage in stages], [stage[2] for stage in stages]
    count = row_sum(mask)
    for _ in range(ITERATIONS):
        fitted = mean + torch.stack([s * b for s, b in zip(scales, signs, strict=True)]).sum(0)
        mean = mean + row_sum((a - fitted) * mask) / count.clamp(min=1)
        rest = a - mean
        if order == 1:
            scales = [row_sum(signs[0] * rest) / (count + EPSILON)]
            signs = [sign(rest) * mask]
            continue
        scales[0] = row_sum(signs[0] * (rest - scales[1] * signs[1])) / (count + EPSILON)
        scales[1] = row_sum(signs[1] * (rest - scales[0] * signs[0])) / (count + EPSILON)
        signs = [found * mask for found in nearest(rest, scales[0], scales[1])]
    return mean, scales, signs


def values_of(mean: Tensor, scales: list[Tensor], signs: list[Tensor], mask: Tensor) -> Tensor:
    out = mean * mask
    for scale, b in zip(scales, signs, strict=True):
        out = out + scale * b
    return out


def quadratic_outer(left: Tensor, right: Tensor, gram: Tensor) -> Tensor:
    """Through a [rows, k, k] outer product, as released."""
    outer = left[:, :, None] * right[:, None, :]
    return (outer * gram).sum((1, 2))[:, None]


def quadratic_gemm(left: Tensor, right: Tensor, gram: Tensor) -> Tensor:
    return row_sum((left @ gram) * right)


def aware(a: Tensor, mask: Tensor, order: int, gram: Tensor, form: Quadratic) -> Tensor:
    """ARB-X of one group."""
    mean, scales, signs = refined(a, mask, order)
    target = a * mask
    directions = [mask, *signs]
    sizes = [form(d, d, gram) + X_EPSILON for d in directions]
    factors = [mean, *scales]
    for _ in range(ITERATIONS):
        for at, direction in enumerate(directions):
            rest = target
            for other in range(len(directions)):
                if other != at:
                    rest = rest - factors[other] * directions[other]
            factors[at] = form(direction, rest, gram) / sizes[at]
    return values_of(factors[0], factors[1:], signs, mask)


def row_column(a: Tensor, mask: Tensor, order: int) -> Tensor:
    """ARB-RC of one group."""
    rows, columns, signs = [], [], []
    rest = a
    for _ in range(order):
        magnitude = rest.abs() * mask
        r = row_sum(magnitude) / row_sum(mask).clamp(min=1)
        live = mask * (r > 0)
        safe = torch.where(r > 0, r, 1.0)
        c = (magnitude * live / safe).sum(0, keepdim=True) / live.sum(0, keepdim=True).clamp(min=1)
        rows.append(r)
        columns.append(c)
        signs.append(sign(rest) * mask)
        rest = rest - r * c * signs[-1]

    def plane(at: int) -> Tensor:
        return rows[at] * columns[at] * signs[at]

    for _ in range(ITERATIONS):
        for at in range(order):
            rest = a if order == 1 else a - plane(1 - at)
            ba = signs[at] * rest
            rows[at] = row_sum(ba * columns[at]) / (row_sum(mask * columns[at] ** 2) + EPSILON)
            squares = (mask * rows[at] ** 2).sum(0, keepdim=True) + EPSILON
            columns[at] = (ba * rows[at]).sum(0, keepdim=True) / squares
        if order == 2:
            found = nearest(a, rows[0] * columns[0], rows[1] * columns[1])
            signs = [b * mask for b in found]
    return sum((plane(at) for at in range(1, order)), plane(0))


def fit(a: Tensor, mask: Tensor, order: int, method: str, gram: Tensor) -> Tensor:
    """One group of a block by the method's own fit, 0 off the mask."""
    if method == "billm":
        return residual_values(a, mask, order)
    if method == "arb":
        return values_of(*refined(a, mask, order), mask)
    if method == "arb-rc":
        return row_column(a, mask, order)
    return aware(a, mask, order, gram, quadratic_outer if method == "arb-x" else quadratic_gemm)
