"""Time and memory of the binarization methods beside a torch float32 version of the released algorithms.

CPU time of one thread, contenders interleaved in an order that turns with every repetition, medians printed.
Both sides start at the given Hessian and do the whole layer: damping, inverse factor, searches, fits,
compensation (ours also packs the planes). Where the output errors of the two part, nothing is printed.
The searches of one block are timed by themselves too.

With ``--blocks N`` the torch peer searches and fits N column blocks only, spread over the layer, and the
time of those is multiplied up to all blocks; the rest is run whole. Such figures carry a ``~``.

    python benchmarks/bench_quantizers.py --layers 1024x1024 --json quantizers.json
    python benchmarks/bench_quantizers.py --layers 4096x4096 4096x11008 --blocks 2 --repetitions 1
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import json
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import released
import torch
from timing import one_thread

from algo.binarize.partition import choose_break_point, choose_salient
from algo.bitplane import family
from algo.formats.quantized import Calibration

METHODS = ("billm", "arb-rc", "arb-x")
PEERS = {"arb-x": ("arb-x", "arb-x-gemm")}  #: contenders of a method that has more than its own name
TOKENS = 2048  #: of calibration, whatever the layer; damping fills the rank where that is too few
AGREEMENT = 0.03  #: relative difference of two output errors that float32 and fp16 scalars may make
OURS = "planeforge"


@dataclasses.dataclass
class Layer:
    rows: int
    columns: int
    weight: torch.Tensor  #: float32 [rows, columns]
    hessian: torch.Tensor  #: float32 [columns, columns]
    calibration: Calibration

    def output_error(self, values: torch.Tensor) -> float:
        """trace(E H E^T) / trace(W H W^T)."""
        error = self.weight - values
        energies = [float(((part @ self.hessian) * part).sum()) for part in (error, self.weight)]
        return energies[0] / energies[1]


@dataclasses.dataclass
class Line:
    """One comparison."""

    layer: str
    what: str
    torch_s: float
    planeforge_s: float
    torch_blocks: int | None = None  #: column blocks that the peer's time stands on; None: all
    torch_mib: float | None = None  #: most memory beyond what was held before
    planeforge_mib: float | None = None
    torch_error: float | None = None  #: of the output on calibration data, relative
    planeforge_error: float | None = None


def make_layer(rows: int, columns: int, seed: int = 0) -> Layer:
    """Heavy-tailed weights, correlated activations with a few large channels."""
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    weight = torch.from_numpy((0.02 * rng.standard_t(5, (rows, columns))).astype(np.float32))
    common = torch.randn((64, columns), generator=generator) / 8
    x = torch.randn((TOKENS, columns), generator=generator)
    x += torch.randn((TOKENS, 64), generator=generator) @ common
    x[:, torch.randperm(columns, generator=generator)[: max(columns // 100, 1)]] *= 5
    hessian = 2 * x.T @ x
    peak = x.abs().amax(0).double().numpy()
    return Layer(rows, columns, weight, hessian, Calibration(hessian.double().numpy(), peak))


def peak_reset() -> int | None:
    """Resident bytes now, with the recorded peak set back to them; None where the system cannot."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # else memory freed by the contender before would serve unseen
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _resident("VmRSS")
    except (OSError, AttributeError):
        return None


def _resident(field: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(rf"^{field}:\s+(\d+) kB", status, re.M)[0]) * 1024


def measure(function: Callable[[], Any]) -> tuple[Any, float, float | None]:
    """Result, CPU seconds, and MiB that were held at most beyond what was held before."""
    before = peak_reset()
    began = time.process_time()
    result = function()
    seconds = time.process_time() - began
    return result, seconds, None if before is None else max(_resident("VmHWM") - before, 0) / 2**20


def interleaved(
    functions: Mapping[str, Callable[[], Any]], repetitions: int
) -> dict[str, tuple[Any, float, float | None]]:
    """Last result, median CPU seconds and largest extra MiB of each function."""
    names = list(functions)
    runs: dict[str, list[tuple[Any, float, float | None]]] = {name: [] for name in names}
    for turn in range(repetitions):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            runs[name].append(measure(functions[name]))
    out = {}
    for name, each in runs.items():
        memory = [mib for _, _, mib in each if mib is not None]
        out[name] = (each[-1][0], statistics.median(s for _, s, _ in each), max(memory, default=None))
    return out


def sampled_seconds(layer: Layer, method: str, cgb: bool, count: int) -> tuple[float, int]:
    """CPU seconds of the peer with ``count`` blocks fitted, multiplied up; blocks it stands on."""
    starts = range(0, layer.columns, released.BLOCK)
    chosen = {
        starts[at] for at in np.linspace(0, len(starts) - 1, min(count, len(starts))).round().astype(int)
    }
    began, fitting = time.process_time(), 0.0
    w = layer.weight.clone()
    u, dead = released.factor(layer.hessian)
    w[:, dead] = 0
    for start in starts:
        stop = min(start + released.BLOCK, layer.columns)
        part = w[:, start:stop]
        error = torch.zeros_like(part)
        if start in chosen:
            from_here = time.process_time()
            gram = layer.hessian[start:stop, start:stop] / 2
            p = released.metric_of(part, u, start, stop)
            error = part - released.fit_block(part, p, gram, method, cgb)
            fitting += time.process_time() - from_here
        released.push(w, error, u, start, stop)
    rest = time.process_time() - began - fitting
    return rest + fitting * len(starts) / len(chosen), len(chosen)


