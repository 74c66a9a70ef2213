"""Families of interchangeable modules: one file each, and the file's name is its key.

Where a published name has a hyphen the file has an underscore, and for a plus at its end ``_plus``:
``arb_rc_plus.py`` is ``arb-rc+``.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType


def names(package: str) -> tuple[str, ...]:
    """Names of the modules in ``package``, sorted; folders (tests) are no members."""
    found = iter_modules(import_module(package).__path__)
    return tuple(sorted(_key(m.name) for m in found if not m.ispkg and not m.name.startswith("_")))


def load(package: str, name: str) -> ModuleType:
    """Module ``name`` of ``package``.

    Raises ValueError naming the members if there is none of that name.
    """
    members = names(package)
    if name not in members:
        kind = package.rpartition(".")[2].removesuffix("s")
        raise ValueError(f"{kind} must be one of {', '.join(members)}, not {name!r}")
    file = name.replace("+", "_plus").replace("-", "_")
    return import_module(f"{package}.{file}")


def _key(file: str) -> str:
    return (file.removesuffix("_plus") + "+" * file.endswith("_plus")).replace("_", "-")
