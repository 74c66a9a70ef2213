"""Single tensors out of a checkpoint's safetensors files, each read when it is wanted, and let go.

A file is opened for one tensor at a time: what a mapping has touched counts as memory until it is closed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import safe_open

_CHUNK = 1 << 24  #: bytes copied at a time


@dataclass(frozen=True, kw_only=True)
class TensorFiles:
    """Where each tensor of a checkpoint is.

    A checkpoint saved from a bare decoder lacks the prefix the causal language model's names have, and one
    saved from a larger model may have it where the names do not; both are found.
    """

    files: Mapping[str, tuple[Path, list[int]]]  #: file and shape, by the name a tensor has in its file
    prefix: str = ""  #: of a base model's tensors, as in "model." for Llama

    @classmethod
    def of(cls, paths: Sequence[Path], prefix: str = "") -> TensorFiles:
        """Of sound safetensors files."""
        files: dict[str, tuple[Path, list[int]]] = {}
        for path in paths:
            with safe_open(path, framework="pt") as file:
                names: list[str] = list(file.keys())
                files |= {name: (path, list(file.get_slice(name).get_shape())) for name in names}
        return cls(files=files, prefix=prefix)

    def find(self, name: str) -> str | None:
        """The name in its file of a model's tensor; None where there is none."""
        for known in (name, name.removeprefix(self.prefix), self.prefix + name):
            if known in self.files:
                return known
        return None

    def shape(self, name: str) -> list[int]:
        """Shape of a model's tensor. Raises ValueError as `read` does."""
        return self.files[self._known(name)][1]

    def read(self, name: str) -> torch.Tensor:
        """A model's tensor, real numbers as float32.

        Raises ValueError if the files have none of that name.
        """
        known = self._known(name)
        with safe_open(self.files[known][0], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(known)
            # A copy in any case: the original may live in the mapped file.
            return tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)

    def _known(self, name: str) -> str:
        known = self.find(name)
        if known is None:
            raise ValueError(f"tensor must be one of the checkpoint's, not {name!r}")
        return known


def copy_tensors(sources: Sequence[Path], leave_out: set[str], target: Path) -> None:
    """Write the tensors of several safetensors files into one, byte for byte, some left out.

    The order is by width of the type, widest first, then by name: every tensor is aligned. A few megabytes
    are held at a time.
    """
    entries = sorted(
        (entry for path in sources for entry in _entries(path) if entry.name not in leave_out),
        key=lambda entry: (-entry.width, entry.name),
    )
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for entry in entries:
        header[entry.name] = {**entry.described, "data_offsets": [at, at + entry.size]}
        at += entry.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with target.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for entry in entries:
            with entry.path.open("rb") as file:
                file.seek(entry.begin)
                _pass_on(file, out, entry.size)


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One tensor in a file."""

    name: str
    path: Path
    described: Mapping[str, object]  #: type and shape as the header has them
    begin: int  #: first byte in the file
    size: int  #: bytes
    width: int  #: bytes of an entry; of a packed type, less than one, 0


def _entries(path: Path) -> Iterator[_Entry]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    for name, given in header.items():
        if name != "__metadata__":
            first, last = given["data_offsets"]
            count = 1
            for extent in given["shape"]:
                count *= extent
            yield _Entry(
                name=name,
                path=path,
                described={"dtype": given["dtype"], "shape": given["shape"]},
                begin=8 + length + first,
                size=last - first,
                width=(last - first) // max(1, count),
            )


def _pass_on(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size:
        part = source.read(min(size, _CHUNK))
        if not part:
            raise ValueError(f"{source.name} must be as long as its header says, and ends early")
        target.write(part)
        size -= len(part)
