"""A PE's circuit before synthesis: its RTL, word by word, as gates of up to three inputs and flip-flops.

What Amaranth elaborates is taken as it is; no synthesizer sees it, and no library. So the toggles counted on
it (`energy_toggles`) belong to the PE and not to a technology.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from graphlib import TopologicalSorter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cost_models.energy_gates import AND, ONE, OR, XOR, ZERO, Gates, Literal, kind_of
from hw.spec import PeSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class Circuit:
    """Nodes 0 to n - 1: the constant 0, sources, and gates, each after what it reads."""

    reads: NDArray[np.int32]  #: [n, 3] nodes that a gate reads; the constant 0 where it reads fewer
    tables: NDArray[np.uint8]  #: [n] truth table, `cost_models.energy_gates`
    kinds: NDArray[np.int8]  #: [n] index into `energy_gates.KINDS`; -1: constant, -2: input, -3: flip-flop
    inputs: Mapping[str, NDArray[np.int32]]  #: nodes of each input port
    outputs: Mapping[str, NDArray[np.int32]]  #: literals of each output port
    flops: NDArray[np.int32]  #: [f] nodes of flip-flops
    data: NDArray[np.int32]  #: [f] literals that they take at an edge
    start: NDArray[np.uint8]  #: [f] what they hold before the first


@lru_cache(maxsize=32)
def circuit(spec: PeSpec) -> Circuit:
    """The circuit of a PE; what no output depends on is left out."""
    netlist = _netlist(spec)
    return _Lowering(netlist).circuit()


def _netlist(spec: PeSpec) -> Any:
    """Amaranth's own netlist of a PE: words and operators, one clock, ports by name."""
    from amaranth.hdl import _ast, _ir
    from amaranth.lib import wiring

    made = spec.create()
    ports = {}
    for path, member, value in made.signature.flatten(made):
        bits = value.as_value() if isinstance(value, _ast.ValueCastable) else value
        inward = member.flow == wiring.In
        way = _ir.PortDirection.Input if inward else _ir.PortDirection.Output
        ports["__".join(map(str, path))] = (bits, way)
    return _ir.build_netlist(_ir.Fragment.get(made, None), ports, name="pe")


class _Lowering:
    """Cells of Amaranth's netlist to gates."""

    def __init__(self, netlist: Any) -> None:
        self.netlist = netlist
        self.gates = Gates()
        self.literals: dict[int, Literal] = {0: ZERO, 1: ONE}
        self.inputs: dict[str, list[Literal]] = {}
        self.flops: list[tuple[Literal, int, int]] = []  #: output, net that drives it, start

    def circuit(self) -> Circuit:
        self._sources()
        names = {type(cell).__name__ for cell in self.netlist.cells}
        unknown = names - {"Top", "FlipFlop", "Operator", "Matches", "PriorityMatch", "AssignmentList"}
        if unknown:
            raise ValueError(f"pe must be of words, gates and flip-flops, not {', '.join(sorted(unknown))}")
        for index in self._order():
            cell = self.netlist.cells[index]
            for bit, literal in enumerate(self._lowered(cell)):
                self.literals[(index << 16) + bit] = literal
        outputs = {name: self._nets(value) for name, value in self.netlist.top.ports_o.items()}
        data = [(q, self.literals[int(net)], start) for q, net, start in self.flops]
        return _pruned(self.gates, self.inputs, outputs, data)

    def _sources(self) -> None:
        for name, (start, width) in self.netlist.top.ports_i.items():
            self.inputs[name] = [self.gates.source() for _ in range(width)]
            for bit, literal in enumerate(self.inputs[name]):
                self.literals[start + bit] = literal
        for index, cell in enumerate(self.netlist.cells):
            if type(cell).__name__ == "FlipFlop":
                for bit, net in enumerate(cell.data):
                    literal = self.gates.source()
                    self.literals[(index << 16) + bit] = literal
                    self.flops.append((literal, int(net), cell.init >> bit & 1))

    def _order(self) -> Iterable[int]:
        """Indices of the combinational cells, each after those it reads."""
        cells = self.netlist.cells
        inner = {i for i, cell in enumerate(cells) if type(cell).__name__ not in ("Top", "FlipFlop")}
        reads = {i: {int(net) >> 16 for net in cells[i].input_nets()} & inner for i in inner}
        return TopologicalSorter(reads).static_order()

    def _nets(self, value: Iterable[Any]) -> list[Literal]:
        return [self.literals[int(net)] for net in value]

    def _lowered(self, cell: Any) -> list[Literal]:
        kind = type(cell).__name__
        if kind == "Operator":
            return _operator(self.gates, cell.operator, [self._nets(value) for value in cell.inputs])
        if kind == "Matches":
            return [self._matches(cell)]
        if kind == "PriorityMatch":
            free, out = self.literals[int(cell.en)], []
            for literal in self._nets(cell.inputs):
                out.append(self.gates.and_(free, literal))
                free = self.gates.and_(free, literal ^ 1)
            return out
        bits = self._nets(cell.default)
        for one in cell.assignments:
            condition = self.literals[int(one.cond)]
            for at, literal in enumerate(self._nets(one.value), one.start):
                bits[at] = self.gates.mux(condition, bits[at], literal)
        return bits

    def _matches(self, cell: Any) -> Literal:
        bits = self._nets(cell.value)
        found = []
        for pattern in cell.patterns:
            # A pattern's first character is the highest bit.
            wanted = [
                bit ^ (mark == "0") for bit, mark in zip(bits, pattern[::-1], strict=True) if mark != "-"
            ]
            found.append(self.gates.every([ONE, *wanted]))
        return self.gates.every(found, OR)


