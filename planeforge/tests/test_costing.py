"""``planeforge cost`` and ``techs``: bands, explanations, sweeps, technologies of one's own, bad input."""

import json

import numpy as np
import pytest

from planeforge.cli import main


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*words):
        status = main([str(word) for word in words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def packed(tmp_path, run):
    np.save(tmp_path / "w.npy", np.random.default_rng(0).normal(size=(12, 150)).astype(np.float32))
    assert run("quantize", "w.npy", "--method", "rtn", "--format", "int4-g128", "-o", "w.packed")[0] == 0
    return "w.packed"


def asked(run, *words):
    status, out, err = run("cost", *words, "--json")
    assert status == 0, err
    return json.loads(out)


def test_every_energy_printed_has_its_band(run, packed):
    found = asked(run, packed, "--tech", "nangate45")
    for name in ("energy_per_token_pj", "power_w"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]
    energy = found["costs"]["energy"]
    likely = found["energy_90_percent_of_draws_pj"]
    assert energy["low"] <= likely[1] < likely[0] < likely[2] <= energy["high"]
    for cost in found["costs"].values():
        assert cost["low"] < cost["total"] < cost["high"]
        assert set(cost["layers"]) == {"noise", "fit", "technology"}
        for part, (low, high) in cost["bands"].items():
            assert low <= cost["breakdown"][part] <= high
            assert cost["breakdown"][part] > 0


def test_external_memory_is_also_priced_with_rows_and_background(run, packed):
    found = asked(run, packed)["costs"]
    whole = found["external memory, with rows opened and background"]
    assert set(whole["breakdown"]) == {"transfer", "activate", "background"}
    assert whole["breakdown"]["transfer"] == pytest.approx(found["energy"]["breakdown"]["dram"])


def test_an_explanation_names_terms_that_add_up(run, packed):
    found = asked(run, packed, "--explain", "energy")
    assert sum(line["value"] for line in found["explanation"]) == pytest.approx(
        found["costs"]["energy"]["total"]
    )
    status, out, _ = run("cost", packed, "--explain", "dram")
    assert status == 0
    assert "x dram.lpddr5 6 pJ/bit = " in out
    assert "dram.lpddr5 = 6 [4, 10] pJ/bit (assumed" in out


def test_a_sweep_says_where_external_memory_overtakes_another_part(run, packed):
    found = asked(run, packed, "--sweep", "dram_pj_per_bit=0.001:20")
    energy, swept = found["costs"]["energy"]["breakdown"], found["sweep"]
    bits = energy["dram"] / 6.0
    crossed = {row["cheaper_above"]: row["at"] for row in swept["crossings"]}
    expected = {part: pj / bits for part, pj in energy.items() if 0.001 < pj / bits < 20 and part != "dram"}
    assert expected
    assert crossed == pytest.approx(expected)
    status, out, _ = run("cost", packed, "--sweep", "dram_pj_per_bit=0.001:20")
    assert status == 0
    assert "becomes cheaper than dram" in out


def test_a_technology_of_one_s_own_starts_from_the_template(run, tmp_path):
    status, text, _ = run("techs", "--template")
    assert status == 0
    (tmp_path / "mine.toml").write_text(text)
    found = asked(run, "--tech", "mine.toml")
    assert found["costs"]["area of one PE"]["total"] > 0
    assert any("copied from asap7" in source for source in found["costs"]["area of one PE"]["sources"])


def test_a_scaled_technology_is_warned_of_beyond_a_generation(run):
    status, _, err = run("cost", "--tech", "nangate45@22:0.8")
    assert status == 0
    assert err == "warning: scaled over 1.2 generations, 45 to 22 nm: energy may be off by a factor of 1.5\n"
    assert run("cost", "--tech", "nangate45@32:0.9")[2] == ""


def test_the_list_says_what_each_technology_prices(run):
    members = {row["tech"]: row for row in json.loads(run("techs", "--json")[1])["members"]}
    assert members["asap7"]["prices"] == "area, energy, SRAM"
    assert members["generic_ge"]["prices"] == "area"
    assert members["ice40"]["prices"] == "tables"
    assert members["ice40"]["area_unit"] == "LUT"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tech", "magic"), "tech must be one of "),
        (("--tech", "none.toml"), "tech must be an existing TOML file, not 'none.toml'"),
        (("--tech", "asap7@3"), "node must be from 7 to 130 nm to be scaled, not 3.0"),
        (
            ("--tech", "negative.toml"),
            "negative.toml: negative.clock_flop must be positive and finite, not -1.0 to ",
        ),
        (("--tech", "unitless.toml"), "unitless.toml: unitless.area_ge must state unit; it does not"),
        (("--explain", "cache"), "explain must be one of all, area of one PE, "),
        (("--sweep", "dram_pj_per_bit=1:2"), "sweep must name one of "),
        (("--sweep", "placement"), "sweep must be NAME=LOW:HIGH with 0 < LOW < HIGH, not 'placement'"),
        (("--pe", "magic"), "pe must be one of "),
    ],
)
def test_bad_input_is_one_line_and_status_2(run, tmp_path, words, message):
    from cost_models.tech import load, template

    text = template()
    low = f"low = {load('asap7').constant('clock_flop').low!r}"
    (tmp_path / "negative.toml").write_text(text.replace(low, "low = -1.0"))
    (tmp_path / "unitless.toml").write_text(text.replace('unit = "um2/GE"\n', ""))
    status, out, err = run("cost", *words)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_an_fpga_fabric_prices_no_energy(run, packed):
    status, _, err = run("cost", packed, "--tech", "ice40")
    assert status == 2
    assert err == "error: tech must be one with energies to price a layer, not the FPGA fabric 'ice40'\n"
