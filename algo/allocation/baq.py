"""Bits from curvature: component i loses ``c_i * 4**-R_i`` at R_i bits; the bits are shared out at a budget.

Source: Zhang et al., BAQ, arXiv:2506.05664 (closed form and equal-loss property), and its public
implementation, github.com/CSU-ModelCompression/BAQ (`levels`); differs in: components may differ in size, and
no bits are negative.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

THETA = 1.95  #: exponent of the public implementation's loss model, where theory has 2


def closed_form(losses: ArrayLike, average_bits: float, sizes: ArrayLike | None = None) -> Floats:
    """Bits that lose least in all, ``R_i = R + 1/2 log2(c_i / GM(c))``, none below 0.

    With sizes n_i the mean of R is weighted by them and c_i / n_i stands for c_i, also in the geometric mean.
    Every component that gets bits loses the same per unit of size. Reverse water-filling: components whose
    bits come out negative get 0 and leave the mean; repeated until none does.

    Parameters: losses, float [components], c: the loss at 0 bits, at least 0; average_bits, R, at least 0;
    sizes, float [components], above 0; None: all 1.
    Returns float64 [components], ``sum(n * R_i) = R * sum(n)``.
    Raises ValueError if a number is out of its range, or no loss is above 0.
    """
    c, n = _components(losses, sizes)
    if not 0 <= average_bits < np.inf:
        raise ValueError(f"average_bits must be a finite number of at least 0, not {average_bits!r}")
    if not np.any(c > 0):
        raise ValueError("losses must hold at least one number above 0")
    height = np.full(len(c), -np.inf)
    np.log2(c / n, out=height, where=c > 0)
    active = c > 0
    while True:
        level = (average_bits * n.sum() - 0.5 * (n * height)[active].sum()) / n[active].sum()
        bits = np.where(active, level + 0.5 * height, 0.0)
        # The highest has at least the mean; rounding alone can take it below 0.
        kept = active & ((bits >= 0) | (height == height.max()))
        if np.array_equal(kept, active):
            return np.maximum(bits, 0.0)
        active = kept


def gain(losses: ArrayLike) -> float:
    """How many times the uniform allocation's loss exceeds the closed form's: ``AM(c) / GM(c)``.

    Holds where no component is held at 0 bits. Raises ValueError if a loss is not above 0.
    """
    c = _positive(losses)
    return float(c.mean() / np.exp(np.log(c).mean()))


def levels(losses: ArrayLike, reference_bits: float, theta: float = THETA) -> Ints:
    """Level counts of the public implementation: ``round(max(1, (L_i / mu * 2**(theta R))**(1 / theta)))``.

    Parameters: losses, float [components], L: measured at ``reference_bits`` R, above 0. mu is their
    geometric mean. Level counts need be no powers of two: see `entropy_bits` and `plane_bits`.
    Raises ValueError if a loss, or theta, is not above 0.
    """
    c = _positive(losses)
    if not theta > 0:
        raise ValueError(f"theta must be above 0, not {theta!r}")
    share = np.log2(c) - np.log2(c).mean()
    return np.rint(np.maximum(1, np.exp2(reference_bits + share / theta))).astype(np.int64)


def entropy_bits(level_counts: ArrayLike) -> Floats:
    """``log2(levels)``: what an ideal code of equally frequent levels takes, as the paper counts bits."""
    return np.log2(_counts(level_counts))


def plane_bits(level_counts: ArrayLike) -> Ints:
    """Bitplanes that hold codes 0 .. levels - 1, what is stored: ``ceil(log2(levels))``, in integers."""
    return np.array([int(count - 1).bit_length() for count in _counts(level_counts)], dtype=np.int64)


def greedy_planes(losses: ArrayLike, budget: int, sizes: Sequence[int] | None = None) -> Ints:
    """Whole planes under a budget: each goes where it saves most for each unit of size.

    A further plane on component i saves ``3/4 c_i 4**-b_i`` and takes ``n_i`` of the budget; one that does
    not fit any more is passed over, and so are its component's later ones. The losses are convex, so the
    result is optimal for equal sizes; for others it is optimal for the budget it has spent when the first
    plane is passed over, and loses at most that plane's saving against the best.

    Parameters: losses, float [components], c, at least 0; budget, of the sum of ``b_i * n_i``; sizes, int,
    at least 1; None: all 1.
    Returns int64 [components]. Ties go to the lower index; a component that loses nothing gets no plane.
    Raises ValueError if a number is out of its range.
    """
    c, n = _components(losses, sizes)
    if budget < 0:
        raise ValueError(f"budget must be at least 0, not {budget!r}")
    planes = np.zeros(len(c), dtype=np.int64)
    heap = [(-0.75 * loss / size, at) for at, (loss, size) in enumerate(zip(c, n, strict=True)) if loss > 0]
    heapq.heapify(heap)
    left = float(budget)
    while heap:
        saving, at = heapq.heappop(heap)
        # A saving that has vanished in float64 is no reason to store a plane.
        if n[at] <= left and saving < 0:
            planes[at] += 1
            left -= n[at]
            heapq.heappush(heap, (saving / 4, at))
    return planes


def greedy_options(
    losses: Sequence[Sequence[float]], sizes: Sequence[Sequence[int]], budget: int
) -> list[int]:
    """One option a layer under a budget, by steps of falling saving for each unit of size.

    Options off the lower convex hull of a layer's (size, loss) are never taken; along the hull savings fall,
    so the steps are those of `greedy_planes`, with its guarantee: optimal for what is spent when the first
    step is passed over. `algo.allocation.integer_program` is exact.

    Parameters: losses and sizes by layer and option; budget, sum of the chosen sizes.
    Returns the index of each layer's option.
    Raises ValueError if the smallest options together exceed the budget.
    """
    hulls = [_hull(loss, size) for loss, size in zip(losses, sizes, strict=True)]
    chosen = [0] * len(hulls)
    left = budget - sum(size[hull[0]] for size, hull in zip(sizes, hulls, strict=True))
    if left < 0:
        raise ValueError(f"budget must be at least {budget - left}, not {budget!r}")

    def step(layer: int) -> tuple[float, int]:
        low, high = hulls[layer][chosen[layer] : chosen[layer] + 2]
        saved = losses[layer][low] - losses[layer][high]
        return -saved / (sizes[layer][high] - sizes[layer][low]), layer

    heap = [step(layer) for layer, hull in enumerate(hulls) if len(hull) > 1]
    heapq.heapify(heap)
    while heap:
        _, layer = heapq.heappop(heap)
        hull, at = hulls[layer], chosen[layer]
        cost = sizes[layer][hull[at + 1]] - sizes[layer][hull[at]]
        if cost <= left:
            left -= cost
            chosen[layer] += 1
            if chosen[layer] + 1 < len(hull):
                heapq.heappush(heap, step(layer))
    return [hull[at] for hull, at in zip(hulls, chosen, strict=True)]


def _hull(losses: Sequence[float], sizes: Sequence[int]) -> list[int]:
    """Options on the lower convex hull, by rising size and falling loss."""
    hull: list[int] = []
    for at in sorted(range(len(losses)), key=lambda o: (sizes[o], losses[o], o)):
        if hull and losses[at] >= losses[hull[-1]]:
            continue
        hull.append(at)
        while len(hull) > 2 and _above(hull[-3:], losses, sizes):
            del hull[-2]
    return hull


def _above(three: Sequence[int], losses: Sequence[float], sizes: Sequence[int]) -> bool:
    """Whether the middle of three options lies on or above the line between the others."""
    first, second = ((losses[a] - losses[b], sizes[b] - sizes[a]) for a, b in pairwise(three))
    return first[0] * second[1] <= second[0] * first[1]


def _components(losses: ArrayLike, sizes: ArrayLike | None) -> tuple[Floats, Floats]:
    c = np.asarray(losses, np.float64)
    if c.ndim != 1 or not c.size or not np.all(np.isfinite(c)) or np.any(c < 0):
        raise ValueError(f"losses must be a list of finite numbers of at least 0, not {losses!r}")
    n = np.ones(len(c)) if sizes is None else np.asarray(sizes, np.float64)
    if n.shape != c.shape or not np.all(np.isfinite(n)) or np.any(n <= 0):
        raise ValueError(f"sizes must be {len(c)} finite numbers above 0, not {sizes!r}")
    return c, n


def _positive(losses: ArrayLike) -> Floats:
    c, _ = _components(losses, None)
    if np.any(c == 0):
        raise ValueError("losses must be above 0, and one is 0")
    return c


def _counts(level_counts: ArrayLike) -> Ints:
    counts = np.asarray(level_counts)
    if counts.dtype.kind not in "iu" or np.any(counts < 1):
        raise ValueError(f"level_counts must be integers of at least 1, not {level_counts!r}")
    return counts.astype(np.int64)
