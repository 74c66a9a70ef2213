"""Energy of PEs of any kind: priced by hand, borrowed with a band, never free, refused with the reason."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from algo.bitplane import family
from cost_models import energy_coefficients, energy_pe, explain
from cost_models import tech as techs
from cost_models.energy import energy
from cost_models.energy_pe import (
    PARTS,
    Counted,
    basis,
    count,
    described,
    on_random,
    part_of,
    random_beat,
    terms,
    why_none,
)
from cost_models.energy_toggles import FEATURES
from cost_models.uncertain import Cost
from hw.beats import Beats
from hw.pe.bitserial import BitSerial
from hw.pe.mac import Mac
from hw.spec import Activity, ArraySpec

PE = Mac(lanes=4, acc_width=24)
RUN = Activity(cycles=100, beats=300, items=10, weight_buffer_bits=10, activation_buffer_bits=10, dram_bits=5)


def counted(rows, whole=True, spec=PE):
    return Counted(spec=spec, counts=np.array(rows, float), whole=whole)


def flat(value=10.0):
    return [value] * len(FEATURES)


def total(found):
    return Cost(unit="pJ", terms=tuple(found)).breakdown


def test_a_pe_costs_what_a_pencil_says():
    made = energy_coefficients.load("asap7")["kinds"]["mac"]
    found = total(terms(counted([flat()]), techs.load("asap7"), beats=300, clocks=900))
    assert found["clock"] == pytest.approx(10 * 900 * made["clock"][0] * 1e-3)
    for part in PARTS[1:]:
        own = sum(value for name, value in made["coefficients"].items() if part_of(name) == part)
        assert found.get(part, 0.0) == pytest.approx(10 * 300 * own * 1e-3)


def test_every_feature_has_a_part():
    assert {part_of(name) for name in FEATURES[1:]} == set(PARTS[1:])


@pytest.mark.parametrize("name", family.names("hw.pe"))
def test_no_family_is_free_and_every_energy_has_its_band(name):
    spec = min(family.load("hw.pe", name).SAMPLES, key=lambda s: sum(s.words().values()))
    tech = techs.load("asap7")
    if why_none(spec, tech):
        pytest.skip(why_none(spec, tech))
    found = energy(RUN, ArraySpec(pe=spec, rows=2, columns=2), tech, counted=on_random(spec))
    assert found.breakdown["clock"] > 0
    assert found.breakdown["clock_tree"] == pytest.approx(0.15 * found.breakdown["clock"])
    assert sum(found.breakdown.get(part, 0.0) for part in PARTS[1:]) > 0
    assert found.low < found.total < found.high


def test_idle_clocks_cost_their_clock_alone():
    array = ArraySpec(pe=PE, rows=1, columns=1)
    short, long = (
        energy(replace(RUN, cycles=cycles), array, "asap7", counted=on_random(PE)).breakdown
        for cycles in (300, 600)
    )
    assert long["clock"] == pytest.approx(2 * short["clock"])
    assert long["glitches"] == short["glitches"] > 0


def test_registers_between_pes_pay_their_clock():
    plain, systolic = (
        energy(RUN, ArraySpec(pe=PE, rows=2, columns=3, network=network), "asap7", counted=on_random(PE))
        for network in ("broadcast", "systolic")
    )
    assert plain.breakdown.get("network", 0.0) == 0
    assert systolic.breakdown["network"] > 0
    assert systolic.breakdown["clock"] == plain.breakdown["clock"]


def test_a_sample_widens_the_band_by_how_much_its_stretches_differ():
    tech = techs.load("asap7")

    def sampled(rows, whole):
        return Cost(unit="pJ", terms=terms(counted(rows, whole), tech, 100, 100))

    alike, apart = [flat(), flat()], [flat(8.0), flat(12.0)]
    assert sampled(apart, True).high == pytest.approx(sampled(alike, True).high)
    assert sampled(apart, False).total == pytest.approx(sampled(alike, False).total)
    assert sampled(apart, False).high > sampled(alike, False).high == pytest.approx(sampled(alike, True).high)
    # Two standard errors of the mean of 8 and 12: 2 x 2.83 / 1.41 of 10.
    [constant] = [c for c in sampled(apart, False).constants if c.key == "energy.sample"]
    assert (constant.low, constant.high) == (pytest.approx(0.6), pytest.approx(1.4))


def test_two_runs_of_one_kind_share_the_model_s_error():
    from cost_models.uncertain import ratio

    array = ArraySpec(pe=PE, rows=1, columns=1)
    still, busy = (
        Cost(unit="pJ", terms=terms(counted([flat(n)]), techs.load("asap7"), 100, 100)) for n in (5.0, 10.0)
    )
    assert array.pe == PE
    found = ratio(busy, still)
    assert (found.low, found.high) == (pytest.approx(found.value), pytest.approx(found.value))


def test_a_technology_without_measured_pes_borrows_and_says_so():
    own, lent = techs.load("asap7"), techs.load("nangate45")
    assert (basis(own), basis(lent)) == ("asap7", "asap7")
    one = Cost(unit="pJ", terms=terms(counted([flat()]), own, 100, 100))
    other = Cost(unit="pJ", terms=terms(counted([flat()]), lent, 100, 100))
    more = random_beat(lent) / random_beat(own)
    assert more > 3
    assert other.breakdown["gates"] == pytest.approx(more * one.breakdown["gates"])
    clocks = lent.constant("clock_flop").value / own.constant("clock_flop").value
    assert other.breakdown["clock"] == pytest.approx(clocks * one.breakdown["clock"])
    assert other.high / other.total > one.high / one.total
    assert any("bit-serial PEs of nangate45 over those of asap7" in line for line in other.sources)
    assert described(PE, lent).startswith(
        "mac in asap7, borrowed for nangate45, default mapping; unseen sizes "
    )
    assert described(PE, own).startswith("mac in asap7, default mapping; ")


def test_a_scaled_technology_keeps_the_coefficients_of_its_base_and_its_own_band():
    base, scaled = techs.load("asap7"), techs.load("asap7@10:0.8")
    assert basis(scaled) == "asap7"
    costs = [Cost(unit="pJ", terms=terms(counted([flat()]), tech, 100, 100)) for tech in (base, scaled)]
    ratios = [scaled.constant(k).value / base.constant(k).value for k in ("clock_flop", "register_flop")]
    assert ratios[0] == pytest.approx(ratios[1])
    assert costs[1].total == pytest.approx(ratios[0] * costs[0].total)
    assert costs[1].high / costs[1].total > costs[0].high / costs[0].total


def test_a_pe_of_no_measured_kind_is_refused(monkeypatch):
    kinds = MappingProxyType({"bitserial": energy_coefficients.load("asap7")["kinds"]["bitserial"]})
    monkeypatch.setattr(energy_coefficients, "load", lambda _: {"kinds": kinds})
    asap7 = techs.load("asap7")
    assert why_none(BitSerial(), asap7) == ""
    message = r"^pe must be one whose energy is measured \(bitserial\), not 'mac'$"
    with pytest.raises(ValueError, match=message):
        terms(counted([flat()]), asap7, 1, 1)


def test_a_technology_without_energies_is_refused():
    with pytest.raises(
        ValueError, match=r"^tech must be one with a constant 'energy_scale', not 'generic_ge'$"
    ):
        terms(counted([flat()]), techs.load("generic_ge"), 1, 1)


def test_an_explanation_has_toggles_coefficients_and_the_held_out_errors():
    found = energy(RUN, ArraySpec(pe=PE, rows=1, columns=1), "asap7", counted=on_random(PE))
    text = explain.text({"energy": found}, "gates")
    assert "asap7.energy.mac." in text
    assert "fJ/toggle" in text
    assert "on what was held out; stimuli: mean error " in text


def test_counting_sees_the_data():
    run = Beats.random(PE, 120, 0)
    window = np.array([[20, 120]])
    busy = count(PE, run, window)
    still = count(PE, replace(run, w=0 * run.w, x=0 * run.x), window)
    price = [total(terms(one, techs.load("asap7"), 100, 100)) for one in (busy, still)]
    assert price[1]["clock"] == price[0]["clock"]
    assert sum(price[1].values()) < 0.6 * sum(price[0].values())


@pytest.mark.parametrize("tech", [name for name in energy_coefficients.names() if name != "generic_ge"])
def test_bit_serial_pes_cost_about_the_same_by_toggles_inside_and_by_operands_alone(tech):
    spec = BitSerial(lanes=64, acc_width=32, levels=3)
    array = ArraySpec(pe=spec, rows=1, columns=1)
    beats = 1000
    run = Activity(cycles=beats, beats=beats, w_toggles=32 * beats, x_toggles=32 * beats)
    ours = energy(run, array, tech, counted=on_random(spec))
    outside = energy(run, array, tech)
    assert ours.total == pytest.approx(outside.total, rel=0.35)
    assert energy_pe.on_random(spec) is energy_pe.on_random(spec)


def test_borrowed_coefficients_are_held_against_a_measured_technology(tmp_path, monkeypatch, capsys):
    from cost_models import energy_points

    text = "bitserial:lanes=16,acc_width=24,levels=0"
    points = {text: energy_points.read("asap7")[text]}
    monkeypatch.setattr(energy_points, "read", lambda _: points)
    monkeypatch.setattr(energy_pe, "_BORROWING", tmp_path / "found.json")
    # Of the lender itself the error is that of its own fit.
    assert energy_pe.main(["--tech", "asap7"]) == 0
    assert "measured on 1 PEs of asap7, 17 runs" in capsys.readouterr().out
    energy_pe._borrowing.cache_clear()
    own = energy_pe._borrowing()
    assert 0.85 < own["low"] <= 1 <= own["high"] < 1.15
    doubled = {
        text: {
            name: parts | {"gates": parts["gates"] + sum(parts.values()) - parts["clock"]}
            for name, parts in runs.items()
        }
        for text, runs in points.items()
    }
    found = energy_pe.borrowing(doubled, techs.load("asap7"))
    assert 1.8 < found["high"] < 2.3
    assert found["low"] == pytest.approx(1 / found["high"], rel=0.01)
    energy_pe._borrowing.cache_clear()


def test_what_is_stored_of_borrowing_holds_for_a_technology_that_has_its_own():
    energy_pe._borrowing.cache_clear()
    found = energy_pe._borrowing()
    assert 0 < found["low"] <= 1 <= found["high"]
    assert "PEs of" in found["note"]
