"""A model's forward pass in exact integers beside its float32 one, in one run.

CPU time of one thread, contenders interleaved in an order that turns with every repetition, medians printed.
The integer engines' logits must be equal to the last bit, else nothing is timed.

    python benchmarks/bench_forward.py --method sign billm --windows 8 128
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from timing import medians, one_thread

from algo import checkpoint
from algo.bitplane import family
from algo.bitplane.matrix import PackedMatrix
from sim.kernels import cpu
from sim.linear import swap

PEER = "torch float32"
DEMO = Path("planeforge/demo/models/tinydocs-1.4M")
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "billm": {"metric": "magnitude", "compensation": "none"},  # planes take no other time when calibrated
    "rtn": {"bits": 4},
}


def packed(model: Any, method: str) -> dict[str, PackedMatrix]:
    """Every linear layer inside the decoder blocks, quantized without calibration."""
    module = family.load("algo.methods", method)
    config = module.Config(**SETTINGS.get(method, {}))
    found = {}
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and name != "lm_head":
            found[name] = module.quantize(layer.weight.detach().double().numpy(), None, config).matrix
    return found


def measure(model: Any, method: str, ids: torch.Tensor, act_bits: int, repetitions: int) -> dict[str, float]:
    """Median CPU seconds by engine."""
    matrices = packed(model, method)
    models = {name: swap(model, matrices, name, act_bits) for name in ("float", "integer", "numba")}
    exact = [models[name](ids).logits for name in ("integer", "numba")]
    if not torch.equal(*exact):
        raise RuntimeError(f"logits of {method} must be the same from integer and numba, and are not")
    functions = {PEER: lambda: model(ids)} | {
        name: (lambda layers=layers: layers(ids)) for name, layers in models.items()
    }
    return medians(functions, repetitions)


def main() -> None:
    parser = argparse.ArgumentParser(description="forward passes side by side, CPU time of one thread")
    parser.add_argument("--model", type=Path, default=DEMO)
    parser.add_argument("--method", nargs="+", default=["sign", "rtn", "billm"])
    parser.add_argument("--act-bits", type=int, default=8)
    parser.add_argument("--windows", type=int, nargs=2, default=(8, 128), metavar=("BATCH", "TOKENS"))
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    one_thread()
    torch.set_num_threads(1)
    model = checkpoint.load(given.model).model
    ids = torch.randint(0, model.config.vocab_size, given.windows, generator=torch.Generator().manual_seed(0))
    batch, tokens = given.windows
    print(f"{given.model.name}, {batch} x {tokens} tokens, {given.act_bits}-bit activations, one thread")
    print(f"{platform.machine()} {cpu.name()}, torch {torch.__version__}, {given.repetitions} repetitions")
    figures = {}
    with torch.no_grad():
        for method in given.method:
            figures[method] = measure(model, method, ids, given.act_bits, given.repetitions)
            for name, seconds in figures[method].items():
                ratio = figures[method][PEER] / seconds
                print(f"{method:10s} {name:14s} {seconds * 1e3:10.2f} ms {ratio:7.2f} x {PEER}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
