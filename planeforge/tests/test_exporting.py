"""``planeforge export`` as a user meets it."""

import json

import yaml

from planeforge.cli import main


def test_a_core_is_printed_and_written(capsys, tmp_path):
    words = ["export", "--to", "zigzag", "--array", "2x3", "--pe", "bitserial:lanes=9"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["operational_array"]["sizes"] == [2, 3, 9]
    assert main([*words, "-o", str(tmp_path / "core.yaml")]) == 0
    assert "wrote" in capsys.readouterr().out
    assert (tmp_path / "core.yaml").read_text(encoding="utf-8").strip() == text.strip()
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["to"] == "zigzag"


def test_bad_input_is_one_line(capsys):
    assert main(["export", "--to", "timeloop"]) == 2
    assert capsys.readouterr().err == "error: to must be one of accelergy, zigzag, not 'timeloop'\n"
