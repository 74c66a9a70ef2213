"""The clock period as the slowest of a PE's stages, each a sum of what stands on its longest path.

A stage's path is counted in adder levels, bits that a carry runs through, selects and constants of its own;
the period is the largest stage's. The fit alternates: which stage is the slowest of each design by the
coefficients so far, then non-negative least squares on relative error for these.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import log2
from typing import Any

import numpy as np

from cost_models.calibration import fit
from cost_models.calibration.designs import family_of
from cost_models.calibration.fit import Key
from hw.pipeline import tree_widths
from hw.spec import PeSpec, signed_bits

Stage = dict[str, float]
#: a measured design: name, PE, period [s], whether it is of the block
Measured = tuple[str, PeSpec, float, bool]

#: where a fit of all PEs starts, in delays of a bit of a carry: what is counted, and what stands there once
_GUESS = {
    "bit": 1.0,
    "width": 0.3,
    "joint": 4.0,
    "exponent": 1.0,
    "fan-out": 2.0,
    "spread": 1.0,
    "row": 2.0,
    "select": 3.0,
}
_GUESS |= dict.fromkeys(("level", "portable level", "lut6 level"), 4.0)
_ONCE = 6.0

#: The same, about as fits to open libraries find them: which stage is the slowest is seldom near.
_NOMINAL = {"bit": 1.0, "width": 0.3, "fan-out": 0.9, "spread": 0.8, "select": 1.0, "level": 1.6}
_NOMINAL |= {
    "portable level": 3.0,
    "lut6 level": 3.0,
    "tree": 4.8,
    "dot": 6.0,
    "lanes": 8.0,
    "accumulator": 3.0,
}
#: a tree's time over the accumulator's from which on its mapping changes, and where it has changed
_EQUAL = (0.8, 1.2)

#: alternations; the assignment of stages settles in a few
_ROUNDS = 12


@lru_cache(maxsize=4096)
def stages(spec: PeSpec) -> tuple[Stage, ...]:
    """What stands on the longest path of every stage of a PE. Raises ValueError for one without counts."""
    family = family_of(spec)
    if family not in _STAGES:
        raise ValueError(f"pe must be one of {', '.join(_STAGES)}, not {family!r}")
    pe: Any = spec
    enable = {"enable": 1.0, "fan-out": log2(spec.resources().flop)}
    return (enable, *_STAGES[family](pe))


def _accumulator(pe: Any, **more: float) -> Stage:
    # What it starts from is said to every bit of every accumulator.
    spread = log2(pe.acc_width * pe.outputs)
    return {"accumulator": 1.0, "spread": spread, "bit": float(pe.acc_width), **more}


def _segments(levels: int, cut: int) -> tuple[int, int]:
    """Levels between two registers, and behind the last register, of a tree cut after every so many."""
    return (0, levels) if not cut else (cut if levels >= cut else 0, levels % cut)


def _counting(pe: Any, heights: Sequence[Sequence[int]], width: int, *, first: int = 0) -> list[Stage]:
    """Stages of a compressor tree, its last adder and the one that negates or corrects."""
    between, last = _segments(len(heights) - 1 + first, pe.levels)
    two = [k for k, bits in enumerate(heights[-1]) if bits >= 2]
    adder = len(heights[-1]) - two[0] if two else 0
    dot = {"dot": 1.0, "level": float(last), "bit": float(max(adder, 1)), "width": float(width)}
    lanes = {"lanes": 1.0, "select": float(getattr(pe, "index_bits", 0))}
    return [lanes, {"tree": 1.0, "level": float(between)}, dot, _accumulator(pe)]


def _bitserial(pe: Any) -> list[Stage]:
    from hw.pe.bitserial import tree

    return _counting(pe, tree(pe.lanes), signed_bits(-pe.lanes, pe.lanes))


def _planes(pe: Any) -> list[Stage]:
    return _counting(pe, pe.tree(), signed_bits(*pe.beat_range()))


def _twoplane(pe: Any) -> list[Stage]:
    from hw.pe.twoplane import tree

    return _counting(pe, tree(pe.lanes), signed_bits(-pe.lanes, pe.lanes))


def _popcount(pe: Any) -> list[Stage]:
    heights = pe.columns_after()
    found = _counting(pe, heights, pe.width, first=1)
    for stage in found[1:3]:
        stage[f"{pe.form} level"] = stage.pop("level")
    return found


def _mac(pe: Any) -> list[Stage]:
    if not pe.booth:
        product = pe.w_bits + pe.act_bits
        rows = {"product": 1.0, "row": float(pe.w_bits), "bit": float(product)}
        widths = tree_widths(pe.lanes, product)
        between, last = _segments(len(widths) - 1, pe.levels)
        ends = (len(widths) - 1 - last, len(widths) - 1)
        return [
            rows,
            {"tree": 1.0, "level": float(between), "bit": float(max(widths[ends[0]]))},
            {"dot": 1.0, "level": float(last), "bit": float(max(widths[ends[1]]))},
            _accumulator(pe),
        ]
    widths = tree_widths(pe.lanes, pe.act_bits + 1)
    first = min(1, len(widths) - 1)
    between, last = _segments(len(widths) - 1 - first, pe.levels)
    joints = float(pe.digits - 1)
    top = float(max(widths[-1]))
    return [
        {"digit": 1.0, "level": float(first), "bit": float(max(widths[first]))},
        {"tree": 1.0, "level": float(between), "bit": float(max(widths[-1 - last]))},
        {"dot": 1.0, "level": float(last), "joint": joints, "bit": top + 2 * joints},
        _accumulator(pe),
    ]


def _minifloat(pe: Any) -> list[Stage]:
    widths = pe.widths()
    between, last = _segments(len(widths) - 1, pe.levels)
    count = between or last
    shift = {"shift": 1.0, "select": float(pe.places.bit_length())}
    rows = float(pe.mantissa + 1)
    return [
        {"product": 1.0, "row": rows, "bit": float(pe.product)},
        {"code": 1.0, "bit": float(pe.places.bit_length()), "exponent": float(pe.exponent)},
        shift | {"level": float(count), "bit": float(max(widths[count]))},
        {"dot": 1.0, "level": float(last), "bit": float(max(widths[-1]))},
        _accumulator(pe),
    ]


def _selectadd(pe: Any) -> list[Stage]:
    widths = tree_widths(pe.lanes, pe.act_bits)
    between, last = _segments(len(widths) - 1, pe.levels)
    return [
        {"tree": 1.0, "level": float(between), "bit": float(max(widths[-1 - last]))},
        {"dot": 1.0, "level": float(last), "bit": float(max(widths[-1]))},
        _accumulator(pe),
    ]


def _term(pe: Any) -> list[Stage]:
    widths = tree_widths(pe.lanes, pe.act_bits + pe.reach - 1)
    first = min(1, len(widths) - 1)
    between, last = _segments(len(widths) - 1 - first, pe.levels)
    return [
        {"lanes": 1.0, "select": float(pe.exponent_bits), "bit": float(max(widths[first]))},
        {"tree": 1.0, "level": float(between), "bit": float(max(widths[-1 - last]))},
        # Behind the last register nothing stands before the accumulator's adder.
        _accumulator(pe, level=float(last)),
    ]


def _table(pe: Any) -> list[Stage]:
    widths = tree_widths(pe.groups, pe.entry_bits)
    first = min(1, len(widths) - 1)
    between, last = _segments(len(widths) - 1 - first, pe.levels)
    sums = float((pe.group - 1).bit_length())
    return [
        {"table": 1.0, "level": sums, "bit": float(pe.entry_bits)},
        {"pick": 1.0, "select": float(pe.group - 1), "bit": float(max(widths[first]))},
        {"tree": 1.0, "level": float(between), "bit": float(max(widths[-1 - last]))},
        _accumulator(pe, level=float(last)),
    ]


def _fpmac(pe: Any) -> list[Stage]:
    # The exact product; then comparison, alignment, sum, normalization and rounding of two fp32 numbers.
    return [
        {"product": 1.0, "row": 11.0, "bit": 22.0, "select": 4.0},
        {"adder": 1.0, "bit": 31.0 + 28.0 + 31.0, "select": 5.0 + 5.0},
    ]


_STAGES: Mapping[str, Callable[[Any], list[Stage]]] = {
    "bitserial": _bitserial,
    "complex": _bitserial,
    "fpmac": _fpmac,
    "gather": _bitserial,
    "mac": _mac,
    "minifloat": _minifloat,
    "planes": _planes,
    "popcount": _popcount,
    "selectadd": _selectadd,
    "table": _table,
    "term": _term,
    "ternary": _bitserial,
    "twoplane": _twoplane,
}


def tree_leads(spec: PeSpec) -> float:
    """How far a counting tree's stages, and not the accumulator, set the clock of a PE: from 0 to 1.

    A mapper that goes for delay at first spends area where the longest path is.
    """
    found = {next(iter(stage)): _nominal(stage) for stage in stages(spec)}
    if "accumulator" not in found:
        return 0.0
    slowest = max(
        (time for name, time in found.items() if name not in ("accumulator", "enable")), default=0.0
    )
    low, high = _EQUAL
    return min(1.0, max(0.0, (slowest / found["accumulator"] - low) / (high - low)))


def _nominal(stage: Stage) -> float:
    return sum(_NOMINAL.get(name, _ONCE) * count for name, count in stage.items())


def period(spec: PeSpec, coefficients: Mapping[str, float]) -> float:
    """The slowest stage [s]."""
    return max(_priced(stage, coefficients) for stage in stages(spec))


def _priced(stage: Stage, coefficients: Mapping[str, float]) -> float:
    return sum(coefficients[name] * count for name, count in stage.items())


def fitted(measured: Sequence[Measured], prior: Mapping[str, float], weight: float) -> dict[str, float]:
    """Coefficients [s] of all that stands on a path, pulled to ``prior``, from which the stages start too."""
    from scipy.optimize import nnls

    paths = [stages(spec) for _, spec, _, _ in measured]
    periods = np.array([value for _, _, value, _ in measured])
    names = tuple(dict.fromkeys(name for found in paths for stage in found for name in stage))
    rows = [np.array([[stage.get(n, 0.0) for n in names] for stage in found]) for found in paths]
    towards = np.array([prior[name] for name in names])
    pull = np.sqrt(weight * len(rows))
    now, best, before = towards, (np.inf, towards), [-1]
    for _ in range(_ROUNDS):
        slowest = [int(np.argmax(found @ now)) for found in rows]
        if slowest == before:
            break
        before = slowest
        chosen = np.array([found[k] for found, k in zip(rows, slowest, strict=True)])
        guess = np.vstack([chosen / periods[:, None], pull * np.diag(1 / towards)])
        now = nnls(guess, np.concatenate([np.ones(len(rows)), np.full(len(names), pull)]))[0]
        values = np.array([float(np.max(found @ now)) for found in rows])
        off = float(np.mean(((values - periods) / periods) ** 2))
        if off < best[0]:
            best = off, now
    return dict(zip(names, map(float, best[1]), strict=True))


class _Common(dict[str, float]):
    """Coefficients, and what one that they lack is taken to be: of ``others``, or a share of the mean."""

    def __init__(self, found: Mapping[str, float], others: Mapping[str, float] | None = None) -> None:
        self.others = others
        self.least = 0.1 * float(np.median([value for value in found.values() if value > 0]))
        least = 0.0 if others is not None else self.least
        super().__init__({name: max(value, least) for name, value in found.items()})

    def __missing__(self, name: str) -> float:
        return self.least if self.others is None else self.others[name]


def _fits(groups: Mapping[Key, Sequence[Measured]]) -> dict[Key, dict[str, float]]:
    """Coefficients of every group, pulled to those common to all by the weight that cross-validates best."""
    weight = min(fit.PULLS, key=lambda one: _validated(groups, one))
    return _pulled(groups, weight)


def _pulled(groups: Mapping[Key, Sequence[Measured]], weight: float) -> dict[Key, dict[str, float]]:
    everything = [one for measured in groups.values() for one in measured]
    guess = defaultdict(lambda: _ONCE, _GUESS)
    guessed = [period(one[1], guess) for one in everything]
    scale = float(np.mean([one[2] for one in everything]) / np.mean(guessed))
    start = defaultdict(lambda: _ONCE * scale, {name: value * scale for name, value in _GUESS.items()})
    common = _Common(fitted(everything, start, fit.PULLS[0]))
    return {name: _Common(fitted(measured, common, weight), common) for name, measured in groups.items()}


def _validated(groups: Mapping[Key, Sequence[Measured]], weight: float) -> float:
    """Mean relative error of folds that a fit has not seen."""
    total, count = 0.0, 0
    for fold in range(fit.FOLDS):
        seen = {
            name: [one for k, one in enumerate(measured) if k % fit.FOLDS != fold]
            for name, measured in groups.items()
        }
        fits = _pulled({name: found for name, found in seen.items() if found}, weight)
        for name, measured in groups.items():
            left = list(measured)[fold :: fit.FOLDS]
            if left and name in fits:
                found = _errors(left, fits[name])
                total, count = total + found["n"] * found["mape"], count + found["n"]
    return total / max(count, 1)


def judged(groups: Mapping[Key, Sequence[Measured]]) -> dict[Key, dict[str, Any]]:
    """Of every group, coefficients of all designs, and errors of fits on designs these have not seen."""
    splits = {}
    for name, measured in groups.items():
        by_name = {one[0]: one for one in measured}
        samples = [fit.Sample(one[0], {}, one[2], large=one[3]) for one in measured]
        splits[name] = [[by_name[s.name] for s in found] for found in fit.split(samples)]
    train = {name: parts[0] for name, parts in splits.items()}
    small = {name: [*parts[0], *parts[1]] for name, parts in splits.items()}
    by_train, by_small, by_all = (_fits(seen) for seen in (train, small, groups))
    return {
        name: {
            "coefficients": {key: float(f"{c:.6g}") for key, c in by_all[name].items()},
            "errors": {
                "fitted": _errors(train[name], by_train[name]),
                "held_out": _errors(splits[name][1], by_train[name]),
                "block": _errors(splits[name][2], by_small[name]),
            },
        }
        for name in groups
    }


def _errors(found: Sequence[Measured], coefficients: Mapping[str, float]) -> dict[str, Any]:
    values = [period(spec, coefficients) for _, spec, _, _ in found]
    return fit.summary(values, [one[2] for one in found], [one[0] for one in found])
