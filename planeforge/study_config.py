"""STUDY.toml: what a study compares, checked entry by entry before any work begins."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from algo.bitplane.activations import MAX_BITS
from hw.spec import Activity, ArraySpec
from planeforge.hardware import DEFAULT_PE

DEMO = "demo"  #: in place of a path: the model and texts that come with planeforge
REFERENCE = "fp16"  #: label of the row every other row is held against


class _Table(BaseModel):
    # Strict: "8" is no integer and 1 is no truth value, in a file as on the command line.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PeTable(_Table):
    """Which processing element, and its parameters where they are not the PE's own defaults."""

    name: str = DEFAULT_PE
    parameters: dict[str, int] = Field(default_factory=dict)


class FormatTable(_Table):
    """One row of the comparison."""

    method: str
    format: str | None = None
    label: str | None = None  #: as the table and plots call it; None: method and format
    set: dict[str, Any] = Field(default_factory=dict)  #: the method's own settings

    @property
    def name(self) -> str:
        """What the row is called."""
        if self.label is not None:
            return self.label
        return self.method if self.format is None else f"{self.method} {self.format}"


def _array_fields() -> dict[str, Any]:
    """The fields of `ArraySpec` but the PE: a new one there is a new key here."""
    kinds = get_type_hints(ArraySpec)
    return {f.name: (kinds[f.name], f.default) for f in fields(ArraySpec) if f.name != "pe"}


ArrayTable = create_model("ArrayTable", __base__=_Table, **_array_fields())


class StudyTable(_Table):
    """The whole file."""

    title: str = "Formats compared"
    model: str = DEMO  #: Hugging Face directory, from the file's own folder
    text: str = DEMO  #: held-out text to score on
    calibration: str = DEMO  #: text for the methods that calibrate
    windows: int | None = Field(None, ge=2)  #: scored windows of the text; None: all
    calibration_windows: int | None = Field(None, ge=1)  #: windows of calibration text; None: all
    act_bits: int = Field(8, ge=1, le=MAX_BITS)  #: bits of an activation integer
    tokens: int = Field(64, ge=1)  #: in a batch on the array
    tech: str = "asap7"
    dram: str = "lpddr5"
    threads: int | None = Field(None, ge=1)  #: of torch; None: torch's own choice
    pe: PeTable = Field(default_factory=PeTable)
    array: ArrayTable = Field(default_factory=ArrayTable)  # type: ignore[valid-type]
    formats: list[FormatTable] = Field(min_length=1)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A format ready to run."""

    label: str
    method: str
    config: Any  #: the method's own, checked
    format: str | None = None


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study ready to run: names resolved, paths absolute, everything checked."""

    table: StudyTable
    model: Path
    text: Path
    calibration: Path
    array: ArraySpec
    entries: tuple[Entry, ...]


def load(path: str | Path, replaced: Mapping[str, Path] | None = None) -> Study:
    """The study a file describes; ``replaced`` names a model, text or calibration to take instead.

    Raises ValueError of one line, naming the file and the entry: no such file, no TOML, an unknown key or
    name (the choices are listed), a value of another type, a path that does not exist, a label given twice.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"study must be an existing TOML file, not {str(path)!r}")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be TOML: {error}") from None
    try:
        given = {key: str(place.resolve()) for key, place in (replaced or {}).items()}
        return resolve(StudyTable(**content | given), path.resolve().parent)
    except ValidationError as error:
        raise ValueError(f"{path}: {one_line(error)}") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def resolve(table: StudyTable, folder: Path) -> Study:
    """A study with every name looked up; relative paths start at ``folder``.

    Raises ValueError or TypeError as `load`.
    """
    from cost_models import area, energy, tech
    from planeforge.demo import assets

    tech.load(table.tech)
    tech.dram(table.dram)
    array = _array(table)
    # Priced once, of one event of each kind: a technology may know gates and no memory.
    area.array_area(array, table.tech)
    energy.energy(Activity(**{f.name: 1 for f in fields(Activity)}), array, table.tech, table.dram)
    return Study(
        table=table,
        model=assets.model() if table.model == DEMO else _existing("model", table.model, folder),
        text=assets.held_out_path() if table.text == DEMO else _existing("text", table.text, folder),
        calibration=assets.calibration_path()
        if table.calibration == DEMO
        else _existing("calibration", table.calibration, folder),
        array=array,
        entries=_entries(table.formats),
    )


def _existing(name: str, text: str, folder: Path) -> Path:
    path = (folder / text).resolve()
    if name == "model" and not path.is_dir():
        raise ValueError(f"model must be a Hugging Face directory or {DEMO!r}, not {text!r}")
    if name != "model" and not path.is_file():
        raise ValueError(f"{name} must be an existing text file or {DEMO!r}, not {text!r}")
    return path


def _array(table: StudyTable) -> ArraySpec:
    from planeforge import hardware

    given = ",".join(f"{key}={value}" for key, value in table.pe.parameters.items())
    return ArraySpec(pe=hardware.pe(f"{table.pe.name}:{given}"), **cast(BaseModel, table.array).model_dump())


def _entries(formats: list[FormatTable]) -> tuple[Entry, ...]:
    from planeforge import settings

    entries: list[Entry] = []
    for index, entry in enumerate(formats):
        try:
            module = settings.method(entry.method)
            config = settings.configure(module, entry.format, entry.set)
        except (ValueError, TypeError) as error:
            raise ValueError(f"formats[{index}]: {error}") from None
        chosen = getattr(config, "format", None)
        entries.append(Entry(label=entry.name, method=entry.method, config=config, format=chosen))
    labels = [REFERENCE, *(entry.label for entry in entries)]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"label must be given to one row only, not {label!r} to two")
    return tuple(entries)


#: Pydantic's kinds of fault, in words for a TOML file.
_REQUIREMENTS = {
    "model_type": "be a table",
    "dict_type": "be a table",
    "list_type": "be an array of tables",
    "too_short": "hold at least one entry",
}


def one_line(error: ValidationError) -> str:
    """The first fault pydantic found, in the words every other error here uses."""
    faults = error.errors()
    # A mistyped key is the reason why the right one is missing.
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    loc = fault["loc"]
    if fault["type"] == "missing":
        return f"{_where(loc)} must be given"
    if fault["type"] == "extra_forbidden":
        return f"{_where(loc[:-1]) or 'study'} must name only {_known(loc[:-1])}, not {loc[-1]!r}"
    requirement = _REQUIREMENTS.get(fault["type"], fault["msg"].replace("Input should ", "", 1))
    return f"{_where(loc)} must {requirement}, not {fault['input']!r}"


def _where(loc: tuple[int | str, ...]) -> str:
    """``("formats", 1, "method")`` as ``formats[1].method``."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _known(loc: tuple[int | str, ...]) -> str:
    """Keys of the table at a location."""
    tables: dict[str, type[BaseModel]] = {"pe": PeTable, "array": ArrayTable, "formats": FormatTable}
    table = tables[str(loc[0])] if loc else StudyTable
    return ", ".join(table.model_fields)
