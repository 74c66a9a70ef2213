"""The fit itself, on samples whose truth is known, and what is said of its errors."""

import random

import pytest

from cost_models.calibration import fit
from cost_models.calibration.fit import Sample

TRUTH = {"a.gate2": 1.4, "b.full_adder": 6.0, "b.flop": 7.5}
PRIOR = {"a.gate2": 1.0, "b.full_adder": 8.0, "b.flop": 7.0}


def samples(count, seed, scale=1.0):
    rng = random.Random(seed)
    found = []
    for k in range(count):
        counts = {name: rng.randrange(1, 400) for name in TRUTH}
        measured = scale * sum(TRUTH[name] * n for name, n in counts.items())
        found.append(Sample(f"p{k}", counts, measured, large=k >= count - 3))
    return found


def test_coefficients_that_were_put_in_are_found_whatever_the_unit():
    for scale in (1.0, 0.05):
        made = samples(40, 0, scale)
        found = fit.fit(made, PRIOR, fit.columns(made))
        for name, value in TRUTH.items():
            assert found[name] == pytest.approx(scale * value, rel=0.02), name
        assert fit.errors(made, found)["max"] < 0.01


def test_a_cell_that_stands_in_every_sample_alike_keeps_its_prior_s_share():
    counts = [s.counts["b.flop"] for s in samples(9, 1)]
    made = [Sample(f"p{n}", {"x.gate2": n, "y.gate2": n}, 5.0 * n) for n in counts]
    found = fit.fit(made, {"x.gate2": 1.0, "y.gate2": 3.0}, fit.columns(made))
    assert found["y.gate2"] == pytest.approx(3 * found["x.gate2"], rel=1e-3)
    assert found["x.gate2"] + found["y.gate2"] == pytest.approx(5.0, rel=1e-3)


KINDS = {"gate2": 1.0, "full_adder": 8.0, "flop": 7.0}


def judged(made):
    return fit.judged({"one": made}, KINDS)["one"]["errors"]


def test_designs_are_judged_by_fits_that_have_not_seen_them():
    made = samples(23, 2)
    train, held_out, block = fit.split(made)
    assert {s.name for s in block} == {"p20", "p21", "p22"}
    assert (len(train), len(held_out)) == (12, 8)
    assert not {s.name for s in train} & {s.name for s in held_out}
    spoilt = [s if s.name != held_out[0].name else Sample(s.name, s.counts, 2 * s.measured) for s in made]
    honest, found = judged(made), judged(spoilt)
    assert found["fitted"] == honest["fitted"]
    assert found["held_out"]["worst"] == held_out[0].name
    assert found["held_out"]["max"] == pytest.approx(0.5, abs=0.01)


def test_errors_name_the_worst_design():
    found = fit.summary([11.0, 20.0, 27.0], [10.0, 20.0, 30.0], ["a", "b", "c"])
    assert found == {"n": 3, "r2": 0.95, "mape": pytest.approx(0.2 / 3, abs=1e-6), "max": 0.1, "worst": "a"}
    assert fit.summary([], [], [])["n"] == 0


def test_groups_share_what_they_have_in_common():
    # The second group has too few designs to tell its cells apart; the first one knows them.
    alone = fit.judged({"few": samples(8, 3)[:4]}, KINDS)["few"]["coefficients"]
    made = {"many": samples(40, 4), "few": samples(8, 3)[:4]}
    helped = fit.judged(made, KINDS)["few"]["coefficients"]
    off = {
        name: [abs(found[name] / TRUTH[name] - 1) for found in (alone, helped)]
        for name in ("a.gate2", "b.flop")
    }
    assert sum(pair[1] for pair in off.values()) < sum(pair[0] for pair in off.values())
    assert fit.errors(made["few"], helped)["max"] < 0.01


def test_the_common_fit_behind_an_error_has_not_seen_its_designs():
    made = {"a": samples(23, 5), "b": samples(23, 6)}
    honest = fit.judged(made, KINDS)
    spoilt = fit.split(made["b"])[1][0].name
    made["b"] = [s if s.name != spoilt else Sample(s.name, s.counts, 3 * s.measured) for s in made["b"]]
    found = fit.judged(made, KINDS)
    assert found["a"]["errors"]["fitted"] == honest["a"]["errors"]["fitted"]
    assert found["a"]["errors"]["held_out"] == honest["a"]["errors"]["held_out"]
    assert found["b"]["errors"]["held_out"]["worst"] == spoilt


def test_a_column_that_the_common_fit_has_not_seen_is_pulled_to_its_kind():
    made = samples(12, 7)
    _, held_out, _ = fit.split(made)
    only = [s for s in made if s.name == held_out[0].name]
    odd = Sample(only[0].name, only[0].counts | {"c.gate2": 50}, only[0].measured + 60)
    found = fit.judged({"one": [odd if s.name == odd.name else s for s in made]}, KINDS)["one"]
    assert found["coefficients"]["c.gate2"] > 0
    assert found["errors"]["held_out"]["n"] == len(held_out)
