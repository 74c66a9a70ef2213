"""Time and memory of quantizing a layer to block formats beside plain torch, float32, vectorised.

CPU time of one thread, contenders interleaved in an order that turns with every repetition, medians printed.
Both start at float32 weights and end at packed 4-bit codes and stored scales: ours as planes, torch's two to
a byte. Where the two dequantized matrices part in more than a few ties in a million, nothing is printed.

    python benchmarks/bench_formats.py --layer 4096x4096 --json formats.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_quantizers import measure
from timing import medians, one_thread

from algo.bitplane.decode import dequantize
from algo.formats import elements
from algo.methods import rtn

FORMATS = ("mxfp4", "nvfp4", "nf4-g64", "bitmod4-g128")
#: Share of weights that may differ: ties, which the peer rounds down by its search, and float32 quotients.
APART = 1e-5

Tensor = torch.Tensor


def grid(values: list[int]) -> tuple[Tensor, Tensor]:
    """Rising digits, and the middles between them."""
    rising = torch.tensor(sorted(set(values)), dtype=torch.float32)
    return rising, (rising[1:] + rising[:-1]) / 2


E2M1 = grid([v for v in elements.get("e2m1").tables[0] if v is not None])
NF4 = grid([v for v in elements.get("nf4").tables[0] if v is not None])
BITMOD = [grid([v for v in table if v is not None]) for table in elements.get("bitmod4").tables]


def nearest(weight: Tensor, step: Tensor, middles: Tensor) -> Tensor:
    """Levels int64 of weights [groups, size] over steps [groups, 1]."""
    return torch.bucketize(weight / step, middles)


def nibbles(levels: Tensor) -> Tensor:
    """Two levels to a byte."""
    pair = levels.to(torch.uint8).view(-1, 2)
    return pair[:, 0] | pair[:, 1] << 4


def mxfp4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scales and steps."""
    parts = weight.view(-1, 32)
    power = torch.floor(torch.log2(parts.abs().amax(1, keepdim=True))) - 2
    step = torch.exp2(power - 1)
    return nibbles(nearest(parts, step, E2M1[1])), (power + 127).to(torch.uint8), step


def nvfp4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scales and steps."""
    parts = weight.view(-1, 16)
    factor = weight.abs().max() / (448 * 6)
    scale = (parts.abs().amax(1, keepdim=True) / 6 / factor).clamp(max=448).to(torch.float8_e4m3fn)
    step = scale.float() * factor / 2
    return nibbles(nearest(parts, step, E2M1[1])), scale, step


def nf4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scales and steps."""
    parts = weight.view(-1, 64)
    step = parts.abs().amax(1, keepdim=True) / 127
    return nibbles(nearest(parts, step, NF4[1])), step, step


def bitmod4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scales and steps; the set of each group by trying all four."""
    parts = weight.view(weight.shape[0], -1, 128)
    peak = parts.abs().amax(2, keepdim=True)
    least = torch.full_like(peak, torch.inf)
    best, step = torch.zeros_like(peak, dtype=torch.int64), torch.zeros_like(peak)
    for index, (digits, middles) in enumerate(BITMOD):
        tried = peak / digits.abs().max()
        error = (digits[nearest(parts, tried, middles)] * tried - parts).square_().sum(2, keepdim=True)
        better = error < least
        least, best = torch.where(better, error, least), torch.where(better, index, best)
        step = torch.where(better, tried, step)
    second = step.amax(1, keepdim=True) / 255
    step = torch.round(step / second).clamp(min=1) * second
    levels = torch.zeros_like(parts, dtype=torch.int64)
    for index, (_, middles) in enumerate(BITMOD):
        chosen = (best == index)[..., 0]
        levels[chosen] = nearest(parts[chosen], step[chosen], middles)
    return nibbles(levels), best.to(torch.uint8), step


PEERS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]] = {
    "mxfp4": mxfp4,
    "nvfp4": nvfp4,
    "nf4-g64": nf4,
    "bitmod4-g128": bitmod4,
}


def real(name: str, made: tuple[Tensor, Tensor, Tensor], shape: tuple[int, int]) -> np.ndarray:
    """What the peer's codes stand for, float32."""
    codes, kind, step = made
    levels = torch.stack([codes & 15, codes >> 4], 1).long().view(step.numel(), -1)
    if name == "bitmod4-g128":
        tables = torch.stack([digits for digits, _ in BITMOD])
        digits = tables[kind.view(-1, 1).long(), levels]
    else:
        digits = (NF4 if name == "nf4-g64" else E2M1)[0][levels]
    return (digits * step.view(-1, 1)).view(shape).numpy()


def compare(name: str, weight: torch.Tensor, repetitions: int) -> dict[str, Any]:
    """Times and memory of a format, and how many weights the two stand apart in."""
    array, config = weight.numpy(), rtn.Config(format=name)
    ours: Callable[[], Any] = partial(rtn.quantize, array, None, config)
    peer: Callable[[], Any] = partial(PEERS[name], weight)
    mine = dequantize(ours().matrix)
    theirs = real(name, peer(), (weight.shape[0], weight.shape[1]))
    # A level apart is a seventh of the smallest step or more; float32 roundings are far below.
    apart = float(np.mean(np.abs(mine - theirs) > 1e-5 * np.abs(theirs) + 1e-12))
    if apart > APART:
        raise RuntimeError(f"{name} must agree with its peer but for {APART:g} of the weights, not {apart:g}")
    seconds = medians({"torch": peer, "planeforge": ours}, repetitions)
    memory = {side: measure(call)[2] for side, call in (("torch", peer), ("planeforge", ours))}
    return {
        "format": name,
        **{f"{side}_s": seconds[side] for side in seconds},
        "times": seconds["torch"] / seconds["planeforge"],
        **{f"{side}_mib": memory[side] for side in memory},
        "layer_mib": array.nbytes / 2**20,
        "apart": apart,
    }


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layer", default="4096x4096")
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    one_thread()
    torch.set_num_threads(1)
    rows, columns = map(int, given.layer.split("x"))
    weight = torch.from_numpy(0.02 * np.random.default_rng(0).standard_normal((rows, columns), np.float32))
    lines = []
    for name in given.formats:
        line = compare(name, weight, given.repetitions)
        lines.append(line)
        print(
            f"{name:14} torch {line['torch_s']:7.3f} s  planeforge {line['planeforge_s']:7.3f} s  "
            f"{line['times']:5.1f} times  extra MiB {line['torch_mib'] or 0:6.0f} "
            f"{line['planeforge_mib'] or 0:6.0f} of layer {line['layer_mib']:.0f}  apart {line['apart']:.1e}",
            flush=True,
        )
    if given.json:
        given.json.write_text(json.dumps({"layer": given.layer, "lines": lines}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
