"""A folder that lints, builds and proves a design without this project: what every design's folder shares."""

from __future__ import annotations

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
    "ecp5.ys": "ecp5.ys",
    "ice40.ys": "ice40.ys",
    "vivado.tcl": "vivado.tcl",
    "module.sdc": "module.sdc",
    "module.xdc": "module.xdc",
}


@dataclass(frozen=True, kw_only=True)
class Block:
    """A top module and what was made from which parameters."""

    module: str
    name: str  #: of the kind of design
    parameters: Mapping[str, Any]
    rtlil: str
    clock: str = "clk"  #: port of the clock


def sources(block: Block) -> dict[str, str]:
    """Verilog files by name, a module each, headed by what they were made from and the top module last."""
    modules = hierarchy.verilog(block.rtlil)
    tools = ", ".join(f"{name} {version}" for name, version in manifest.tools().items())
    order = sorted(modules, key=lambda name: (name == block.module, name))
    return {f"{name}.v": f"{_head(block, name, tools)}\n{modules[name]}" for name in order}


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


def common(
    block: Block, text: str, files: Sequence[str], vectors: Sequence[str], clock_hz: float
) -> dict[str, Any]:
    """What all templates speak of.

    Parameters: text, the design in one line; files, its Verilog; vectors, what its testbench reads
    """
    version = manifest.tools()["planeforge"]
    return {
        "module": block.module,
        "name": text,
        "version": version,
        "core_version": version if version[0].isdigit() else "0",
        "files": list(files),
        "sources": [
            (file, "top module" if file == f"{block.module}.v" else f"a part of {block.module}")
            for file in files
        ],
        "width": 2 + max(map(len, [*files, *vectors, "planeforge.json", f"{block.module}_pins.v"])),
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

    One that was written before is replaced, unless somebody added files to it.

    Raises ValueError if ``directory`` holds anything else.
    """
    refuse_foreign(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as scratch:
        fresh = Path(scratch) / "new"
        fresh.mkdir()
        for name, text in files.items():
            (fresh / name).write_text(text)
        (fresh / "build.sh").chmod(0o755)
        _replace(directory, fresh, Path(scratch) / "old")


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
