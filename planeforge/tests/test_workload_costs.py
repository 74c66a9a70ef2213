"""Costs of whole decoders: energies from counts, roofs of layers, arrays of equal area, the command."""

import json
from dataclasses import replace

import pytest

from cost_models import area, energy, energy_coefficients, energy_pe
from hw.counts import Activity
from hw.pe.bitserial import BitSerial
from hw.pe.mac import Mac
from hw.spec import ArraySpec
from planeforge import workload, workload_costs
from planeforge.cli import main
from planeforge.tests.test_workload import SMALL
from sim import decoders
from sim.workload import Setting

ARRAY = ArraySpec(pe=BitSerial(lanes=64), rows=4, columns=4)


def job(prefill=20, context=0):
    model = decoders.from_config(SMALL)
    return workload.Job(model=model, setting=Setting(), prefill=prefill, context=context)


def phase(array, name="int4-g128"):
    (fmt,) = workload.formats([name]).values()
    (found,) = workload.phases(job(), fmt, array)
    return found, fmt


def test_energy_is_the_model_s_on_the_run_s_counts_and_random_operands():
    found, _ = phase(ARRAY)
    done = found.total
    spent = workload_costs.phase_energy(found, "asap7", "lpddr5")
    moved = done.moved
    counts = Activity(
        cycles=done.clocks,
        beats=done.beats,
        items=done.items,
        scale_products=done.items,
        weight_buffer_bits=moved["weight_buffer_reads"] + moved["weight_buffer_writes"],
        activation_buffer_bits=moved["activation_buffer_reads"] + moved["activation_buffer_writes"],
        result_bits=moved["result_buffer_writes"],
        dram_bits=done.dram_bits,
    )
    random = energy_pe.on_random(ARRAY.pe)
    assert spent.total == energy.energy(counts, ARRAY, "asap7", counted=random).total
    # What the port moves costs the same however it is reckoned.
    assert spent.breakdown["dram"] == pytest.approx(done.dram_bits * 6.0)


def test_columns_agree_with_each_other():
    found, _ = phase(ARRAY)
    row = workload_costs.columns(found, "asap7", "lpddr5")
    done = found.total
    assert row["energy_per_token_pj"] * 20 == pytest.approx(row["energy_pj"])
    assert row["power_w"] * done.seconds == pytest.approx(row["energy_pj"] * 1e-12)
    assert row["bit_tops_per_w"] == pytest.approx(2 * done.macs / row["energy_pj"])
    assert row["array_area_mm2"] == pytest.approx(area.array_area(ARRAY, "asap7").total / 1e6)
    tops = 2 * done.macs / done.seconds / 1e12
    assert row["bit_tops_per_mm2"] == pytest.approx(tops / row["array_area_mm2"])
    for name in (*workload_costs.ENERGIES, "array_area_mm2", "bit_tops_per_mm2"):
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]


def test_an_order_whose_range_holds_one_is_refused():
    four, eight, same = (phase(ARRAY, name)[0] for name in ("int4-g128", "int8-g128", "int4-g128"))
    found = workload_costs.against(eight, four, "asap7", "lpddr5")
    value = workload_costs.phase_energy(eight, "asap7", "lpddr5").total
    value /= workload_costs.phase_energy(four, "asap7", "lpddr5").total
    assert found["energy_over_first"] == pytest.approx(value)
    assert 1 < found["energy_over_first_low"] < value < found["energy_over_first_high"]
    assert found["energy_order"] == "more"
    assert workload_costs.against(four, eight, "asap7", "lpddr5")["energy_order"] == "less"
    assert workload_costs.against(same, four, "asap7", "lpddr5")["energy_order"] == "not ranked"


@pytest.mark.parametrize("pe", [BitSerial(lanes=64), Mac(lanes=16)], ids=["serial", "parallel"])
@pytest.mark.parametrize("bits", [8, 512])
def test_no_layer_is_faster_than_its_roof(pe, bits):
    array = replace(ARRAY, pe=pe, dram_bits_per_cycle=bits)
    _, fmt = phase(array)
    rows = workload_costs.layers("prefill", job().works("prefill", fmt), array)
    assert [r["layer"] for r in rows][:2] == ["q", "k"]
    for row in rows:
        assert 0 < row["attained"] <= 1 + 1e-9
        over = row["bit_operations_per_byte"] > row["ridge"]
        assert row["binds"] == ("compute" if over else "dram")
    assert {"dram"} == {r["binds"] for r in rows} or bits == 512


def test_a_compute_bound_layer_reaches_its_roof_on_whole_tiles():
    array = replace(ARRAY, dram_bits_per_cycle=10**6)
    _, fmt = phase(array)
    rows = workload_costs.layers("prefill", job().works("prefill", fmt), array)
    assert max(r["attained"] for r in rows) > 0.9


def test_the_ridge_is_the_peak_over_the_port():
    _, fmt = phase(ARRAY)
    row = workload_costs.layers("prefill", job().works("prefill", fmt), ARRAY)[5]
    # 128 columns fill two words of 64 lanes; 96 of them are one and a half.
    peak = 2 * 64 * 16
    assert row["layer"] in ("up", "down", "gate")
    assert row["ridge"] == pytest.approx(peak / (ARRAY.dram_bits_per_cycle / 8), rel=0.3)
    assert row["ridge"] <= peak / (ARRAY.dram_bits_per_cycle / 8)


