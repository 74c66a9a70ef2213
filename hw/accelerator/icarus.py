"""An accelerator's Verilog under Icarus, which shares nothing with our engines; cocotb drives its ports."""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from amaranth.lib.wiring import In

from hw import toolchain, verilog_sim
from hw.accelerator.cocotb_job import TOP
from hw.accelerator.session import AFTER, Outcome, Session, as_hex
from hw.accelerator.shell import AxiTop, shell_ports
from hw.accelerator.spec import AcceleratorSpec

#: Share of clocks in which the far side of each port goes on.
FREELY = {"s_axis": 1.0, "m_axis": 1.0, "s_axi": 1.0}
#: Clocks a second that Icarus reaches on a busy machine (an estimate): to tell a hang.
SLOWEST = 50


#: Modules stay as they are, memories stay memories.
_SCRIPT = """
proc
opt_clean -purge
memory_collect
write_verilog -noattr
"""


@cache
def emit(spec: AcceleratorSpec) -> str:
    """Verilog-2005 of the accelerator: one module a component, top module ``accelerator``."""
    from amaranth.back import rtlil

    design = str(rtlil.convert(AxiTop(spec), name=TOP, emit_src=False))
    return toolchain.builtin_yosys(design, _SCRIPT)


def run(spec: AcceleratorSpec, session: Session) -> Outcome:
    """Carry out a session without stalls; see `hw.accelerator.session.Backend`."""
    observed = observe(spec, session)
    if len(observed["tiles"]) < session.tiles and not any(observed["reads"][:1]):
        raise RuntimeError(
            f"{session.tiles} tiles must come within {session.limit} clocks, not {len(observed['tiles'])}"
        )
    tiles = [bytes.fromhex(tile) for tile in observed["tiles"]]
    return Outcome(tiles=tiles, reads=observed["reads"], clocks=observed["clocks"])


def observe(
    spec: AcceleratorSpec,
    session: Session,
    *,
    goes: Mapping[str, float] = FREELY,
    traffic: Sequence[tuple[str, int, int, int]] = (),
    cut: Sequence[int] = (),
    linger: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """All that the bench saw of a session: tiles, reads, traffic, clocks, and how often what happened.

    Parameters: goes, share of clocks in which the far side of each port goes on; traffic, register accesses
    to choose from beside the packets, as (read or write, offset, value, strobe); cut, words after which
    everything is reset, once each, before the session proper; linger, clocks to go on after the last tile.
    """
    verilog_sim.require_tools("icarus")
    ports = shell_ports(spec)
    model = compiled(spec)
    with tempfile.TemporaryDirectory(prefix="planeforge-") as scratch:
        folder = Path(scratch)
        given = {
            "writes": list(session.writes),
            "words": as_hex(session),
            "tiles": session.tiles,
            "finish": list(session.finish),
            "limit": session.limit,
            "goes": dict(goes),
            "traffic": list(traffic),
            "cut": list(cut),
            "linger": linger,
            "seed": seed,
            "after": AFTER,
            "inputs": [name for name, member in ports.items() if member.flow == In],
        }
        (folder / "session.json").write_text(json.dumps(given))
        environment = verilog_sim.private_environment(model / "tools") | {
            "PLANEFORGE_SESSION": str(folder / "session.json"),
            "PLANEFORGE_OBSERVED": str(folder / "observed.json"),
            "COCOTB_LOG_LEVEL": "WARNING",
        }
        command = [sys.executable, "-m", "hw.accelerator.cocotb_job", "test", str(model), str(folder)]
        result = folder / "observed.json"
        try:
            timeout = 120 + (1 + len(cut)) * session.limit / SLOWEST
            toolchain.call(command, cwd=folder, env=environment, timeout=timeout)
        except RuntimeError as failure:
            fault = json.loads(result.read_text()).get("fault") if result.is_file() else None
            raise RuntimeError(fault or str(failure)) from failure
        return dict(json.loads(result.read_text()))


def compiled(spec: AcceleratorSpec) -> Path:
    """Folder of the compiled model, built only if the cache has none."""
    text = emit(spec)
    versions = [version("cocotb"), platform.machine(), sys.executable, platform.python_version()]

    def build(folder: Path) -> None:
        (folder / f"{TOP}.v").write_text(text)
        (folder / "tools").mkdir()
        command = [sys.executable, "-m", "hw.accelerator.cocotb_job", "build", str(folder)]
        toolchain.call(command, cwd=folder, env=verilog_sim.private_environment(folder / "tools"))

    return toolchain.built("accelerator-icarus", (text, *versions), build)
