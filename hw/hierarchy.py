"""A design's modules as Verilog, each once: instances that are equal but for names share a module.

Amaranth writes one RTLIL module for each instance, its name being the instance's path, and gives it only the
ports its parent uses. Bottom-up, each is put into a form that does not depend on where it stands; equal forms
are one module, with the ports that any instance needs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from hw import toolchain

#: Modules that are written flat: whatever a PE is built from is inside it.
LEAVES = ("pe",)

_MODULE = re.compile(r"^((?:attribute [^\n]*\n)*)module (\S+)\n(.*?)^end$", re.M | re.S)
_CELL = re.compile(r"^  cell (\\\S+) (\S+)\n(.*?)^  end$", re.M | re.S)
_WIRE = re.compile(
    r"^((?:  attribute .*\n)*)  wire width (\d+) ((?:(?:input|output|inout) \d+)?) *(.*)\n", re.M
)
_CONNECT = re.compile(r"^    connect (\\\S+) (.*)$", re.M)
#: A public name: of a wire, a memory, an instance or a module.
_NAME = re.compile(r'(?<![\w\\"])\\[^\s"\\]+')
#: A memory's name where its ports speak of it.
_MEMORY = re.compile(r'(?<=parameter \\MEMID "\\)\\[^\s"]+')
#: A whole wire that is another one.
_ALIAS = re.compile(r"^connect (\\\S+) (\\\S+) \[(?:\d+:)?0\]$", re.M)

#: Attributes but those that tell synthesis of a memory that no entry is read in the clock that writes it.
_ATTRIBUTE = re.compile(
    r"^ *\(\* (?!no_rw_check|rw_addr_collision).*\*\)\n|\(\* full_case = 32'd1 \*\) ", re.M
)
#: A name of several bits where it is declared.
_DECLARED = re.compile(r"^  (?:input|output|wire|reg) \[(\d+):0\] (\w+)\b", re.M)
#: ``! name`` or ``! name[3:0]``
_NOT = re.compile(r"(?<== )! (\w+)(?:\[(\d+):(\d+)\])?(?=;)")
#: A memory's initial values, entry by entry.
_CLEARED = re.compile(
    r"^  initial begin\n(?P<body>(?:    (?P<name>\w+)\[\d+\] = .*\n)(?:    (?P=name)\[\d+\] = .*\n)*)  end\n",
    re.M,
)

#: Only modules marked to be kept are left; memories stay memories; no wire but those the logic needs.
_SCRIPT = """
proc
flatten -noscopeinfo -separator _
opt
opt_clean -purge
memory_collect
write_verilog
"""


@dataclass(frozen=True)
class _Wire:
    attributes: str
    width: int
    direction: str  #: input, output, inout, or nothing
    name: str  #: with ``signed`` before it, if it is

    @property
    def plain(self) -> str:
        """The name alone."""
        return self.name.split()[-1]

    def line(self, position: int) -> str:
        port = f"{self.direction} {position} " if self.direction else ""
        return f"{self.attributes}  wire width {self.width} {port}{self.name}\n"


@dataclass(frozen=True)
class _Module:
    head: str
    wires: list[_Wire]
    body: str  #: everything else; instances name their shared modules

    def form(self) -> tuple[tuple[str, ...], str]:
        """Equal for two modules that differ at most in which of their wires are outputs."""
        ports = (
            _Wire(w.attributes, w.width, "" if w.direction == "output" else w.direction, w.name)
            for w in self.wires
        )
        return tuple(sorted(wire.line(0) for wire in ports)), self.body

    def text(self, name: str, kept: bool) -> str:
        """RTLIL, ports in alphabetical order but for clock and reset, which come first."""
        named = [w.plain for w in self.wires if w.direction]
        order = sorted(named, key=lambda name: (name not in (r"\clk", r"\rst"), name))
        head = self.head + ("attribute \\keep_hierarchy 1\n" if kept else "")
        wires = "".join(w.line(1 + order.index(w.plain) if w.direction else 0) for w in self.wires)
        return f"{head}module \\{name}\n{wires}{self.body}end\n"


def verilog(design: str, leaves: Collection[str] = LEAVES) -> dict[str, str]:
    """Verilog-2005 of each module of an RTLIL design that Amaranth wrote, by its name.

    A module is named as its instances are, without the numbers at the end (``pe_0_1`` is an instance of
    ``pe``); different modules of one name are numbered from 2. The same text for the same design and version
    of Yosys.

    Parameters: leaves, names of modules that take in all below them
    Raises:     RuntimeError if Amaranth's Yosys is missing or refuses the design
    """
    text = toolchain.builtin_yosys(shared(design, leaves), _SCRIPT)
    modules = re.findall(r"^module (\S+?)\s*\(.*?^endmodule\n", text, re.M | re.S)
    text = _ATTRIBUTE.sub("", text)
    bodies = map(tidied, re.findall(r"^module .*?^endmodule\n", text, re.M | re.S))
    return dict(zip((name.removeprefix("\\") for name in modules), bodies, strict=True))


def tidied(module: str) -> str:
    """Verilog of a module in the words a reader would choose, where Yosys has others.

    ``a == 4'h0`` for ``! a`` of several bits, and a loop for a memory that is 0 at power-up.

    >>> print(tidied("  wire [3:0] a;\\n  assign b = ! a;\\n  assign c = ! a[2:1];"))
      wire [3:0] a;
      assign b = a == 4'h0;
      assign c = a[2:1] == 2'h0;
    """
    widths = {name: 1 + int(top) for top, name in _DECLARED.findall(module)}

    def zero(found: re.Match[str]) -> str:
        name, high, low = found.groups()
        bits = 1 + int(high) - int(low) if high else widths.get(name, 1)
        return f"{name}{found[0].partition(name)[2]} == {bits}'h0" if bits > 1 else found[0]

    return _CLEARED.sub(_loop, _NOT.sub(zero, module))


def _loop(found: re.Match[str]) -> str:
    """A memory's initial values, if they are all 0 from the first entry on, as a loop."""
    name, body = found["name"], found["body"]
    entries = re.findall(r"\[(\d+)\] = \d+'h0+;$", body, re.M)
    if len(entries) != body.count("\n") or [int(at) for at in entries] != list(range(len(entries))):
        return found[0]
    value = body.partition(" = ")[2].partition(";")[0]
    index = f"{name}_entry"
    loop = f"for ({index} = 0; {index} < {len(entries)}; {index} = {index} + 1)"
    return f"  integer {index};\n  initial\n    {loop}\n      {name}[{index}] = {value};\n"


