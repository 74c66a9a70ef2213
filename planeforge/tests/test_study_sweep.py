"""Formats of a study by energy: certain places, and where external memory flips their order."""

import re

import pytest

from planeforge import study_sweep
from planeforge.tests.study_samples import ENTRIES, SAMPLES, row, study

ROWS = [row(*sample) for sample in SAMPLES]


def test_places_are_those_of_the_energies_and_say_what_is_not_certain():
    places = study_sweep.found(ROWS, study(), "")["energy_places"]
    energies = [place["energy_pj_per_token"] for place in places]
    assert energies == sorted(energies)
    assert {place["format"] for place in places} == {sample[0] for sample in SAMPLES}
    for place in places:
        assert place["low"] < place["energy_pj_per_token"] < place["high"]
        assert ("no order" in place["place"]) == (place["no_order_with"] != "-")
    assert places[-1]["format"] == "fp16"
    assert places[-1]["place"] == str(len(SAMPLES))


def test_a_sweep_finds_where_fewer_cycles_stop_paying_for_more_bits():
    # Ternary stores 2.1 bits and runs half of BiLLM's cycles; a made-up rival stores less and computes more.
    rival = row("dense codes", {"sign planes": 0.5}, 0.5, 0.9, 6000)
    rows = [ROWS[5], rival]
    swept = study_sweep.found(rows, study(), "dram_pj_per_bit=0.01:1000")["sweep"]
    ternary, other = (study_sweep.energies(rows, study())[name] for name in ("ternary", "dense codes"))

    def at(x):
        return [cost.total - cost.breakdown["dram"] * (1 - x / 6.0) for cost in (ternary, other)]

    (crossing,) = swept["crossings"]
    one, two = at(crossing["at"])
    assert one == pytest.approx(two)
    assert (crossing["cheaper_below"], crossing["cheaper_above"]) == ("ternary", "dense codes")
    below, above = at(crossing["at"] * 0.9), at(crossing["at"] * 1.1)
    assert below[0] < below[1]
    assert above[0] > above[1]
    assert ternary.breakdown["dram"] == pytest.approx((round(2.125 * ENTRIES) + 10_000) * 6.0 / 16)


def test_a_failed_row_has_no_place():
    failed = ROWS[1].model_copy(update={"error": "ValueError: no"})
    places = study_sweep.found([ROWS[0], failed, ROWS[2]], study(), "")["energy_places"]
    assert {place["format"] for place in places} == {"fp16", "rtn int4"}
    assert study_sweep.found([ROWS[0]], study(), "")["energy_places"] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("volts=1:2", "sweep must name one of dram_pj_per_bit, "),
        ("dram_pj_per_bit=2:1", "sweep must be NAME=LOW:HIGH with 0 < LOW < HIGH, not 'dram_pj_per_bit=2:1'"),
    ],
)
def test_a_sweep_that_cannot_be_made_is_refused_before_any_work(text, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        study_sweep.check(text, study())
    study_sweep.check("dram_pj_per_bit=1:2", study())
    study_sweep.check("", study())
