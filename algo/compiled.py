"""The decorator of compiled functions: Numba's lazy compilation, and a cache that sees all they depend on.

Numba's own cache looks at the file of the function alone: what it calls from another file could change and
the old machine code would still be loaded. Here the stamp of a cached function is a digest of every source
file of its top package, with the versions of Numba and llvmlite; Numba itself adds signature and CPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache


@cache
def stamp(package: str) -> str:
    """Digest of all that compiled functions of a top package depend on."""
    return digest(Path(str(import_module(package).__file__)).parent)


def digest(folder: Path) -> str:
    """`stamp` of the package in a folder; its tests do not count."""
    found = hashlib.sha256(f"numba {numba.__version__} llvmlite {llvmlite.__version__}".encode())
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        if "tests" not in name.parts:
            found.update(name.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def _results(package: str) -> type[Any]:
    def stamped(locator: type[Any]) -> type[Any]:
        return type(locator.__name__, (locator,), {"get_source_stamp": lambda self: stamp(package)})

    locators = [stamped(locator) for locator in CompileResultCacheImpl._locator_classes]
    return type("Results", (CompileResultCacheImpl,), {"_locator_classes": locators})


class _Cache(FunctionCache):
    def __init__(self, function: Callable[..., Any]) -> None:
        self._impl_class = _results(function.__module__.partition(".")[0])
        super().__init__(function)


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """``function`` compiled on its first call and cached under `stamp`; ``options`` are Numba's."""
    if function is None:
        return lambda given: kernel(given, **options)
    dispatcher = njit(function, nogil=True, **options)
    dispatcher._cache = _Cache(function)
    return dispatcher
