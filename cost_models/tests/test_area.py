"""Area: hand sums, monotony, and the stored calibration behind it."""

from dataclasses import asdict, replace

import pytest

from cost_models import area as area_model
from cost_models.area import array_area, calibration, gate_equivalents, pe_area
from cost_models.calibration import store
from cost_models.tech import load, names
from cost_models.uncertain import ratio
from hw.grid import Grid
from hw.pe.bitserial import SAMPLES, BitSerial
from hw.pe.mac import Mac
from hw.spec import ArraySpec, Resources

CELLS = Resources(gate2=7, full_adder=5, half_adder=3, adder_bit=11, mux2=2, flop=13)
LIBRARIES = [name for name in names() if name != "generic_ge"]


def test_area_is_counted_cells_times_stored_coefficients_times_the_technology_s_two_numbers():
    fit, tech = calibration()["coefficients"], load("asap7")
    per_ge, per_flop = (tech.constant(key).value for key in ("area_ge", "area_flop"))
    gates = sum(count * fit[kind] for kind, count in asdict(CELLS).items())
    found = pe_area(CELLS, "asap7")
    assert found.total == pytest.approx(gates * per_ge + 13 * per_flop)
    assert found.unit == "um2"
    assert found.breakdown["full_adder"] == pytest.approx(5 * fit["full_adder"] * per_ge)
    assert found.breakdown["flop"] == pytest.approx(13 * (fit["flop"] * per_ge + per_flop))
    assert sum(found.breakdown.values()) == pytest.approx(found.total)
    assert found.low < found.total < found.high
    assert any("calibration.full_adder" in line for line in found.sources)
    assert any("asap7.area_flop" in line for line in found.sources)


def test_gate_equivalents_need_no_technology():
    found = pe_area(CELLS, "generic_ge")
    assert found.unit == "GE"
    assert found.breakdown["gate2"] == pytest.approx(7 * calibration()["coefficients"]["gate2"])


def test_no_cells_take_no_area_and_any_cell_takes_some():
    assert pe_area(Resources(), "asap7").total == 0
    for kind in asdict(CELLS):
        assert pe_area(Resources(**{kind: 1}), "asap7").total > 0, kind


@pytest.mark.parametrize("tech", names())
def test_area_grows_with_every_cell_kind(tech):
    before = pe_area(CELLS, tech)
    for kind, count in asdict(CELLS).items():
        after = pe_area(replace(CELLS, **{kind: count + 1}), tech)
        assert after.total > before.total, kind
        assert after.low > before.low, kind
        assert after.high > before.high, kind


@pytest.mark.parametrize("spec", SAMPLES, ids=str)
def test_every_sample_pe_has_an_area_inside_its_own_range(spec):
    found = pe_area(spec.resources(), "nangate45")
    assert 0 < found.low < found.total < found.high < 2 * found.low


@pytest.mark.parametrize("tech", LIBRARIES)
def test_an_array_is_its_pes_their_room_and_its_buffers(tech):
    one = BitSerial(lanes=16, acc_width=24)
    array = ArraySpec(pe=one, rows=3, columns=5, weight_buffer_bits=65536, activation_buffer_bits=65537)
    found, cells = array_area(array, tech), pe_area(Grid(array=array), tech).total
    per_bit = load(tech).constant("sram_area").value
    assert found.breakdown["placement"] == pytest.approx(0.5 * cells)
    # One bank, and two for a single bit more.
    assert found.breakdown["weight_buffer"] == pytest.approx(65536 * per_bit)
    assert found.breakdown["activation_buffer"] == pytest.approx(2 * 65536 * per_bit)
    assert found.total == pytest.approx(1.5 * cells + 3 * 65536 * per_bit)


def test_the_technology_cancels_in_a_ratio_of_like_pes():
    small, large = (pe_area(BitSerial(lanes=n, acc_width=32).resources(), "sky130hd") for n in (32, 64))
    found = ratio(large, small)
    assert found.low < found.value < found.high
    # What is left is nearly the fit's own error on both sides.
    fit = area_model.error()
    assert found.high / found.low < ((1 + fit) / (1 - fit)) ** 2 * 1.05
    assert large.high / large.low > found.high / found.low


