"""``planeforge methods | formats | pes | techs``: what is registered, with source and honest figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from planeforge.output import show, table

if TYPE_CHECKING:
    from algo.bitplane.format import Format
    from algo.bitplane.matrix import PackedMatrix

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


SAMPLE = (16, 4096)  #: rows and columns of the matrix whose stored bits are counted
MOST_LISTED = 16  #: values of a set that are printed one by one


def formats(
    names: list[str] = typer.Argument(None, help="Formats by name, such as e3m2-row; default: all."),
    as_json: bool = JSON,
) -> None:
    """List the number formats, with honest bits per weight on a random 16x4096 matrix.

    Block formats may be named by their parts too: <element>-gN|row[-scale][-rule][-rounding], where the
    element is sint4, e3m2, nf4, .., the scale fp16, bf16, fp32, e8m0, ue4m3, ue5m3 or int8.

    Example: planeforge formats mxfp4 nvfp4 e3m4-g64-bf16
    """
    from algo.formats import blocks, catalog

    _list([_format(catalog.get(name, True)) for name in names or (*catalog.ALL, *blocks.ALL)], as_json)


def _format(fmt: Format) -> dict[str, Any]:
    from algo.bitplane.format import ROW
    from algo.bitplane.storage import bits_per_weight
    from algo.formats.widths import signed_terms

    values = sorted({int(v) for v in fmt.values()})
    listed = [f"{v * 2.0**fmt.unit:g}" for v in values]
    if len(values) > MOST_LISTED:
        listed = [*listed[:2], "..", *listed[-2:]]
    return {
        "format": fmt.name,
        "values": " ".join(listed),
        "digits": f"{fmt.low}..{fmt.high}",
        "stored_bits": fmt.code_bits,
        "bits_per_weight": bits_per_weight(_sample(fmt)),
        "published_bits": fmt.published_bits,
        "planes": len(fmt.coefs),
        "terms": signed_terms(values),
        "group": ("row" if fmt.group == ROW else str(fmt.group)) + (f" x {fmt.tile}" if fmt.tile > 1 else ""),
        "scale": fmt.scale + (" of a tensor's" if fmt.tensor else ""),
        "rule": fmt.rule,
        "rounding": fmt.rounding,
        "source": fmt.source,
    }


def _sample(fmt: Format) -> PackedMatrix:
    """A random matrix in a format."""
    import numpy as np

    from algo.bitplane.build import from_digits
    from algo.formats import scaling

    rng = np.random.default_rng(0)
    if fmt.tables:
        return scaling.quantize(rng.standard_normal(SAMPLE), fmt)
    groups = (SAMPLE[0], -(-SAMPLE[1] // fmt.group))
    zero = np.zeros(groups, np.int64) if fmt.zero else None
    return from_digits(fmt, rng.choice(fmt.values(), SAMPLE), np.ones(groups), zero)


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


def techs(
    template: bool = typer.Option(False, "--template", help="Print a TOML file of your own to fill in."),
    as_json: bool = JSON,
) -> None:
    """List the technologies and FPGA fabrics the cost model knows.

    Example: planeforge techs --template > mine.toml; planeforge cost --tech mine.toml
    """
    from cost_models import tech

    if template:
        text = tech.template()
        return show({"template": text}, as_json, lambda: print(text, end=""))
    known = [tech.load(name) for name in (*tech.names(), *tech.fabrics())]
    rows = [
        {
            "tech": t.name,
            "title": t.title,
            "node": t.node,
            "vdd": t.vdd,
            "area_unit": t.area_unit,
            "prices": ", ".join(_prices(t)),
            "constants": len(t.constants),
        }
        for t in known
    ]
    _list(rows, as_json)


def _prices(tech: Any) -> list[str]:
    """What a technology has numbers for."""
    asked = {"area": "area_ge", "energy": "clock_flop", "SRAM": "sram_read", "tables": "lut_inputs"}
    return [what for what, key in asked.items() if key in tech.constants]


COMMANDS = {"methods": methods, "formats": formats, "pes": pes, "techs": techs}
