"""A study as one HTML file that needs nothing beside it; CSV, JSON and Verilog lie next to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planeforge import report_tables
from planeforge.report_tables import MM2, figure, percent
from planeforge.study_config import REFERENCE, Study
from planeforge.study_rows import Row
from planeforge.study_table import Result, layer_energy, layer_table, ranked, result, table

if TYPE_CHECKING:
    import pandas as pd

TEMPLATES = Path(__file__).resolve().parent / "templates"
TEMPLATE = "report.html.j2"

REPORT, RUN, TABLE, LAYERS, VERILOG = "report.html", "run.json", "results.csv", "layers.csv", "verilog"
VECTORS = 1000  #: beats in the exported testbench
SEED = 0  #: of these beats; nothing else in a study is random


def write(folder: Path, study: Study, rows: Sequence[Row], run: Mapping[str, Any]) -> dict[str, Any]:
    """Write report, tables, run and Verilog into ``folder``.

    Returns the paths to look at and the figures of every row, as in the CSV.
    """
    from algo.bitplane.store import write_whole
    from hw import verilog
    from hw.beats import Beats

    sound, failed = [row for row in rows if not row.error], [row for row in rows if row.error]
    results = ranked([result(row, study.array, study.table.tech, study.table.dram) for row in sound])
    frame = table(results, reference_of(results), failed)
    beats = Beats.random(study.array.pe, VECTORS, SEED)
    verilog.export(study.array.pe, folder / VERILOG, beats, clock_hz=study.array.clock_hz)
    write_whole(folder / TABLE, _csv(frame))
    write_whole(folder / LAYERS, _csv(layer_table(results, study.table.tech, study.table.dram)))
    write_whole(folder / RUN, _json(run))
    # Last, so that a report never stands beside tables of another run.
    write_whole(folder / REPORT, render(study, results, failed, run).encode())
    return {
        "report": str(folder / REPORT),
        "table": str(folder / TABLE),
        "verilog": str(folder / VERILOG),
        "figures": frame.astype(object).where(frame.notna(), None).to_dict("records"),
    }


def reference_of(results: Sequence[Result]) -> Result | None:
    """The fp16 row; None where it failed."""
    return next((r for r in results if r.label == REFERENCE), None)


def render(study: Study, results: Sequence[Result], failed: Sequence[Row], run: Mapping[str, Any]) -> str:
    """The page, for results in the order of its table."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from cost_models.sparsity import price
    from planeforge import plots

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    columns = report_tables.main_columns(study, results)
    draw = (plots.kl_against_bits, plots.energy_against_kl, plots.where_bits_go)
    pe = study.array.pe
    page: str = environment.get_template(TEMPLATE).render(
        study=study.table,
        run=run,
        results=results,
        failed=failed,
        columns=columns,
        groups=report_tables.groups(columns),
        findings=report_tables.findings(results, study.table.act_bits),
        sparsity=price.sentences(study.table.tech),
        # matplotlib escapes the text it writes: its SVG goes in as it is.
        pictures=[Markup(picture(results)) for picture in draw] if results else [],
        energy_parts=report_tables.parts([(r.label, r.energy.breakdown) for r in results], 1e-3),
        bit_parts=report_tables.parts([(r.label, r.row.breakdown) for r in results]),
        areas=_areas(results),
        layers=_layers(study, results),
        constants=report_tables.constants(results),
        pe=[("name", study.table.pe.name), *asdict(pe).items(), ("latency", pe.latency())],
        cells={kind: count for kind, count in asdict(pe.resources()).items() if count},
        array=[(key, _shown(value)) for key, value in asdict(study.array).items() if key != "pe"],
        files={"table": TABLE, "layers": LAYERS, "run": RUN, "verilog": VERILOG},
        vectors=VECTORS,
        figure=figure,
    )
    return page


def _shown(value: float | str | bool) -> str:
    """A parameter of the array as the page shows it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _areas(results: Sequence[Result]) -> list[tuple[str, str]]:
    """The array's area by part [mm²]; one array runs all formats."""
    parts = results[0].area.breakdown if results else {}
    return [(part, figure(value / MM2)) for part, value in parts.items()]


def _layers(study: Study, results: Sequence[Result]) -> list[tuple[str, list[list[str]]]]:
    """For each format a line per layer."""
    table, array = study.table, study.array
    return [
        (
            r.label,
            [
                [
                    layer.name,
                    f"{layer.rows} × {layer.columns}",
                    figure(layer.stored_bits / (layer.rows * layer.columns), 4),
                    figure(layer.published_bits, 4),
                    percent(layer.weight_error),
                    percent(layer.output_error),
                    figure(layer.cycles / r.row.tokens, 4),
                    percent(layer.macs / layer.slots if layer.slots else 0.0),
                    figure(layer_energy(layer, array, table.tech, table.dram).total / r.row.tokens / 1e3),
                ]
                for layer in r.row.layers
            ],
        )
        for r in results
    ]


def _csv(frame: pd.DataFrame) -> bytes:
    text: str = frame.to_csv(index=False, float_format="%.9g", lineterminator="\n")
    return text.encode()


def _json(content: Mapping[str, Any]) -> bytes:
    import json

    return (json.dumps(content, indent=2) + "\n").encode()
