"""``python -m hw.cocotb_job build|test SIMULATOR FOLDER [TEST_FOLDER]``: one call of cocotb's runner.

A process of its own because the runner reads its whole environment, prints to the caller's terminal, and
behaves differently under pytest. `hw.verilog_sim` starts it, with an environment made for it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

#: Amaranth writes no timescale, and cocotb's clock needs one.
TIMESCALE = ("1ns", "1ps")

#: Generated Verilog leaves high sum bits unused, which Verilator would end on.
ARGUMENTS = {"icarus": [], "verilator": ["-Wno-fatal", "-O3"]}


#: Top module and bench by simulator: Icarus is itself slower than Python beside it, Verilator is not.
BENCHES = {"icarus": ("pe", "drive"), "verilator": ("bench", "batch")}


def build(simulator: str, folder: Path) -> None:
    """Compile the Verilog in ``folder`` into ``folder``."""
    get_runner(simulator).build(
        sources=sorted(folder.glob("*.v")),
        hdl_toplevel=BENCHES[simulator][0],
        build_dir=folder,
        build_args=ARGUMENTS[simulator],
        timescale=TIMESCALE,
        always=True,
    )


def test(simulator: str, folder: Path, test_folder: Path) -> None:
    """Run the bench on what ``build`` left in ``folder``. Exits 1 if it failed or there was none."""
    top, bench = BENCHES[simulator]
    results = get_runner(simulator).test(
        hdl_toplevel=top,
        hdl_toplevel_lang="verilog",
        test_module="hw.cocotb_bench",
        test_filter=f"{bench}$",
        build_dir=folder,
        test_dir=test_folder,
        seed=0,
        timescale=TIMESCALE,
    )
    tests, failed = get_results(results)
    if failed or tests != 1:
        sys.exit(f"{failed} of {tests} tests failed")


if __name__ == "__main__":
    job, simulator, *folders = sys.argv[1:]
    if job == "build":
        build(simulator, Path(folders[0]))
    else:
        test(simulator, Path(folders[0]), Path(folders[1]))
