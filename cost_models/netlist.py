"""A mapped design joined with its library: loads, delays, and a Verilog bench that runs it.

Every gate gets the delay its library states for the load it drives and a middling input slew, so paths of
unequal length glitch as they would in silicon; wires are an assumed capacitance per driven pin.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cost_models.liberty import Cell, Library, Pin, verilog

#: resolution of the simulation [s]
STEP_S = 1e-13


@dataclass(frozen=True)
class Gate:
    """An instance of a cell."""

    name: str
    cell: Cell
    nets: Mapping[str, int | str]  #: pin to net number, or to the constant '0' or '1'


class Netlist:
    """A flat mapped design: Yosys JSON joined with its library."""

    def __init__(self, text: str, top: str, library: Library, wire_f: float) -> None:
        """``wire_f`` is the wire capacitance per driven pin [F]."""
        module = json.loads(text)["modules"][top]
        self.library = library
        self.ports: dict[str, tuple[str, list[int | str]]] = {
            name: (port["direction"], port["bits"]) for name, port in module["ports"].items()
        }
        self.gates = [
            Gate(
                name, library.cells[cell["type"]], {pin: bits[0] for pin, bits in cell["connections"].items()}
            )
            for name, cell in module["cells"].items()
        ]
        #: capacitance each net drives [F]
        self.load: dict[int | str, float] = defaultdict(float)
        for gate in self.gates:
            for name, pin in gate.cell.pins.items():
                if pin.direction == "input" and name in gate.nets:
                    self.load[gate.nets[name]] += pin.capacitance + wire_f
        self.slew = _middle(library)

    def delay(self, pin: Pin, net: int | str) -> float:
        """Mean delay of an output pin into its net's load [s]."""
        load = self.load[net] / self.library.capacitance_f
        delays = [table.at(self.slew, load) for _, tables in pin.delay for table in tables]
        mean = sum(delays) / len(delays) if delays else 0.0
        return max(mean * self.library.time_s, STEP_S)

    def outputs(self, gate: Gate) -> Iterable[tuple[str, Pin, int | str]]:
        """Connected output pins of a gate: name, pin, net."""
        for name, pin in gate.cell.pins.items():
            if pin.direction == "output" and name in gate.nets:
                yield name, pin, gate.nets[name]


def _middle(library: Library) -> float:
    """The middle input slew of the library's own delay tables: neither a sharp nor a dull edge."""
    for cell in library.cells.values():
        for pin in cell.pins.values():
            for _, tables in pin.delay:
                if tables[0].slews:
                    return tables[0].slews[len(tables[0].slews) // 2]
    return 0.0


def slowest(design: Netlist) -> float:
    """Longest sum of gate delays from a register or input to any net [s]."""
    driver = {
        net: (gate, pin)
        for gate in design.gates
        if gate.cell.next_state is None
        for _, pin, net in design.outputs(gate)
    }
    arrival: dict[int | str, float] = {}
    # An explicit stack: adder chains are deeper than Python's recursion.
    for start in driver:
        stack = [start]
        while stack:
            net = stack[-1]
            if net in arrival or net not in driver:
                arrival.setdefault(net, 0.0)
                stack.pop()
                continue
            gate, pin = driver[net]
            before = [
                gate.nets[name]
                for name, q in gate.cell.pins.items()
                if q.direction == "input" and name in gate.nets
            ]
            missing = [source for source in before if source not in arrival]
            if missing:
                stack += missing
                continue
            arrival[net] = max((arrival[source] for source in before), default=0.0) + design.delay(pin, net)
            stack.pop()
    return max(arrival.values(), default=0.0)


def period(path_s: float) -> int:
    """Clock period in steps: twice the slowest path, so that every net settles."""
    return 2 * max(50, round(path_s / STEP_S)) + 20


def _net(bit: int | str) -> str:
    return f"n{bit}" if isinstance(bit, int) else f"1'b{bit if bit in '01' else '0'}"


def _expression(function: str, names: Mapping[str, str]) -> str:
    """A liberty function over nets; a pin that is left open reads as 0."""
    return re.sub(r"[A-Za-z_]\w*", lambda found: names.get(found[0], "1'b0"), verilog(function))


def bench(design: Netlist, stimulus: Mapping[str, Sequence[int]], cycles: int, path_s: float) -> str:
    """Verilog that runs the design on ``stimulus`` and dumps every net as ``n<number>``.

    Inputs take their next value 0.1 ps after the rising edge of ``clk``, the first value before any edge.
    Raises ValueError where an asynchronous set or clear is driven.
    """
    nets = {bit for gate in design.gates for bit in gate.nets.values() if isinstance(bit, int)}
    nets |= {bit for _, bits in design.ports.values() for bit in bits if isinstance(bit, int)}
    inputs = [name for name, (direction, _) in design.ports.items() if direction == "input" and name != "clk"]
    bits = [(name, k, bit) for name in inputs for k, bit in enumerate(design.ports[name][1])]
    clk = _net(design.ports["clk"][1][0])
    half = period(path_s) // 2
    lines = ["`timescale 100fs/100fs", "module bench;"]
    lines += [f"  {'reg' if _net(net) == clk else 'wire'} n{net};" for net in sorted(nets)]
    lines += [
        f"  reg [{len(bits) - 1}:0] vectors [0:{cycles - 1}];",
        f"  reg [{len(bits) - 1}:0] now;",
        "  integer cycle;",
    ]
    lines += [f"  assign {_net(bit)} = now[{i}];" for i, (_, _, bit) in enumerate(bits)]
    for i, gate in enumerate(design.gates):
        lines += _instance(design, gate, i, clk)
    rows = [
        "".join(str(stimulus[name][cycle] >> k & 1) for name, k, _ in reversed(bits))
        for cycle in range(cycles)
    ]
    lines += [
        "  initial begin",
        *(f"    vectors[{i}] = {len(bits)}'b{row};" for i, row in enumerate(rows)),
        "    now = vectors[0];",
        f"    {clk} = 0;",
        '    $dumpfile("gates.vcd");',
        "    $dumpvars(1, bench);",
        f"    for (cycle = 1; cycle < {cycles}; cycle = cycle + 1) begin",
        f"      #{half} {clk} = 1;",
        "      #1 now = vectors[cycle];",
        f"      #{half - 1} {clk} = 0;",
        "    end",
        "    $finish;",
        "  end",
        "endmodule",
    ]
    return "\n".join(lines) + "\n"


def _instance(design: Netlist, gate: Gate, index: int, clk: str) -> list[str]:
    names = {pin: _net(net) for pin, net in gate.nets.items()}
    lines = []
    cell = gate.cell
    if cell.next_state is not None:
        for control in (cell.clear, cell.preset):
            if control and not _is_idle(control, names):
                raise ValueError(
                    f"netlist must tie asynchronous {control!r} of {gate.name} off, not drive it"
                )
        lines += [
            f"  reg q{index} = 0;",
            f"  always @(posedge {clk}) q{index} <= {_expression(cell.next_state, names)};",
        ]
        names |= {cell.state[0]: f"q{index}", cell.state[1]: f"(~q{index})"}
    for _, pin, net in design.outputs(gate):
        steps = max(1, round(design.delay(pin, net) / STEP_S))
        lines.append(f"  assign #{steps} {_net(net)} = {_expression(pin.function, names)};")
    return lines


def _is_idle(control: str, names: Mapping[str, str]) -> bool:
    """Whether an asynchronous control is a constant 0: ``!R`` with R tied high."""
    text = _expression(control, names).replace("(", "").replace(")", "")
    return text in ("1'b0", "~1'b1")
