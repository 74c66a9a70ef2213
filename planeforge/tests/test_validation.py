"""The validation report: the committed one is what the command makes."""

import json
from pathlib import Path

from planeforge import validation
from planeforge.cli import main

COMMITTED = Path(__file__).parents[2] / "docs" / "validation.md"


def test_the_committed_report_is_the_command_s(tmp_path, capsys):
    assert main(["validate", "-o", str(tmp_path / "made.md")]) == 0
    assert "wrote" in capsys.readouterr().out
    assert (tmp_path / "made.md").read_text(encoding="utf-8") == COMMITTED.read_text(encoding="utf-8")


def test_it_has_every_section_and_what_sparsity_costs_as_sentences():
    text = validation.document()
    sections = ("BitMoD", "Multipliers", "Energies", "Cycles", "FPGA", "Memories", "Sparsity", "Calibration")
    for section in sections:
        assert f"## {section}\n" in text
    assert "* 2:4 with a plain index costs area of a 1-bit popcount PE (+" in text
    assert "it saves area of an INT8 PE (-" in text
    assert text == validation.document()


def test_the_evaluation_s_speedups_stand_beside_the_paper_s():
    found = {row.key: row for row in validation.rows()}
    assert (found["bitmod_mean_lossy_ant"].published, found["bitmod_mean_lossy_olive"].published) == (
        1.69,
        1.48,
    )
    for key, row in found.items():
        if key.startswith("bitmod") and row.ours is not None:
            assert abs(row.ratio - 1) < 0.08, key
        if key.startswith("bitmod_released"):
            assert round(row.ours, 2) == row.published


def test_rows_are_printed_as_json(capsys):
    assert main(["validate", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {"target", "published", "ours", "ratio", "source", "why", "far"} <= set(rows[0])
    assert main(["validate"]) == 0
    assert capsys.readouterr().out == validation.document()
