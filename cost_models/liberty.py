"""Reads what area, delay and energy need from a liberty file: the open cell libraries' common language.

Source: Liberty User Guide (Synopsys, open source licence): ``internal_power`` tables hold energy per output
transition in units of capacitance x voltage squared, beside the energy that charges the load.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: what is left of a liberty text once comments and line continuations are gone
_TOKEN = re.compile(r'"[^"]*"|[{}();:,]|[^\s{}();:,"]+')

_PREFIX = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15}


@dataclass
class Group:
    """A liberty statement with a body, or the file itself."""

    kind: str
    args: tuple[str, ...]
    values: dict[str, str] = field(default_factory=dict)  #: ``name : value ;``
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)  #: ``name (a, b) ;``
    groups: list[Group] = field(default_factory=list)

    def of(self, kind: str) -> list[Group]:
        """Groups of one kind, in order."""
        return [group for group in self.groups if group.kind == kind]


@dataclass(frozen=True)
class Table:
    """A lookup table over input slew and output load, either of which may be absent."""

    slews: tuple[float, ...]  #: in the library's time unit
    loads: tuple[float, ...]  #: in the library's capacitance unit
    values: tuple[float, ...]  #: slews x loads, loads fastest

    def at(self, slew: float, load: float) -> float:
        """Bilinear; beyond the table its edge holds."""
        i, f = _place(self.slews, slew)
        j, g = _place(self.loads, load)
        columns = max(1, len(self.loads))

        def value(row: int, column: int) -> float:
            row = min(row, max(1, len(self.slews)) - 1)
            return self.values[row * columns + min(column, columns - 1)]

        low = value(i, j) * (1 - g) + value(i, j + 1) * g
        high = value(i + 1, j) * (1 - g) + value(i + 1, j + 1) * g
        return low * (1 - f) + high * f


@dataclass(frozen=True)
class Pin:
    """A pin of a cell. Arcs are (related input, tables); an arc of the pin itself relates to ''."""

    direction: str
    capacitance: float  #: [F]
    function: str
    is_clock: bool
    power: tuple[tuple[str, tuple[Table, ...]], ...]  #: energy per transition [capacitance unit x V^2]
    delay: tuple[tuple[str, tuple[Table, ...]], ...]  #: [time unit]


@dataclass(frozen=True)
class Cell:
    """A cell. A flip-flop has a ``next_state``; ``state`` names its internal node and the inverse."""

    area: float
    leakage_w: float
    pins: Mapping[str, Pin]
    next_state: str | None = None
    state: tuple[str, ...] = ()
    clear: str = ""  #: asynchronous clear, as a function of pins
    preset: str = ""


@dataclass(frozen=True)
class Library:
    """A liberty file's cells, with its units."""

    cells: Mapping[str, Cell]
    voltage: float  #: nominal supply [V]
    time_s: float  #: one time unit [s]
    capacitance_f: float  #: one capacitance unit [F]


def read(path: Path) -> Library:
    """The library in a ``.lib`` or ``.lib.gz`` file. Raises ValueError if there is none."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8", errors="replace")
    root = parse(text)
    if root.kind != "library":
        raise ValueError(f"liberty must begin with a library group, not {root.kind!r}")
    amount, unit = root.lists["capacitive_load_unit"][:2]
    leak_w = _unit(root.values.get("leakage_power_unit", "1nW"), "W")
    templates = {group.args[0]: group for group in root.groups if group.kind.endswith("_template")}
    cells = {
        group.args[0]: _cell(group, leak_w, float(amount) * _unit(f"1{unit}", "f"), templates)
        for group in root.of("cell")
    }
    voltage = root.values.get("nom_voltage") or root.of("operating_conditions")[0].values["voltage"]
    time_s = _unit(root.values.get("time_unit", "1ns"), "s")
    return Library(cells, float(voltage), time_s, float(amount) * _unit(f"1{unit}", "f"))


def parse(text: str) -> Group:
    """The outermost group of a liberty text."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    text = re.sub(r"//[^\n]*", " ", text).replace("\\\n", " ")
    root = Group("file", ())
    _body(_TOKEN.findall(text), 0, root)
    return root.groups[0] if root.groups else root


