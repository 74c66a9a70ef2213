"""An accelerator as a folder: Verilog, register map, testbench of a driver's session, build scripts.

The same kind of folder as `hw.verilog` writes of a PE or an array.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw import folder, manifest
from hw.accelerator import registers, vectors
from hw.accelerator.commands import RUN_WORDS, Command, Opcode
from hw.accelerator.shell import AxiTop
from hw.accelerator.spec import AcceleratorSpec
from hw.accelerator.vectors import Vectors
from hw.folder import Block, hexadecimal, put, refuse_foreign, require_clock
from hw.spec import built

MODULE = "accelerator"  #: the top module

TEMPLATES = {
    "accelerator_tb.v": "tb.v",
    "accelerator_pins.v": "module_pins.v",
    "accelerator_README.txt": "README.txt",
}
#: Clocks that a pass of the testbench may take for each that it takes without stalls, and for registers.
SLOW, REGISTERS = 10, 10_000
#: Bits of the memory blocks of the parts that ``build.sh ice40`` knows.
#: Source: Lattice, iCE40 LP/HX Family Data Sheet, FPGA-DS-02029; iCE40 UltraPlus, FPGA-DS-02008.
ICE40_BITS = {"hx8k": 131_072, "up5k": 122_880}


def rtlil(spec: AcceleratorSpec) -> str:
    """The accelerator as Yosys' intermediate text, top module `MODULE`, without paths of this machine."""
    from amaranth.back import rtlil as backend

    return str(backend.convert(AxiTop(spec), name=MODULE, emit_src=False))


def write(spec: AcceleratorSpec, commands: Sequence[Command], directory: Path, prefix: str = "") -> Vectors:
    """Write the folder, its testbench playing a session of ``commands``; returns its vectors.

    The target frequency in the constraints is that of the array's spec; ``prefix`` goes before the names of
    all modules.

    Raises: ValueError if the commands fail or bring out no tile, or if ``directory`` holds anything that was
            not written before; RuntimeError if Yosys is missing
    """
    require_clock(spec.array.clock_hz)
    refuse_foreign(directory)
    made = vectors.of(spec, commands)
    put(contents(spec, made, prefix), directory)
    return made


def contents(spec: AcceleratorSpec, made: Vectors, prefix: str = "") -> dict[str, str]:
    """Text of every file of the folder, by name."""
    block = Block(
        module=prefix + MODULE,
        prefix=prefix,
        name=type(spec).__name__,
        parameters=built(spec),
        rtlil=rtlil(spec),
        clock="aclk",
    )
    keep = spec.bus // 8
    numbers = {
        "words.hex": hexadecimal(made.words, spec.bus + 1),
        "tiles.hex": hexadecimal(made.out, spec.bus + keep + 1),
        "steps.hex": vectors.as_text(made.steps),
    }
    files = folder.sources(block)
    clock_hz = spec.array.clock_hz
    values = folder.common(block, folder.text_of(block), list(files), list(numbers), clock_hz) | _values(
        spec, made
    )
    files |= folder.rendered(folder.TEMPLATES | folder.FABRICS | TEMPLATES, values) | numbers
    files |= {"registers.md": registers.markdown(), "registers.h": registers.c_header()}
    made_from = {
        "module": block.module,
        block.module: block.name,
        "pe": type(spec.array.pe).__name__,
        "parameters": block.parameters,
        "clock_hz": clock_hz,
        "sources": values["files"],
    }
    return manifest.sealed(files, made_from)


def _values(spec: AcceleratorSpec, made: Vectors) -> dict[str, Any]:
    """What the templates of an accelerator speak of."""
    return {
        "bus": spec.bus,
        "keep": spec.bus // 8,
        "address_bits": registers.ADDRESS_BITS,
        "words": len(made.words),
        "out": len(made.out),
        "steps": len(made.steps),
        "clocks": made.clocks,
        "limit": REGISTERS + SLOW * made.clocks,
        "runs": made.runs,
        "beats": made.beats,
        "spec": spec,
        "buffers": [(name, b.depth, b.elements, b.bits, b.words) for name, b in spec.buffers().items()],
        "opcodes": [(op.name, int(op)) for op in Opcode],
        "run_words": [_fields(word) for word in RUN_WORDS],
        "ice40": {part: bits >= spec.memory_bits for part, bits in ICE40_BITS.items()},
        "ice40_bits": ICE40_BITS,
    }


def _fields(widths: dict[str, int]) -> str:
    """``name [high:low]`` for each, the first in the lowest bits."""
    found, low = [], 0
    for name, bits in widths.items():
        found.append(f"{name} [{low + bits - 1}:{low}]")
        low += bits
    return "  ".join(found)
