"""Fits of what was measured to counted cells, and their errors on designs that a fit has not seen.

Non-negative least squares on relative error (Lawson and Hanson, 1974). Cells of a PE's parts grow together,
so single coefficients are poorly determined: a weak pull to what the cells would take by themselves keeps
each one plausible. Only sums over a PE are validated, and a coefficient is no area of a gate.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Counts = Mapping[str, float]
Key = TypeVar("Key", bound=Hashable)  #: a group's name

#: weights of the pull, against mean squared relative error, of which cross-validation takes one
PULLS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
FOLDS = 4
#: of the designs that are not of the block, those that a judged fit sees
TRAIN_SHARE = 0.6
SEED = 1


@dataclass(frozen=True)
class Sample:
    """A measured design: what is counted in it, and what was measured."""

    name: str
    counts: Counts
    measured: float
    large: bool = False  #: of the block of the largest sizes


def columns(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Everything that any sample counts, in order of first sight."""
    return tuple(dict.fromkeys(name for sample in samples for name, n in sample.counts.items() if n))


def fit(
    samples: Sequence[Sample], prior: Counts, names: Sequence[str], weight: float = PULLS[0]
) -> dict[str, float]:
    """A coefficient for each of ``names``, pulled to ``prior`` times a factor that suits the samples."""
    from scipy.optimize import nnls

    counts = matrix(samples, names)
    measured = np.array([s.measured for s in samples])
    wanted = np.ones(len(samples))
    counts /= measured[:, None]
    towards = np.array([prior[name] for name in names])
    guess = counts @ towards
    towards *= max(float(guess @ wanted) / float(guess @ guess), 1e-12)
    pull = np.sqrt(weight * len(samples))
    rows = np.vstack([counts, pull * np.diag(1 / towards)])
    found = nnls(rows, np.concatenate([wanted, np.full(len(names), pull)]))[0]
    return dict(zip(names, map(float, found), strict=True))


def matrix(samples: Sequence[Sample], names: Sequence[str]) -> Array:
    """Counts by sample and column."""
    return np.array([[float(s.counts.get(name, 0.0)) for name in names] for s in samples])


def predicted(sample: Sample, coefficients: Counts) -> float:
    """What a fit says of a sample. Counts without a coefficient raise KeyError."""
    return sum(coefficients[name] * n for name, n in sample.counts.items() if n)


def errors(samples: Sequence[Sample], coefficients: Counts) -> dict[str, Any]:
    """Relative errors; see `summary`."""
    values = [predicted(sample, coefficients) for sample in samples]
    return summary(values, [s.measured for s in samples], [s.name for s in samples])


def summary(values: Sequence[float], measured: Sequence[float], names: Sequence[str]) -> dict[str, Any]:
    """Number of designs, R2, mean and largest relative error, and the design with the largest."""
    if not names:
        return {"n": 0, "r2": 1.0, "mape": 0.0, "max": 0.0, "worst": ""}
    found, true = np.array(values), np.array(measured)
    off = np.abs(found - true) / true
    residual, spread = np.sum((found - true) ** 2), np.sum((true - true.mean()) ** 2)
    return {
        "n": len(names),
        "r2": round(float(1 - residual / spread), 6) if spread else 1.0,
        "mape": round(float(off.mean()), 6),
        "max": round(float(off.max()), 6),
        "worst": names[int(off.argmax())],
    }


def split(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """Fitted on, held out at random, and the block."""
    small = [s for s in samples if not s.large]
    shuffled = random.Random(SEED).sample(small, len(small))
    cut = round(TRAIN_SHARE * len(shuffled))
    return shuffled[:cut], shuffled[cut:], [s for s in samples if s.large]


def judged(groups: Mapping[Key, Sequence[Sample]], prior: Counts) -> dict[Key, dict[str, Any]]:
    """Of every group, coefficients of all samples, and errors of fits on designs that these have not seen.

    What the groups have in common (accumulators, control) is fitted to all of them at first, and each group
    is then pulled to that; ``prior`` is by kind of cell, the last word of a column's name. The common fit
    behind an error has seen no design that the error is of, either.
    """
    splits = {name: split(samples) for name, samples in groups.items()}
    train = {name: parts[0] for name, parts in splits.items()}
    small = {name: [*parts[0], *parts[1]] for name, parts in splits.items()}
    by_train, by_small, by_all = (_fits(seen, prior) for seen in (train, small, groups))
    return {
        name: {
            "coefficients": {column: float(f"{c:.6g}") for column, c in by_all[name].items()},
            "errors": {
                "fitted": errors(train[name], by_train[name]),
                "held_out": errors(splits[name][1], by_train[name]),
                "block": errors(splits[name][2], by_small[name]),
            },
        }
        for name in groups
    }


class Fit(dict[str, float]):
    """Coefficients by column, and what a column that no sample counts is taken to have."""

    def __init__(self, found: Counts, prior: Counts) -> None:
        super().__init__(found)
        self.prior = prior

    def __missing__(self, name: str) -> float:
        return self.prior[name]


def _fits(groups: Mapping[Key, Sequence[Sample]], prior: Counts) -> dict[Key, Fit]:
    """Fits of the groups, each pulled to what is common to all, by the weight that cross-validates best."""
    weight = min(PULLS, key=lambda one: _validated(groups, prior, one))
    return _pulled(groups, prior, weight)


def _pulled(groups: Mapping[Key, Sequence[Sample]], prior: Counts, weight: float) -> dict[Key, Fit]:
    shared = _common(groups, prior)
    return {
        name: Fit(fit(samples, shared, columns(samples), weight), shared) for name, samples in groups.items()
    }


def _validated(groups: Mapping[Key, Sequence[Sample]], prior: Counts, weight: float) -> float:
    """Mean relative error of folds that a fit has not seen, the common fit included."""
    total, count = 0.0, 0
    for fold in range(FOLDS):
        seen = {
            name: [s for k, s in enumerate(samples) if k % FOLDS != fold] for name, samples in groups.items()
        }
        fits = _pulled({name: found for name, found in seen.items() if found}, prior, weight)
        for name, samples in groups.items():
            left = list(samples)[fold::FOLDS]
            if left and name in fits:
                found = errors(left, fits[name])
                total, count = total + found["n"] * found["mape"], count + found["n"]
    return total / max(count, 1)


def _common(groups: Mapping[Key, Sequence[Sample]], prior: Counts) -> dict[str, float]:
    """One fit of all groups, with a prior for the columns that no sample of it counts."""
    everything = [sample for samples in groups.values() for sample in samples]
    names = columns(everything)
    by_kind = {name: prior[name.rpartition(".")[2]] for name in names}
    return _Prior(fit(everything, by_kind, names), prior)


class _Prior(dict[str, float]):
    """Coefficients by column; where there is none, or it is 0, what the kind of cell would take by itself."""

    def __init__(self, found: Counts, kinds: Counts) -> None:
        scales = [found[name] / kinds[name.rpartition(".")[2]] for name in found]
        self.kinds, self.scale = kinds, float(np.median([s for s in scales if s > 0]))
        least = {n: 0.1 * self.scale * kinds[n.rpartition(".")[2]] for n in found}
        super().__init__({name: max(value, least[name]) for name, value in found.items()})

    def __missing__(self, name: str) -> float:
        return self.scale * self.kinds[name.rpartition(".")[2]]
