"""A PE as and-gates, inverters and flip-flops, and its clocks unrolled over binary decision diagrams."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hw import toolchain

#: RTL to two-input gates; every flip-flop then is plain: enable and reset are gates before it.
#: A value the RTL leaves open (a case that cannot be) becomes 0. Memories become registers.
_GATES = """
read_rtlil pe.il
hierarchy -top pe
proc
flatten -noscopeinfo
opt
memory
opt
techmap -map ripple.v -map +/techmap.v
dffunmap
simplemap
setundef -zero
aigmap
opt_clean
write_json pe.json
"""

#: Adders whose carries ripple: fast carry networks hide which gates are an adder's.
_RIPPLE = """
(* techmap_celltype = "$lcu" *)
module _80_lcu_ripple (P, G, CI, CO);
parameter WIDTH = 1;
(* force_downto *)
input [WIDTH-1:0] P, G;
input CI;
(* force_downto *)
output [WIDTH-1:0] CO;
assign CO = G | (P & {CO, CI});
endmodule
"""

Bit = int | str  #: a net by Yosys' number, or a constant "0", "1", "x"


class Algebra(Protocol):
    """What gates compute with."""

    def both(self, a: Any, b: Any, /) -> Any:
        """``a`` and ``b``."""

    def inverse(self, a: Any, /) -> Any:
        """Not ``a``."""


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """Gates and flip-flops of one clock domain."""

    ports: Mapping[str, Sequence[Bit]]  #: bits by port, lowest first
    gates: Mapping[Bit, tuple[Bit, ...]]  #: an output's inputs: two of an AND, one of an inverter
    flops: Mapping[Bit, Bit]  #: a register's next value, by its output
    init: Mapping[Bit, str]  #: "0" or "1" by register, where the RTL has an initial value
    names: Mapping[Bit, str]  #: ``signal[bit]`` by net
    words: Mapping[str, Sequence[Bit]]  #: bits by signal, lowest first

    def visit(self, roots: Sequence[Bit]) -> Iterator[Bit]:
        """Every net ``roots`` depend on, through registers too, each after what drives it, depth first."""
        seen: set[Bit] = set()
        stack = [(root, False) for root in reversed(roots)]
        while stack:
            net, done = stack.pop()
            if done:
                yield net
            elif net not in seen:
                seen.add(net)
                stack.append((net, True))
                inputs = self.gates.get(net, (self.flops[net],) if net in self.flops else ())
                stack.extend((source, False) for source in reversed(inputs))

    def evaluate(self, values: dict[Bit, Any], wanted: Sequence[Bit], algebra: Algebra) -> None:
        """Add to ``values`` (inputs, registers and constants) what the gates make of them, for ``wanted``."""
        stack = list(wanted)
        while stack:
            net = stack[-1]
            missing = [] if net in values else [n for n in self.gates[net] if n not in values]
            if missing:
                stack += missing
                continue
            stack.pop()
            if net not in values:
                inputs = [values[n] for n in self.gates[net]]
                values[net] = algebra.both(*inputs) if len(inputs) == 2 else algebra.inverse(*inputs)

    def name(self, net: Bit) -> str:
        """A name of the net in the RTL, with the bit's place in it."""
        return self.names.get(net, f"net {net}")


def of_rtlil(design: str) -> Circuit:
    """The circuit of RTLIL text whose top module is ``pe``.

    Raises RuntimeError if Yosys is missing or fails, or if it leaves a cell that is no gate or flip-flop.
    """
    with tempfile.TemporaryDirectory(prefix="planeforge-formal-") as name:
        folder = Path(name)
        (folder / "pe.il").write_text(design)
        (folder / "ripple.v").write_text(_RIPPLE)
        toolchain.yosys(_GATES, folder)
        return of_json(json.loads((folder / "pe.json").read_text())["modules"]["pe"])


def of_json(module: Mapping[str, Any]) -> Circuit:
    """The circuit of a module in Yosys' JSON. Raises RuntimeError on a cell of another kind."""
    gates: dict[Bit, tuple[Bit, ...]] = {}
    flops: dict[Bit, Bit] = {}
    for cell in module["cells"].values():
        pins = {name: bits[0] for name, bits in cell["connections"].items()}
        kind = cell["type"]
        if kind == "$_AND_":
            gates[pins["Y"]] = (pins["A"], pins["B"])
        elif kind == "$_NOT_":
            gates[pins["Y"]] = (pins["A"],)
        elif kind == "$_DFF_P_":
            flops[pins["Q"]] = pins["D"]
        else:
            raise RuntimeError(f"cells must be gates or flip-flops of one clock, not {kind!r}")
    init: dict[Bit, str] = {}
    names: dict[Bit, str] = {}
    for name, net in module["netnames"].items():
        text = net["attributes"].get("init", "")
        init |= {bit: value for bit, value in zip(net["bits"], reversed(text), strict=False) if value != "x"}
        names |= {bit: f"{name}[{place}]" for place, bit in enumerate(net["bits"]) if bit not in names}
    words = {name: net["bits"] for name, net in module["netnames"].items()}
    ports = {name: port["bits"] for name, port in module["ports"].items()}
    return Circuit(ports=ports, gates=gates, flops=flops, init=init, names=names, words=words)