def _operator(gates: Gates, name: str, inputs: list[list[Literal]]) -> list[Literal]:
    """An operator of Amaranth's netlist. Raises ValueError for one that no PE uses."""
    first = inputs[0]
    if name in ("&", "|", "^"):
        table = {"&": AND, "|": OR, "^": XOR}[name]
        return [gates.gate(table, a, b) for a, b in zip(*inputs, strict=True)]
    if name == "m":
        return [gates.mux(first[0], low, high) for high, low in zip(*inputs[1:], strict=True)]
    if name in ("<<", "u>>", "s>>"):
        return _shifted(gates, name, *inputs)
    if name in ("b", "r|", "r&", "r^"):
        return [gates.every(first, {"b": OR, "r|": OR, "r&": AND, "r^": XOR}[name])]
    if name in ("==", "!="):
        differ = gates.every([gates.xor(a, b) for a, b in zip(*inputs, strict=True)], OR)
        return [differ ^ (name == "==")]
    if name == "~":
        return [bit ^ 1 for bit in first]
    if name == "+":
        return gates.add(inputs[0], inputs[1])[0]
    if name == "*":
        return gates.multiply(*inputs)
    if name == "-":
        if len(inputs) == 1:
            inputs = [[ZERO] * len(first), first]
        return gates.add(inputs[0], [bit ^ 1 for bit in inputs[1]], ONE)[0]
    if name in ("u<", "u>=", "u>", "u<="):
        a, b = inputs if name in ("u<", "u>=") else inputs[::-1]
        at_least = gates.add(a, [bit ^ 1 for bit in b], ONE)[1]
        return [at_least ^ (name in ("u<", "u>"))]
    raise ValueError(f"operator must be one that gates are known for, not {name!r}")


def _shifted(gates: Gates, name: str, bits: list[Literal], places: list[Literal]) -> list[Literal]:
    fill = bits[-1] if name == "s>>" else ZERO
    for level, place in enumerate(places):
        step = min(1 << level, len(bits))
        up = [fill] * step + bits[: len(bits) - step]
        moved = up if name == "<<" else bits[step:] + [fill] * step
        bits = [gates.mux(place, stays, goes) for stays, goes in zip(bits, moved, strict=True)]
    return bits


def _pruned(
    gates: Gates,
    inputs: Mapping[str, list[Literal]],
    outputs: Mapping[str, list[Literal]],
    flops: Sequence[tuple[Literal, Literal, int]],
) -> Circuit:
    """The circuit without gates and flip-flops that no output depends on."""
    taken = {q >> 1: data for q, data, _ in flops}
    live = {0, *(literal >> 1 for bits in inputs.values() for literal in bits)}
    stack = [literal >> 1 for bits in outputs.values() for literal in bits]
    while stack:
        node = stack.pop()
        if node not in live:
            live.add(node)
            stack += [taken[node] >> 1] if node in taken else gates.inputs[node]
    order = sorted(live)
    number = {node: at for at, node in enumerate(order)}

    def literals(bits: Iterable[Literal]) -> NDArray[np.int32]:
        return np.array([2 * number[literal >> 1] + (literal & 1) for literal in bits], np.int32)

    reads = np.zeros((len(order), 3), np.int32)
    kinds = np.full(len(order), -1, np.int8)
    for at, node in enumerate(order):
        nodes = gates.inputs[node]
        reads[at, : len(nodes)] = [number[n] for n in nodes]
        if nodes:
            kinds[at] = kind_of(gates.tables[node], len(nodes))
    ports = {name: literals(bits) >> 1 for name, bits in inputs.items()}
    for port in ports.values():
        kinds[port] = -2
    kept = [flop for flop in flops if flop[0] >> 1 in live]
    held = literals(q for q, _, _ in kept) >> 1
    kinds[held] = -3
    return Circuit(
        reads=reads,
        tables=np.array([gates.tables[node] for node in order], np.uint8),
        kinds=kinds,
        inputs=ports,
        outputs={name: literals(bits) for name, bits in outputs.items()},
        flops=held,
        data=literals(data for _, data, _ in kept),
        start=np.array([start for _, _, start in kept], np.uint8),
    )
