"""Speed of the packed engine beside torch and hand-written C, in one run.

CPU time of one thread, contenders interleaved in an order that turns with every repetition, medians printed
beside their ratio to torch's float32 product of the same shape. Every contender's result is checked before it
is timed. Ours is the public call on a matrix as it is stored: activations in, int64 sums out.

    python benchmarks/bench_engines.py                         every case at 4096 x 4096
    python benchmarks/bench_engines.py --rows 11008 --tokens 1 16 128 2048 --cases W1A1
    python benchmarks/bench_engines.py --start                 first calls, from an empty and a full cache
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numba import njit
from timing import medians, one_thread

from algo.bitplane import rows, words
from algo.bitplane.activations import Activations, quantize_activations
from algo.bitplane.build import exponent_ints, from_digits, mantissa_ints
from algo.bitplane.format import Digit, Format
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Pattern, Plane, gather
from algo.bitplane.scales import Grid
from sim import judge
from sim.kernels import cpu
from sim.numba_engine import Lowered

PEER = "torch fp32"  #: what ratios are against
HERE = Path(__file__).parent
CHECKED = 4  #: tokens whose sums are held against the judge, on the first and the last block of rows
SALIENT = 0.08  #: share of columns in BiLLM's form, about what its search keeps
PLAIN_TOKENS = 16  #: the most that plain loops are timed on
#: Ratios to torch's float32 product asked of a CPU with AVX-512 VPOPCNTDQ, by tokens.
TARGETS = {
    "W1A1": {1: 100, 16: 50, 128: 27, 2048: 25},
    "W1A8": {1: 40, 16: 14, 128: 7},
    "W1A8 g128": {1: 35, 16: 13, 128: 6},
}

Function = Callable[[], Any]


def plain_format(digit: Digit, coefs: tuple[int, ...], group: int) -> Format:
    """Integers of some planes, a scale per group."""
    return Format(name="bench", digit=digit, coefs=coefs, group=group, published_bits=0.0, source="none")


def integers(digit: Digit, coefs: tuple[int, ...], group: int) -> Callable[..., PackedMatrix]:
    """Maker of random matrices of a plain format."""

    def make(count: int, columns: int, rng: np.random.Generator) -> PackedMatrix:
        fmt = plain_format(digit, coefs, group)
        groups = -(-columns // min(group, columns))
        return from_digits(fmt, rng.choice(fmt.values(), (count, columns)), rng.random((count, groups)) + 0.5)

    return make


def sparse(kept: int, of: int) -> Callable[..., PackedMatrix]:
    """Maker of signs on an N:M pattern, stored compressed, one scale a row."""

    def make(count: int, columns: int, rng: np.random.Generator) -> PackedMatrix:
        keep = (rng.random((count, columns // of, of)).argsort(axis=2) < kept).reshape(count, columns)
        signs = gather(rng.random((count, columns)) < 0.5, keep, "keep")
        scale = rng.random((count, 1)) + 0.5
        grid = Grid.covering(scale)
        term = Term(planes=("sign",), coefs=(1,), digit=Digit.BIPOLAR, scale="scale", mask="keep")
        return PackedMatrix(
            rows=count,
            columns=columns,
            group=columns,
            terms=(term,),
            planes={"keep": Pattern.of_bits(keep, kept, of), "sign": signs},
            ints={"scale": mantissa_ints(grid, scale)},
            exponent=exponent_ints(grid),
        )

    return make


def billm(count: int, columns: int, rng: np.random.Generator) -> PackedMatrix:
    """BiLLM's two planes as `algo.methods.billm` stores them: five terms, two of salient columns alone."""

    def term(plane: str, scale: str, offset: str | None, mask: str) -> Term:
        return Term(planes=(plane,), coefs=(1,), digit=Digit.BIPOLAR, scale=scale, offset=offset, mask=mask)

    terms = (
        term("sign", "a", "p", "salient"),
        term("second", "b", None, "salient"),
        term("sign", "c", "q", "~salient"),
        term("~(sign ^ second)", "d", None, "~salient"),
        term("second", "e", None, "~salient"),
    )
    scales = {name: rng.random((count, -(-columns // 128))) + 0.5 for name in "abcdepq"}
    grid = Grid.covering(*scales.values())
    return PackedMatrix(
        rows=count,
        columns=columns,
        group=128,
        terms=terms,
        planes={
            "salient": Plane(words.pack(rng.random((1, columns)) < SALIENT), "masks"),
            "sign": Plane(words.pack(rng.random((count, columns)) < 0.5)),
            "second": Plane(words.pack(rng.random((count, columns)) < 0.5), "extra planes"),
        },
        ints={name: mantissa_ints(grid, values) for name, values in scales.items()},
        exponent=exponent_ints(grid),
    )


WHOLE = 1 << 30  #: a group as long as the row
SIGN, INT = Digit.BIPOLAR, Digit.UNIPOLAR
INT8 = (1, 2, 4, 8, 16, 32, 64, -128)
#: Name, bits of the activations, maker.
CASES: Mapping[str, tuple[int, Callable[..., PackedMatrix]]] = {
    "W1A1": (1, integers(SIGN, (1,), WHOLE)),
    "W1A1 g128": (1, integers(SIGN, (1,), 128)),
    "BiLLM form A1": (1, billm),
    "2:4 A1": (1, sparse(2, 4)),
    "4:8 A1": (1, sparse(4, 8)),
    "W1A8": (8, integers(SIGN, (1,), WHOLE)),
    "W1A8 g128": (8, integers(SIGN, (1,), 128)),
    "ternary A8": (8, integers(INT, (1, -1), WHOLE)),
    "int4 A8 g128": (8, integers(INT, (1, 2, 4, -8), 128)),
    "int8 A8": (8, integers(INT, INT8, WHOLE)),
}

#: The dense plane that a form of several, or one with masks, stands beside.
DENSE = {"BiLLM form A1": "W1A1 g128", "2:4 A1": "W1A1", "4:8 A1": "W1A1"}


@dataclass(frozen=True)
class C:
    """`popcount.c`, built for this machine."""

    library: Any

    @classmethod
    def built(cls, folder: Path) -> C:
        """Compile it with gcc."""
        target = folder / "popcount.so"
        source = str(HERE / "popcount.c")
        flags = ["-O3", "-march=native", "-shared", "-fPIC", "-o", str(target)]
        subprocess.run(["gcc", *flags, source], check=True)
        library = ctypes.CDLL(str(target))
        pointer, integer = ctypes.c_void_p, ctypes.c_int64
        library.binary_product.argtypes = [pointer] * 4 + [integer] * 4
        library.peak.argtypes = [integer, pointer]
        library.peak.restype = library.peak_words.restype = integer
        library.peak_words.argtypes = [integer]
        return cls(library)

    @property
    def kind(self) -> str:
        """How it counts."""
        return "AVX-512 VPOPCNTDQ" if self.library.counts_words() else "AVX-512BW, carry-save adders"

    def product(self, matrix: PackedMatrix, act: Activations) -> tuple[Function, np.ndarray]:
        """The C kernel on one plane, its tokens packed before, and where it writes int64 [tokens, rows]."""
        plane = matrix.dense("plane0")
        laid = np.ascontiguousarray(plane.reshape(-1, 8, plane.shape[1]).transpose(0, 2, 1))
        x, out = act.planes()[0].copy(), np.zeros((len(act.values), matrix.rows), np.int64)
        scale = np.broadcast_to(matrix.ints["scale"].values, (matrix.rows, 1))[:, 0].copy()
        sizes = (matrix.rows, len(x), plane.shape[1], matrix.columns)

        def run() -> None:
            self.library.binary_product(*(array.ctypes.data for array in (laid, x, scale, out)), *sizes)

        return run, out

    def peak(self) -> tuple[Function, int]:
        """A loop over operands in the first-level cache, and the 512-bit words it counts."""
        operands, rounds = np.zeros(4096, np.uint64), 100_000
        return (
            lambda: self.library.peak(rounds, operands.ctypes.data),
            self.library.peak_words(rounds),
        )


@njit
def plain_loops(weights, values, out):  # type: ignore[no-untyped-def]
    """Integers times integers, entry by entry, as one writes it."""
    for token in range(len(values)):
        for row in range(len(weights)):
            total = 0
            for k in range(values.shape[1]):
                total += np.int32(weights[row, k]) * np.int32(values[token, k])
            out[token, row] = total


def float_peer(shape: tuple[int, int], values: np.ndarray, weight: torch.Tensor) -> Function:
    """torch's float32 product, whose speed no value changes."""
    x = torch.from_numpy(values.astype(np.float32))
    return lambda: x @ weight[: shape[0], : shape[1]].T


def contenders(
    name: str, matrix: PackedMatrix, act: Activations, peers: Mapping[str, torch.Tensor], c: C | None
) -> dict[str, Function]:
    """What to time on one case, results checked."""
    lowered = Lowered.of(matrix)
    check(matrix, act, lowered.integer_sums([act]))
    shape = (matrix.rows, matrix.columns)
    found = {PEER: float_peer(shape, act.values, peers["float"])}
    found[f"ours ({lowered.choice(None, act)})"] = lambda: lowered.integer_sums([act])
    if name in DENSE:
        plane = Lowered.of(CASES[DENSE[name]][1](*shape, np.random.default_rng(1)))
        found[f"one dense plane ({DENSE[name]})"] = lambda: plane.integer_sums([act])
    narrow = torch.from_numpy(act.values.astype(np.int8)) if act.bits <= 8 else None
    if narrow is not None and matrix.group >= matrix.columns:
        found["torch._int_mm"] = lambda: torch._int_mm(narrow, peers["int8"].T)
    if name == "W1A1":
        if c is not None:
            run, out = c.product(matrix, act)
            run()
            if not np.array_equal(out, lowered.integer_sums([act])[0]):
                raise RuntimeError("the C kernel must equal ours, and does not")
            found[f"C ({c.kind})"] = run
        if len(act.values) <= PLAIN_TOKENS:
            values, weights = act.values.astype(np.int8), peers["int8"].numpy()
            sums = np.zeros((len(values), shape[0]), np.int64)
            found["plain Numba loops"] = lambda: plain_loops(weights, values, sums)
    return found


def check(matrix: PackedMatrix, act: Activations, sums: np.ndarray) -> None:
    """Refuse to time a wrong result: some tokens, first and last rows, against the judge."""
    some = np.unique(np.linspace(0, len(act.values) - 1, CHECKED).astype(int))
    few = Activations(values=act.values[some], bits=act.bits, scale=act.scale[some])
    parts = list(rows.split(matrix))
    for here, part in (parts[0], parts[-1]):
        if not np.array_equal(sums[:, some][:, :, here], judge.integer_sums(part, [few])):
            raise RuntimeError("sums must equal the judge's, and do not")


def report(name: str, tokens: int, taken: Mapping[str, float], steps: float, peak_steps: int) -> None:
    """Print one case."""
    peak = peak_steps / taken["peak"] if "peak" in taken else 0.0
    for contender, seconds in taken.items():
        if contender == "peak":
            continue
        share = f"{steps / seconds / peak:7.2f}" if peak and contender != PEER else " " * 7
        ratio = taken[PEER] / seconds
        print(
            f"{name:14s} {tokens:5d}  {contender:34s} {seconds * 1e3:11.4f} {ratio:8.2f} {share}", flush=True
        )


def bench(given: argparse.Namespace) -> None:
    """The table."""
    rng = np.random.default_rng(0)
    shape = (given.rows, given.columns)
    peers = {
        "float": torch.from_numpy(rng.normal(size=shape).astype(np.float32)),
        "int8": torch.from_numpy(rng.integers(-128, 128, shape).astype(np.int8)),
    }
    describe(given)
    with tempfile.TemporaryDirectory() as folder:
        c = None if given.no_c else C.built(Path(folder))
        print(f"{'case':14s} {'N':>5s}  {'contender':34s} {'ms':>11s} {'x ' + PEER:>8s} {'of peak':>7s}")
        for name in given.cases:
            bits, make = CASES[name]
            matrix = make(*shape, rng)
            for tokens in given.tokens:
                act = quantize_activations(rng.normal(size=(tokens, shape[1])), bits)
                functions = contenders(name, matrix, act, peers, c)
                peak_steps = 0
                if c is not None and bits == 1:
                    functions["peak"], peak_steps = c.peak()
                taken = medians(functions, given.repetitions)
                report(name, tokens, taken, shape[0] * shape[1] * tokens / 512, peak_steps)
                judge_target(name, tokens, taken)


def judge_target(name: str, tokens: int, taken: Mapping[str, float]) -> None:
    """Print how a case stands to its target, where this CPU has one."""
    wanted = TARGETS.get(name, {}).get(tokens)
    if wanted is not None and cpu.has("avx512vpopcntdq"):
        ours = next(seconds for contender, seconds in taken.items() if contender.startswith("ours"))
        print(f"{'':21s}  target {wanted} x: {'met' if taken[PEER] / ours >= wanted else 'MISSED'}")


def describe(given: argparse.Namespace) -> None:
    """Print what the figures were taken on."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    wanted = ("avx2", "avx512f", "avx512bw", "avx512vnni", "avx512vpopcntdq", "avx512bitalg", "avx512vbmi")
    found = " ".join(feature for feature in wanted if cpu.has(feature))
    print(f"{model}; LLVM {cpu.name()}: {found}")
    if not cpu.has("avx512vpopcntdq"):
        print(
            "no AVX-512 VPOPCNTDQ: ratios have targets on CPUs that have it; the peak is of carry-save adders"
        )
    print(
        f"{given.rows} x {given.columns}, {given.repetitions} repetitions, CPU time, one thread; "
        f"numba {numba.__version__}, torch {torch.__version__}"
    )


FIRST = """
import sys, time
import numba, numpy as np
numba.njit(lambda a: a + 1)(1)  # Numba's own start
from algo.bitplane.activations import quantize_activations
from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit, Format
from sim.kernels.contract import kernels
from sim.numba_engine import Lowered
began = time.process_time()
kernels()
imported = time.process_time() - began
fmt = Format(name="s", digit=Digit.BIPOLAR, coefs=(1,), group=GROUP, published_bits=1.0, source="none")
rng = np.random.default_rng(0)
scale = rng.random((1024, -(-1024 // min(GROUP, 1024)))) + 0.5
matrix = from_digits(fmt, rng.choice([-1, 1], (1024, 1024)), scale)
act = quantize_activations(rng.normal(size=(TOKENS, 1024)), BITS)
lowered = Lowered.of(matrix)
began = time.process_time()
lowered.integer_sums([act])
print(time.process_time() - began, lowered.choice(None, act), imported)
"""


def start() -> None:
    """First calls in processes of their own, with an empty cache and with a full one."""
    print("first call, CPU seconds beyond Numba's own start and the import of all kernels' modules")
    for bits, group in ((1, WHOLE), (1, 128), (8, WHOLE), (8, 128)):
        for tokens in (1, 16):
            with tempfile.TemporaryDirectory() as cache:
                code = (
                    FIRST.replace("GROUP", str(group))
                    .replace("BITS", str(bits))
                    .replace("TOKENS", str(tokens))
                )
                told = os.environ | {"NUMBA_CACHE_DIR": cache}
                found = []
                for _ in range(2):
                    done = subprocess.run(
                        [sys.executable, "-c", code], env=told, capture_output=True, text=True, check=True
                    )
                    found.append(done.stdout.split())
            kernel, scales = found[0][1], "a scale a row" if group == WHOLE else f"scales per {group}"
            times = f"cold {float(found[0][0]):6.3f}  warm {float(found[1][0]):6.3f}"
            times += f"  (modules of kernels {float(found[1][2]):6.3f})"
            print(f"W1A{bits} {scales:16s} N={tokens:<3d} {kernel:12s} {times}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="the packed engine side by side, CPU time of one thread")
    parser.add_argument("--rows", type=int, default=4096, help="a multiple of 16")
    parser.add_argument("--columns", type=int, default=4096, help="a multiple of 64")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 16, 128])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--no-c", action="store_true", help="without gcc")
    parser.add_argument("--start", action="store_true", help="time first calls instead")
    given = parser.parse_args()
    one_thread()
    torch.set_num_threads(1)
    if given.start:
        start()
    else:
        bench(given)


if __name__ == "__main__":
    main()
