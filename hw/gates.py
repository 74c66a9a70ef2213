"""A netlist of simple gates as C++: one statement a gate, in an order that needs no second pass.

Yosys' own C++ backend handles words well, but takes a compiler most of a minute for a PE's single bits; this
takes seconds. The class has the ports of that backend's, so the same harness drives it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from string import Template
from typing import Any

#: Cells by Yosys' names: C++ of the output, from the nets of the pins.
GATES = {
    "$_NOT_": "{A} ^ 1",
    "$_AND_": "{A} & {B}",
    "$_OR_": "{A} | {B}",
    "$_XOR_": "{A} ^ {B}",
    "$_MUX_": "{S} ? {B} : {A}",
}
FLOP = "$_DFF_P_"

_CLASS = Template("""\
#include <cxxrtl/cxxrtl.h>

#include <cstdint>

namespace cxxrtl_design {

struct p_pe {
$ports
    uint8_t n[$nets] = {};
    bool clock = false;

    p_pe() {
$initial
    }

    // A rising edge takes what the last evaluation left at the flip-flops; any other step evaluates.
    void step() {
        const bool rises = p_clk.get<bool>() && !clock;
        clock = p_clk.get<bool>();
        if (rises) latch(); else evaluate();
    }

    void latch() {
        const uint8_t next[] = {$data};
        static const int state[] = {$state};
        for (int i = 0; i < $flops; i++) n[state[i]] = next[i];
    }

    void evaluate() {
$inputs
$gates
$outputs
    }

    template <size_t N> void take(const cxxrtl::value<N> &port, int first) {
        for (size_t i = 0; i < N; i++) n[first + i] = port.data[i / 32] >> i % 32 & 1;
    }

    template <size_t N> void give(cxxrtl::value<N> &port, const uint8_t (&bits)[N]) {
        port = {};
        for (size_t i = 0; i < N; i++) port.data[i / 32] |= uint32_t(bits[i]) << i % 32;
    }
};

} // namespace cxxrtl_design
""")


def to_cpp(module: Mapping[str, Any]) -> str:
    """Class ``cxxrtl_design::p_pe`` of a flat module of simple gates, one clock ``clk``.

    Parameters: module, as in Yosys' JSON (``write_json``), of the cells `GATES` and `FLOP` alone
    Raises:     ValueError for any other cell, or a loop of gates
    """
    ports = module["ports"]
    numbers: dict[int, int] = {}
    for bit in _bits_in_order(module):
        numbers.setdefault(bit, len(numbers))

    def net(bit: int | str) -> str:
        return f"n[{numbers[bit]}]" if isinstance(bit, int) else "1" if bit == "1" else "0"

    inputs = {name: port["bits"] for name, port in ports.items() if port["direction"] == "input"}
    outputs = {name: port["bits"] for name, port in ports.items() if port["direction"] == "output"}
    flops = [cell["connections"] for cell in module["cells"].values() if cell["type"] == FLOP]
    return _CLASS.substitute(
        ports="\n".join(f"    cxxrtl::value<{len(p['bits'])}> {member(name)};" for name, p in ports.items()),
        nets=len(numbers),
        initial="\n".join(f"        {net(bit)} = 1;" for bit in ones_at_start(module)),
        data=", ".join(net(pins["D"][0]) for pins in flops),
        state=", ".join(str(numbers[pins["Q"][0]]) for pins in flops),
        flops=len(flops),
        inputs="\n".join(f"        take({member(n)}, {numbers[bits[0]]});" for n, bits in inputs.items()),
        gates="\n".join(
            f"        {net(pins['Y'][0])} = {GATES[kind].format(**{p: net(b[0]) for p, b in pins.items()})};"
            for kind, pins in in_order(module)
        ),
        outputs="\n".join(
            f"        give({member(n)}, {{{', '.join(map(net, bits))}}});" for n, bits in outputs.items()
        ),
    )


def member(port: str) -> str:
    """A port's name in Yosys' C++."""
    return "p_" + port.replace("_", "__")


def in_order(module: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, list[int | str]]]]:
    """Kind and pins of every gate, after the gates it reads."""
    drivers: dict[int | str, tuple[str, Mapping[str, list[int | str]]]] = {}
    for cell in module["cells"].values():
        if cell["type"] in GATES:
            drivers[cell["connections"]["Y"][0]] = (cell["type"], cell["connections"])
        elif cell["type"] != FLOP:
            raise ValueError(f"cell must be one of {', '.join(GATES)}, {FLOP}, not {cell['type']!r}")
    reads = {
        output: {bits[0] for pin, bits in pins.items() if pin != "Y" and bits[0] in drivers}
        for output, (_, pins) in drivers.items()
    }
    return (drivers[output] for output in TopologicalSorter(reads).static_order())


def ones_at_start(module: Mapping[str, Any]) -> list[int]:
    """Bits that hold 1 before the first clock; all others hold 0."""
    found = []
    for name in module["netnames"].values():
        start = str(name["attributes"].get("init", ""))[::-1]
        found += [bit for bit, value in zip(name["bits"], start, strict=False) if value == "1"]
    return found


def _bits_in_order(module: Mapping[str, Any]) -> Iterator[int]:
    """Every net: bits of a port side by side, then the rest."""
    for holder in (*module["ports"].values(), *module["netnames"].values()):
        yield from (bit for bit in holder["bits"] if isinstance(bit, int))
    for cell in module["cells"].values():
        yield from (bits[0] for bits in cell["connections"].values() if isinstance(bits[0], int))
