"""Kernels on the CPUs they may be compiled for, and the cache of what was compiled."""

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest
from numba.core.dispatcher import Dispatcher

import algo
import sim
from algo import compiled

PORTABLE = """
import numpy as np
from algo.bitplane.activations import quantize_activations
from sim import judge
from sim.kernels import cpu
from sim.kernels.contract import kernels
from sim.numba_engine import Lowered
from sim.tests.test_kernels import sign_matrix, taken_by
assert not cpu.has("avx512f")
for group in GROUPS:
    matrix = sign_matrix(70, 600, group)
    lowered = Lowered.of(matrix)
    for bits in WIDTHS:
        act = quantize_activations(np.random.default_rng(0).normal(size=(5, 600)), bits)
        expected = judge.integer_sums(matrix, [act])
        for name in kernels():
            if name.startswith(NAMES) and taken_by(lowered, name, [act]):
                assert np.array_equal(lowered.integer_sums([act], kernel=name), expected), name
                print(name, bits)
"""


def run(code: str, cache: Path, **told: str) -> str:
    """What a process prints that is told what to compile for, with a cache of its own."""
    settings = os.environ | {"NUMBA_CACHE_DIR": str(cache)} | told
    done = subprocess.run(
        [sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_signs_are_exact_without_avx512(tmp_path):
    code = PORTABLE.replace("WIDTHS", "(1,)").replace("NAMES", "('signs',)").replace("GROUPS", "(600,)")
    printed = run(code, tmp_path, NUMBA_CPU_NAME="x86-64-v3", NUMBA_CPU_FEATURES="")
    assert printed == "signs 1\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["generic", "x86-64-v3"])
def test_every_kernel_is_exact_without_avx512(tmp_path, name):
    code = PORTABLE.replace("WIDTHS", "(1, 8)").replace("NAMES", "''").replace("GROUPS", "(600, 100)")
    printed = run(code, tmp_path, NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES="")
    assert {"planes 8", "planes 1", "signs 1", "sign_blocks 1"} <= set(printed.split("\n"))


ZEN4 = """
from numba import types
from sim.kernels import signs
array = lambda kind, axes=1: types.Array(kind, axes, "C")
i = types.int64
w, v = array(types.uint32), array(types.int64)
signs.add_rows.compile((w, types.none, w, v, v, i, i, i, types.boolean, w, v, v))
text = "".join(signs.add_rows.inspect_asm().values())
print(*(f"{name} {sum(name in line and 'zmm' in line for line in text.splitlines())}"
        for name in ("vpopcntb", "vpopcntq", "vpshufb", "vpternlog")))
"""


def test_a_cpu_that_counts_ones_itself_is_given_that_instruction(tmp_path):
    # Compiled alone: this machine may not have it.
    printed = run(ZEN4, tmp_path, NUMBA_CPU_NAME="znver4", NUMBA_CPU_FEATURES="").split()
    found = dict(zip(printed[::2], map(int, printed[1::2]), strict=True))
    assert found["vpopcntb"] + found["vpopcntq"] >= 2
    assert found["vpshufb"] == 0
    assert found["vpternlog"] >= 44


@pytest.mark.parametrize("package", [algo, sim])
def test_the_caches_stamp_covers_every_file_of_the_package(tmp_path, package):
    name = package.__name__
    copy = tmp_path / name
    shutil.copytree(Path(package.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert compiled.digest(copy) == compiled.stamp(name)
    for path in [path for path in copy.rglob("*.py") if "tests" not in path.parts]:
        before = path.read_text()
        path.write_text(before + "\n")
        assert compiled.digest(copy) != compiled.stamp(name), path.name
        path.write_text(before)
    (copy / "tests" / "test_new.py").write_text("")
    assert compiled.digest(copy) == compiled.stamp(name)


@pytest.mark.parametrize("package", [algo, sim])
def test_every_compiled_function_of_the_package_carries_its_stamp(package):
    found = 0
    for module in walk_packages(package.__path__, f"{package.__name__}."):
        if "tests" in module.name.split("."):
            continue
        for value in vars(import_module(module.name)).values():
            if isinstance(value, Dispatcher) and value.py_func.__module__ == module.name:
                assert value._cache._cache_file._source_stamp == compiled.stamp(package.__name__), value
                assert value.py_func.__closure__ is None  # else no process finds what another cached
                found += 1
    assert found >= 20


CACHED = """
import numpy as np
from sim.kernels.planes import add_shared
add_shared(np.ones((1, 2), np.int64), np.ones((2, 3), np.int64), np.ones((1, 3), np.int64))
print(sum(add_shared.stats.cache_hits.values()), sum(add_shared.stats.cache_misses.values()))
"""


def test_a_second_process_finds_what_the_first_compiled(tmp_path):
    assert run(CACHED, tmp_path).split() == ["0", "1"]
    assert run(CACHED, tmp_path).split() == ["1", "0"]
