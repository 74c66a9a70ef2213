"""Shortest clock period of a mapped netlist: arrival times through the library's tables, wires ideal.

Rising and falling edges run apart, each with its slew, from clock pins and inputs (at time 0, with the
sharpest edge of the tables) to data pins of flip-flops, whose setup time is added, and to outputs. A net that
loads its driver more than `FAN_OUT` inputs of the library's smallest buffer is taken to have a balanced tree
of such buffers, as any physical flow would build: without it a single gate would drive every enable.

Source: Liberty User Guide (non-linear delay model); Sapatnekar, "Timing", 2004, ch. 5 (block-based analysis).
Differs in: no wires, no clock skew, no false paths, cells as small as the mapper left them.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cost_models.liberty import Group, Table, parse

#: inputs of the smallest buffer that a gate drives at most; 4 to 10 are usual
FAN_OUT = 8

RISE, FALL = 0, 1
#: of the edges of an input, those that may cause a rising and a falling edge of the output
_CAUSES = {
    "positive_unate": ((RISE,), (FALL,)),
    "negative_unate": ((FALL,), (RISE,)),
    "non_unate": ((RISE, FALL), (RISE, FALL)),
}

#: where a library states no setup time
_NONE = Table((), (), (0.0,))

#: time and slew of the rising edge, then of the falling one; None where the edge never comes
Edges = tuple[tuple[float, float] | None, tuple[float, float] | None]


@dataclass(frozen=True)
class Arc:
    """From an input pin to an output pin of a cell."""

    source: str
    sense: str
    delay: tuple[Table, Table]  #: to a rising and to a falling output
    slew: tuple[Table, Table]


@dataclass(frozen=True)
class TimedCell:
    """What timing needs of a cell."""

    area: float
    inputs: Mapping[str, float]  #: capacitance by pin, in the library's unit
    arcs: Mapping[str, tuple[Arc, ...]]  #: by output pin
    setup: Mapping[str, tuple[Table, Table]]  #: by data pin, to a rising and a falling edge of it
    clock: str | None  #: clock pin of a flip-flop
    function: Mapping[str, str]  #: by output pin


class TimedLibrary:
    """A liberty file's cells, each read when it is first asked for."""

    def __init__(self, path: Path) -> None:
        raw = path.read_bytes()
        root = parse((gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8", "replace"))
        self._groups = {group.args[0]: group for group in root.of("cell")}
        self._templates = {group.args[0]: group for group in root.groups if group.kind.endswith("_template")}
        self._cells: dict[str, TimedCell] = {}
        #: seconds of the library's time unit
        self.time_s = {"1ps": 1e-12, "10ps": 1e-11, "100ps": 1e-10, "1ns": 1e-9}[
            root.values.get("time_unit", "1ns").replace(" ", "")
        ]
        self._buffer: tuple[float, Arc] | None = None

    def cell(self, name: str) -> TimedCell:
        """A cell by name."""
        if name not in self._cells:
            self._cells[name] = self._read(self._groups[name])
        return self._cells[name]

    def buffer(self) -> tuple[float, Arc]:
        """Input capacitance and arc of the smallest buffer. Raises ValueError if there is none."""
        if self._buffer is None:
            found = []
            for name in self._groups:
                cell = self.cell(name)
                if cell.clock is None and len(cell.inputs) == 1 and len(cell.arcs) == 1:
                    [pin], [(output, arcs)] = cell.inputs, cell.arcs.items()
                    if arcs and cell.function[output].strip("() ") == pin:
                        found.append((cell.area, cell.inputs[pin], name, arcs[0]))
            if not found:
                raise ValueError("liberty must hold a buffer; it has none")
            _, capacitance, _, arc = min(found, key=lambda one: one[:3])
            self._buffer = capacitance, arc
        return self._buffer

    def _read(self, group: Group) -> TimedCell:
        flops = group.of("ff")
        inputs, arcs, setup, functions = {}, {}, {}, {}
        clock = flops[0].values.get("clocked_on", "").strip("() ") if flops else None
        for pin in group.of("pin"):
            name = pin.args[0]
            if pin.values.get("direction") == "input":
                inputs[name] = float(pin.values.get("capacitance", 0.0))
                limits = [t for t in pin.of("timing") if t.values.get("timing_type") == "setup_rising"]
                if limits:
                    setup[name] = self._pair(limits[0], "rise_constraint", "fall_constraint")
            elif pin.values.get("direction") == "output":
                functions[name] = pin.values.get("function", "")
                arcs[name] = tuple(self._arcs(pin.of("timing"), clock))
        return TimedCell(float(group.values["area"]), inputs, arcs, setup, clock, functions)

    def _arcs(self, groups: Iterable[Group], clock: str | None) -> Iterable[Arc]:
        for group in groups:
            kind, source = (
                group.values.get("timing_type", "combinational"),
                group.values.get("related_pin", ""),
            )
            if kind not in ("combinational", "rising_edge") or (clock is not None and source != clock):
                continue
            sense = "rising_edge" if kind == "rising_edge" else group.values.get("timing_sense", "non_unate")
            delay = self._pair(group, "cell_rise", "cell_fall")
            yield Arc(source, sense, delay, self._pair(group, "rise_transition", "fall_transition"))

    def _pair(self, group: Group, rise: str, fall: str) -> tuple[Table, Table]:
        """The tables of both edges; where one is left out, the other's."""
        found = [group.of(kind) for kind in (rise, fall)]
        rising, falling = found[0] or found[1], found[1] or found[0]
        return self._table(rising[0]), self._table(falling[0])

    def _table(self, group: Group) -> Table:
        """A table over the slew of what it constrains or delays, and over a load or the clock's slew."""
        values = tuple(float(v) for text in group.lists["values"] for v in text.replace(",", " ").split())
        template = self._templates.get(group.args[0]) if group.args else None
        if len(values) == 1 or template is None:
            return Table((), (), values[:1])
        axes: dict[str, tuple[float, ...]] = {}
        for number in ("1", "2"):
            variable = template.values.get(f"variable_{number}", "")
            if variable:
                stated = group.lists.get(f"index_{number}") or template.lists[f"index_{number}"]
                kind = "load" if "capacitance" in variable or variable.startswith("related") else "slew"
                axes[kind] = tuple(float(v) for text in stated for v in text.replace(",", " ").split())
        slews, loads = axes.get("slew", ()), axes.get("load", ())
        if list(axes) == ["load", "slew"]:
            rows = len(slews)
            values = tuple(values[j * rows + i] for i in range(rows) for j in range(len(loads)))
        return Table(slews, loads, values)


def period(netlist: str, top: str, library: TimedLibrary) -> float:
    """Shortest clock period [s] of a flat mapped design, as Yosys JSON."""
    module = json.loads(netlist)["modules"][top]
    walk = _Walk(module, library)
    return walk.longest() * library.time_s


class _Walk:
    """One pass over a netlist in topological order."""

    def __init__(self, module: Any, library: TimedLibrary) -> None:
        self.library = library
        self.cells = [
            (library.cell(cell["type"]), {pin: bits[0] for pin, bits in cell["connections"].items() if bits})
            for cell in module["cells"].values()
            if cell["type"] != "$scopeinfo"
        ]
        self.load: dict[Any, float] = {}
        self.driver: dict[Any, tuple[TimedCell, dict[str, Any], str]] = {}
        for cell, nets in self.cells:
            for pin, capacitance in cell.inputs.items():
                if pin in nets:
                    self.load[nets[pin]] = self.load.get(nets[pin], 0.0) + capacitance
            for pin in cell.arcs:
                if pin in nets:
                    self.driver[nets[pin]] = cell, nets, pin
        self.edges: dict[Any, Edges] = {}
        self.outputs = [
            bit for port in module["ports"].values() if port["direction"] == "output" for bit in port["bits"]
        ]

    def longest(self) -> float:
        """Latest arrival at an output, or at a data pin with its setup, in the library's unit."""
        latest = [edge[0] for bit in self.outputs for edge in self.at(bit) if edge]
        for cell, nets in self.cells:
            if cell.clock is None:
                continue
            for pin in cell.inputs.keys() & nets.keys() - {cell.clock}:
                tables = cell.setup.get(pin, (_NONE, _NONE))
                edges = zip(self.at(nets[pin]), tables, strict=True)
                latest += [edge[0] + table.at(edge[1], 0.0) for edge, table in edges if edge]
        return max(latest, default=0.0)

    def at(self, net: Any) -> Edges:
        """Edges of a net. An explicit stack: adder chains are deeper than Python's recursion."""
        stack = [net]
        while stack:
            here = stack[-1]
            if here in self.edges:
                stack.pop()
                continue
            if here not in self.driver:
                self.edges[here] = (None, None) if isinstance(here, str) else ((0.0, 0.0), (0.0, 0.0))
                continue
            cell, nets, _ = self.driver[here]
            before = [] if cell.clock else [nets[pin] for pin in cell.inputs if pin in nets]
            missing = [source for source in before if source not in self.edges]
            if missing:
                stack += missing
                continue
            self.edges[here] = self.driven(here)
        return self.edges[net]

    def driven(self, net: Any) -> Edges:
        """Edges that the driver of a net makes, at the far end of its buffers."""
        cell, nets, pin = self.driver[net]
        capacitance, buffer = self.library.buffer()
        total = self.load.get(net, 0.0)
        stages = max(1, math.ceil(math.log(max(total / capacitance, 1.0), FAN_OUT)))
        # Stages share the load's ratio evenly, which is fastest.
        load = total if stages == 1 else capacitance * (total / capacitance) ** (1 / stages)
        edges: Edges = (None, None)
        for arc in cell.arcs[pin]:
            if arc.source in nets:
                start = ((0.0, 0.0), None) if cell.clock else self.edges[nets[arc.source]]
                edges = _later(edges, _through(arc, start, load))
        for _ in range(stages - 1):
            edges = _through(buffer, edges, load)
        return edges


def _through(arc: Arc, start: Edges, load: float) -> Edges:
    """Edges behind an arc: of each, the later of those that may cause it."""
    causes = ((RISE,), (RISE,)) if arc.sense == "rising_edge" else _CAUSES[arc.sense]
    made: list[tuple[float, float] | None] = []
    for edge in (RISE, FALL):
        best = None
        for cause in causes[edge]:
            before = start[cause]
            if before is not None:
                time = before[0] + arc.delay[edge].at(before[1], load)
                if best is None or time > best[0]:
                    best = time, arc.slew[edge].at(before[1], load)
        made.append(best)
    return made[RISE], made[FALL]


def _later(a: Edges, b: Edges) -> Edges:
    """The later of each edge."""
    pairs = [max((e for e in pair if e is not None), default=None) for pair in zip(a, b, strict=True)]
    return pairs[0], pairs[1]
