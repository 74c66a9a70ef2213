"""RTL as Verilog: the text itself, and a folder that proves and builds it without this project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hw import folder, manifest, toolchain
from hw.beats import FIELDS, Beats, side_by_side
from hw.folder import Block, hexadecimal, put, require_clock
from hw.folder import refuse_foreign as refuse_foreign
from hw.grid import Grid
from hw.spec import PeSpec, built
from hw.stimulus import SPARE_CLOCKS

#: Top module by kind of spec; any other is ``pe``.
MODULES: Mapping[type[PeSpec], str] = {Grid: "array"}

#: Files made from templates beside those of `hw.folder`; ``module`` stands for the top module.
TEMPLATES = {"tb.v": "tb.v", "README.txt": "README.txt"}
#: Those of a design that any fabric takes.
FABRICS = folder.FABRICS | {"pins.v": "module_pins.v"}
VECTORS = ("beats.hex", "items.hex")

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
    prefix: str = ""  #: of the names of all modules
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


def design(spec: PeSpec, beats: Beats, prefix: str = "") -> Design:
    """A PE or a whole array with ``beats`` as its vectors, ``prefix`` before the names of all its modules.

    Raises ValueError if they finish no item or do not fit it.
    """
    listed = beats.to_list()
    payloads = beats.payload(spec).astype("<u4")
    items = [spec.items(listed, output) for output in range(spec.outputs)]
    lasts = tuple(beats.lasts.tolist())
    return Design(
        module=prefix + MODULES.get(type(spec), "pe"),
        prefix=prefix,
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


def export(spec: PeSpec, directory: Path, beats: Beats, *, clock_hz: float = 100e6, prefix: str = "") -> None:
    """Write a PE's folder with ``beats``, the first made to begin an item, as vectors; see `write`.

    Raises: ValueError if the beats finish no item or do not fit the PE, and as `write`
    """
    require_clock(clock_hz)
    refuse_foreign(Path(directory))
    write(design(spec, _begun(spec, beats), prefix), directory, clock_hz=clock_hz)


def _begun(spec: PeSpec, beats: Beats) -> Beats:
    """``beats`` of which the first is a ``first``: they run twice, and no reset clears an accumulator."""
    if "first" not in spec.flags() or not len(beats):
        return beats
    flags = beats.flags.copy()
    flags[0] |= FIELDS["first"]
    return replace(beats, flags=flags)


def write(design: Design, directory: Path, *, clock_hz: float = 100e6) -> None:
    """Write a folder: Verilog, a self-checking testbench with vectors, constraints, scripts.

    The folder appears whole or not at all. One that was written before is replaced, unless somebody added
    files to it or changed one.

    Parameters: clock_hz, target frequency in the constraints [Hz]; it is a target, no result
    Raises:     ValueError if clock_hz is not positive, or if ``directory`` holds anything else; RuntimeError
                if Yosys is missing
    """
    require_clock(clock_hz)
    directory = Path(directory)
    refuse_foreign(directory)
    put(contents(design, clock_hz), directory)


def contents(design: Design, clock_hz: float) -> dict[str, str]:
    """Text of every file of the folder, by name."""
    block = Block(
        module=design.module,
        name=type(design.spec).__name__,
        parameters=built(design.spec),
        rtlil=design.rtlil,
        prefix=design.prefix,
        primitives=design.spec.primitives,
    )
    files = folder.sources(block)
    models = folder.models(block, files)
    named = folder.text_of(block), list(files), VECTORS, clock_hz, list(models)
    values = folder.common(block, *named) | _values(design)
    templates = folder.TEMPLATES | TEMPLATES | ({} if block.primitives else FABRICS)
    files |= models | folder.rendered(templates, values)
    files["beats.hex"] = hexadecimal(design.beats, design.payload_bits)
    files["items.hex"] = hexadecimal(design.items, design.item_bits)
    made_from = {
        "module": design.module,
        design.module: block.name,
        "parameters": block.parameters,
        "clock_hz": clock_hz,
        "sources": values["files"],
        "primitives": block.primitives,
    }
    return manifest.sealed(files, made_from)


def _values(design: Design) -> dict[str, Any]:
    """What the templates of a block with streams of beats and items speak of."""
    fields, low = [], 0
    for field, bits in design.fields:
        fields.append((field, low, low + bits - 1))
        low += bits
    spare = design.latency + SPARE_CLOCKS
    return {
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
    }
