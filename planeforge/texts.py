"""Texts a verb reads: a user's file, or the ones that come with the demo."""

from __future__ import annotations

from pathlib import Path


def read(path: Path, name: str) -> str:
    """A text file in UTF-8.

    Raises ValueError if there is no such file, or it is no text.
    """
    if not path.is_file():
        raise ValueError(f"{name} must be an existing text file, not {str(path)!r}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{name} must be UTF-8 text, not {str(path)!r}") from None
    if not text.strip():
        raise ValueError(f"{name} must hold text, and {str(path)!r} is empty")
    return text


def held_out(path: Path | None) -> str:
    """Text to score on; default: the demo's held-out part of Python's documentation."""
    from planeforge.demo import assets

    return assets.held_out_text() if path is None else read(path, "text")


def calibration(path: Path | None) -> str:
    """Text to calibrate on; default: the demo's, cut from its training part."""
    from planeforge.demo import assets

    return assets.calibration_text() if path is None else read(path, "calib")