def method_lines(layer: Layer, name: str, repetitions: int, blocks: int | None) -> list[Line]:
    """Our method beside its peers on a layer."""
    module = family.load("algo.methods", name)
    config, weight = module.Config(), layer.weight.double().numpy()
    cgb = bool(getattr(config, "cgb", False))
    peers = PEERS.get(name, (name,))
    shape, label = f"{layer.rows}x{layer.columns}", "+CGB" if cgb else ""
    functions: dict[str, Callable[[], Any]] = {
        OURS: partial(module.quantize, weight, layer.calibration, config)
    }
    for peer in peers:
        if blocks is None:
            functions[peer] = partial(released.quantize, layer.weight, layer.hessian, peer, cgb)
        else:
            functions[peer] = partial(sampled_seconds, layer, peer, cgb, blocks)
    taken = interleaved(functions, repetitions)
    result, ours, our_mib = taken[OURS]
    our_error = layer.output_error(torch.from_numpy(result.dequantize().astype(np.float32)))
    lines = []
    for peer in peers:
        values, seconds, mib = taken[peer]
        line = Line(shape, peer + label, seconds, ours, None, mib, our_mib, None, our_error)
        if blocks is None:
            line.torch_error = layer.output_error(values)
            if abs(line.torch_error / our_error - 1) > AGREEMENT:
                raise RuntimeError(
                    f"output error of {name} must be that of its peer {peer} on {shape} to "
                    f"{AGREEMENT:.0%}, not {our_error:.5f} and {line.torch_error:.5f}"
                )
        else:
            line.torch_s, line.torch_blocks = values
        lines.append(line)
    return lines


def search_lines(layer: Layer, repetitions: int) -> list[Line]:
    """The two searches of the middle block."""
    start = layer.columns // released.BLOCK // 2 * released.BLOCK
    stop = min(start + released.BLOCK, layer.columns)
    u, _ = released.factor(layer.hessian)
    p = released.metric_of(layer.weight[:, start:stop], u, start, stop).contiguous()
    metric = p.double().numpy()
    salient = released.salient_search(p)
    searches: tuple[tuple[str, Callable[[], Any], Callable[[], Any]], ...] = (
        (
            "salient search, a block",
            partial(released.salient_search, p),
            partial(choose_salient, metric, released.LIMIT),
        ),
        (
            "break-point search, a block",
            partial(released.break_search, p, salient),
            partial(choose_break_point, metric, salient.numpy()),
        ),
    )
    lines = []
    for what, peer, ours in searches:
        taken = interleaved({"torch": peer, OURS: ours}, repetitions)
        (_, torch_s, torch_mib), (_, our_s, our_mib) = taken["torch"], taken[OURS]
        lines.append(
            Line(
                f"{layer.rows}x{stop - start}",
                what,
                torch_s,
                our_s,
                torch_mib=torch_mib,
                planeforge_mib=our_mib,
            )
        )
    return lines


def heading() -> str:
    heads = ("torch s", f"{OURS} s", "ratio", "torch MiB", f"{OURS} MiB")
    return f"{'layer':12s} {'method':28s}" + "".join(f"{head:>16s}" for head in heads) + "   output errors"


def text(line: Line) -> str:
    """A row of the table."""
    mark = "" if line.torch_blocks is None else "~"
    mib = ["" if m is None else f"{m:,.0f}" for m in (line.torch_mib, line.planeforge_mib)]
    errors = [e for e in (line.torch_error, line.planeforge_error) if e is not None]
    return (
        f"{line.layer:12s} {line.what:28s}{mark + format(line.torch_s, ',.4f'):>16s}"
        f"{line.planeforge_s:16,.4f}{mark + format(line.torch_s / line.planeforge_s, ',.2f'):>16s}"
        f"{mib[0]:>16s}{mib[1]:>16s}   {', '.join(f'{e:.5f}' for e in errors)}"
    )


def layer_shape(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"a layer must be ROWSxCOLUMNS, not {text!r}")
    return int(found[1]), int(found[2])


def main() -> None:
    parser = argparse.ArgumentParser(description="quantizers side by side, CPU time of one thread")
    parser.add_argument(
        "--layers", type=layer_shape, nargs="+", default=[(1024, 1024)], metavar="ROWSxCOLUMNS"
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--blocks", type=int, help="column blocks that the torch peer searches and fits")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    if given.repetitions < 1 or (given.blocks is not None and given.blocks < 1):
        parser.error("--repetitions and --blocks must be at least 1")
    one_thread()
    torch.set_num_threads(1)
    warm = make_layer(16, 256)
    for name in given.methods:  # compiled, and every library's first call made
        method_lines(warm, name, 1, 1)
    search_lines(warm, 1)
    print(f"{given.repetitions} repetitions, one thread, torch {torch.__version__}, {platform.machine()}")
    if given.blocks is not None:
        print(
            f"~ torch searches and fits {given.blocks} column blocks, multiplied up to all; the rest is whole"
        )
    print(heading(), flush=True)
    lines: list[Line] = []
    for rows, columns in given.layers:
        layer = make_layer(rows, columns)
        steps = [partial(search_lines, layer, given.repetitions)]
        steps += [partial(method_lines, layer, n, given.repetitions, given.blocks) for n in given.methods]
        for step in steps:
            found = step()
            print("\n".join(text(line) for line in found), flush=True)
            lines += found
    if given.json:
        figures = {"repetitions": given.repetitions, "lines": [dataclasses.asdict(line) for line in lines]}
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
