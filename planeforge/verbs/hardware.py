"""``planeforge verilog | synth``: RTL to disk, and through real synthesis."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from planeforge.hardware import DEFAULT_PE
from planeforge.output import show, table

if TYPE_CHECKING:
    from hw.accelerator.spec import AcceleratorSpec
    from hw.spec import ArraySpec, PeSpec


def verilog(
    pe: str = typer.Option(DEFAULT_PE, help="PE, as NAME or NAME:key=value,..."),
    array: str = typer.Option("", help="A whole array of it, ROWSxCOLUMNS."),
    accelerator: str = typer.Option(
        "", help="An accelerator around such an array, ROWSxCOLUMNS[:key=value,...]."
    ),
    output: Path = typer.Option(..., "-o", "--output", help="Folder to write; it appears whole."),
    vectors: int = typer.Option(1000, help="Beats in the self-checking testbench of a PE or an array."),
    matrix: Path | None = typer.Option(
        None, help="Packed file whose first rows an accelerator's testbench computes; else random ones."
    ),
    layer: str = typer.Option("", help="Which matrix, where the file holds several."),
    act_bits: int = typer.Option(8, help="Bits of an activation integer beside --matrix; 1: -1/+1."),
    seed: int = typer.Option(0, help="Of the testbench's random beats, or matrix and activations."),
    prefix: str = typer.Option("", help="Before the name of every module, where a project has others."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Write Verilog, a self-checking testbench with vectors, constraints and build scripts.

    Example: planeforge verilog --accelerator 4x4:scaling=serial --pe bitserial:lanes=64 -o rtl
    """
    from planeforge import hardware

    if vectors < 1:
        raise ValueError(f"vectors must be at least 1, not {vectors!r}")
    if accelerator and array:
        raise ValueError(f"array must be empty beside --accelerator, not {array!r}")
    if matrix is not None and not accelerator:
        raise ValueError(f"matrix must come with --accelerator, not alone: {str(matrix)!r}")
    result: dict[str, Any] = {"pe": pe, "array": array, "accelerator": accelerator}
    spec: PeSpec | ArraySpec | AcceleratorSpec
    if accelerator:
        spec = hardware.accelerator(accelerator, pe)
        result |= _export_accelerator(spec, output, matrix, layer, act_bits, seed, prefix)
    else:
        spec = hardware.array(array, pe) if array else hardware.pe(pe)
        _export(spec, output, vectors, seed, prefix)
    files = sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
    result |= {"parameters": asdict(spec), "directory": str(output), "files": files}
    show(result, as_json, lambda: print(f"{output}: {', '.join(files)}"))


def _export_accelerator(
    spec: AcceleratorSpec,
    output: Path,
    matrix: Path | None,
    layer: str,
    act_bits: int,
    seed: int,
    prefix: str,
) -> dict[str, int]:
    """Write the folder; returns what its testbench plays."""
    from hw.accelerator import export
    from planeforge import accelerator_tiles
    from planeforge.packed import chosen, read

    if matrix is None:
        part, activations = accelerator_tiles.rehearsal(spec, seed)
    else:
        [whole] = chosen(read(matrix)[0], layer).values()
        part, activations = accelerator_tiles.first_rows(whole, spec, act_bits, seed)
    made = export.write(spec, accelerator_tiles.commands(part, activations, spec), output, prefix=prefix)
    return {"runs": made.runs, "beats": made.beats, "clocks": made.clocks}


def _export(spec: PeSpec | ArraySpec, output: Path, vectors: int, seed: int, prefix: str) -> None:
    from hw import verilog as folder
    from hw.beats import Beats
    from hw.grid import Grid
    from hw.pipeline import require_ports
    from hw.spec import ArraySpec

    made = Grid(array=spec) if isinstance(spec, ArraySpec) else spec
    require_ports(made)
    clock_hz = {"clock_hz": spec.clock_hz} if isinstance(spec, ArraySpec) else {}
    folder.export(made, output, Beats.random(made, vectors, seed), prefix=prefix, **clock_hz)


def synth(
    directory: Path = typer.Argument(..., help="Folder `planeforge verilog` wrote."),
    target: str = typer.Option(..., help="ice40, ecp5, xilinx or liberty."),
    liberty: Path | None = typer.Option(None, help="Cell library, .lib or .lib.gz, for target liberty."),
    device: str = typer.Option("", help="25k, 45k, 85k (ecp5); hx8k, up5k (ice40); default: the first."),
    speed: int = typer.Option(6, help="Speed grade of an ECP5: 6, 7 or 8."),
    seeds: int = typer.Option(1, help="Placements, whose median fmax counts."),
    edited: bool = typer.Option(False, help="Take a folder whose files were changed since."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Synthesize with Yosys: cells, area, and fmax where a placer is at hand.

    iCE40 has no placement without pins: its fmax is that of the block behind its TOP_pins.v.

    Example: planeforge synth rtl --target ecp5 --device 85k --speed 8 --seeds 5
    """
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, not {seeds!r}")
    result = _synthesized(directory, target, liberty, device, speed, seeds, edited)
    rows: list[dict[str, Any]] = [
        {"figure": key, "value": value}
        for key, value in result.items()
        if value not in (None, "", []) and key not in ("script", "cells")
    ]
    rows += [{"figure": f"cells {kind}", "value": count} for kind, count in sorted(result["cells"].items())]
    show(result, as_json, lambda: table(rows))


def _synthesized(
    directory: Path, target: str, liberty: Path | None, device: str, speed: int, seeds: int, edited: bool
) -> dict[str, Any]:
    from hw import manifest
    from hw import synth as flow

    texts, top, changed = _sources(directory, edited)
    primitives = manifest.read(directory).get("primitives", "")
    if primitives and target != primitives:
        raise ValueError(f"target must be {primitives} for a design of its cells, not {target!r}")
    part: dict[str, Any] = {"device": device, "speed": speed, "seeds": range(1, 1 + seeds)}
    rtl = "\n".join(text for name, text in texts.items() if name != f"{top}_pins.v")
    found = flow.synthesize(rtl, top, target, liberty, place=target == "ecp5", **part)
    result = asdict(found)
    if target == "ice40":
        pins = f"{top}_pins"
        placed = flow.synthesize("\n".join(texts.values()), pins, target, place=True, **part)
        result |= {name: getattr(placed, name) for name in ("fmax_hz", "fmax_spread_hz")}
        result["fmax_note"] = f"{placed.fmax_note}, as {pins}"
        result["seconds"] += placed.seconds
    result.pop("netlist")
    return result | {"changed": changed}


def _sources(directory: Path, edited: bool) -> tuple[dict[str, str], str, list[str]]:
    """Verilog of a folder by file, its top module, and what is not as it was written.

    Raises ValueError for another folder, or for a changed one unless it is known to be ``edited``.
    """
    from hw import manifest

    changed = manifest.changed(directory)
    if changed and not edited:
        raise ValueError(
            f"directory must hold what planeforge wrote, not a changed {', '.join(changed[:3])}"
            " (--edited takes it as it is)"
        )
    made = manifest.read(directory)
    top: str = made["module"]
    pins = [] if made.get("primitives") else [f"{top}_pins.v"]
    names = [*made["sources"], *pins]
    return {name: (directory / name).read_text() for name in names}, top, changed


COMMANDS = {"verilog": verilog, "synth": synth}
