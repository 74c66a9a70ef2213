"""The built-in study: the shipped model and texts, the formats of ``study.toml``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

STUDY = Path(__file__).resolve().parent / "study.toml"


def run(directory: str | Path, progress: Callable[[float, str], None] = lambda share, doing: None) -> Path:
    """Run it into ``directory``; returns the report to open. Finished rows of an earlier run are kept.

    Raises as `planeforge.study.compare`.
    """
    from planeforge import study

    return Path(study.compare(STUDY, directory, progress)["report"])