def test_an_array_of_gate_equivalents_has_no_buffers_to_add():
    with pytest.raises(ValueError, match=r"^tech must be one with a constant 'sram_area', not 'generic_ge'$"):
        array_area(ArraySpec(pe=BitSerial()), "generic_ge")


def test_an_unknown_cell_kind_is_refused():
    choices = "gate2, full_adder, half_adder, adder_bit, mux2, flop"
    with pytest.raises(ValueError, match=f"^cell kind must be one of {choices}, not 'latch'$"):
        gate_equivalents("latch")


def test_a_coefficient_no_design_determined_says_where_it_comes_from():
    assert "half_adder" in calibration()["unseen"]
    assert gate_equivalents("half_adder").kind == "derived"
    assert gate_equivalents("full_adder").kind == "measured"


def direct():
    """Technologies whose own library the fits are of."""
    return [name for name in names() if name in store.names()]


@pytest.mark.parametrize("tech", direct())
def test_a_pe_is_its_counted_parts_times_the_fitted_coefficients_of_the_technology(tech):
    content, spec = store.load(tech), BitSerial(lanes=24, acc_width=32)
    fitted = content["fits"]["bitserial"]["default"]["area"]["coefficients"]
    expected = 0.0
    for part, cells in spec.parts().items():
        expected += sum(fitted.get(f"{part}.{kind}", 0.0) * n for kind, n in asdict(cells).items())
    found = pe_area(spec, tech)
    assert found.total == pytest.approx(expected)
    assert set(found.breakdown) <= set(spec.parts())
    assert found.fit == area_model.fit_error(spec, tech) > 0


def test_another_technology_scales_gate_equivalents_by_its_two_numbers():
    spec, tech = BitSerial(lanes=24, acc_width=32), load("nangate45")
    flops = 5.25 * spec.resources().flop
    gates = pe_area(spec, "generic_ge").total - flops
    per_ge, per_flop = (tech.constant(key).value for key in ("area_ge", "area_flop"))
    expected = gates * per_ge + spec.resources().flop * per_flop
    assert pe_area(spec, tech).total == pytest.approx(expected)


def test_the_mapping_that_takes_least_counts_and_is_named():
    wide, narrow = Mac(lanes=4, w_bits=8, act_bits=8), Mac(lanes=4, w_bits=2, act_bits=2, acc_width=32)
    assert area_model.mapping(wide, "generic_ge") == "booth"
    assert area_model.mapping(narrow, "generic_ge") == "default"
    for spec in (wide, narrow):
        found = pe_area(spec, "generic_ge")
        [booked] = {line.split(".mac.")[1].split(".")[0] for line in found.sources if ".mac." in line}
        assert booked == area_model.mapping(spec, "generic_ge")
    assert area_model.mapping(BitSerial(), "asap7") == "default"


def test_a_pe_that_no_sweep_has_is_priced_by_its_bare_counts(monkeypatch):
    spec = BitSerial(lanes=24, acc_width=32)
    monkeypatch.setattr(area_model.predict, "core", lambda _: spec)
    monkeypatch.setattr(area_model, "family_of", lambda _: "somebodys")
    assert not area_model.is_calibrated(spec)
    assert pe_area(spec, "asap7") == pe_area(spec.resources(), "asap7")


def test_an_array_s_error_is_the_larger_of_its_pe_s_and_of_the_arrays_that_were_judged():
    pe = BitSerial(lanes=24, acc_width=32)
    grid = Grid(array=ArraySpec(pe=pe, rows=2, columns=2))
    content = store.load("generic_ge")
    own = area_model.fit_error(pe, "generic_ge")
    assert area_model.fit_error(grid, "generic_ge") == max(content["arrays"]["max"], own)
