"""The main job: formats side by side on one model, from STUDY.toml to a report.

Every row is measured alone: one that fails becomes a row with its message and the others go on. A finished
row is kept in a file of its own, so a run that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planeforge import __version__, report, study_config, study_rows, study_sweep
from planeforge.output import Failure, plain
from planeforge.study_config import REFERENCE
from planeforge.study_load import Setting, load
from planeforge.study_rows import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from planeforge.study_measure import Bench

Moved = Callable[[float, str], None]

ROWS = "rows"
SCHEMA = "planeforge.run/1"
#: What the numbers of a row depend on besides this program.
LIBRARIES = ("numpy", "torch", "transformers", "numba")


def compare(
    path: str | Path,
    output: str | Path,
    progress: Moved = lambda share, doing: None,
    replaced: Mapping[str, Path] | None = None,
    sweep: str = "",
) -> dict[str, Any]:
    """Run the study of a file and write its results into a folder.

    ``replaced``: paths to take in place of the file's ``model``, ``text`` or ``calibration``; ``sweep``: a
    constant and its range, ``NAME=LOW:HIGH``, over which the formats' order in energy is looked for.

    Returns what was run and found: paths of the report and the table, a dictionary of figures per format,
    the places of the formats by energy, and the sweep.
    Raises ValueError for a study or a sweep that cannot be run, before any work; `Failure` if a row failed,
    after everything else was measured and written.
    """
    study = study_config.load(path, replaced)
    study_sweep.check(sweep, study)
    folder = _claim(Path(output))
    with _threads(study.table.threads):
        progress(0.0, "loading the model")
        setting = load(study)
        (folder / ROWS).mkdir(parents=True, exist_ok=True)
        rows = measure(setting, folder / ROWS, lambda share, doing: progress(0.03 + 0.92 * share, doing))
        progress(0.95, "writing the report")
        described = describe(setting, rows)
        written = report.write(folder, study, rows, described)
        written |= study_sweep.found(rows, study, sweep)
    progress(1.0, "done")
    failed = [row for row in rows if row.error is not None]
    if failed:
        lines = "; ".join(f"{row.label}: {row.error}" for row in failed)
        raise Failure(
            f"{len(failed)} of {len(rows)} formats failed ({lines}); the others are in {written['report']}"
        )
    return described | written


def measure(setting: Setting, folder: Path, progress: Moved) -> list[Row]:
    """All rows, the reference first; finished ones are read from ``folder``, new ones written there."""
    from planeforge import study_measure

    jobs: list[tuple[Row, Callable[[Bench, str, Moved], Row]]] = [
        (_blank(setting, REFERENCE, REFERENCE, None, {}), study_measure.reference_row)
    ]
    for entry in setting.study.entries:
        blank = _blank(setting, entry.label, entry.method, entry.format, asdict(entry.config))
        jobs.append((blank, partial(_format, entry)))
    found = {blank.key: study_rows.read(folder, blank.key) for blank, _ in jobs}
    bench = _bench(setting, progress) if None in found.values() else None
    rows = []
    for index, (blank, run) in enumerate(jobs):
        row = found[blank.key]
        if row is None and bench is not None:
            moved = _part(progress, blank.label, 0.05 + 0.95 * index / len(jobs), 0.95 / len(jobs))
            row = _isolated(blank, partial(run, bench, blank.key, moved))
            study_rows.write(folder, row)
        if row is not None:
            rows.append(row)
    return rows


def _format(entry: study_config.Entry, bench: Bench, key: str, progress: Moved) -> Row:
    from planeforge.study_measure import format_row

    return format_row(bench, entry, key, progress)


def _part(progress: Moved, label: str, start: float, size: float) -> Moved:
    return lambda share, doing: progress(start + size * share, f"{label}, {doing}")


def _isolated(blank: Row, run: Callable[[], Row]) -> Row:
    """The measured row, or the blank one with the reason why not: one bad format stops no other."""
    try:
        return run()
    except Exception as error:
        message = " ".join(str(error).split()) or "no message"
        return blank.model_copy(update={"error": f"{type(error).__name__}: {message}"})


def _bench(setting: Setting, progress: Moved) -> Bench:
    from algo import evaluation
    from planeforge.study_measure import Bench

    checkpoint, table = setting.checkpoint, setting.study.table
    reference = evaluation.remember(
        checkpoint.model,
        setting.text,
        checkpoint.context,
        progress=lambda done, total: progress(0.05 * done / total, "scoring the fp16 reference"),
    )
    return Bench(
        checkpoint=checkpoint,
        text=setting.text,
        reference=reference,
        calibration=setting.calibration,
        array=setting.study.array,
        act_bits=table.act_bits,
        tokens=table.tokens,
    )


def _blank(
    setting: Setting, label: str, method: str, format_name: str | None, config: Mapping[str, Any]
) -> Row:
    """A row before it is measured: its key is a digest of all that decides what it will hold."""
    study = setting.study
    key = study_rows.key_of(
        {
            "label": label,
            "method": method,
            "config": config,
            "model": setting.checkpoint.sha256,
            "context": setting.checkpoint.context,
            "text": _digest(setting.text.ids),
            "calibration": _digest(setting.calibration),
            "act_bits": study.table.act_bits,
            "tokens": study.table.tokens,
            "pe": [study.table.pe.name, asdict(study.array.pe)],
            "array": asdict(study.array),
            "program": [__version__, study_rows.code_digest()],
            "libraries": versions(LIBRARIES),
        }
    )
    return Row(key=key, label=label, method=method, format=format_name, config=dict(config))


def _digest(ids: NDArray[np.int64]) -> str:
    return hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()


def versions(names: Sequence[str]) -> dict[str, str]:
    """Installed versions of libraries, by name; what is not installed is left out."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def describe(setting: Setting, rows: Sequence[Row]) -> dict[str, Any]:
    """What was run: enough to run it again and to see that it was the same."""
    study, rounded = setting.study, setting.rounded
    model = rounded.checkpoint.model
    return plain(
        {
            "schema": SCHEMA,
            "planeforge": __version__,
            "program_sha256": study_rows.code_digest(),
            "versions": {"python": platform.python_version()}
            | versions((*LIBRARIES, "safetensors", "tokenizers", "amaranth", "pandas", "matplotlib")),
            "study": study.table.model_dump(),
            "model": {
                "name": study.model.name,
                "architecture": type(model).__name__,
                "sha256": rounded.checkpoint.sha256,
                "weights": rounded.weights,
                "quantized_weights": next((row.weights for row in rows if row.error is None), None),
                "context": rounded.checkpoint.context,
                "changed_by_fp16": rounded.changed,
                "largest_change_by_fp16": rounded.largest,
            },
            "text": _text(study.text)
            | {"tokens": len(setting.text.ids), "characters": setting.text.characters},
            "calibration": _text(study.calibration)
            | {"windows": len(setting.calibration), "tokens": setting.calibration.size},
            "pe": {"name": study.table.pe.name, **asdict(study.array.pe)},
            "array": {k: v for k, v in asdict(study.array).items() if k != "pe"},
            "seed": report.SEED,
            "rows": [{"label": row.label, "key": row.key, "error": row.error} for row in rows],
        }
    )


def _text(path: Path) -> dict[str, Any]:
    return {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _claim(folder: Path) -> Path:
    """The output folder, if it is new, empty, or holds an earlier run of a study.

    Raises ValueError if it, or the folder of Verilog in it, is somebody else's.
    """
    from hw import verilog

    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output must be a folder, not the file {str(folder)!r}")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / ROWS).is_dir():
        raise ValueError(f"output must be new, empty or hold an earlier study, not {str(folder)!r}")
    verilog.refuse_foreign(folder / report.VERILOG)
    return folder


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """torch with so many threads; as before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
