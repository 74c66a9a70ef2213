"""The area calibration: the fit itself, the stored result, and a few designs synthesized again."""

import hashlib
import os
import random
from dataclasses import asdict
from pathlib import Path

import pytest

from cost_models import calibrate, generic_liberty
from cost_models.area import calibration, pe_area
from cost_models.calibrate import KINDS, PRIOR, errors, fit, name_of, point, sweep, two_scales
from cost_models.tech import load
from hw.pe.bitserial import BitSerial
from hw.synth import Synthesis

DATA = Path(os.environ.get("PLANEFORGE_DATA", Path(__file__).parents[2] / "../shared/data")).resolve()


def made_up(coefficients, n, seed):
    """Points that obey ``coefficients`` exactly."""
    rng = random.Random(seed)
    points = []
    for i in range(n):
        resources = {kind: rng.randrange(1, 500) for kind in KINDS}
        gates = sum(coefficients[kind] * resources[kind] for kind in KINDS)
        flops = generic_liberty.FLOP_GE * resources["flop"]
        points.append(
            {"name": f"p{i}", "lanes": 8 + 8 * i, "resources": resources, "gates": gates, "flops": flops}
        )
    return points


def test_the_fit_finds_coefficients_that_were_put_in(monkeypatch):
    factors = (0.5, 1.2, 1.0, 2.0, 0.7, 1.5)
    truth = {kind: PRIOR[kind] * factor for kind, factor in zip(KINDS, factors, strict=True)}
    points = made_up(truth, 60, seed=0)
    pulled = fit(points)
    monkeypatch.setattr(calibrate, "PULL", 1e-9)
    free = fit(points)
    for kind in KINDS:
        assert free[kind] == pytest.approx(truth[kind], rel=1e-3), kind
        # The pull leaves a coefficient between the truth and its prior, or close to them.
        low, high = sorted((truth[kind], PRIOR[kind]))
        assert 0.9 * low < pulled[kind] < 1.1 * high, kind
    assert errors(points, pulled)["mape"] < 0.02


def test_a_cell_no_design_has_keeps_its_prior():
    points = made_up(PRIOR, 20, seed=1)
    for p in points:
        p["gates"] -= PRIOR["half_adder"] * p["resources"]["half_adder"]
        p["resources"]["half_adder"] = 0
    assert fit(points)["half_adder"] == pytest.approx(PRIOR["half_adder"])


def test_errors_name_the_worst_design():
    points = made_up(PRIOR, 10, seed=2)
    area = points[6]["gates"] + points[6]["flops"]
    points[6]["gates"] += 0.25 * area
    found = errors(points, PRIOR)
    assert found["worst"] == "p6"
    assert found["max"] == pytest.approx(0.25 / 1.25, abs=1e-6)
    assert found["mape"] == pytest.approx(0.02, abs=1e-6)
    assert found["n"] == 10


def test_two_scales_find_a_technology_that_obeys_them():
    generic = made_up(PRIOR, 12, seed=3)
    mapped = [p | {"gates": 0.05 * p["gates"], "flops": 0.3 * p["resources"]["flop"]} for p in generic]
    found = two_scales(generic, mapped)
    assert found["area_ge"] == pytest.approx(0.05)
    assert found["area_flop"] == pytest.approx(0.3)
    assert found["max"] < 1e-6


def test_the_stored_calibration_is_of_the_library_and_the_sweep_that_ship():
    stored = calibration()
    assert stored["library_sha256"] == hashlib.sha256(generic_liberty.PATH.read_bytes()).hexdigest()
    assert [p["name"] for p in stored["points"]] == [name_of(spec) for spec in sweep()]
    assert [p["resources"] for p in stored["points"]] == [asdict(spec.resources()) for spec in sweep()]
    assert len(sweep()) >= 24
    assert stored["tool"].startswith("Yosys ")


def test_the_stored_fit_follows_from_the_stored_points():
    stored = calibration()
    again = calibrate.calibrate(stored["points"])
    assert again["unseen"] == stored["unseen"]
    assert again["errors"].keys() == stored["errors"].keys()
    for kind, value in again["coefficients"].items():
        assert value == pytest.approx(stored["coefficients"][kind], rel=1e-3), kind
    for key, found in again["errors"].items():
        assert found["max"] == pytest.approx(stored["errors"][key]["max"], rel=0.02), key


