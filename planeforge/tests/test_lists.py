"""``planeforge formats``: every format with what it stores, and any by its name."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from algo.formats import blocks, catalog
from planeforge.cli import app


def listed(*arguments: str) -> dict[str, dict]:
    result = CliRunner().invoke(app, ["formats", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return {row["format"]: row for row in json.loads(result.stdout)["members"]}


def test_all_formats_stand_in_the_list_with_their_source() -> None:
    found = listed()
    assert list(found) == [*catalog.ALL, *blocks.ALL]
    assert all(row["source"] for row in found.values())
    # A matrix of 4096 columns adds a scale, an exponent and a factor to a row, at most.
    for row in found.values():
        if not row["format"].startswith(("int", "sign", "ternary")):
            assert 0 <= row["bits_per_weight"] - row["published_bits"] < 0.07, row


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        (
            "mxfp4",
            {"stored_bits": 4, "planes": 5, "terms": 2, "group": "32", "scale": "e8m0", "rule": "floor"},
        ),
        ("mxfp8-e4m3", {"stored_bits": 8, "planes": 19, "terms": 3, "digits": "-229376..229376"}),
        ("nvfp4-2d", {"group": "16 x 16", "scale": "ue4m3 of a tensor's", "published_bits": 4.03125}),
        ("bitmod4-g128", {"planes": 6, "terms": 2, "rounding": "rtl"}),
        ("mxfp8-e5m2", {"planes": 33, "terms": 2}),
        ("e3m2-row", {"group": "row", "stored_bits": 6, "values": "-28 -24 .. 24 28"}),
        ("sint2-g32", {"values": "-1 0 1"}),
    ],
)
def test_a_format_is_listed_as_it_is(name: str, figures: dict[str, object]) -> None:
    row = listed(name)[name]
    assert {key: row[key] for key in figures} == figures


def test_an_unknown_format_is_bad_input() -> None:
    result = CliRunner().invoke(app, ["formats", "fp5"])
    assert result.exit_code != 0
