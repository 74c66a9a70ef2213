"""The torch peer held to the float64 references, on their cases.

First blocks, which no compensation has reached: the searches must pick what the references pick, or something
as good; each group's fit by the same partition must agree to float32. Whole layers: as the choices may part
ways by a rounding, the output error must be the reference's to a percent.

    python benchmarks/check_released.py
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from released import METHODS, break_search, factor, metric_of, quantize, salient_search
from released_fits import fit

from algo.tests.reference import blocks, cases, partition, primitives

CLOSE = 1e-4  #: of the largest value in a row, for an entry that float32 may round
SHARE = 0.99  #: of the entries must be close: alternation may leave a tie on the other side
ERROR = 0.01  #: relative difference of the output errors of a layer
AS_GOOD = 1e-5  #: relative excess of a search's error over the reference's


def require(holds: bool, what: str) -> None:
    if not holds:
        raise RuntimeError(f"{what} must agree with the reference, and does not")


def salient_error(p: NDArray[np.float64], salient: list[int]) -> float:
    inside = np.zeros(p.shape, np.bool_)
    inside[:, salient] = True
    rest = p - primitives.rb(p, inside, 2) - primitives.rb(p, ~inside, 2)
    return float((rest**2).sum())


def break_error(p: NDArray[np.float64], t: float) -> float:
    high = np.abs(p) >= t
    return float(((p - primitives.rb(p, high, 1) - primitives.rb(p, ~high, 1)) ** 2).sum())


def check_searches(name: str, p: NDArray[np.float64]) -> None:
    """The choices of one block."""
    everywhere = np.ones(p.shape, np.bool_)
    expected = partition.salient_columns(p, 49, everywhere)
    found = torch.nonzero(salient_search(torch.from_numpy(p).float()))[:, 0].tolist()
    bound = salient_error(p, expected) * (1 + AS_GOOD)
    require(found == expected or salient_error(p, found) <= bound, f"{name}: salient columns")
    chosen = torch.zeros(p.shape[1], dtype=torch.bool)
    chosen[expected] = True
    t = break_search(torch.from_numpy(p).float(), chosen)
    rest = p[:, ~chosen.numpy()]
    bound = break_error(rest, partition.break_point(p, expected)) * (1 + AS_GOOD)
    require(break_error(rest, t) <= bound, f"{name}: break point")


def check_fits(name: str, part: NDArray[np.float64], gram: NDArray[np.float64], method: str) -> float:
    """Least share of close entries over two masks and both orders."""
    shares = []
    rng = np.random.default_rng(0)
    for density in (0.1, 0.8):
        mask = rng.random(part.shape) < density
        for order in (1, 2):
            ours = "arb-x" if method.startswith("arb-x") else method
            expected = blocks.fit_group(part, mask, order, ours, 15, gram)
            found = fit(
                torch.from_numpy(part).float(),
                torch.from_numpy(mask).float(),
                order,
                method,
                torch.from_numpy(gram).float(),
            ).numpy()
            scale = np.abs(part).max(axis=1, keepdims=True)
            shares.append(float(np.mean(np.abs(found - expected) <= CLOSE * scale)))
            require(shares[-1] >= SHARE, f"{name}: {method} of order {order}")
            require(not found[~mask].any(), f"{name}: {method} off the mask")
    return min(shares)


def check_layer(name: str, method: str, cgb: bool) -> tuple[float, float]:
    """Output errors of the reference and of the peer."""
    weight, hessian, _ = cases.ALL[name]()
    ours = "arb-x" if method.startswith("arb-x") else method
    reference = blocks.dense(blocks.quantize(weight, hessian, method=ours, cgb=cgb))
    found = quantize(torch.from_numpy(weight), torch.from_numpy(hessian), method, cgb).double().numpy()
    errors = tuple(blocks.output_error(weight, values, hessian) for values in (reference, found))
    require(abs(errors[1] / errors[0] - 1) <= ERROR, f"{name}: the output error of {method}")
    return errors[0], errors[1]


def main() -> None:
    torch.set_num_threads(1)
    for name, made in cases.ALL.items():
        weight, hessian, _ = made()
        u, dead = factor(torch.from_numpy(hessian))
        weight[:, dead.numpy()] = 0
        k = min(128, weight.shape[1])
        part, gram = weight[:, :k], hessian[:k, :k] / 2
        check_searches(name, metric_of(torch.from_numpy(part), u, 0, k).numpy())
        check_searches(f"{name}, magnitudes", part)
        for method in METHODS:
            share = check_fits(name, part, gram, method)
            for cgb in (False, True):
                reference, found = check_layer(name, method, cgb)
                bitmap = "+CGB" if cgb else ""
                print(
                    f"{name:10s} {method + bitmap:15s} fits close {share:7.2%}   "
                    f"output error {found:.5f}, reference {reference:.5f}"
                )


if __name__ == "__main__":
    main()
