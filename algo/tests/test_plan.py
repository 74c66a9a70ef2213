"""Plans: a file gives back what was written, and nothing else passes for a plan."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pytest

from algo import plan
from algo.methods import rtn, sign
from algo.plan import Choice, Plan

MIXED = Plan(
    layers={
        "model.layers.0.q": Choice(method="rtn", config=rtn.Config(format="int2-g128", group=64)),
        "model.layers.0.k": Choice(method="sign", config=sign.Config(group=100)),
    },
    by="ip",
    budget=3.5,
)


def test_a_plan_comes_back_as_it_was_written(tmp_path: Path) -> None:
    plan.write(tmp_path / "p.json", MIXED)
    assert plan.read(tmp_path / "p.json") == MIXED
    content = json.loads((tmp_path / "p.json").read_text())
    assert content["schema"] == "planeforge.plan/1"
    assert (content["by"], content["budget"]) == ("ip", 3.5)
    entry = content["layers"]["model.layers.0.q"]
    assert entry == {"method": "rtn", "settings": asdict(rtn.Config(format="int2-g128", group=64))}
    assert [p.name for p in tmp_path.iterdir()] == ["p.json"]


def test_settings_left_out_have_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"schema": "planeforge.plan/1", "layers": {"a": {"method": "rtn"}}}')
    assert plan.read(path) == Plan(layers={"a": Choice(method="rtn", config=rtn.Config())})


def content(**changed: Any) -> dict[str, Any]:
    return {"schema": "planeforge.plan/1", "layers": {"a": {"method": "rtn"}}, **changed}


def layer(method: Any = "rtn", **settings: Any) -> dict[str, Any]:
    return content(layers={"a": {"method": method, "settings": settings}})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "content must be a JSON object, not a list or a value"),
        (content(schema="planeforge.plan/2"), "schema must be 'planeforge.plan/1', not 'planeforge.plan/2'"),
        ({"layers": {}}, "schema must be 'planeforge.plan/1', not None"),
        (content(method="rtn"), "key must be one of schema, layers, by, budget, not 'method'"),
        (content(layers=["a"]), "layers must be an object of layers by name, not ['a']"),
        (content(layers={}), "plan must name at least one layer, not none"),
        (content(by=3), "by must be a text or null, not 3"),
        (content(budget="3"), "budget must be a number or null, not '3'"),
        (content(layers={"a": "rtn"}), "layer a must hold method and settings, not 'rtn'"),
        (
            content(layers={"a": {"settings": {}}}),
            "layer a must hold method and settings, not {'settings': {}}",
        ),
        (
            content(layers={"a": {"method": "rtn", "group": 3}}),
            "layer a must hold method and settings, not {'method': 'rtn', 'group': 3}",
        ),
        (layer(method=3), "layer a must hold a method's name and an object of settings, not {'method': 3, "),
        (layer(method="nope"), "layer a: method must be one of "),
        (layer(nope=1), "layer a: setting must be one of format, group"),
        (layer(group="64"), "layer a: setting group must be int | None, not '64'"),
        (layer(group=True), "layer a: setting group must be int | None, not True"),
        (layer(group=64.0), "layer a: setting group must be int | None, not 64.0"),
        (layer(format=None), "layer a: setting format must be str, not None"),
        (layer(format="int9"), "layer a: format must be one of int4-g128, "),
        (layer(group=0), "layer a: group must be at least 1, not 0"),
    ],
)
def test_what_is_no_plan_is_refused_in_one_line(tmp_path: Path, given: Any, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(given))
    with pytest.raises(ValueError, match=f"^plan {re.escape(str(path))}: {re.escape(message)}") as caught:
        plan.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        ('{"budget": NaN}', "numbers must be finite, not NaN"),
        ('{"layers": {"a": {}, "b": {}, "a": {}}}', "a key must stand once in an object, not 'a' twice"),
        ("[" * 200_000, ""),
        (b"\xff\xfe\x00", ""),
    ],
)
def test_a_file_that_is_no_json_is_refused_in_one_line(tmp_path: Path, text: Any, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=f"must be a JSON file: {re.escape(message)}") as caught:
        plan.read(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^plan must be an existing file, not '.*nope\.json'$"):
        plan.read(tmp_path / "nope.json")
    with pytest.raises(ValueError, match=r"must be a JSON file: "):
        plan.read(tmp_path)


def test_a_plan_must_name_the_models_layers_and_no_others() -> None:
    names = list(MIXED.layers)
    plan.check_layers(MIXED, names)
    with pytest.raises(ValueError, match=r"^plan must name layer lm\.x, and does not$"):
        plan.check_layers(MIXED, [*names, "lm.x"])
    with pytest.raises(
        ValueError, match=r"^plan must name layers of the model only, not 'model\.layers\.0\.k'$"
    ):
        plan.check_layers(MIXED, names[:1])


def test_a_choice_holds_its_own_methods_configuration() -> None:
    with pytest.raises(TypeError, match=r"^config must be a Config of rtn, not Config\("):
        Choice(method="rtn", config=sign.Config())
    with pytest.raises(ValueError, match=r"^method must be one of .*, not 'nope'$"):
        Choice(method="nope", config=rtn.Config())


@pytest.mark.parametrize(
    ("value", "kind", "fits"),
    [
        pytest.param(10**400, float, False, id="beyond float64"),
        (1, float, True),
        (1.5, int | float, True),
        (False, float, False),
        (True, bool, True),
        (1, bool, False),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        (1, Literal[True], False),
        ([1, 2], tuple[int, ...], True),
        ([1, "2"], tuple[int, ...], False),
        (1, tuple[int, ...], False),
        ({}, dict, False),
    ],
)
def test_json_values_and_the_types_of_fields(value: Any, kind: Any, fits: bool) -> None:
    assert plan._fits(value, kind) is fits
