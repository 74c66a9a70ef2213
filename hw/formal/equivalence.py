"""A PE's RTL equal to what an FPGA's synthesis makes of it, clock by clock, for runs of any length.

Registers of the two are paired by name, each pair's next values are proven equal given that all pairs were
equal before (induction over clocks), and so are the outputs. Source: Yosys' ``equiv_*`` passes.

The netlist goes through a Verilog file into a fresh design, since a cell that synthesis has loaded as a black
box stays one; shift registers are not inferred, since they would swallow the registers to pair.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from hw import toolchain
from hw.spec import PeSpec

#: ``synth`` command that keeps registers, and the simulation models of the cells, by FPGA family.
TARGETS = {
    "ecp5": ("synth_ecp5 -noabc9 -nodsp -top pe", "-overwrite +/ecp5/cells_sim.v"),
    "xilinx": ("synth_xilinx -family xc7 -flatten -noiopad -noclkbuf -nosrl -top pe", "+/xilinx/cells_sim.v"),
}

#: RTL flattened, and named only where there is something to pair: registers and ports. Synthesis may drop any
#: net between them, or keep its name on a part of it.
_FLATTEN = """
read_rtlil pe.il
hierarchy -top pe
proc
flatten -noscopeinfo
opt_clean -purge
select -set paired t:$*dff* %co1:+[Q] w:* %i i:* o:* %u %u
rename -hide w:* @paired %d
write_rtlil flat.il
"""

_NETLIST = """
read_rtlil flat.il
{synth}
write_verilog -noattr netlist.v
"""

_PROVE = """
read_rtlil flat.il
async2sync
rename pe gold
design -stash gold
read_verilog netlist.v
read_verilog {models}
hierarchy -top pe
proc
flatten -noscopeinfo
async2sync
opt_clean
rename pe gate
design -stash gate
design -copy-from gold -as gold gold
design -copy-from gate -as gate gate
equiv_make gold gate both
hierarchy -top both
opt -nodffe -nosdff
equiv_simple -seq 2
equiv_induct -seq 6
tee -q -o status.txt equiv_status
"""


def prove_netlist(spec: PeSpec, target: str = "xilinx") -> int:
    """Prove the PE's RTL equal to its netlist of the FPGA family ``target``; the number of pairs proven.

    Raises: ValueError for a target without cell models; RuntimeError as `prove_equal`, or if a tool fails
    """
    if target not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(TARGETS)}, not {target!r}")
    design = toolchain.rtlil(spec)
    return prove_equal(design, netlist_of(design, target), target)


def netlist_of(design: str, target: str) -> str:
    """Verilog of RTLIL's module ``pe`` mapped to the cells of ``target``."""
    with tempfile.TemporaryDirectory(prefix="planeforge-formal-") as name:
        folder = Path(name)
        (folder / "pe.il").write_text(design)
        toolchain.yosys(_FLATTEN, folder)
        toolchain.yosys(_NETLIST.format(synth=TARGETS[target][0]), folder)
        return (folder / "netlist.v").read_text()


def prove_equal(design: str, netlist: str, target: str) -> int:
    """Prove RTLIL's module ``pe`` equal to a mapped ``netlist`` of it; the number of pairs proven.

    Raises RuntimeError that names the pairs of nets that differ, or could not be proven equal.
    """
    with tempfile.TemporaryDirectory(prefix="planeforge-formal-") as name:
        folder = Path(name)
        (folder / "pe.il").write_text(design)
        (folder / "netlist.v").write_text(netlist)
        toolchain.yosys(_FLATTEN, folder)
        toolchain.yosys(_PROVE.format(models=TARGETS[target][1]), folder)
        status = (folder / "status.txt").read_text()
    return proven(status)


def proven(status: str) -> int:
    """Pairs that ``equiv_status`` found proven. Raises RuntimeError if it found others, or none at all."""
    counts = re.search(r"Of those cells (\d+) are proven and (\d+) are unproven", status)
    pairs, unproven = (int(n) for n in counts.groups()) if counts else (0, 0)
    if unproven or not pairs:
        named = re.findall(r"Unproven \S+ \S+: (.+)", status)
        raise RuntimeError(
            f"the netlist must equal the RTL in every pair of nets; of {pairs + unproven} pairs"
            f" {unproven} are not proven: {', '.join(named[:8])}"
        )
    return pairs