def shared(design: str, leaves: Collection[str] = LEAVES) -> str:
    """RTLIL with one module for all equal instances, those marked that are to be left of the hierarchy.

    Raises ValueError if ``design`` holds no module.
    """
    written = {name: (head, body) for head, name, body in _MODULE.findall(design)}
    if not written:
        raise ValueError(f"design must be RTLIL with at least one module, not {design[:40]!r}")
    top = next(iter(written))
    sharing = _Sharing(written)
    sharing.visit(top)
    names = _names(sharing, top, leaves)

    def renamed(cell: re.Match[str]) -> str:
        return f"  cell \\{names.get(cell[1], cell[1])} "

    parts = []
    for number, module in sharing.modules.items():
        body, unused = sharing.complete(module.body)
        body = re.sub(r"^  cell \\(\S+) ", renamed, body, flags=re.M)
        named = replace(module, body=body, wires=module.wires + unused)
        parts.append(named.text(names.get(number, number), kept=number in names))
    return "\n".join(parts)


class _Sharing:
    """Modules by number, one for all that are equal, found from the leaves up."""

    def __init__(self, written: Mapping[str, tuple[str, str]]) -> None:
        self.written = written
        self.modules: dict[str, _Module] = {}
        self.number: dict[str, str] = {}  #: of a module as written
        self._ports: dict[str, dict[str, str]] = {}  #: names of ports, as written to as shared
        self._numbers: dict[tuple[tuple[str, ...], str], str] = {}

    def visit(self, name: str) -> None:
        """Number a module and all below it."""
        head, body = self.written[name]
        for child, _, _ in _CELL.findall(body):
            if child in self.written and child not in self.number:
                self.visit(child)
        names = _renamed(_CONNECT.sub(r"\2", body), top=name == next(iter(self.written)))
        self._ports[name] = names
        module = self._named(head, body, names)
        number = self._numbers.setdefault(module.form(), f"planeforge.{len(self._numbers)}")
        self.number[name] = number
        known = self.modules.setdefault(number, module)
        wanted = {wire.plain for wire in module.wires if wire.direction == "output"}
        known.wires[:] = [
            replace(wire, direction="output") if wire.plain in wanted else wire for wire in known.wires
        ]

    def _named(self, head: str, body: str, names: Mapping[str, str]) -> _Module:
        """A module with its own names, and its instances' modules and ports, as they are shared."""

        def own(text: str) -> str:
            text = _NAME.sub(lambda found: names.get(found[0], found[0]), text)
            return _MEMORY.sub(lambda found: names.get(found[0], found[0]), text)

        def instance(label: str, child: str, inside: str) -> str:
            theirs = self._ports.get(child, {})
            # In the order of the ports' names, whatever drives them.
            lines = sorted(
                _CONNECT.sub(
                    lambda c: f"    connect {theirs.get(c[1], c[1])} {own(c[2])}", inside
                ).splitlines(keepends=True),
                key=lambda line: ("connect" in line, line),
            )
            return f"  cell \\{self.number.get(child, child[1:])} {label}\n{''.join(lines)}  end"

        parts, at = [], 0
        for cell in _CELL.finditer(body):
            child, label, inside = cell.groups()
            parts += [own(body[at : cell.start()]), instance(own(label), child, inside)]
            at = cell.end()
        text = "".join([*parts, own(body[at:])])
        wires = [
            _Wire(attributes, int(width), port.split()[0] if port else "", name)
            for attributes, width, port, name in _WIRE.findall(text)
        ]
        return _Module(head, wires, re.sub(r"\n{2,}", "\n", _WIRE.sub("", text)))

    def complete(self, body: str) -> tuple[str, list[_Wire]]:
        """Instances with outputs they leave open tied to wires that say so, and those wires."""
        wires: list[_Wire] = []

        def tied(cell: re.Match[str]) -> str:
            child, label, inside = cell.groups()
            module = self.modules.get(child[1:])
            used = {port for port, _ in _CONNECT.findall(inside)}
            for wire in module.wires if module else ():
                if wire.direction == "output" and wire.plain not in used:
                    name = f"\\unused_{label[1:]}_{wire.plain[1:]}"
                    wires.append(_Wire("", wire.width, "", name))
                    inside += f"    connect {wire.plain} {name}\n"
            return f"  cell {child} {label}\n{inside}  end"

        return _CELL.sub(tied, body), wires


