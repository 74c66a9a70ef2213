"""RTL as Verilog: the text itself, and a folder that proves and builds it without this project."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hw import hierarchy, lint, manifest, toolchain
from hw.beats import Beats, side_by_side
from hw.grid import Grid
from hw.spec import PeSpec
from hw.stimulus import SPARE_CLOCKS

#: Top module by kind of spec; any other is ``pe``.
MODULES: Mapping[type[PeSpec], str] = {Grid: "array"}

#: Files made from templates; ``module`` in a name stands for the top module.
TEMPLATES = {
    "tb.v": "tb.v",
    "pins.v": "module_pins.v",
    "build.sh": "build.sh",
    "pe.core": "module.core",
    "yosys.ys": "yosys.ys",
    "ecp5.ys": "ecp5.ys",
    "ice40.ys": "ice40.ys",
    "vivado.tcl": "vivado.tcl",
    "pe.sdc": "module.sdc",
    "pe.xdc": "module.xdc",
    "README.txt": "README.txt",
}

#: One flat module with plain registers, no attributes, and no wires beyond those the logic needs.
_SCRIPT = """
proc
flatten -noscopeinfo
opt
opt_clean -purge
write_verilog -noattr
"""


@dataclass(frozen=True, kw_only=True)
class Design:
    """A block with a stream of beats in and a stream of items out, and vectors that prove it."""

    module: str  #: top module, and name of its Verilog file
    spec: PeSpec
    rtlil: str
    fields: tuple[tuple[str, int], ...]  #: name and bits of the fields of ``i__payload``, from bit 0 up
    item_bits: int  #: of ``o__payload``
    latency: int  #: clocks from a last beat to its item
    beats: tuple[int, ...]  #: payload of each beat
    lasts: tuple[bool, ...]  #: beats that finish an item
    items: tuple[int, ...]  #: what they must yield, by the PE's definition
    cycles: int  #: clocks they take without stalls, by the contract

    def __post_init__(self) -> None:
        if not any(self.lasts):
            raise ValueError(f"beats must finish at least one item, not {sum(self.lasts)}")

    @property
    def payload_bits(self) -> int:
        """Width of ``i__payload``."""
        return sum(bits for _, bits in self.fields)


def design(spec: PeSpec, beats: Beats) -> Design:
    """A PE or a whole array with ``beats`` as its vectors.

    Raises ValueError if they finish no item or do not fit it.
    """
    listed = beats.to_list()
    payloads = beats.payload(spec).astype("<u4")
    items = [spec.items(listed, output) for output in range(spec.outputs)]
    lasts = tuple(beats.lasts.tolist())
    return Design(
        module=MODULES.get(type(spec), "pe"),
        spec=spec,
        rtlil=toolchain.rtlil(spec, MODULES.get(type(spec), "pe")),
        fields=tuple(spec.fields().items()),
        item_bits=spec.acc_width * spec.outputs,
        latency=spec.latency(),
        beats=tuple(int.from_bytes(row.tobytes(), "little") for row in payloads),
        lasts=lasts,
        items=tuple(side_by_side(one, spec.acc_width) for one in zip(*items, strict=True)),
        cycles=spec.stalled_cycles(lasts),
    )


def emit(spec: PeSpec) -> str:
    """Verilog-2005 of the PE: module ``pe``, ports ``clk rst i__payload i__valid i__ready o__...``.

    The same text for the same spec and the same version of Amaranth's Yosys.
    """
    return text_of(spec, toolchain.rtlil(spec))


def text_of(spec: PeSpec, rtlil: str) -> str:
    """Verilog-2005 of RTLIL, headed by what it was made from."""
    body = toolchain.builtin_yosys(rtlil, _SCRIPT)
    return f"// {spec!r}\n// planeforge {manifest.tools()['planeforge']}\n{body}"


def sources(design: Design) -> dict[str, str]:
    """Verilog files by name, a module each, headed by what they were made from and the top module last."""
    modules = hierarchy.verilog(design.rtlil)
    tools = ", ".join(f"{name} {version}" for name, version in manifest.tools().items())
    order = sorted(modules, key=lambda name: (name == design.module, name))
    return {f"{name}.v": f"{_head(design, name, tools)}\n{modules[name]}" for name in order}


def _head(design: Design, module: str, tools: str) -> str:
    """Comment over a module: what it is, the parameters, what made it."""
    part = "" if module == design.module else f", a part of {design.module}"
    lines = [f"module {module}{part}", type(design.spec).__name__, *_parameters(asdict(design.spec)), tools]
    return "".join(f"// {line}\n" for line in lines)


def _parameters(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``array.pe.lanes = 64`` for each."""
    lines = []
    for name, value in values.items():
        inner = isinstance(value, Mapping)
        lines += _parameters(value, f"{prefix}{name}.") if inner else [f"{prefix}{name} = {value!r}"]
    return lines


