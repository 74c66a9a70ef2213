"""Energy: a run priced by hand, monotony, and what must never be free."""

from dataclasses import asdict, replace

import pytest

from cost_models import area
from cost_models import tech as techs
from cost_models.energy import drivers, energy
from cost_models.uncertain import ratio
from hw.pe.bitserial import BitSerial
from hw.spec import Activity, ArraySpec

PE = BitSerial(lanes=10, acc_width=16, levels=0)
ARRAY = ArraySpec(
    pe=PE, rows=2, columns=3, clock_hz=1e9, weight_buffer_bits=65536, activation_buffer_bits=65536
)
RUN = Activity(
    cycles=100,
    beats=400,
    w_toggles=1600,
    x_toggles=1000,
    mask_toggles=400,
    items=50,
    scale_products=50,
    weight_buffer_bits=4000,
    activation_buffer_bits=3000,
    result_bits=800,
    dram_bits=500,
)
LIBRARIES = [name for name in techs.names() if "clock_flop" in techs.load(name).constants]


def test_a_small_run_costs_what_a_pencil_says():
    tech = techs.load("asap7")
    get = {key: constant.value for key, constant in tech.constants.items()}
    cells = PE.resources()
    # In a beat of 10 lanes 0.4 of the weight bits change, 0.25 of the activations, 0.1 of the mask.
    changing = 0.9 * (0.4 + 0.25 - 2 * 0.4 * 0.25) + 0.1 / 2
    assert changing == pytest.approx(0.455)
    clock = cells.flop * 6 * 100 * get["clock_flop"] * 1e-3
    expected = {
        "clock": clock,
        "clock_tree": 0.15 * clock,
        "operands": 3000 * get["operand_toggle"] * 1e-3,
        "counter": cells.full_adder * 400 * 0.455 * get["counter_adder"] * 1e-3,
        "registers": cells.flop * 400 * 0.455 * get["register_flop"] * 1e-3,
        "accumulator": cells.adder_bit * 400 * get["accumulator_bit"] * 1e-3,
        "scale": 50 * 16 * 16 * get["multiplier_bit"] * 1e-3,
        "weight_buffer": 4000 * get["sram_read"],
        "activation_buffer": 3000 * get["sram_read"],
        "results": 800 * get["sram_write"],
        # 100 ns: nW/um2 x um2 x 100e-9 s, in pJ.
        "pe_leakage": get["leakage"] * 1e-9 * 6 * area.pe_area(cells, tech).total * 100e-9 * 1e12,
        "buffer_leakage": get["sram_leakage"] * 1e-9 * 2 * 65536 * 100e-9 * 1e12,
        "dram": 500 * 6.0,
    }
    found = energy(RUN, ARRAY, tech)
    assert found.unit == "pJ"
    assert found.breakdown == pytest.approx(expected)
    assert found.total == pytest.approx(sum(expected.values()))
    assert found.low < found.total < found.high


@pytest.mark.parametrize("tech", LIBRARIES)
def test_no_part_of_a_busy_run_is_free(tech):
    parts = energy(RUN, ARRAY, tech).breakdown
    assert len(parts) == 13
    assert all(value > 0 for value in parts.values()), parts


#: Counts of what other counts already pay for: an item by its scale products and bits; the registers inside a
#: PE by the share of lanes that the operands' toggles let change; kinds of beats by the beats.
PAID_BY_OTHERS = {
    *("items", "product_toggles", "dot_toggles", "accumulator_toggles"),
    *("bubbles", "zero_beats", "shared_sum_beats"),
}


@pytest.mark.parametrize("tech", LIBRARIES)
def test_energy_grows_with_every_count_that_is_priced(tech):
    before = energy(RUN, ARRAY, tech).total
    for name, count in asdict(RUN).items():
        after = energy(replace(RUN, **{name: count + 40}), ARRAY, tech).total
        if name in PAID_BY_OTHERS:
            assert after == before
        else:
            assert after > before, name


