"""``planeforge calibrate`` and what ``planeforge cost`` says of a calibration, from the command line."""

import json

import pytest

from cost_models import generic_liberty
from cost_models.calibration import measure, predict, store
from planeforge.cli import main


@pytest.fixture
def stored(monkeypatch):
    """The tool replaced by the points that ship."""
    content = store.load("generic_ge")
    areas = {row[1]: row for rows in content["points"].values() for row in rows if row[0] == "default"}
    made = []

    def libraries(design, targets, points, *, mapping, tool):
        made_up = sum(predict.area_terms(content, design.spec)[1].values())
        _, name, area, flops, period = areas.get(design.name, ["", design.name, made_up, 0.0, 1e-9])
        for target in targets:
            made.append(target.name)
            head = {"key": f"{target.name} {mapping} {name}", "name": name, "mapping": mapping}
            point = head | {"target": target.name, "area": area, "flops": flops, "period_s": period}
            points.add(point | {"tool": "Yosys test"})
            yield points.known[point["key"]]

    monkeypatch.setattr(measure, "libraries", libraries)
    return made


def run(capsys, *words):
    status = main(["calibrate", *map(str, words)])
    out = capsys.readouterr()
    return status, out.out, out.err


def test_a_sweep_is_fitted_judged_and_written(stored, tmp_path, capsys):
    given = ("--families", "ternary,twoplane", "--designs", 9, "--points", tmp_path / "points.jsonl")
    status, out, err = run(capsys, *given, "-o", tmp_path / "made", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["target"] == "generic_ge"
    assert set(found["fits"]) == {"ternary", "twoplane"}
    assert set(found["fits"]["ternary"]["default"]["area"]["errors"]) == {"fitted", "held_out", "block"}
    assert len(stored) == err.count("/18  ") == 18
    written = json.loads((tmp_path / "made" / "generic_ge.json").read_text())
    assert written["fits"] == found["fits"]
    assert [len(rows) for rows in written["points"].values()] == [9, 9]
    assert written["tool"] == "Yosys test"
    assert (tmp_path / "points.jsonl").read_text().count("\n") == 18


def test_errors_are_printed_by_pe_with_the_worst_design_and_goals_that_are_missed(stored, tmp_path, capsys):
    given = ("--families", "ternary", "--designs", 9, "--points", tmp_path / "points.jsonl")
    status, out, _ = run(capsys, *given)
    assert status == 0
    for word in ("held_out", "block", "mean %", "worst %", "ternary:lanes="):
        assert word in out, word
    assert not (tmp_path / "made").exists()


def test_the_best_of_a_libraries_two_scales_come_from_six_designs(monkeypatch, tmp_path, capsys):
    def libraries(design, targets, points, *, tool):
        for target in targets:
            scale, flop = (1.0, 5.25) if target.name == "generic_ge" else (0.05, 0.3)
            gates, flops = 100.0 + len(design.name), 40
            yield {"name": design.name, "area": scale * gates + flop * flops, "flops": flop * flops}

    monkeypatch.setattr(measure, "libraries", libraries)
    given = ("--target", "mine", "--liberty", generic_liberty.PATH, "--two-scales", "--json")
    status, out, err = run(capsys, *given, "--points", tmp_path / "points.jsonl")
    found = json.loads(out)
    assert status == 0
    assert err.count("/6  ") == 6
    assert found["area_ge"] == pytest.approx(0.05)
    assert found["area_flop"] == pytest.approx(0.3)
    assert found["max"] < 1e-6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--target", "mine"), "liberty must be a .lib or .lib.gz file for target 'mine', not None"),
        (("--target", "mine", "--liberty", "no.lib"), "liberty must be an existing file, not 'no.lib'"),
        (
            ("--target", "ecp5", "--liberty", "x.lib"),
            "liberty must be None for target 'ecp5', not 'x.lib'",
        ),
        (("--families", "adder"), "family must be one of bitserial,"),
        (("--designs", "5"), "Invalid value for '--designs'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(given, message, tmp_path, capsys):
    status, out, err = run(capsys, *given, "--points", tmp_path / "points.jsonl")
    assert status == 2
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_cost_names_the_mapping_and_the_fit_s_error_and_goals_that_are_missed(capsys):
    assert main(["cost", "--pe", "mac:w_bits=8", "--tech", "nangate45", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mapping"] in ("default", "booth")
    assert 0 < found["area_fit_error"] < 0.2
    missed = [key for key in store.load("generic_ge")["misses"] if key.startswith("mac,")]
    assert bool(missed) == ("calibration_goals_missed" in found)


def test_cost_prints_a_clock_for_a_technology_with_a_calibration(capsys):
    assert main(["cost", "--tech", "asap7", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    value, low, high = found["clock_period_ps"]
    assert low < value < high
    assert 100 < value < 5000
    assert main(["cost", "--tech", "asap7"]) == 0
    assert f"{value:.4g} [{low:.4g}, {high:.4g}]" in capsys.readouterr().out