def _body(tokens: list[str], i: int, into: Group) -> int:
    """Statements from token ``i`` to the closing brace; returns the index behind it."""
    while i < len(tokens) and tokens[i] != "}":
        name, after = tokens[i], tokens[i + 1] if i + 1 < len(tokens) else ""
        if after == ":":
            end = i + 2
            # Some files leave out the semicolon: a value then ends where the next statement begins.
            while tokens[end] not in ";}" and not (end > i + 2 and tokens[end + 1] in ":("):
                end += 1
            into.values[name] = " ".join(token.strip('"') for token in tokens[i + 2 : end])
            i = end
        elif after == "(":
            end = tokens.index(")", i)
            args = tuple(token.strip('"') for token in tokens[i + 2 : end] if token != ",")
            i = end + 1
            if i < len(tokens) and tokens[i] == "{":
                group = Group(name, args)
                into.groups.append(group)
                i = _body(tokens, i + 1, group)
            else:
                into.lists[name] = args
        else:
            i += 1
    return i + 1


def _cell(group: Group, leak_w: float, cap_f: float, templates: Mapping[str, Group]) -> Cell:
    flops = group.of("ff")
    extra = flops[0].values if flops else {}
    return Cell(
        area=float(group.values["area"]),
        leakage_w=float(group.values.get("cell_leakage_power", 0.0)) * leak_w,
        pins={pin.args[0]: _pin(pin, cap_f, templates) for pin in group.of("pin")},
        next_state=extra.get("next_state"),
        state=flops[0].args if flops else (),
        clear=extra.get("clear", ""),
        preset=extra.get("preset", ""),
    )


def _pin(group: Group, cap_f: float, templates: Mapping[str, Group]) -> Pin:
    return Pin(
        direction=group.values.get("direction", ""),
        capacitance=float(group.values.get("capacitance", 0.0)) * cap_f,
        function=group.values.get("function", ""),
        is_clock=group.values.get("clock", "false") == "true",
        power=tuple(_arcs(group.of("internal_power"), ("power", "rise_power", "fall_power"), templates)),
        delay=tuple(_arcs(group.of("timing"), ("cell_rise", "cell_fall"), templates)),
    )


def _arcs(
    groups: list[Group], kinds: tuple[str, ...], templates: Mapping[str, Group]
) -> Iterator[tuple[str, tuple[Table, ...]]]:
    for group in groups:
        tables = tuple(_table(table, templates) for table in group.groups if table.kind in kinds)
        if tables:
            yield group.values.get("related_pin", ""), tables


def _table(group: Group, templates: Mapping[str, Group]) -> Table:
    """The table with its axes told apart: a template may put the load first, or have no slew."""
    values = _numbers(group.lists["values"])
    template = templates.get(group.args[0]) if group.args else None
    axes: dict[str, tuple[float, ...]] = {}
    order = []
    for axis in ("1", "2") if template is not None else ():
        assert template is not None
        variable = template.values.get(f"variable_{axis}", "")
        if not variable:
            continue
        kind = "load" if "capacitance" in variable else "slew"
        stated = group.lists.get(f"index_{axis}") or template.lists.get(f"index_{axis}", ())
        axes[kind] = _numbers(stated)
        order.append(kind)
    if len(values) == 1:
        return Table((), (), values)
    slews, loads = axes.get("slew", ()), axes.get("load", ())
    if order == ["load", "slew"]:
        rows = len(slews)
        values = tuple(values[j * rows + i] for i in range(rows) for j in range(len(loads)))
    return Table(slews, loads, values)


def _numbers(texts: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(float(number) for text in texts for number in text.replace(",", " ").split())


def _unit(text: str, unit: str) -> float:
    """``1pW`` with unit W is 1e-12."""
    found = re.fullmatch(rf"\s*([\d.]+)\s*([munpf]?){unit}\s*", text, re.IGNORECASE)
    if found is None:
        raise ValueError(f"liberty must state its units in {unit}, not {text!r}")
    return float(found[1]) * _PREFIX[found[2].lower()]


def _place(axis: tuple[float, ...], x: float) -> tuple[int, float]:
    """Index below ``x`` and the share of the way to the next, within the axis."""
    if len(axis) < 2:
        return 0, 0.0
    i = 0
    while i < len(axis) - 2 and axis[i + 1] <= x:
        i += 1
    return i, min(1.0, max(0.0, (x - axis[i]) / (axis[i + 1] - axis[i])))


def verilog(function: str) -> str:
    """A liberty expression as a Verilog one.

    >>> verilog("!(A B') + C")
    '~(A&(~B))|C'
    """
    text = re.sub(r"([A-Za-z_]\w*)\s*'", r"(!\1)", function)
    text = re.sub(r"\s*([*+&|^!()])\s*", r"\1", text).strip()
    text = re.sub(r"(?<=[\w)])(?:\s+|(?=[!(]))(?=[\w!(])", "*", text)
    text = re.sub(r"(?<=\))(?=\w)", "*", text)
    return text.replace("!", "~").replace("*", "&").replace("+", "|")
