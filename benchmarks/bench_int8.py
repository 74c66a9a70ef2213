"""Low-bit weights times int8 activations beside torch and the algorithm of bitnet.cpp's i2_s, in one run.

Ours goes through the public call on a stored matrix, activations as int64 and sums as int64 included. CPU
time of one thread, contenders interleaved in an order that turns with every repetition, medians printed.
Every result is checked before it is timed. The i2_s algorithm is `benchmarks/i2s.c`, built here with gcc.

    python benchmarks/bench_int8.py --rows 4096 --columns 4096 --tokens 1 16 128 2048
"""

from __future__ import annotations

import argparse
import ctypes
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timing import medians, one_thread

from algo.bitplane.activations import Activations
from algo.bitplane.build import from_digits
from algo.bitplane.decode import dequantize, integer_weights
from algo.bitplane.format import Digit, Format
from algo.bitplane.matrix import PackedMatrix
from sim.kernels import cpu
from sim.numba_engine import Lowered

FP32, INT_MM, I2S = "torch fp32", "torch._int_mm", "i2_s (C)"

WHOLE = 1 << 30  #: group that holds any row
SIGN = Format(name="W1", digit=Digit.BIPOLAR, coefs=(1,), group=WHOLE, published_bits=1.0, source="one plane")
TERNARY = replace(SIGN, name="ternary", digit=Digit.UNIPOLAR, coefs=(1, -1))
FORMATS = (
    SIGN,
    replace(SIGN, name="W1 group-128", group=128),
    TERNARY,
    replace(TERNARY, name="int4", coefs=(1, 2, 4, -8)),
    replace(TERNARY, name="int8", coefs=(1, 2, 4, 8, 16, 32, 64, -128)),
)

Calls = dict[str, Callable[[], Any]]


