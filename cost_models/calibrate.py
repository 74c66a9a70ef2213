"""Calibration of the area model against synthesis: ``python -m cost_models.calibrate``.

Without arguments it maps a sweep of PEs to our own library (`generic_liberty`), fits gate equivalents per
counted cell, prints the errors on designs the fit has not seen and rewrites the stored calibration. With
``--liberty FILE`` it maps the same sweep to that library instead and fits what a technology adds, area per
gate equivalent and per flip-flop; nothing is rewritten.

The fit is non-negative least squares on relative error (Lawson and Hanson, 1974). Counted cells of one PE
family grow together, so their coefficients alone are poorly determined: a weak pull to the library's own
cell areas keeps each one plausible. Only their sum over a PE is validated.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from cost_models import generic_liberty
from cost_models.area import CALIBRATION, calibration
from hw.pe.bitserial import BitSerial
from hw.synth import synthesize

Array = NDArray[np.float64]

KINDS = ("gate2", "full_adder", "half_adder", "adder_bit", "mux2", "flop")

_AREA = {name: cell[0] for name, cell in generic_liberty.CELLS.items()}
#: gate equivalents of each counted cell, built from the library's cells: where the fit is pulled to
PRIOR = {
    "gate2": (_AREA["AND2"] + _AREA["XNOR2"]) / 2,
    "full_adder": 2 * _AREA["XOR2"] + _AREA["MAJ3"],
    "half_adder": _AREA["XOR2"] + _AREA["AND2"],
    "adder_bit": 2 * _AREA["XOR2"] + _AREA["MAJ3"],
    "mux2": _AREA["MUX2"],
    "flop": _AREA["MUX2"],  # its clock enable; the flip-flop itself is counted apart
}
#: weight of the pull, against mean squared relative error of the sweep
PULL = 1e-3

#: lanes up to which designs are split at random; larger ones are held out as a block
_BLOCK = 128
_TRAIN_SHARE = 0.6
_SEED = 1


def sweep() -> tuple[BitSerial, ...]:
    """The designs: three for each of ten widths, other parameters walking along, then three large."""
    accumulators = (16, 24, 32, 40, 48)
    specs = [
        BitSerial(lanes=lanes, acc_width=accumulators[(k + 2 * j) % 5], levels=(k + 2 * j + j // 2) % 5)
        for k, lanes in enumerate((8, 12, 16, 24, 33, 48, 64, 80, 100, _BLOCK))
        for j in range(3)
    ]
    large = ((192, 32, 3), (224, 48, 1), (256, 40, 2))
    specs += [BitSerial(lanes=lanes, acc_width=acc, levels=levels) for lanes, acc, levels in large]
    return tuple(specs)


def name_of(spec: BitSerial) -> str:
    """Such as ``64 lanes, 32 acc, 3 levels``."""
    return f"{spec.lanes} lanes, {spec.acc_width} acc, {spec.levels} levels"


def point(spec: BitSerial, liberty: Path, dont_use: Sequence[str] = ()) -> dict[str, Any]:
    """One design, synthesized: its counted cells, and cell area split into flip-flops and the rest."""
    # Amaranth is only needed here, and costs a third of a second.
    from amaranth.back import rtlil

    text = rtlil.convert(spec.create(), name="pe", emit_src=False)
    mapped = synthesize(text, "pe", "liberty", liberty, dont_use=dont_use)
    if mapped.area is None or mapped.flop_area is None:
        raise ValueError(f"liberty must give areas, not {mapped.area!r}")
    return {
        "name": name_of(spec),
        "lanes": spec.lanes,
        "resources": asdict(spec.resources()),
        "gates": round(mapped.area - mapped.flop_area, 6),
        "flops": round(mapped.flop_area, 6),
        "tool": mapped.tool,
    }


def fit(points: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Gate equivalents per counted cell, flip-flops themselves left out."""
    counts = _counts(points)
    gates = np.array([p["gates"] for p in points])
    total = gates + np.array([p["flops"] for p in points])
    pull = np.sqrt(PULL * len(points))
    prior = np.array([PRIOR[kind] for kind in KINDS])
    rows = np.vstack([counts / total[:, None], pull * np.diag(1 / prior)])
    wanted = np.concatenate([gates / total, np.full(len(KINDS), pull)])
    return dict(zip(KINDS, map(float, nnls(rows, wanted)[0]), strict=True))


def errors(points: Sequence[Mapping[str, Any]], coefficients: Mapping[str, float]) -> dict[str, Any]:
    """Errors of the predicted cell area, relative, with the worst design by name."""
    gates = _counts(points) @ np.array([coefficients[kind] for kind in KINDS])
    flops = generic_liberty.FLOP_GE * np.array([p["resources"]["flop"] for p in points])
    measured = np.array([p["gates"] + p["flops"] for p in points])
    return summary(gates + flops, measured, [p["name"] for p in points])


