"""Studies that ship with planeforge: published evaluations, run by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def names() -> tuple[str, ...]:
    """Built-in studies."""
    return tuple(_studies())


def run(name: str) -> dict[str, Any]:
    """Figures of a built-in study. Raises ValueError naming the studies."""
    studies = _studies()
    if name not in studies:
        raise ValueError(f"builtin must be one of {', '.join(studies)}, not {name!r}")
    return studies[name]()


def _studies() -> dict[str, Callable[[], dict[str, Any]]]:
    from planeforge.builtin import bitmod

    return {"bitmod": bitmod.study}
