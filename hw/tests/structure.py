"""A PE's RTL as Yosys counts it, in the units of `Resources`; and words of planes that a test makes."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
from numpy.typing import ArrayLike

from hw import toolchain
from hw.spec import PeSpec


def word(planes: ArrayLike) -> int:
    """A word of bits [planes, lanes], or of any axes: the last one stands closest."""
    octets = np.packbits(np.asarray(planes, np.bool_).ravel(), bitorder="little")
    return int.from_bytes(octets.tobytes(), "little")


def bits(values: ArrayLike, count: int) -> np.ndarray:
    """Planes [count, ...] of two's complement."""
    return np.array([np.asarray(values) >> p & 1 for p in range(count)], np.bool_)


def claimed(spec: PeSpec) -> dict[str, int]:
    """What `PeSpec.resources` says: a full adder is five gates."""
    cells = spec.resources()
    gates = cells.gate2 + 5 * cells.full_adder + 2 * cells.half_adder
    return {"flop": cells.flop, "gates": gates, "adder_bit": cells.adder_bit, "mux2": cells.mux2}


def counted(spec: PeSpec) -> dict[str, int]:
    """What Yosys finds; inverters are no cells, nor are selects between two constants."""
    script = "proc\nflatten -noscopeinfo\nopt\nwrite_json\nwreduce\nopt_clean\nwrite_json"
    text = toolchain.builtin_yosys(toolchain.rtlil(spec), script)
    decoder = json.JSONDecoder()
    first, end = decoder.raw_decode(text, text.index("{"))
    found = _bits(first)
    # Sums and selects are written wider than they are used.
    used = _bits(decoder.raw_decode(text, text.index("{", end))[0])
    return {
        "flop": sum(count for kind, count in found.items() if "dff" in kind),
        "gates": sum(found[kind] for kind in ("$and", "$or", "$xor", "$reduce_and")),
        "adder_bit": used["$add"] + used["$sub"],
        "mux2": used["$mux"],
    }


def _bits(design: dict) -> Counter[str]:
    """Bits of each kind of cell."""
    found: Counter[str] = Counter()
    for cell in design["modules"]["pe"]["cells"].values():
        pins = cell["connections"]
        constant = cell["type"] == "$mux" and all(isinstance(bit, str) for bit in pins["A"] + pins["B"])
        found["constants" if constant else cell["type"]] += len(pins.get("Q") or pins.get("Y") or ())
    return found
