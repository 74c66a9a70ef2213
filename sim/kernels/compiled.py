"""The decorator of every kernel: Numba's lazy compilation, and a cache on disk that sees all it depends on.

Numba's own cache looks at the file of the function alone: what a kernel calls from another file could change
and the old machine code would still be loaded. Here the stamp of a cached kernel is a digest of every source
file of this package, with the versions of Numba and llvmlite; Numba itself adds signature and CPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache


def digest(folder: Path) -> str:
    """Digest of the source files of a folder, and of the versions that turn them into machine code."""
    found = hashlib.sha256(f"numba {numba.__version__} llvmlite {llvmlite.__version__}".encode())
    for path in sorted(folder.glob("*.py")):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


@cache
def stamp() -> str:
    """Digest of all that compiled kernels depend on."""
    return digest(Path(__file__).parent)


def _stamped(locator: type[Any]) -> type[Any]:
    def get_source_stamp(self: Any) -> str:
        return stamp()

    return type(locator.__name__, (locator,), {"get_source_stamp": get_source_stamp})


class _Results(CompileResultCacheImpl):
    _locator_classes = [_stamped(locator) for locator in CompileResultCacheImpl._locator_classes]  # noqa: RUF012


class _Cache(FunctionCache):
    _impl_class = _Results


def kernel(function: Callable[..., Any]) -> Any:
    """``function`` compiled on its first call and cached under `stamp`."""
    dispatcher = njit(function, nogil=True)
    dispatcher._cache = _Cache(function)
    return dispatcher
