"""Packed files and packed model folders as the verbs read them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from algo.bitplane.matrix import PackedMatrix
    from algo.bitplane.store import Provenance

PACKED = "manifest.json"  #: the file that makes a folder a packed model
SCHEMA = "planeforge.model/1"


def read(out: Path) -> tuple[dict[str, PackedMatrix], Provenance]:
    """Matrices of a packed file, or of the folder `quantize` makes of a model.

    A layer held as a product of two is two matrices, named as `algo.formats.stages` says.

    Raises ValueError naming the file if one is missing, damaged, or holds other matrices than it should.
    """
    from algo.bitplane import store

    if not out.is_dir():
        return store.load(out)
    manifest = read_manifest(out)
    matrices: dict[str, PackedMatrix] = {}
    for layer_file, wanted in _by_file(out, manifest).items():
        found = store.load(out / layer_file)[0]
        if list(found) != wanted:
            stray = next(iter(set(found) ^ set(wanted)), "another order")
            raise ValueError(f"{out / layer_file} must hold the matrices {PACKED} names, not {stray!r}")
        matrices |= found
    return matrices, provenance(manifest)


def provenance(manifest: Mapping[str, Any]) -> Provenance:
    """How a packed model was made, from its manifest."""
    from algo.bitplane.store import Provenance

    return Provenance(
        method=manifest["method"],
        config=manifest["config"],
        seed=manifest["seed"],
        sources={name: layer["source"] for name, layer in manifest["layers"].items()},
        published_bits=manifest["totals"]["bits_per_weight_published"],
    )


def read_manifest(out: Path) -> dict[str, Any]:
    """The manifest of a packed model's folder.

    Raises ValueError if it is missing, no JSON, of another schema, or lacks a part.
    """
    path = out / PACKED
    if not path.is_file():
        raise ValueError(f"packed model must hold {PACKED}, and {str(out)!r} does not")
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} must be JSON, but {error}") from None
    found = manifest.get("schema") if isinstance(manifest, dict) else manifest
    if found != SCHEMA:
        raise ValueError(f"{path} must have schema {SCHEMA}, not {str(found)[:40]!r}")
    for key in ("method", "config", "seed", "checkpoint", "layers", "totals"):
        if key not in manifest:
            raise ValueError(f"{path} must hold {key!r}, and does not")
    checked: dict[str, Any] = manifest
    return checked


def is_packed(directory: Path) -> bool:
    """Whether a folder is a packed model, sound or not: what may be replaced by another."""
    try:
        return bool(json.loads((directory / PACKED).read_bytes())["schema"] == SCHEMA)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _by_file(out: Path, manifest: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of the matrices in each packed file."""
    files: dict[str, list[str]] = {}
    try:
        for layer in manifest["layers"].values():
            files.setdefault(layer["file"], []).extend(layer["matrices"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{out / PACKED} must say where each layer is, but lacks {error}") from None
    for name in files:
        if Path(name).name != name:
            raise ValueError(f"{out / PACKED} must name files beside it, not {name!r}")
    return files


def chosen(matrices: Mapping[str, PackedMatrix], layer: str) -> dict[str, PackedMatrix]:
    """The one matrix named ``layer``, or the only one.

    Raises ValueError that lists the names if there is none of that name, or several and no name given.
    """
    if not layer and len(matrices) == 1:
        return dict(matrices)
    if layer not in matrices:
        names = ", ".join(list(matrices)[:6]) + (", ..." if len(matrices) > 6 else "")
        raise ValueError(f"layer must be one of {names}, not {layer!r}")
    return {layer: matrices[layer]}


def write_npy(path: Path, array: NDArray[Any]) -> None:
    """Write one array as .npy, whole or not at all."""
    import numpy as np

    from algo.bitplane.store import write_whole

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_whole(path, buffer.getvalue())
