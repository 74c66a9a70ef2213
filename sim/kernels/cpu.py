"""What the CPU that Numba compiles for can do, so that no kernel asks for an instruction that is missing.

LLVM ends the process where an x86 instruction it was told to use does not exist. Numba compiles for this
machine unless ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` say otherwise: ``NUMBA_CPU_NAME=generic``, or
``NUMBA_CPU_NAME=x86-64-v3 NUMBA_CPU_FEATURES=`` (empty: what the name implies), force the portable path.
"""

from __future__ import annotations

from functools import cache

import llvmlite.binding as llvm
from numba import config

_V3 = frozenset({"sse4.2", "ssse3", "popcnt", "avx", "avx2", "bmi", "bmi2", "fma"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_VNNI = _V4 | {"avx512vnni"}
_POPCOUNT = _VNNI | {"avx512vpopcntdq", "avx512bitalg", "avx512vbmi", "avx512ifma", "gfni"}
#: Of the names one may force, what kernels ask about (LLVM's X86.td); any other name has none of it.
_NAMED = {
    "x86-64-v3": _V3,
    "haswell": _V3,
    "x86-64-v4": _V4,
    "skylake-avx512": _V4,
    "cascadelake": _VNNI,
    "icelake-server": _POPCOUNT,
    "sapphirerapids": _POPCOUNT,
    "znver4": _POPCOUNT,
    "znver5": _POPCOUNT,
}


@cache
def name() -> str:
    """LLVM's name of the CPU that Numba compiles for."""
    return str(config.CPU_NAME or llvm.get_host_cpu_name())


@cache
def features() -> frozenset[str]:
    """Features, by LLVM's names, of the CPU that Numba compiles for."""
    if config.CPU_FEATURES is None:
        host = llvm.get_host_cpu_features()
        return frozenset(f for f, has in host.items() if has and (config.ENABLE_AVX or "avx" not in f))
    found = set(_NAMED.get(name(), frozenset()))
    for word in filter(None, config.CPU_FEATURES.split(",")):
        (found.discard if word[0] == "-" else found.add)(word.lstrip("+-"))
    return frozenset(found)


def has(*wanted: str) -> bool:
    """Whether the CPU has every feature of ``wanted``."""
    return features().issuperset(wanted)
