"""Energy of a mapped netlist by event-driven simulation: where the energy constants come from.

Every toggle of every net, glitches included, is counted in Icarus Verilog and priced: half C V^2 of the pins
and wire it drives, and the driving cell's internal energy. Clock pins are priced for both edges of each
clock. Nothing is placed, and there is no clock tree.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cost_models.liberty import Library, Pin
from cost_models.netlist import Gate, Netlist, bench, period, slowest

#: clocks left out of the count, while reset and the pipeline's first contents pass
WARM_UP = 16


@dataclass(frozen=True, kw_only=True)
class GateEnergy:
    """Mean energy per clock [J] by part, and leakage."""

    clock: float  #: clock pins of the flip-flops, both edges
    flop: float  #: inside the flip-flops, data toggles
    gates: float  #: inside the other cells
    nets: float  #: pins and wires of all nets but the clock
    leakage_w: float  #: static power [W]
    area: float  #: cell area, in the library's unit
    flops: int
    path_s: float  #: slowest path at the delays used [s]

    @property
    def total(self) -> float:
        """Dynamic energy per clock [J]."""
        return self.clock + self.flop + self.gates + self.nets


def measure(
    text: str, top: str, library: Library, stimulus: Mapping[str, Sequence[int]], *, wire_f: float
) -> GateEnergy:
    """Mean energy per clock of netlist ``text`` under ``stimulus``: one value of each input port per clock.

    Inputs change just after the rising edge of ``clk``. The first clocks warm up and are not counted.
    Raises RuntimeError where Icarus Verilog is absent or refuses the netlist.
    """
    cycles = len(next(iter(stimulus.values())))
    whole = {"": (WARM_UP, cycles)}
    return measure_windows(text, top, library, stimulus, whole, wire_f=wire_f)[""]


def measure_windows(
    text: str,
    top: str,
    library: Library,
    stimulus: Mapping[str, Sequence[int]],
    windows: Mapping[str, tuple[int, int]],
    *,
    wire_f: float,
) -> dict[str, GateEnergy]:
    """`measure` of several stretches of one run: by name the first clock counted, and the first not counted.

    Stretches must ascend, apart from each other and from clock 0.
    """
    design = Netlist(text, top, library, wire_f)
    path_s = slowest(design)
    cycles = len(next(iter(stimulus.values())))
    with tempfile.TemporaryDirectory(prefix="planeforge-gates-") as name:
        work = Path(name)
        (work / "gates.v").write_text(bench(design, stimulus, cycles, path_s), encoding="utf-8")
        _simulate(work)
        # The counted clocks are those that bring vectors ``first`` to ``end - 1``.
        step = period(path_s)
        bounds = [((first - 1) * step, (end - 1) * step) for first, end in windows.values()]
        counted = _toggles(work / "gates.vcd", bounds)
    return {
        name: _priced(design, {net: n / (end - first) for net, n in toggles.items()}, path_s)
        for (name, (first, end)), toggles in zip(windows.items(), counted, strict=True)
    }


def _simulate(work: Path) -> None:
    for command in (["iverilog", "-g2005", "-o", "gates.vvp", "gates.v"], ["vvp", "-n", "gates.vvp"]):
        if shutil.which(command[0]) is None:
            raise RuntimeError(f"{command[0]} must be installed: apt-get install iverilog")
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{command[0]} must accept the netlist: {done.stderr.strip()[-300:]}")


def _toggles(path: Path, bounds: Sequence[tuple[int, int]]) -> list[dict[int, int]]:
    """Changes between 0 and 1 of each net, in each stretch from its first time to before its second."""
    nets: dict[str, int] = {}
    last: dict[str, str] = {}
    counts: list[dict[int, int]] = [defaultdict(int) for _ in bounds]
    at, count = 0, None
    with path.open(encoding="ascii") as lines:
        for line in lines:
            mark = line[0]
            if mark == "#":
                now = int(line[1:])
                while at < len(bounds) and now >= bounds[at][1]:
                    at += 1
                count = counts[at] if at < len(bounds) and now >= bounds[at][0] else None
            elif mark in "01xz":
                key = line[1:-1]
                if count is not None and key in nets and {mark, last.get(key)} == {"0", "1"}:
                    count[nets[key]] += 1
                last[key] = mark
            elif line.startswith("$var"):
                _, _, _, key, name = line.split()[:5]
                if re.fullmatch(r"n\d+", name):
                    nets[key] = int(name[1:])
    return counts


def _priced(design: Netlist, rates: Mapping[int, float], path_s: float) -> GateEnergy:
    library = design.library
    unit = library.capacitance_f
    half_cv2 = 0.5 * library.voltage**2
    clk = design.ports["clk"][1][0]
    clock = half_cv2 * design.load[clk] * 2
    flop = gates = 0.0
    nets = sum(
        half_cv2 * load * rates.get(net, 0.0)
        for net, load in design.load.items()
        if isinstance(net, int) and net != clk
    )
    for gate in design.gates:
        inner = 0.0
        for name, pin in gate.cell.pins.items():
            net = gate.nets.get(name)
            if not isinstance(net, int):
                continue
            if pin.is_clock:
                clock += 2 * unit * _mean(pin, design.slew, 0.0)
            elif pin.direction == "output":
                inner += (
                    rates.get(net, 0.0) * unit * _weighted(design, gate, pin, design.load[net] / unit, rates)
                )
            else:
                inner += rates.get(net, 0.0) * unit * _mean(pin, design.slew, 0.0)
        if gate.cell.next_state is None:
            gates += inner
        else:
            flop += inner
    cells = [gate.cell for gate in design.gates]
    return GateEnergy(
        clock=clock,
        flop=flop,
        gates=gates,
        nets=nets,
        leakage_w=sum(cell.leakage_w for cell in cells),
        area=sum(cell.area for cell in cells),
        flops=sum(cell.next_state is not None for cell in cells),
        path_s=path_s,
    )


def _mean(pin: Pin, slew: float, load: float) -> float:
    """Energy per transition of a pin by itself: the mean of its rise and fall tables."""
    own = [table.at(slew, load) for related, tables in pin.power if not related for table in tables]
    return sum(own) / len(own) if own else 0.0


def _weighted(design: Netlist, gate: Gate, pin: Pin, load: float, rates: Mapping[int, float]) -> float:
    """Energy per output transition, its arcs weighted by how often their input toggled."""
    total = weight = 0.0
    for related, tables in pin.power:
        net = gate.nets.get(related)
        rate = rates.get(net, 0.0) if isinstance(net, int) else 0.0
        energy = sum(table.at(design.slew, load) for table in tables) / len(tables)
        # A small floor keeps the plain mean where none of the inputs toggled.
        total += (rate + 1e-9) * energy
        weight += rate + 1e-9
    return total / weight if weight else 0.0
