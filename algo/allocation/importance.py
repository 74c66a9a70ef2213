"""Scores of how much a layer matters, measured without quantizing it, and two formats shared out by them.

Sources: Dumitru et al., Layer-Wise Quantization, arXiv:2406.17415 (layer input modification, LIM, and z-score
distribution, ZD); Bhatnagar et al., LUQ, arXiv:2509.23729 (entropy of clustered output activations). What the
texts leave open is chosen here, and said below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CLUSTERS = 100  #: LUQ's K
_SWEEPS = 100  #: of Lloyd's algorithm at most; it stops when no vector changes its cluster


def modification(inputs: ArrayLike, outputs: ArrayLike) -> float:
    """LIM: ``-cos(x_in, x_out)`` of a block, averaged over tokens; larger: the block matters more.

    Parameters: inputs, outputs, float [tokens, width], or one token [width]. A vector of zeros has cosine 0.
    Raises ValueError if the shapes differ, hold no token, or a number is not finite.
    """
    x, y = (np.atleast_2d(np.asarray(values, np.float64)) for values in (inputs, outputs))
    if x.shape != y.shape or x.ndim != 2 or not x.size:
        raise ValueError(
            f"inputs and outputs must both be [tokens, width], not {list(x.shape)} and {list(y.shape)}"
        )
    if not (np.all(np.isfinite(x)) and np.all(np.isfinite(y))):
        raise ValueError("inputs and outputs must be finite, not NaN or infinity")
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    cosines = np.divide((x * y).sum(axis=1), norms, out=np.zeros(len(x)), where=norms > 0)
    return float(-cosines.mean())


def outlier_share(weight: ArrayLike) -> float:
    """ZD: share of weights with ``(w - mean) / sigma > 1``; larger: the layer matters less.

    sigma is that of the population (the text does not say). Weights all equal have no outlier: 0.
    Raises ValueError if there is no weight, or one is not finite.
    """
    w = np.asarray(weight, np.float64)
    if not w.size or not np.all(np.isfinite(w)):
        raise ValueError("weight must hold finite numbers, not none, NaN or infinity")
    return float(np.mean(w - w.mean() > w.std())) if w.min() < w.max() else 0.0


def occupancy_entropy(counts: ArrayLike) -> float:
    """``-sum p log2 p`` [bits] of the clusters' shares p; empty clusters count nothing; at most log2 K.

    Raises ValueError if a count is negative, or all are 0.
    """
    n = np.asarray(counts, np.float64)
    if np.any(n < 0) or not n.sum() > 0:
        raise ValueError(f"counts must be at least 0 and not all 0, not {counts!r}")
    p = n[n > 0] / n.sum()
    return float(np.abs(-np.sum(p * np.log2(p))))  # of one cluster it is 0, not -0


def cluster_entropy(outputs: ArrayLike, clusters: int = CLUSTERS, seed: int = 0) -> float:
    """LUQ: entropy [bits] of how k-means fills its clusters with a layer's outputs; larger: matters more.

    k-means++ starts and Lloyd's sweeps in float64, deterministic for a seed. Fewer distinct vectors than
    clusters give as many clusters as there are vectors.

    Parameters: outputs, float [tokens, width].
    Raises ValueError if they are not finite or of other axes, or there are not ``clusters`` tokens.
    """
    x = np.asarray(outputs, np.float64)
    if x.ndim != 2 or not np.all(np.isfinite(x)):
        raise ValueError(f"outputs must be finite, [tokens, width], not {list(x.shape)} or NaN or infinity")
    if not 1 <= clusters <= len(x):
        raise ValueError(f"clusters must be 1 to {len(x)}, the tokens there are, not {clusters!r}")
    x = x - x.mean(axis=0)  # distances stay; the products below lose fewer digits
    centres = _start(x, clusters, np.random.default_rng(seed))
    found = _nearest(x, centres)
    for _ in range(_SWEEPS):
        member = (found == np.arange(len(centres))[:, None]).astype(np.float64)
        counts = member.sum(axis=1, keepdims=True)
        centres = np.where(counts > 0, member @ x / np.maximum(counts, 1), centres)
        before, found = found, _nearest(x, centres)
        if np.array_equal(before, found):
            break
    return occupancy_entropy(np.bincount(found))


def _start(x: Floats, clusters: int, rng: np.random.Generator) -> Floats:
    """k-means++ (Arthur and Vassilvitskii, 2007): each next centre by squared distance from those chosen."""
    chosen = [int(rng.integers(len(x)))]
    distance = ((x - x[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < clusters and distance.sum() > 0:
        chosen.append(int(rng.choice(len(x), p=distance / distance.sum())))
        distance = np.minimum(distance, ((x - x[chosen[-1]]) ** 2).sum(axis=1))
    return x[chosen]


def _nearest(x: Floats, centres: Floats) -> NDArray[np.int64]:
    """Index of the nearest centre, the lower on a tie."""
    return np.argmin((centres**2).sum(axis=1) - 2 * (x @ centres.T), axis=1)


def stability(by_clusters: Mapping[int, Sequence[float]]) -> dict[tuple[int, int], float]:
    """Kendall's tau (b) of the layers' ranking between every two numbers of clusters; 1: the same ranking.

    Parameters: by_clusters, the layers' scores for each K. NaN where all scores of a K are equal.
    Raises ValueError if there are not two K, or their layers differ in number.
    """
    from scipy.stats import kendalltau

    if len(by_clusters) < 2:
        raise ValueError(f"by_clusters must hold at least two numbers of clusters, not {list(by_clusters)}")
    lengths = {len(scores) for scores in by_clusters.values()}
    if len(lengths) > 1 or min(lengths) < 2:
        raise ValueError(
            f"by_clusters must score the same layers, at least two, not {sorted(lengths)} layers"
        )
    return {
        (a, b): float(kendalltau(by_clusters[a], by_clusters[b]).statistic)
        for a, b in combinations(sorted(by_clusters), 2)
    }


def by_rank(
    scores: ArrayLike,
    sizes: ArrayLike,
    low_bits: ArrayLike,
    high_bits: ArrayLike,
    *,
    share: float | None = None,
    average_bits: float | None = None,
) -> Bools:
    """Which layers keep the high format: those of the highest scores; ties go to the earlier layer.

    Parameters: scores, float [layers], larger: matters more; sizes, weights of each layer; low_bits and
    high_bits, bits per weight, one number or one a layer; share, of the layers (rounded, half to even); or
    average_bits, over all weights: as many layers from the top as it allows, none passed over.
    Raises ValueError if arrays or numbers do not fit, or the low format everywhere exceeds average_bits.
    """
    s, n = np.asarray(scores, np.float64), np.asarray(sizes, np.float64)
    if s.ndim != 1 or s.shape != n.shape or not s.size or not np.all(np.isfinite(s)) or np.any(n <= 0):
        raise ValueError("scores must be finite and sizes above 0, one each a layer")
    if (share is None) == (average_bits is None):
        raise ValueError(f"one of share and average_bits must be given, not {share!r} and {average_bits!r}")
    order = np.argsort(-s, kind="stable")
    if share is not None:
        if not 0 <= share <= 1:
            raise ValueError(f"share must be 0 to 1, not {share!r}")
        kept = round(share * len(s))
    else:
        kept = _affordable(n, low_bits, high_bits, order, float(average_bits or 0.0))
    high = np.zeros(len(s), dtype=np.bool_)
    high[order[:kept]] = True
    return high


def _affordable(
    sizes: Floats, low_bits: ArrayLike, high_bits: ArrayLike, order: NDArray[np.intp], average: float
) -> int:
    low, high = (np.broadcast_to(np.asarray(bits, np.float64), sizes.shape) for bits in (low_bits, high_bits))
    if np.any(low > high):
        raise ValueError("low_bits must be at most high_bits")
    least = float((sizes * low).sum())
    spent = least + np.cumsum((sizes * (high - low))[order])
    # Bits are whole numbers: a sum that is over by rounding alone is not over.
    limit = average * sizes.sum() * (1 + 1e-12)
    if least > limit:
        raise ValueError(f"average_bits must be at least {least / sizes.sum():.6g}, not {average!r}")
    return int(np.count_nonzero(spent <= limit))


def average(high: ArrayLike, sizes: ArrayLike, low_bits: ArrayLike, high_bits: ArrayLike) -> float:
    """Bits per weight of a choice of `by_rank`: ``sum(n b) / sum(n)``."""
    n = np.asarray(sizes, np.float64)
    return float((n * np.where(np.asarray(high, bool), high_bits, low_bits)).sum() / n.sum())
