"""Packed files and packed model folders as the verbs read them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from algo.bitplane.matrix import PackedMatrix
    from algo.bitplane.store import Provenance

PACKED = "packed.safetensors"  #: name of the packed file in a model's folder


def read(out: Path) -> tuple[dict[str, PackedMatrix], Provenance]:
    """Matrices of a packed file, or of the folder `quantize` makes of a model."""
    from algo.bitplane import store

    return store.load(out / PACKED if out.is_dir() else out)


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