def test_idle_pes_pay_clock_and_leakage_and_nothing_else():
    found = energy(Activity(cycles=100), ARRAY, "asap7")
    assert set(found.breakdown) == {"clock", "clock_tree", "pe_leakage", "buffer_leakage"}
    busy = energy(RUN, ARRAY, "asap7").breakdown
    assert all(found.breakdown[part] == busy[part] for part in found.breakdown)


def test_nothing_done_costs_nothing():
    assert energy(Activity(), ARRAY, "asap7").total == 0


def test_frozen_operands_still_count_the_accumulator():
    found = energy(Activity(cycles=10, beats=60), ARRAY, "asap7").breakdown
    assert "operands" not in found
    assert "counter" not in found
    assert found["accumulator"] > 0


def test_weights_held_still_change_as_many_lanes_as_moving_ones():
    beats = 1000

    def lanes(w_toggles):
        run = Activity(cycles=beats, beats=beats, w_toggles=w_toggles, x_toggles=5 * beats)
        return drivers(run, replace(ARRAY, rows=1, columns=1))["counter"]

    assert lanes(0) == pytest.approx(lanes(5 * beats))


def test_more_toggles_than_operand_bits_count_as_all_of_them():
    run = Activity(cycles=10, beats=10, w_toggles=500, x_toggles=0)
    assert drivers(run, ARRAY)["counter"] == pytest.approx(PE.resources().full_adder * 10)


def test_external_memory_is_a_choice():
    costs = {name: energy(RUN, ARRAY, "asap7", dram=name).breakdown["dram"] for name in techs.drams()}
    assert costs["lpddr5"] == 500 * 6.0
    assert costs["ddr4"] > costs["lpddr5"] > costs["hbm2"]
    with pytest.raises(ValueError, match=r"^dram must be one of lpddr4, .*, not 'tape'$"):
        energy(RUN, ARRAY, "asap7", dram="tape")


def test_gate_equivalents_have_no_energy():
    with pytest.raises(
        ValueError, match=r"^tech must be one with a constant 'energy_scale', not 'generic_ge'$"
    ):
        energy(RUN, ARRAY, "generic_ge")


def test_the_technology_s_common_factor_cancels_between_two_runs():
    still = Activity(cycles=100, beats=600, w_toggles=300, x_toggles=300)
    moving = Activity(cycles=100, beats=600, w_toggles=3000, x_toggles=3000)
    a, b = (energy(run, ARRAY, "nangate45") for run in (moving, still))
    found = ratio(a, b)
    assert 1 < found.low < found.value < found.high
    assert found.high / found.low < 0.25 * (a.high / a.low) * (b.high / b.low)


def test_two_like_runs_cost_twice_one():
    assert energy(RUN + RUN, ARRAY, "sg13g2").total == pytest.approx(2 * energy(RUN, ARRAY, "sg13g2").total)


# Energy per beat of a plainer PE: 64 XNORs, one carry-save counter, a 24-bit shift-accumulator and registered
# operands, random data, gate by gate in the same way. Ours counts two bits a lane and masks: it must lie
# above, and not by much.
@pytest.mark.parametrize(("tech", "plain_pj"), [("nangate45", 5.716), ("asap7", 0.506), ("sky130hd", 19.655)])
def test_a_beat_of_64_random_lanes_costs_about_what_a_plainer_pe_measured(tech, plain_pj):
    array = ArraySpec(pe=BitSerial(lanes=64, acc_width=32, levels=3), rows=1, columns=1)
    beats = 1000
    run = Activity(cycles=beats, beats=beats, w_toggles=32 * beats, x_toggles=32 * beats)
    parts = energy(run, array, tech).breakdown
    per_beat = sum(parts[p] for p in ("clock", "operands", "counter", "registers", "accumulator")) / beats
    assert 1.0 < per_beat / plain_pj < 1.6
