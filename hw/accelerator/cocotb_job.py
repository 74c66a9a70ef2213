"""``python -m hw.accelerator.cocotb_job build|test FOLDER [TEST_FOLDER]``: one call of cocotb's runner.

A process of its own, as `hw.cocotb_job` is; `hw.accelerator.icarus` starts it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from hw.cocotb_job import TIMESCALE

TOP = "accelerator"


def build(folder: Path) -> None:
    """Compile ``folder``/accelerator.v into ``folder``."""
    get_runner("icarus").build(
        sources=[folder / f"{TOP}.v"],
        hdl_toplevel=TOP,
        build_dir=folder,
        timescale=TIMESCALE,
        always=True,
    )


def test(folder: Path, test_folder: Path) -> None:
    """Run the bench on what ``build`` left in ``folder``. Exits 1 if it failed or there was none."""
    results = get_runner("icarus").test(
        hdl_toplevel=TOP,
        hdl_toplevel_lang="verilog",
        test_module="hw.accelerator.cocotb_bench",
        build_dir=folder,
        test_dir=test_folder,
        seed=0,
        timescale=TIMESCALE,
    )
    tests, failed = get_results(results)
    if failed or tests != 1:
        sys.exit(f"{failed} of {tests} tests failed")


if __name__ == "__main__":
    job, *folders = sys.argv[1:]
    if job == "build":
        build(Path(folders[0]))
    else:
        test(Path(folders[0]), Path(folders[1]))