def summary(predicted: Array, measured: Array, names: Sequence[str]) -> dict[str, Any]:
    """Number of designs, R2, mean and largest relative error, and the design with the largest."""
    off = np.abs(predicted - measured) / measured
    residual, spread = np.sum((predicted - measured) ** 2), np.sum((measured - measured.mean()) ** 2)
    return {
        "n": len(measured),
        "r2": round(float(1 - residual / spread), 6) if spread else 1.0,
        "mape": round(float(off.mean()), 6),
        "max": round(float(off.max()), 6),
        "worst": names[int(off.argmax())],
    }


def calibrate(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Coefficients from all designs; errors from fits that did not see the designs they are judged on."""
    small = [p for p in points if p["lanes"] <= _BLOCK]
    large = [p for p in points if p["lanes"] > _BLOCK]
    shuffled = random.Random(_SEED).sample(small, len(small))
    cut = round(_TRAIN_SHARE * len(shuffled))
    partial = fit(shuffled[:cut])
    return {
        "coefficients": {kind: round(value, 6) for kind, value in fit(points).items()},
        "unseen": [kind for kind in KINDS if not any(p["resources"][kind] for p in points)],
        "errors": {
            "fitted": errors(shuffled[:cut], partial),
            "held_out": errors(shuffled[cut:], partial),
            "block": errors(large, fit(small)),
        },
    }


def two_scales(generic: Sequence[Mapping[str, Any]], points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Area per gate equivalent and per flip-flop of another library, and how well the two predict it."""
    columns = np.array([[g["gates"], g["resources"]["flop"]] for g in generic], dtype=float)
    measured = np.array([p["gates"] + p["flops"] for p in points])
    scales = nnls(columns / measured[:, None], np.ones(len(points)))[0]
    found = {"area_ge": float(scales[0]), "area_flop": float(scales[1])}
    return found | summary(columns @ scales, measured, [p["name"] for p in points])


def _counts(points: Sequence[Mapping[str, Any]]) -> Array:
    return np.array([[p["resources"][kind] for kind in KINDS] for p in points], dtype=float)


def _synthesized(liberty: Path, dont_use: Sequence[str]) -> list[dict[str, Any]]:
    specs, points = sweep(), []
    for i, spec in enumerate(specs, 1):
        points.append(point(spec, liberty, dont_use))
        area = points[-1]["gates"] + points[-1]["flops"]
        print(f"  {i:2}/{len(specs)}  {name_of(spec):32} {area:12.2f}", file=sys.stderr)
    return points


def report(title: str, found: Mapping[str, Any]) -> str:
    """One line of errors."""
    return (
        f"{title:34} n={found['n']:<3} R2={found['r2']:.4f}  MAPE={100 * found['mape']:.2f} %"
        f"  max={100 * found['max']:.2f} % ({found['worst']})"
    )


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cost_models.calibrate", description=__doc__)
    parser.add_argument("--liberty", type=Path, help="a .lib or .lib.gz file: fit a technology's two scales")
    parser.add_argument("--dont-use", action="append", default=[], help="a liberty cell to avoid; may repeat")
    asked = parser.parse_args(None if arguments is None else list(arguments))
    points = _synthesized(asked.liberty or generic_liberty.PATH, asked.dont_use)
    if asked.liberty is not None:
        found = two_scales(calibration()["points"], points)
        print(f"area_ge = {found['area_ge']:.6g}, area_flop = {found['area_flop']:.6g} (library's area unit)")
        print(report("two scales on all designs", found))
        return 0
    found = calibrate(points)
    titles = {
        "fitted": "fitted on (random 60 %)",
        "held_out": "held out (random 40 %)",
        "block": f"held out (more than {_BLOCK} lanes)",
    }
    for key, title in titles.items():
        print(report(title, found["errors"][key]))
    print("GE per cell:", ", ".join(f"{k} {v:.2f}" for k, v in found["coefficients"].items()))
    tool = points[0]["tool"]
    origin = {
        "tool": tool,
        "library_sha256": _sha256(generic_liberty.PATH),
        "script_sha256": _sha256(Path(__file__)),
    }
    kept = [{key: value for key, value in p.items() if key != "tool"} for p in points]
    CALIBRATION.write_text(_json(origin | found | {"points": kept}), encoding="utf-8")
    return 0


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _json(content: Mapping[str, Any]) -> str:
    """Indented, but a point to a line."""
    head = json.dumps({key: value for key, value in content.items() if key != "points"}, indent=1)
    points = ",\n  ".join(json.dumps(point) for point in content["points"])
    return head[:-2] + ',\n "points": [\n  ' + points + "\n ]\n}\n"


if __name__ == "__main__":
    sys.exit(main())