def build_i2s(folder: Path) -> Any:
    """The C function, compiled for this machine."""
    library = folder / "i2s.so"
    source = Path(__file__).with_name("i2s.c")
    flags = ["-O3", "-march=native", "-shared", "-fPIC", "-std=c11"]
    subprocess.run(["gcc", *flags, str(source), "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).i2s
    function.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_long] * 3
    function.restype = None
    return function


def packed_trits(digits: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Digits [rows, columns] as i2_s holds them, uint8 [rows, columns / 4]."""
    codes = (digits + 1).astype(np.uint8).reshape(len(digits), -1, 4, 32)
    return codes[:, :, 0] << 6 | codes[:, :, 1] << 4 | codes[:, :, 2] << 2 | codes[:, :, 3]


def call_i2s(function: Any, codes: NDArray[np.uint8], x: NDArray[np.int8]) -> Callable[[], NDArray[np.int32]]:
    """A product of the C function on activations int8 [tokens, columns]."""
    sums = x.sum(axis=1, dtype=np.int32)
    out = np.empty((len(x), len(codes)), np.int32)
    arrays = (codes, x, sums, out)

    def product() -> NDArray[np.int32]:
        function(*(array.ctypes.data for array in arrays), len(codes), x.shape[1], len(x))
        return out

    return product


def show_overflow(function: Any) -> None:
    """All weights +1, all activations 127: the sum that 16 bits do not hold."""
    columns = 4096
    digits = np.ones((1, columns), np.int64)
    matrix = from_digits(TERNARY, digits, np.ones((1, 1)), scale_bits=2)
    act = Activations(values=np.full((1, columns), 127), bits=8, scale=np.ones(1, np.float32))
    ours = int(Lowered.of(matrix).integer_sums([act])[0, 0, 0]) // int(matrix.ints["scale"].values[0, 0])
    codes = np.ascontiguousarray(packed_trits(digits).reshape(1, -1))
    theirs = int(call_i2s(function, codes, act.values.astype(np.int8))()[0, 0])
    exact = 127 * columns
    print(f"{columns} weights +1 times activations 127: exact {exact}, ours {ours}, {I2S} {theirs}")
    if ours != exact or theirs == exact:
        raise RuntimeError(f"ours must be {exact} and {I2S} must wrap, not {ours} and {theirs}")


def check_exact(
    name: str, found: NDArray[Any], weights: NDArray[np.int64], values: NDArray[np.int64]
) -> None:
    """Refuse to time a wrong result; float64 holds every sum here."""
    bound = float(np.abs(weights).sum(axis=1).max()) * float(np.abs(values).max())
    if bound >= 2.0**53:
        raise RuntimeError(f"sums must stay below 2**53 to be checked, not reach {bound:.3g}")
    exact = torch.from_numpy(values).double() @ torch.from_numpy(weights).double().T
    if not np.array_equal(found, exact.numpy().astype(np.int64)):
        raise RuntimeError(f"{name} must be exact, and is not")


def layer(fmt: Format, rows: int, columns: int) -> tuple[PackedMatrix, NDArray[np.int64]]:
    """A random matrix of a format, and its digits."""
    rng = np.random.default_rng(0)
    digits = rng.choice(fmt.values(), (rows, columns))
    groups = -(-columns // fmt.group)
    return from_digits(fmt, digits, rng.random((rows, groups)) + 0.5), digits


def compare(
    fmt: Format, function: Any, shape: tuple[int, int], tokens: Sequence[int], repetitions: int
) -> None:
    """Time one format at several token counts."""
    matrix, digits = layer(fmt, *shape)
    lowered, weights = Lowered.of(matrix), integer_weights(matrix, None)
    real = torch.from_numpy(dequantize(matrix).astype(np.float32)).T
    small = torch.from_numpy(digits.astype(np.int8)).T
    for count in tokens:
        values = np.random.default_rng(count).integers(-128, 128, (count, shape[1]))
        act = Activations(values=values, bits=8, scale=np.ones(count, np.float32))
        name = f"ours ({lowered.choice(None, act)})"
        x, narrow = torch.from_numpy(values.astype(np.float32)), values.astype(np.int8)
        functions: Calls = {FP32: lambda x=x: x @ real, name: lambda act=act: lowered.integer_sums([act])}
        check_exact(name, functions[name]()[0], weights, values)
        bytes_ = torch.from_numpy(narrow)
        functions[INT_MM] = lambda bytes_=bytes_: torch._int_mm(bytes_, small)
        check_exact(INT_MM, functions[INT_MM]().numpy(), digits, values)
        if fmt is TERNARY:
            functions[I2S] = call_i2s(function, packed_trits(digits).reshape(len(digits), -1), narrow)
            check_exact(I2S, functions[I2S](), digits, values)  # random sums are small enough for it
        taken = medians(functions, repetitions)
        print(f"{fmt.name} A8, N={count}")
        for peer, seconds in taken.items():
            gmacs = shape[0] * shape[1] * count / seconds * 1e-9
            ratios = "  ".join(
                f"{taken[other] / taken[name]:6.2f} x {other}" for other in taken if other != name
            )
            print(
                f"  {peer:22s} {seconds * 1e3:10.4f} ms {gmacs:8.1f} GMAC/s  {ratios if peer == name else ''}"
            )
        sys.stdout.flush()


def cpu_model() -> str:
    """What the machine calls itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())


def main() -> None:
    parser = argparse.ArgumentParser(description="int8 activations, CPU time of one thread")
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--columns", type=int, default=4096, help="a multiple of 128")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 16, 128, 2048])
    parser.add_argument("--formats", nargs="+", default=[fmt.name for fmt in FORMATS])
    parser.add_argument("--repetitions", type=int, default=9)
    given = parser.parse_args()
    one_thread()
    torch.set_num_threads(1)
    known = [name for name in ("avx2", "avx512bw", "avx512vnni", "avx512vpopcntdq") if cpu.has(name)]
    print(f"{cpu_model()} ({cpu.name()}): {', '.join(known)}; {given.rows} x {given.columns}")
    with tempfile.TemporaryDirectory() as folder:
        function = build_i2s(Path(folder))
        show_overflow(function)
        for fmt in FORMATS:
            if fmt.name in given.formats:
                compare(fmt, function, (given.rows, given.columns), given.tokens, given.repetitions)


if __name__ == "__main__":
    main()
