"""Packed matrices on disk: one safetensors file, written whole or not at all, refused unless it fits.

Tensors are ``<matrix>/<array>``: planes as uint64 words, integers, patterns and group bits as gapless streams
(uint8), real factors as float32 or float16. The metadata entry ``planeforge`` is JSON: schema, where the
matrices come from, and for each matrix its shape, terms and the types of its arrays.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.format import Digit
from algo.bitplane.ints import Coding, Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Gathered, Pattern, PerGroup, Plane, Stored

SCHEMA = "planeforge.packed/4"
#: What is read: version 3 added coded integers and planes of a bit per group, version 4 rotations, and
#: neither changed anything else.
READ = ("planeforge.packed/2", "planeforge.packed/3", SCHEMA)
_KEY = "planeforge"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How the matrices were made: enough to make them again."""

    method: str
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    sources: Mapping[str, str] = field(default_factory=dict)  #: sha256 of each source tensor, by matrix
    published_bits: float | None = None  #: the method's own formula, for the whole file


def save(path: str | Path, matrices: Mapping[str, PackedMatrix], provenance: Provenance) -> None:
    """Write ``matrices`` to ``path``; the file appears whole or not at all."""
    from safetensors.numpy import save as to_bytes

    tensors: dict[str, NDArray[Any]] = {}
    header: dict[str, Any] = {"schema": SCHEMA, "provenance": asdict(provenance), "matrices": {}}
    for name, matrix in matrices.items():
        if "/" in name:
            raise ValueError(f"matrix name must hold no '/', not {name!r}")
        header["matrices"][name] = _describe(matrix)
        tensors |= {f"{name}/{array}": data for array, data in _arrays(matrix).items()}
    blob = to_bytes(tensors, metadata={_KEY: json.dumps(header)})
    write_whole(Path(path), blob)