def test_designs_the_fit_has_not_seen_are_within_five_percent_on_average_and_fifteen_at_worst():
    for key in ("held_out", "block"):
        found = calibration()["errors"][key]
        assert found["mape"] < 0.05, key
        assert found["max"] < 0.15, key
        assert found["r2"] > 0.99, key


@pytest.mark.parametrize("index", [0, 8, 14])
def test_a_design_synthesized_again_is_the_stored_point(index):
    spec, stored = sweep()[index], calibration()["points"][index]
    again = point(spec, generic_liberty.PATH)
    assert again["flops"] == stored["flops"]
    # Another version of Yosys may map a little differently.
    assert again["gates"] == pytest.approx(stored["gates"], rel=0.02)


def test_every_counted_flip_flop_is_one_in_the_netlist():
    for p in calibration()["points"]:
        assert p["flops"] == pytest.approx(generic_liberty.FLOP_GE * p["resources"]["flop"]), p["name"]


def test_a_pe_outside_the_sweep_is_predicted_within_the_stated_error():
    spec = BitSerial(lanes=40, acc_width=28, levels=2)
    assert name_of(spec) not in {name_of(other) for other in sweep()}
    mapped = point(spec, generic_liberty.PATH)
    predicted = pe_area(spec.resources(), "generic_ge").total
    assert predicted == pytest.approx(mapped["gates"] + mapped["flops"], rel=0.05)


@pytest.mark.parametrize("tech", ["asap7", pytest.param("sky130hd", marks=pytest.mark.slow), "sg13g2"])
def test_two_numbers_carry_a_pe_to_a_real_library(tech):
    library = DATA / "liberty" / f"{tech}.slim.lib.gz"
    if not library.is_file():
        pytest.skip(f"no {library.name} under PLANEFORGE_DATA")
    spec = BitSerial(lanes=40, acc_width=28, levels=2)
    mapped = point(spec, library, load(tech).dont_use)
    predicted = pe_area(spec.resources(), tech)
    assert predicted.low < mapped["gates"] + mapped["flops"] < predicted.high
    assert predicted.total == pytest.approx(mapped["gates"] + mapped["flops"], rel=0.08)


def test_the_command_fits_a_library_s_two_scales(monkeypatch, capsys):
    few = sweep()[:2]
    stored = {p["name"]: p for p in calibration()["points"]}
    monkeypatch.setattr(calibrate, "point", lambda spec, *_: stored[name_of(spec)] | {"tool": "Yosys test"})
    monkeypatch.setattr(calibrate, "sweep", lambda: few)
    monkeypatch.setattr(calibrate, "calibration", lambda: {"points": calibration()["points"][:2]})
    before = calibrate.CALIBRATION.read_bytes()
    assert calibrate.main(["--liberty", str(generic_liberty.PATH)]) == 0
    out = capsys.readouterr()
    assert "area_ge = 1, area_flop = 5.25" in out.out
    assert "two scales on all designs" in out.out
    assert few[1].__class__.__name__ == "BitSerial"
    assert name_of(few[1]) in out.err
    assert calibrate.CALIBRATION.read_bytes() == before


def test_the_command_prints_its_errors_and_stores_a_calibration(monkeypatch, capsys, tmp_path):
    stored = {p["name"]: p for p in calibration()["points"]}
    monkeypatch.setattr(calibrate, "point", lambda spec, *_: stored[name_of(spec)] | {"tool": "Yosys test"})
    monkeypatch.setattr(calibrate, "CALIBRATION", tmp_path / "fit.json")
    assert calibrate.main([]) == 0
    out = capsys.readouterr().out
    assert out.count("MAPE=") == 3
    assert "held out (random 40 %)" in out
    assert '"tool": "Yosys test"' in (tmp_path / "fit.json").read_text()
    assert (tmp_path / "fit.json").read_text().count('{"name"') == len(stored)


def test_a_library_without_areas_is_refused(monkeypatch):
    unmapped = Synthesis(target="ice40", top="pe", cells={})
    monkeypatch.setattr(calibrate, "synthesize", lambda *_, **__: unmapped)
    with pytest.raises(ValueError, match=r"^liberty must give areas, not None$"):
        point(sweep()[0], generic_liberty.PATH)