def _renamed(body: str, top: bool) -> dict[str, str]:
    """Names in plain letters, ``o__payload_1`` for ``o__payload$17``; and ``i__ready`` where it is an alias.

    Ports of the top module are the design's own, and stay.

    The numbers in Amaranth's names count over the whole design and tell equal modules apart: these start at 1
    in each module.
    """
    found = set(_NAME.findall(body))
    inputs = {wire[3].split()[-1] for wire in _WIRE.findall(body) if wire[2].startswith("input")}
    outputs = {wire[3].split()[-1] for wire in _WIRE.findall(body) if wire[2].startswith("output")}
    taken = {name for name in found if re.fullmatch(r"\\\w+", name)}
    names: dict[str, str] = {}
    for name in sorted(found - taken, key=lambda name: (re.sub(r"\d+", "", name), _numbers(name))):
        base = "\\" + re.sub(r"\W+", "_", re.sub(r"(\$\d+)+", "", name[1:])).strip("_")
        number, plain = 0, base
        while plain in taken:
            number += 1
            plain = f"{base}_{number}"
        taken.add(plain)
        names[name] = plain
    for alias, wire in _ALIAS.findall(body):
        if "__" in alias and "__" not in wire and alias not in inputs | outputs and wire not in inputs:
            if top and wire in outputs:
                continue
            names[alias], names[wire] = names.get(wire, wire), names.get(alias, alias)
    return names


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _names(sharing: _Sharing, top: str, leaves: Collection[str]) -> dict[str, str]:
    """Names of the modules that are left, by number."""
    names: dict[str, str] = {}
    taken: set[str] = set()

    def walk(written: str, name: str) -> None:
        number = sharing.number[written]
        if number in names:
            return
        again = 1
        while (chosen := name if again == 1 else f"{name}_{again}") in taken:
            again += 1
        taken.add(chosen)
        names[number] = chosen
        if name in leaves:
            return
        for child, label, _ in _CELL.findall(sharing.written[written][1]):
            if child in sharing.written:
                walk(child, readable(label))

    walk(top, top.removeprefix("\\"))
    return names


def readable(label: str) -> str:
    """A module's name from that of an instance.

    >>> readable(r"\\pe_0_12"), readable(r"\\buffer_w"), readable(r"\\U$1")
    ('pe', 'buffer_w', 'U')
    """
    plain = re.sub(r"\W+", "_", label.removeprefix("\\"))
    return re.sub(r"(_?\d+)+$", "", plain).strip("_") or "part"