def write_whole(path: Path, blob: bytes) -> None:
    """Write a file beside its place, then move it there: no reader ever sees half of it."""
    if not path.parent.is_dir():
        raise ValueError(f"output folder must exist, not {str(path.parent)!r}")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(blob)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(path: str | Path) -> tuple[dict[str, PackedMatrix], Provenance]:
    """Matrices of a packed file, by name, and how they were made.

    Raises ValueError naming file, tensor and shapes if the file is missing, cut short, no safetensors, of
    another schema, or its arrays do not fit each other.
    """
    header, tensors = _read(Path(path))
    try:
        given = header["provenance"]
        provenance = Provenance(**given)
        descriptions = header["matrices"]
        matrices = {name: _rebuild(name, desc, tensors) for name, desc in descriptions.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} must be a whole packed file, but its metadata lacks {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    expected = {f"{n}/{a}" for n, matrix in matrices.items() for a in _arrays(matrix)}
    if stray := sorted(set(tensors) - expected):
        raise ValueError(f"{path} must hold only tensors its metadata names, not {stray[0]!r}")
    return matrices, provenance


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ValueError(f"packed file must exist, not {str(path)!r}")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
            if text is None:
                raise ValueError(
                    f"{path} must be a packed file (planeforge quantize), not another safetensors"
                )
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{path} must be a whole safetensors file, but {error}") from None
    try:
        header = json.loads(text)
    except json.JSONDecodeError:
        raise ValueError(f"{path} must have JSON metadata, not {text[:40]!r}") from None
    if not isinstance(header, dict) or header.get("schema") not in READ:
        found = header.get("schema") if isinstance(header, dict) else header
        raise ValueError(f"{path} must have schema {', '.join(READ[:-1])} or {SCHEMA}, not {found!r}")
    return header, tensors


def _arrays(matrix: PackedMatrix) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {
        name: p.stream() if isinstance(p, Pattern | PerGroup) else np.ascontiguousarray(p.words)
        for name, p in matrix.planes.items()
    }
    arrays |= {name: ints.stream() for name, ints in matrix.ints.items()}
    arrays |= {name: np.ascontiguousarray(factor) for name, factor in matrix.factors.items()}
    arrays["exponent"] = matrix.exponent.stream()
    return arrays | ({} if matrix.row is None else {"row": np.ascontiguousarray(matrix.row)})


def _describe(matrix: PackedMatrix) -> dict[str, Any]:
    ints = {**matrix.ints, "exponent": matrix.exponent}
    return {
        "rows": matrix.rows,
        "columns": matrix.columns,
        "group": matrix.group,
        "terms": [asdict(term) | {"digit": term.digit.value} for term in matrix.terms],
        "planes": {name: _describe_plane(plane) for name, plane in matrix.planes.items()},
        "ints": {
            name: {"shape": i.values.shape, "bits": i.bits, "signed": i.signed} | _describe_coding(i.coding)
            for name, i in ints.items()
        },
        "factors": sorted(matrix.factors),
        "row": matrix.row is not None,
        "rotate": matrix.rotate,
    }


def _describe_coding(coding: Coding | None) -> dict[str, Any]:
    if coding is None:
        return {}
    return {"coding": {"kind": coding.kind, "tile": coding.tile, "span": coding.span}}


def _describe_plane(plane: Stored) -> dict[str, Any]:
    if isinstance(plane, Gathered):
        return {"role": plane.role, "on": plane.on}
    if isinstance(plane, Pattern):
        return {"role": plane.role, "shape": plane.codes.shape, "kept": plane.kept, "of": plane.of}
    if isinstance(plane, PerGroup):
        return {"role": plane.role, "per_group": plane.bits.shape}
    return {"role": plane.role}


def _rebuild_plane(name: str, array: NDArray[Any], given: Mapping[str, Any]) -> Stored:
    if "on" in given:
        return Gathered(array, given["on"], given["role"])
    if "of" not in given and "per_group" not in given:
        return Plane(array, given["role"])
    if array.dtype != np.uint8 or array.ndim != 1:
        found = f"{array.dtype} {list(array.shape)}"
        raise ValueError(f"tensor {name} must be uint8 of one axis, not {found}")
    if "per_group" in given:
        rows, groups = given["per_group"]
        return PerGroup.from_stream(array, (int(rows), int(groups)), given["role"])
    shape = (int(given["shape"][0]), int(given["shape"][1]))
    return Pattern.from_stream(array, shape, given["kept"], given["of"], given["role"])


def _rebuild(name: str, described: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> PackedMatrix:
    def array(key: str) -> NDArray[Any]:
        if f"{name}/{key}" not in tensors:
            raise ValueError(f"tensor {name}/{key} must be in the file, but it is missing")
        return tensors[f"{name}/{key}"]

    def ints(key: str) -> Ints:
        given = described["ints"][key]
        shape = (int(given["shape"][0]), int(given["shape"][1]))
        stream = array(key)
        if stream.dtype != np.uint8 or stream.ndim != 1:
            found = f"{stream.dtype} {list(stream.shape)}"
            raise ValueError(f"tensor {name}/{key} must be uint8 of one axis, not {found}")
        try:
            coding = Coding(**given["coding"]) if "coding" in given else None
            return Ints.from_stream(stream, shape, given["bits"], given["signed"], coding)
        except ValueError as error:
            raise ValueError(f"tensor {name}/{key}: {error}") from None

    terms = tuple(
        Term(**(t | {k: tuple(t[k]) for k in ("planes", "coefs")} | {"digit": Digit(t["digit"])}))
        for t in described["terms"]
    )
    try:
        return PackedMatrix(
            rows=described["rows"],
            columns=described["columns"],
            group=described["group"],
            terms=terms,
            planes={
                key: _rebuild_plane(f"{name}/{key}", array(key), given)
                for key, given in described["planes"].items()
            },
            ints={key: ints(key) for key in described["ints"] if key != "exponent"},
            exponent=ints("exponent"),
            row=array("row") if described["row"] else None,
            factors={key: array(key) for key in described["factors"]},
            rotate=described.get("rotate"),
        )
    except ValueError as error:
        raise ValueError(f"matrix {name}: {error}") from None
