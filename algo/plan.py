"""Which method, with which settings, each layer of a model is quantized with; and such a plan as a file.

The file is JSON: ``{"schema": "planeforge.plan/1", "layers": {name: {"method": ..., "settings": {...}}},
"by": ..., "budget": ...}``. Settings are the fields of the method's Config; one left out has its default.
A layer that is rotated first has a third key, ``rotate``: the columns of a block.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from algo import rotation
from algo.bitplane import family
from algo.bitplane.hadamard import check_block
from algo.bitplane.store import write_whole
from algo.formats.quantized import Calibration, Quantized

SCHEMA = "planeforge.plan/1"
_METHODS = "algo.methods"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A method and its configuration."""

    method: str
    config: Any  #: of the method's Config
    rotate: int | None = None  #: columns of a block that is rotated before the method sees it; None: none is

    def __post_init__(self) -> None:
        if self.rotate is not None:
            check_block(0, self.rotate)
        expected = self.module.Config
        if not isinstance(self.config, expected):
            raise TypeError(f"config must be a Config of {self.method}, not {self.config!r}")

    @property
    def module(self) -> ModuleType:
        """The method's module.

        Raises ValueError that lists the methods for an unknown name.
        """
        return family.load(_METHODS, self.method)

    def quantize(self, weight: NDArray[np.float64], calibration: Calibration | None) -> Quantized:
        """A weight, float64 [rows, columns], through the method; see `algo.rotation.quantize`."""
        return rotation.quantize(self.module, weight, calibration, self.config, self.rotate)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A choice for each layer, by name; how they were chosen, for the record."""

    layers: Mapping[str, Choice]
    by: str | None = None  #: rule that made the plan
    budget: float | None = None  #: bits per weight it was made for

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("plan must name at least one layer, not none")


def check_layers(plan: Plan, names: Collection[str]) -> None:
    """That the plan names exactly the layers of a model.

    Raises ValueError naming a layer the plan lacks, or one the model has not.
    """
    for name in names:
        if name not in plan.layers:
            raise ValueError(f"plan must name layer {name}, and does not")
    for name in plan.layers:
        if name not in names:
            raise ValueError(f"plan must name layers of the model only, not {name!r}")


def write(path: str | Path, plan: Plan) -> None:
    """Write a plan; the file appears whole or not at all."""
    layers = {name: _described(choice) for name, choice in plan.layers.items()}
    content = {"schema": SCHEMA, "layers": layers, "by": plan.by, "budget": plan.budget}
    write_whole(Path(path), (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def read(path: str | Path) -> Plan:
    """The plan in a file.

    Raises ValueError naming file and layer if the file is missing, no JSON, of another schema, or names an
    unknown method or setting, or gives a setting a value of another type or one its method refuses.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=_once, parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise ValueError(f"plan must be an existing file, not {str(path)!r}") from None
    except (ValueError, RecursionError, OSError) as error:
        raise ValueError(f"plan {path} must be a JSON file: {_line(error)}") from None
    try:
        return _parse(content)
    except (ValueError, TypeError) as error:
        raise ValueError(f"plan {path}: {_line(error)}") from None


def _described(choice: Choice) -> dict[str, Any]:
    rotated = {} if choice.rotate is None else {"rotate": choice.rotate}
    return {"method": choice.method, "settings": asdict(choice.config)} | rotated


def _parse(content: Any) -> Plan:
    if not isinstance(content, dict):
        raise ValueError("content must be a JSON object, not a list or a value")
    if content.get("schema") != SCHEMA:
        raise ValueError(f"schema must be {SCHEMA!r}, not {content.get('schema')!r}")
    for key in content:
        if key not in ("schema", "layers", "by", "budget"):
            raise ValueError(f"key must be one of schema, layers, by, budget, not {key!r}")
    layers, by, budget = content.get("layers"), content.get("by"), content.get("budget")
    if not isinstance(layers, dict):
        raise ValueError(f"layers must be an object of layers by name, not {layers!r}")
    if not _fits(by, str | None):
        raise ValueError(f"by must be a text or null, not {by!r}")
    if not _fits(budget, float | None):
        raise ValueError(f"budget must be a number or null, not {budget!r}")
    return Plan(layers={name: _choice(name, entry) for name, entry in layers.items()}, by=by, budget=budget)


def _choice(name: str, entry: Any) -> Choice:
    if not isinstance(entry, dict) or not {"method"} <= set(entry) <= {"method", "settings", "rotate"}:
        raise ValueError(f"layer {name} must hold method and settings, not {entry!r}")
    method, given = entry["method"], entry.get("settings", {})
    if not isinstance(method, str) or not isinstance(given, dict):
        raise ValueError(f"layer {name} must hold a method's name and an object of settings, not {entry!r}")
    try:
        module = family.load(_METHODS, method)
        config = module.Config(**_settings(module, given))
        return Choice(method=method, config=config, rotate=entry.get("rotate"))
    except (ValueError, TypeError) as error:
        raise ValueError(f"layer {name}: {_line(error)}") from None


def _settings(module: ModuleType, given: Mapping[str, Any]) -> dict[str, Any]:
    kinds = get_type_hints(module.Config)
    known = [field.name for field in fields(module.Config)]
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"setting must be one of {', '.join(known) or 'none'}, not {key!r}")
        if not _fits(value, kinds[key]):
            raise ValueError(f"setting {key} must be {_word(kinds[key])}, not {value!r}")
    # JSON has no tuple.
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}


def _fits(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of a field's type; an integer is a number, true and false are not."""
    if get_origin(kind) in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(kind))
    if get_origin(kind) is Literal:
        return any(value == part and type(value) is type(part) for part in get_args(kind))
    if get_origin(kind) is tuple:
        parts = [part for part in get_args(kind) if part is not Ellipsis]
        return isinstance(value, list) and all(any(_fits(item, part) for part in parts) for item in value)
    if kind in (bool, str, NoneType):
        return isinstance(value, kind)
    if isinstance(value, bool):
        return False
    if kind is int:
        return isinstance(value, int)
    return kind is float and isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _word(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"a key must stand once in an object, not {twice!r} twice")
    return found


def _refuse_constant(text: str) -> None:
    raise ValueError(f"numbers must be finite, not {text}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