def test_an_array_of_equal_area_is_the_nearest_in_rows_and_shares_port_and_buffers():
    wide = replace(ARRAY, rows=16, columns=16, dram_bits_per_cycle=72)
    other = ArraySpec(pe=Mac(lanes=16), rows=1, columns=16)
    found = workload_costs.of_equal_area(other, wide, "asap7")
    wanted = area.array_area(wide, "asap7").total
    off = [
        abs(area.array_area(replace(found, rows=found.rows + more), "asap7").total - wanted)
        for more in (-1, 0, 1)
    ]
    assert off[1] == min(off)
    assert (found.dram_bits_per_cycle, found.weight_buffer_bits) == (72, wide.weight_buffer_bits)
    same = workload_costs.of_equal_area(replace(wide, rows=3), wide, "asap7")
    assert same.rows == 16


def test_a_pe_of_which_one_row_is_too_large_is_refused():
    small = replace(ARRAY, rows=1, columns=1)
    with pytest.raises(ValueError, match=r"^pe must fit at least one row of 64 into [\d.e+]+, not [\d.e+]+$"):
        workload_costs.of_equal_area(ArraySpec(pe=Mac(lanes=64), rows=1, columns=64), small, "asap7")


@pytest.fixture
def only_serial(monkeypatch):
    """No PE but the bit-serial one has measured energies."""
    kinds = {"bitserial": energy_coefficients.load("asap7")["kinds"]["bitserial"]}
    monkeypatch.setattr(energy_coefficients, "load", lambda _: {"kinds": kinds})


@pytest.mark.usefixtures("only_serial")
def test_energy_of_pes_that_are_not_measured_is_refused_with_the_reason():
    assert workload_costs.why_no_energy(ARRAY, "asap7") == ""
    reason = workload_costs.why_no_energy(replace(ARRAY, pe=Mac()), "asap7")
    assert reason == "pe must be one whose energy is measured (bitserial), not 'mac'"
    assert workload_costs.why_no_energy(replace(ARRAY, pe=Mac()), "") == ""
    found, _ = phase(replace(ARRAY, pe=Mac()))
    row = workload_costs.columns(found, "asap7", "lpddr5")
    assert row["energy_pj"] is row["bit_tops_per_w_low"] is None
    assert row["bit_tops_per_mm2"] > 0
    four = phase(ARRAY)[0]
    assert workload_costs.against(found, four, "asap7", "lpddr5") == {}


@pytest.mark.parametrize("pe", [Mac(), BitSerial()], ids=["parallel", "serial"])
def test_pes_of_different_kinds_have_their_energy(pe):
    found, _ = phase(replace(ARRAY, pe=pe))
    row = workload_costs.columns(found, "asap7", "lpddr5")
    assert 0 < row["energy_pj_low"] < row["energy_pj"] < row["energy_pj_high"]
    order = workload_costs.against(found, phase(ARRAY)[0], "asap7", "lpddr5")
    assert order["energy_over_first_low"] <= order["energy_over_first"] <= order["energy_over_first_high"]


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(SMALL))

    def call(*words):
        status = main(["workload", "config.json", "--prefill", "9", *words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_pes_are_compared_at_equal_area(run):
    status, out, _ = run("--pe", "bitserial", "--pe", "mac", "--iso", "area", "--roofline", "--json")
    found = json.loads(out)
    assert status == 0
    assert {(r["pe"], r["phase"]) for r in found["rows"]} == {
        (p, f) for p in ("bitserial", "mac") for f in ("prefill", "decode")
    }
    first, second = (next(r for r in found["rows"] if r["pe"] == p) for p in ("bitserial", "mac"))
    assert first["array"] == "8x8"
    assert second["array"] != "8x8"
    assert second["array_area_mm2"] == pytest.approx(first["array_area_mm2"], rel=0.1)
    assert found["no_energy"] == {}
    assert {r["layer"] for r in found["layers"]} >= {"q", "scores", "head"}
    assert "energy_order" not in first
    assert second["energy_order"] in ("less", "more", "not ranked")
    out = run("--pe", "bitserial", "--pe", "mac", "--roofline")[1]
    assert "rooflines" in out
    assert "no energy" not in out


@pytest.mark.usefixtures("only_serial")
def test_a_pe_without_a_measured_energy_is_named_and_not_ranked(run):
    found = json.loads(run("--pe", "bitserial", "--pe", "mac", "--json")[1])
    assert list(found["no_energy"]) == ["mac"]
    assert not any("energy_order" in row for row in found["rows"])
    assert "no energy: mac" in run("--pe", "bitserial", "--pe", "mac")[1]


def test_a_pe_that_cannot_run_a_format_is_left_out_beside_one_that_can(run):
    status, out, _ = run("--pe", "bitserial", "--pe", "gather", "--json")
    assert status == 0
    assert list(json.loads(out)["left_out"]) == ["int4-g128 on gather"]


def test_a_pattern_of_zeros_comes_with_what_it_costs(run):
    said = json.loads(run("--format", "int4-2:4", "--json")[1])["sparsity"]
    assert any(s.startswith("2:4 costs a 1-bit popcount PE area") for s in said)
    assert any(s.startswith("2:4 saves an INT4 PE area") for s in said)
    assert not any(s.startswith("4:8") for s in said)
    assert json.loads(run("--format", "int4-g128", "--json")[1])["sparsity"] == []
    assert "2:4 costs a 1-bit popcount PE area" in run("--format", "int4-2:4")[1]


def test_costs_are_left_out_where_asked(run):
    _, out, _ = run("--tech", "none", "--json")
    assert "energy_pj" not in json.loads(out)["rows"][0]
    assert "asap7" not in run("--tech", "none")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--iso", "power"), "error: iso must be area or nothing, not 'power'"),
        (
            ("--iso", "area", "--tech", "none"),
            "error: tech must be given where arrays are of equal area, not 'none'",
        ),
    ],
)
def test_bad_input_is_one_line(run, words, message):
    status, _, err = run(*words)
    assert (status, err.strip()) == (2, message)
