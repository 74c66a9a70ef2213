"""A flat circuit of word-level cells: read from Yosys, changed cell by cell, written back as RTLIL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hw import toolchain

#: One bit of a signal: the number of a net, or a constant (0, 1, x).
Bit = int | str
Bits = tuple[Bit, ...]
Pins = Mapping[str, Bits]

#: Registers become cells, the hierarchy goes, and operands lose the bits that nobody reads.
_SCRIPT = """
proc
flatten -noscopeinfo
opt
wreduce
opt_clean -purge
write_json
"""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A Yosys cell. Pins hold their lowest bit first."""

    kind: str  #: Yosys' type, such as ``$add``
    parameters: Mapping[str, str]  #: as RTLIL writes them
    inputs: Mapping[str, Bits]
    outputs: Mapping[str, Bits]  #: nets that no other cell drives


@dataclass(kw_only=True)
class Circuit:
    """Cells between ports; grows by `cell`, whose outputs are new nets."""

    inputs: dict[str, Bits]
    outputs: dict[str, Bits]
    cells: list[Cell] = field(default_factory=list)
    ones: frozenset[Bit] = frozenset()  #: nets that hold 1 before the first clock; all others hold 0
    names: Mapping[Bit, str] = field(default_factory=dict)  #: signal a net belongs to, as its author named it
    nets: int = 0  #: numbers in use are below this

    def fresh(self, width: int) -> Bits:
        """New nets."""
        self.nets += width
        return tuple(range(self.nets - width, self.nets))

    def cell(self, kind: str, inputs: Mapping[str, Bits], width: int, **parameters: int) -> Bits:
        """Add a cell; returns its output ``Y``. Widths of ``A`` and ``B`` are filled in, unsigned."""
        sizes: dict[str, int] = {}
        if kind not in ("$mux", "$pmux"):
            sizes["Y_WIDTH"] = width
            for pin, bits in inputs.items():
                sizes |= {f"{pin}_WIDTH": len(bits), f"{pin}_SIGNED": 0}
        words = {name: str(value) for name, value in (sizes | parameters).items()}
        output = self.fresh(width)
        self.cells.append(Cell(kind=kind, parameters=words, inputs=inputs, outputs={"Y": output}))
        return output

    def mux(self, a: Bits, b: Bits, select: Bits) -> Bits:
        """``b`` where the one-bit ``select`` is 1, else ``a``."""
        return self.cell("$mux", {"A": a, "B": b, "S": select}, len(a), WIDTH=len(a))

    def inverted(self, bits: Bits) -> Bits:
        """Every bit inverted."""
        return self.cell("$not", {"A": bits}, len(bits))

    def both(self, a: Bits, b: Bits) -> Bits:
        """AND, bit by bit."""
        return self.cell("$and", {"A": a, "B": b}, len(a))

    def name_of(self, bits: Bits) -> str:
        """The signal that most plainly names ``bits``, as ``name[bit]`` if it has several bits."""
        found = sorted((self.names[bit] for bit in bits if bit in self.names), key=len)
        return found[0] if found else "an unnamed net"


def read(rtlil: str, module: str) -> Circuit:
    """The module, flattened. Raises RuntimeError if Yosys is missing or refuses the text."""
    text = toolchain.builtin_yosys(rtlil, _SCRIPT)
    design = json.JSONDecoder().raw_decode(text, text.index("{"))[0]["modules"][module]
    cells = [_cell(cell) for cell in design["cells"].values()]
    ports = {
        direction: {
            name: tuple(port["bits"])
            for name, port in design["ports"].items()
            if port["direction"] == direction
        }
        for direction in ("input", "output")
    }
    nets = [bit for cell in cells for bits in (*cell.inputs.values(), *cell.outputs.values()) for bit in bits]
    nets += [bit for by_name in ports.values() for bits in by_name.values() for bit in bits]
    names, ones = _names(design["netnames"])
    return Circuit(
        inputs=ports["input"],
        outputs=ports["output"],
        cells=cells,
        ones=ones,
        names=names,
        nets=1 + max(bit for bit in nets if isinstance(bit, int)),
    )


