"""Measured energies of PEs: every design of `energy_designs` under every stimulus, gate by gate.

``python -m cost_models.energy_points --tech asap7 --liberty FILE --wire 0.5`` maps each design with Yosys,
runs the netlist in Icarus Verilog with the library's delays, and stores what each stimulus took. What is
stored already is kept, so a stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

from amaranth.back import rtlil

from cost_models import gate_energy, liberty
from cost_models.energy_designs import DESIGNS, Design
from cost_models.energy_stimuli import STIMULI, ports, run_of
from cost_models.gate_energy import GateEnergy
from cost_models.liberty import Library
from hw.synth import synthesize

#: design -> stimulus -> energy of a clock [fJ] by part: clock pins, flip-flops, gates, nets
Points = dict[str, dict[str, dict[str, float]]]


def measured(
    design: Design, library: Library, path: Path, dont_use: Sequence[str], wire_f: float
) -> dict[str, GateEnergy]:
    """Energy of one PE under each of `STIMULI`."""
    spec = design.spec
    text = rtlil.convert(spec.create(), name="pe", emit_src=False)
    netlist = synthesize(text, "pe", "liberty", path, dont_use=dont_use, netlist=True).netlist
    run, windows = run_of(spec, STIMULI)
    return gate_energy.measure_windows(netlist, "pe", library, ports(spec, run), windows, wire_f=wire_f)


def femto(run: GateEnergy) -> dict[str, float]:
    """Energy of a clock [fJ] by part."""
    parts = {"clock": run.clock, "flop": run.flop, "gates": run.gates, "nets": run.nets}
    return {name: round(joules * 1e15, 4) for name, joules in parts.items()}


def file_of(tech: str) -> Path:
    """Where a technology's measured energies are kept."""
    return Path(str(resources.files("cost_models") / "data" / "energy" / f"{tech}.points.json"))


def read(tech: str) -> Points:
    """The stored energies of a technology; none if it has no file."""
    path = file_of(tech)
    stored: Mapping[str, Points] = json.loads(path.read_text()) if path.is_file() else {"points": {}}
    return stored["points"]


def write(tech: str, wire_f: float, points: Points) -> None:
    """Store energies, a line for each stimulus of each design."""
    lines = [
        f'  "{design}": {{\n'
        + ",\n".join(f'   "{name}": {json.dumps(parts)}' for name, parts in runs.items())
        + "\n  }"
        for design, runs in points.items()
    ]
    head = f'{{\n "unit": "fJ per clock",\n "wire_fF_per_pin": {wire_f * 1e15:g},\n "points": {{\n'
    file_of(tech).parent.mkdir(exist_ok=True)
    file_of(tech).write_text(head + ",\n".join(lines) + "\n }\n}\n", encoding="utf-8")


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cost_models.energy_points", description=__doc__)
    parser.add_argument("--tech", required=True, help="name to store the energies under")
    parser.add_argument("--liberty", type=Path, required=True, help="a .lib or .lib.gz file")
    parser.add_argument("--wire", type=float, required=True, help="capacitance per driven pin, assumed [fF]")
    parser.add_argument("--dont-use", action="append", default=[], help="a cell to avoid")
    parser.add_argument("--only", default="", help="designs whose text begins so")
    asked = parser.parse_args(None if arguments is None else list(arguments))
    library, points = liberty.read(asked.liberty), read(asked.tech)
    for design in DESIGNS:
        if design.text in points or not design.text.startswith(asked.only):
            continue
        runs = measured(design, library, asked.liberty, asked.dont_use, asked.wire * 1e-15)
        points[design.text] = {name: femto(run) for name, run in runs.items()}
        write(asked.tech, asked.wire * 1e-15, points)
        print(design.text, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
