"""Flip-flops of a PE's RTL, counted by Yosys: what `Resources.flop` is held against."""

from __future__ import annotations

import json

from hw import toolchain
from hw.spec import PeSpec


def flops(spec: PeSpec) -> int:
    """Bits of registers, constants and copies merged."""
    script = "proc\nflatten -noscopeinfo\nopt\nwrite_json"
    text = toolchain.builtin_yosys(toolchain.rtlil(spec), script)
    design = json.JSONDecoder().raw_decode(text, text.index("{"))[0]
    cells = design["modules"]["pe"]["cells"].values()
    return sum(len(cell["connections"]["Q"]) for cell in cells if "dff" in cell["type"])