def export(spec: PeSpec, directory: Path, beats: Beats, *, clock_hz: float = 100e6) -> None:
    """Write a PE's folder, with ``beats`` as the testbench's vectors; see `write`.

    Raises: ValueError if the beats finish no item or do not fit the PE, and as `write`
    """
    write(design(spec, beats), directory, clock_hz=clock_hz)


def write(design: Design, directory: Path, *, clock_hz: float = 100e6) -> None:
    """Write a folder: Verilog, a self-checking testbench with vectors, constraints, scripts.

    The folder appears whole or not at all. One that was written before is replaced, unless somebody added
    files to it.

    Parameters: clock_hz, target frequency in the constraints [Hz]; it is a target, no result
    Raises:     ValueError if clock_hz is not positive, or if ``directory`` holds anything else; RuntimeError
                if Yosys is missing
    """
    if not clock_hz > 0:
        raise ValueError(f"clock_hz must be positive, not {clock_hz!r}")
    directory = Path(directory)
    refuse_foreign(directory)
    files = contents(design, clock_hz)
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
    ours = manifest.written(directory)
    if found - ours:
        raise ValueError(
            f"directory must be empty or one written before, not {str(directory)!r}"
            f" which holds {', '.join(sorted(found - ours)[:3])}"
        )


def contents(design: Design, clock_hz: float) -> dict[str, str]:
    """Text of every file of the folder, by name."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    files = sources(design)
    values = template_values(design, clock_hz, list(files))
    environment = Environment(
        loader=PackageLoader("hw"), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    environment.filters["ljust"] = str.ljust
    files |= {
        name.replace("module", design.module): environment.get_template(f"{template}.j2").render(values)
        for template, name in TEMPLATES.items()
    }
    files["beats.hex"] = hexadecimal(design.beats, design.payload_bits)
    files["items.hex"] = hexadecimal(design.items, design.item_bits)
    made_from = {
        "module": design.module,
        design.module: type(design.spec).__name__,
        "parameters": asdict(design.spec),
        "clock_hz": clock_hz,
        "sources": values["files"],
    }
    return manifest.sealed(files, made_from)


def template_values(design: Design, clock_hz: float, files: Sequence[str]) -> dict[str, Any]:
    """What the templates speak of."""
    fields, low = [], 0
    for field, bits in design.fields:
        fields.append((field, low, low + bits - 1))
        low += bits
    spare = design.latency + SPARE_CLOCKS
    version = manifest.tools()["planeforge"]
    return {
        "module": design.module,
        "name": repr(design.spec),
        "version": version,
        "core_version": version if version[0].isdigit() else "0",
        "files": list(files),
        "sources": [(file, _what(design, file)) for file in files],
        "width": 2 + max(map(len, [*files, "planeforge.json", f"{design.module}_pins.v"])),
        "waivers": lint.WAIVED,
        "verilator": lint.waived("verilator"),
        "slang": lint.waived("slang"),
        "outputs": design.spec.outputs,
        "acc_width": design.spec.acc_width,
        "fields": fields,
        "beats": len(design.beats),
        "items": len(design.items),
        "payload_bits": design.payload_bits,
        "item_bits": design.item_bits,
        "latency": design.latency,
        "cycles": design.cycles,
        "spare": spare,
        # Each side goes on in three clocks of four; ten times that is no slow run but a stuck one.
        "limit": 10 * (len(design.beats) + 2 * spare),
        "mhz": f"{clock_hz / 1e6:g}",
        "period_ns": f"{1e9 / clock_hz:.3f}",
    }


def _what(design: Design, file: str) -> str:
    """A source file in the README."""
    return "top module" if file == f"{design.module}.v" else f"a part of {design.module}"


def hexadecimal(values: Sequence[int], width: int) -> str:
    """One ``width``-bit value a line, negative ones in two's complement, as $readmemh reads them."""
    return "".join(f"{value % (1 << width):0{-(-width // 4)}x}\n" for value in values)
