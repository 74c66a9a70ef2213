"""planeforge: low-bit language models from checkpoint to bitplanes, exact simulation, RTL and cost.

The names a notebook needs, each imported when first used: importing the package itself costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from algo.bitplane.activations import quantize_activations
    from algo.bitplane.decode import dequantize
    from algo.bitplane.storage import bits_per_weight, breakdown
    from algo.bitplane.store import load, save
    from planeforge.hardware import array, pe
    from planeforge.quantizing import quantize
    from planeforge.simulating import simulate, streams
    from planeforge.verifying import Case, verify

__version__ = "0.1.0"

__all__ = [
    "Case",
    "__version__",
    "array",
    "bits_per_weight",
    "breakdown",
    "dequantize",
    "load",
    "pe",
    "quantize",
    "quantize_activations",
    "save",
    "simulate",
    "streams",
    "verify",
]

_HOMES = {
    "algo.bitplane.activations": ("quantize_activations",),
    "algo.bitplane.decode": ("dequantize",),
    "algo.bitplane.storage": ("bits_per_weight", "breakdown"),
    "algo.bitplane.store": ("load", "save"),
    "planeforge.hardware": ("array", "pe"),
    "planeforge.quantizing": ("quantize",),
    "planeforge.simulating": ("simulate", "streams"),
    "planeforge.verifying": ("Case", "verify"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'planeforge' has no attribute {name!r}")
