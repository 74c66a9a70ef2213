"""An array's costs as other simulators read them: Accelergy's energy and area tables, a ZigZag core.

Both are YAML text with the provenance of every number as comments. Energies are those of random data. Neither
format has a place for a range: the comments have it.

Sources: Wu, Emer, Sze, Accelergy, ICCAD 2019 (energy and area reference tables, version 0.4); Mei et al.,
ZigZag, IEEE TC 2021 (accelerator description of zigzag-dse 3.9).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from cost_models import area, energy
from cost_models import tech as techs
from cost_models.tech import Tech
from cost_models.uncertain import Cost
from hw.counts import Activity
from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec

FORMATS = ("accelergy", "zigzag")
#: parts of an energy that time alone makes, and that the array's buffers make
_LEAKAGE = ("pe_leakage", "buffer_leakage")
_DRAM_BITS = 8 * 10**10  #: of external memory; the neighbours want a size, the models here none


def export(to: str, array: ArraySpec, tech: Tech | str, dram: str = "lpddr5") -> str:
    """An array as text of another simulator, one of `FORMATS`.

    Raises ValueError for another format, a PE whose energy is not modelled, or a technology without SRAM.
    """
    if to not in FORMATS:
        raise ValueError(f"to must be one of {', '.join(FORMATS)}, not {to!r}")
    if not isinstance(array.pe, BitSerial) or array.pe.kept != (1, 1):
        raise ValueError(f"pe must be bit-serial to have its energy exported, not {type(array.pe).__name__}")
    found = techs.resolve(tech)
    costs = components(array, found, dram)
    made = accelergy(array, costs) if to == "accelergy" else zigzag(array, costs)
    lines = [f"planeforge: {array.rows}x{array.columns} {type(array.pe).__name__} PEs, {found.name}, {dram}"]
    lines += [f"{name}: {c.total:.6g} {c.unit} [{c.low:.6g} to {c.high:.6g}]" for name, c in costs.items()]
    lines += dict.fromkeys(source for cost in costs.values() for source in cost.sources)
    return "".join(f"# {' '.join(line.split())}\n" for line in lines) + "\n".join(_block(made)) + "\n"


def components(array: ArraySpec, tech: Tech, dram: str) -> dict[str, Cost]:
    """What the tables hold: energies [pJ] of a beat, an idle clock and words, leakage a clock, areas."""
    one = ArraySpec(
        pe=array.pe,
        rows=1,
        columns=1,
        clock_hz=array.clock_hz,
        weight_buffer_bits=array.weight_buffer_bits,
        activation_buffer_bits=array.activation_buffer_bits,
    )
    words = array.pe.words()
    beat = Activity(cycles=1, beats=1, w_toggles=words["w"] // 2, x_toggles=words["x"] // 2)
    idle = Activity(cycles=1)
    w, x = array.rows * words["w"], array.columns * words["x"]
    costs = {
        "pe beat": _only(energy.energy(beat, one, tech, dram), without=_LEAKAGE),
        "pe idle": _only(energy.energy(idle, one, tech, dram), without=_LEAKAGE),
        "pe leak": _only(energy.energy(idle, one, tech, dram), of="pe_leakage"),
        "buffers leak": _only(energy.energy(idle, one, tech, dram), of="buffer_leakage"),
        "weight_buffer read": _moved(one, tech, dram, weight_buffer_bits=w),
        "activation_buffer read": _moved(one, tech, dram, activation_buffer_bits=x),
        "result write": _moved(one, tech, dram, result_bits=array.pe.acc_width),
        "dram access": _moved(one, tech, dram, dram_bits=array.dram_bits_per_cycle),
        "pe area": area.pe_area(array.pe, tech),
    }
    whole = area.array_area(array, tech)
    for name in ("weight_buffer", "activation_buffer"):
        costs[f"{name} area"] = _only(whole, of=name)
    return costs


def _moved(one: ArraySpec, tech: Tech, dram: str, **bits: int) -> Cost:
    return _only(energy.energy(Activity(**bits), one, tech, dram), without=())


def _only(cost: Cost, *, of: str = "", without: Iterable[str] = ()) -> Cost:
    """A cost's terms of one part, or those of all others."""
    terms = (t for t in cost.terms if (t.part == of if of else t.part not in tuple(without)))
    return Cost(unit=cost.unit, terms=tuple(terms), fit=cost.fit)