def _cell(cell: Mapping[str, Any]) -> Cell:
    pins: dict[str, dict[str, Bits]] = {"input": {}, "output": {}}
    for pin, bits in cell["connections"].items():
        pins[cell["port_directions"][pin]][pin] = tuple(bits)
    parameters = {name: _constant(value) for name, value in cell["parameters"].items()}
    return Cell(kind=cell["type"], parameters=parameters, inputs=pins["input"], outputs=pins["output"])


def _constant(value: str) -> str:
    """A parameter as RTLIL: Yosys' JSON writes numbers as strings of bits."""
    return f"{len(value)}'{value}" if set(value) <= set("01xz-") else json.dumps(value)


def _names(netnames: Mapping[str, Any]) -> tuple[dict[Bit, str], frozenset[Bit]]:
    names: dict[Bit, str] = {}
    ones = []
    for name, net in netnames.items():
        start = str(net["attributes"].get("init", ""))[::-1]
        ones += [bit for bit, value in zip(net["bits"], start, strict=False) if value == "1"]
        if not net["hide_name"]:
            for at, bit in enumerate(net["bits"]):
                names.setdefault(bit, name if len(net["bits"]) == 1 else f"{name}[{at}]")
    return names, frozenset(ones)


def to_rtlil(circuit: Circuit, module: str = "dut") -> str:
    """RTLIL of one module with the circuit's ports."""
    wires: list[str] = []
    where: dict[Bit, str] = {constant: f"1'{constant}" for constant in "01xz"}
    for at, (name, bits) in enumerate(circuit.inputs.items(), 1):
        wires.append(f"wire width {len(bits)} input {at} \\{name}")
        where |= {bit: f"\\{name} [{index}]" for index, bit in enumerate(bits)}
    for at, (name, bits) in enumerate(circuit.outputs.items(), 1 + len(circuit.inputs)):
        wires.append(f"wire width {len(bits)} output {at} \\{name}")
    for at, cell in enumerate(circuit.cells):
        for pin, bits in cell.outputs.items():
            start = "".join("1" if bit in circuit.ones else "0" for bit in reversed(bits))
            wires += [f"attribute \\init {len(bits)}'{start}"] if pin == "Q" else []
            wires.append(f"wire width {len(bits)} $w{at}{pin}")
            where |= {bit: f"$w{at}{pin} [{index}]" for index, bit in enumerate(bits)}
    ends = [f"connect \\{name} {_signal(bits, where)}" for name, bits in circuit.outputs.items()]
    for name, bits in _named(circuit).items():
        wires.append(f"wire width {len(bits)} \\{name}")
        ends.append(f"connect \\{name} {_signal(bits, where)}")
    body = [line for at, cell in enumerate(circuit.cells) for line in _written(cell, at, where)]
    return "\n".join([f"module \\{module}", *wires, *body, *ends, "end", ""])


def _named(circuit: Circuit) -> dict[str, Bits]:
    """Signals all of whose bits are there, as their author named them, but for ports."""
    found: dict[str, dict[int, Bit]] = {}
    driven = {bit for cell in circuit.cells for bits in cell.outputs.values() for bit in bits}
    for bit, text in circuit.names.items():
        name, _, place = text.removesuffix("]").rpartition("[") if text.endswith("]") else (text, "", "0")
        if bit in driven:
            found.setdefault(name, {}).setdefault(int(place), bit)
    whole = {name: bits for name, bits in found.items() if sorted(bits) == list(range(len(bits)))}
    ports = {**circuit.inputs, **circuit.outputs}
    return {
        name: tuple(bits[at] for at in range(len(bits))) for name, bits in whole.items() if name not in ports
    }


def _written(cell: Cell, at: int, where: Mapping[Bit, str]) -> Sequence[str]:
    parameters = [f"  parameter \\{name} {value}" for name, value in cell.parameters.items()]
    inputs = [f"  connect \\{pin} {_signal(bits, where)}" for pin, bits in cell.inputs.items()]
    outputs = [f"  connect \\{pin} $w{at}{pin}" for pin in cell.outputs]
    return [f"cell {cell.kind} $c{at}", *parameters, *inputs, *outputs, "end"]


def _signal(bits: Bits, where: Mapping[Bit, str]) -> str:
    return "{ " + " ".join(where[bit] for bit in reversed(bits)) + " }"
