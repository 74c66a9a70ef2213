"""A folder that lints, builds and proves a design without this project: what every design's folder shares."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw import hierarchy, lint, manifest

#: Files that every design has, made from templates; ``module`` in a name stands for the top module.
TEMPLATES = {
    "build.sh": "build.sh",
    "module.core": "module.core",
    "yosys.ys": "yosys.ys",
    "vivado.tcl": "vivado.tcl",
    "module.sdc": "module.sdc",
    "module.xdc": "module.xdc",
}
#: Those of designs that are not made of one family's cells.
FABRICS = {"ecp5.ys": "ecp5.ys", "ice40.ys": "ice40.ys"}


_CELL = re.compile(r"^  (LUT6_2|LUT\d|CARRY4) ", re.M)  #: an instance of a primitive


@dataclass(frozen=True, kw_only=True)
class Block:
    """A top module and what was made from which parameters."""

    module: str
    name: str  #: of the kind of design
    parameters: Mapping[str, Any]
    rtlil: str
    clock: str = "clk"  #: port of the clock
    prefix: str = ""  #: before the name of every module, that of ``module`` included
    primitives: str = ""  #: `hw.spec.PeSpec.primitives`


def sources(block: Block) -> dict[str, str]:
    """Verilog files by name, a module each, headed by what they were made from and the top module last."""
    modules = prefixed(hierarchy.verilog(block.rtlil), block.prefix)
    tools = ", ".join(f"{name} {version}" for name, version in manifest.tools().items())
    order = sorted(modules, key=lambda name: (name == block.module, name))
    return {f"{name}.v": f"{_head(block, name, tools)}\n{modules[name]}" for name in order}


def prefixed(modules: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Modules by name with ``prefix`` before each name, where it is declared and where it is an instance's.

    Raises ValueError if ``prefix`` is not how a Verilog identifier begins.
    """
    if not prefix:
        return dict(modules)
    if not re.fullmatch(r"[A-Za-z]\w*", prefix, re.ASCII):
        raise ValueError(f"prefix must be letters, digits and _ after a letter, not {prefix!r}")
    names = "|".join(map(re.escape, modules))
    place = re.compile(rf"^(module |  )({names})(?=\(| [A-Za-z_]\w* \()", re.M)
    return {prefix + name: place.sub(rf"\g<1>{prefix}\2", text) for name, text in modules.items()}


def models(block: Block, files: Mapping[str, str]) -> dict[str, str]:
    """Verilog of what the primitives in a design's Verilog do, by file, for simulators."""
    if not block.primitives:
        return {}
    cells = sorted(set(_CELL.findall("\n".join(files.values()))))
    plain = [cell for cell in cells if re.fullmatch(r"LUT\d", cell)]
    made = rendered({f"{cell}.v": f"{cell}.v" for cell in cells if cell not in plain}, {"module": ""})
    for cell in plain:
        made |= {
            f"{cell}.v": rendered({"LUT.v": "LUT.v"}, {"module": "", "cell": cell, "inputs": int(cell[3:])})[
                "LUT.v"
            ]
        }
    return made


def _head(block: Block, module: str, tools: str) -> str:
    """Comment over a module: what it is, the parameters, what made it."""
    part = "" if module == block.module else f", a part of {block.module}"
    lines = [f"module {module}{part}", block.name, *_parameters(block.parameters), tools]
    return "".join(f"// {line}\n" for line in lines)


def _parameters(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``array.pe.lanes = 64`` for each."""
    lines = []
    for name, value in values.items():
        inner = isinstance(value, Mapping)
        lines += _parameters(value, f"{prefix}{name}.") if inner else [f"{prefix}{name} = {value!r}"]
    return lines


def text_of(block: Block) -> str:
    """A block in one line."""
    return f"{block.name}: {', '.join(_parameters(block.parameters))}"


def common(
    block: Block,
    text: str,
    files: Sequence[str],
    vectors: Sequence[str],
    clock_hz: float,
    models: Sequence[str] = (),
) -> dict[str, Any]:
    """What all templates speak of.

    Parameters: text, the design in one line; files, its Verilog; vectors, what its testbench reads; models,
    Verilog of primitives that simulators need
    """
    version = manifest.tools()["planeforge"]
    return {
        "module": block.module,
        "name": text,
        "version": version,
        "core_version": version if version[0].isdigit() else "0",
        "files": list(files),
        "models": list(models),
        "primitives": block.primitives,
        "sources": [
            (file, "top module" if file == f"{block.module}.v" else f"a part of {block.module}")
            for file in files
        ],
        "width": 2 + max(map(len, [*files, *models, *vectors, "planeforge.json", f"{block.module}_pins.v"])),
        "vectors": list(vectors),
        "clock": block.clock,
        "waivers": lint.WAIVED,
        "verilator": lint.waived("verilator"),
        "slang": lint.waived("slang"),
        "mhz": f"{clock_hz / 1e6:g}",
        "period_ns": f"{1e9 / clock_hz:.3f}",
    }


def rendered(templates: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, str]:
    """Templates' texts by the files they become; ``module`` in a file's name stands for the top module."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("hw"), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    environment.filters["ljust"] = str.ljust
    return {
        name.replace("module", values["module"]): environment.get_template(f"{template}.j2").render(values)
        for template, name in templates.items()
    }


def put(files: Mapping[str, str], directory: Path) -> None:
    """Write a folder of ``files`` (text by name), whole or not at all.

    One that was written before is replaced, unless somebody added files to it or changed one.

    Raises ValueError if ``directory`` holds anything else, files changed since, or cannot be made.
    """
    refuse_foreign(directory)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-")
    except OSError as error:
        raise ValueError(
            f"directory must be where a folder can be made, not {str(directory)!r} ({error.strerror})"
        ) from None
    with scratch as beside:
        fresh = Path(beside) / "new"
        fresh.mkdir()
        for name, text in files.items():
            (fresh / name).write_text(text)
        (fresh / "build.sh").chmod(0o755)
        _replace(directory, fresh, Path(beside) / "old")


def _replace(directory: Path, fresh: Path, old: Path) -> None:
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
    """Raise ValueError if ``directory`` is there and holds anything that `put` did not write."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ValueError(f"directory must be a folder, not the file {str(directory)!r}")
    found = {path.name for path in directory.iterdir()}
    ours = manifest.written(directory)
    edited = [name for name in (manifest.changed(directory) if ours else []) if name in found]
    if edited:
        raise ValueError(
            f"directory must hold what planeforge wrote, not a changed {', '.join(edited[:3])}"
            " (move it away to keep it, delete it to replace it)"
        )
    if found - ours:
        raise ValueError(
            f"directory must be empty or one written before, not {str(directory)!r}"
            f" which holds {', '.join(sorted(found - ours)[:3])}"
        )


def require_clock(clock_hz: float) -> None:
    """Raise ValueError unless a target frequency is positive."""
    if not clock_hz > 0:
        raise ValueError(f"clock_hz must be positive, not {clock_hz!r}")


def hexadecimal(values: Sequence[int], width: int) -> str:
    """One ``width``-bit value a line, negative ones in two's complement, as $readmemh reads them."""
    return "".join(f"{value % (1 << width):0{-(-width // 4)}x}\n" for value in values)