def accelergy(array: ArraySpec, costs: Mapping[str, Cost]) -> dict[str, Any]:
    """Energy reference table [pJ an action] and area reference table [um2] of the array's components."""
    actions = {
        "pe": {"compute": "pe beat", "idle": "pe idle", "leak": "pe leak"},
        "weight_buffer": {"read": "weight_buffer read"},
        "activation_buffer": {"read": "activation_buffer read"},
        "buffers": {"leak": "buffers leak"},
        "result_port": {"write": "result write"},
        "dram": {"read": "dram access", "write": "dram access"},
    }
    names = {"pe": f"system.chip.pe[0..{array.rows * array.columns - 1}]", "dram": "system.dram"}
    areas = {"pe": "pe area"} | {f"{n}_buffer": f"{n}_buffer area" for n in ("weight", "activation")}

    def path(component: str) -> str:
        return names.get(component, f"system.chip.{component}")

    return {
        "ERT": {
            "version": 0.4,
            "tables": [
                {
                    "name": path(component),
                    "actions": [
                        {"name": name, "arguments": {}, "energy": _number(costs[key])}
                        for name, key in wanted.items()
                    ],
                }
                for component, wanted in actions.items()
            ],
        },
        "ART": {
            "version": 0.4,
            "tables": [{"name": path(name), "area": _number(costs[key])} for name, key in areas.items()],
        },
    }


def zigzag(array: ArraySpec, costs: Mapping[str, Cost]) -> dict[str, Any]:
    """A core whose unit is one lane: a one-bit multiply-accumulate.

    D1 are rows (output channels), D2 columns (tokens), D3 lanes (input channels). A layer of N by M bits is
    one of N times M as many loops over bit planes.
    """
    lanes, every = array.pe.lanes, ["D1", "D2", "D3"]
    words, acc = array.pe.words(), array.pe.acc_width
    w, x, port = array.rows * words["w"], array.columns * words["x"], array.dram_bits_per_cycle
    buffers = {
        "weight_buffer": ("I2", array.weight_buffer_bits, w),
        "activation_buffer": ("I1", array.activation_buffer_bits, x),
    }
    memories: dict[str, Any] = {
        "accumulator": _memory(acc, acc, 0.0, 0.0, {"O": ("tl", "th", "fh", "fl")}, ["D3"]),
    }
    for name, (operand, size, width) in buffers.items():
        read = _number(costs[f"{name} read"])
        memories[name] = _memory(
            size, width, read, _number(costs[f"{name} area"]), {operand: ("tl", "", "fh", "")}, every
        )
    links = {"I1": ("tl", "", "fh", ""), "I2": ("tl", "", "fh", ""), "O": ("tl", "th", "fh", "fl")}
    memories["dram"] = _memory(_DRAM_BITS, port, _number(costs["dram access"]), 0.0, links, every, "dram")
    return {
        "name": f"planeforge_{array.rows}x{array.columns}",
        "memories": memories,
        "operational_array": {
            "unit_energy": _number(costs["pe beat"]) / lanes,
            "unit_area": _number(costs["pe area"]) / lanes,
            "dimensions": every,
            "sizes": [array.rows, array.columns, lanes],
        },
    }


def _memory(
    size: int,
    width: int,
    cost: float,
    taken: float,
    links: Mapping[str, tuple[str, str, str, str]],
    served: list[str],
    kind: str = "sram",
) -> dict[str, Any]:
    """A memory with a port to read and one to write; ``links``: directions by operand, "" for none."""
    reads = [f"{operand}, {d}" for operand, way in links.items() for d in way[:2] if d]
    writes = [f"{operand}, {d}" for operand, way in links.items() for d in way[2:] if d]
    return {
        "size": size,
        "r_cost": cost,
        "w_cost": cost,
        "area": taken,
        "latency": 1,
        "mem_type": kind,
        "operands": list(links),
        "ports": [
            _port("r_port_1", "read", width, reads),
            _port("w_port_1", "write", width, writes),
        ],
        "served_dimensions": list(served),
    }


def _port(name: str, kind: str, width: int, allocation: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "bandwidth_min": width,
        "bandwidth_max": width,
        "allocation": allocation,
    }


def _number(cost: Cost) -> float:
    return float(f"{cost.total:.6g}")


def _block(value: Any, indent: int = 0) -> list[str]:
    """YAML lines of mappings, lists and plain values; a value is written as JSON, which YAML reads."""
    pad, lines = "  " * indent, []
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, Mapping | list) and inner:
                lines += [f"{pad}{key}:", *_block(inner, indent + 1)]
            else:
                lines.append(f"{pad}{key}: {json.dumps(inner)}")
        return lines
    for inner in value:
        if isinstance(inner, Mapping):
            first, *rest = _block(inner, indent + 1)
            lines += [f"{pad}- {first.lstrip()}", *rest]
        else:
            lines.append(f"{pad}- {json.dumps(inner)}")
    return lines
