"""``planeforge methods | formats | pes | techs``: what is registered, with source and honest figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from planeforge.output import show, table

JSON = typer.Option(False, "--json", help="Print one JSON object.")


def _list(rows: list[dict[str, Any]], as_json: bool) -> None:
    show({"members": rows}, as_json, lambda: table(rows))


def methods(as_json: bool = JSON) -> None:
    """List the quantization methods, with honest bits per weight on a random 256x256 matrix.

    Example: planeforge methods
    """
    import numpy as np

    from algo.bitplane import family
    from algo.formats.quantized import Calibration

    rng = np.random.default_rng(0)
    w, known = rng.normal(size=(256, 256)), Calibration.of(rng.normal(size=(512, 256)))
    rows = []
    for name in family.names("algo.methods"):
        module = family.load("algo.methods", name)
        for format_name in module.FORMATS or ("",):
            config = module.Config(format=format_name) if len(module.FORMATS) > 1 else module.Config()
            result = module.quantize(w, known, config)
            rows.append(
                {
                    "method": name,
                    "format": format_name or "(its own)",
                    "bits_per_weight": 8 * result.stored_bytes() / w.size,
                    "published": result.published_bits,
                    "calibration": module.needs_calibration(config),
                    "source": module.SOURCE,
                }
            )
    _list(rows, as_json)


def formats(as_json: bool = JSON) -> None:
    """List the number formats.

    Example: planeforge formats --json
    """
    from algo.formats import catalog

    rows = [
        {
            "format": f.name,
            "planes": len(f.coefs),
            "digits": f"{f.low}..{f.high}",
            "group": f.group,
            "scale": f.scale,
            "published_bits": f.published_bits,
            "source": f.source,
        }
        for f in catalog.ALL.values()
    ]
    _list(rows, as_json)


def pes(
    out: Path | None = typer.Argument(None, help="Packed file or folder: say which PEs run all of it."),
    act_bits: int = typer.Option(8, help="Bits of its activation integers; 1: -1/+1."),
    as_json: bool = JSON,
) -> None:
    """List the processing elements: parameters and cells at the defaults, and what each runs.

    Example: planeforge pes
    """
    from dataclasses import asdict

    from algo.bitplane import family
    from planeforge import capabilities
    from planeforge.packed import read

    matrices = list(read(out)[0].values()) if out is not None else []

    rows = []
    for name in family.names("hw.pe"):
        module = family.load("hw.pe", name)
        spec = module.SPEC()
        cells = {kind: count for kind, count in asdict(spec.resources()).items() if count}
        summary = next(line for line in (module.__doc__ or "").splitlines() if line)
        rows.append(
            {
                "pe": name,
                "parameters": ", ".join(f"{key}={value}" for key, value in asdict(spec).items()),
                "latency_cycles": spec.latency(),
                "cells": ", ".join(f"{kind} {count}" for kind, count in cells.items()),
                "runs": ", ".join(capabilities.runs(spec)) or "no matrix: see its module",
                "what": summary,
            }
        )
        if out is not None:
            rows[-1]["runs it"] = capabilities.refusal(spec, matrices, act_bits) or "yes"
    _list(rows, as_json)


def techs(as_json: bool = JSON) -> None:
    """List the technologies the cost model knows.

    Example: planeforge techs
    """
    from cost_models import tech

    known = [tech.load(name) for name in tech.names()]
    rows = [
        {
            "tech": t.name,
            "title": t.title,
            "node": t.node,
            "vdd": t.vdd,
            "area_unit": t.area_unit,
            "constants": len(t.constants),
        }
        for t in known
    ]
    _list(rows, as_json)


COMMANDS = {"methods": methods, "formats": formats, "pes": pes, "techs": techs}
