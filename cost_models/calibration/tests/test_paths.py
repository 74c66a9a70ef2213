"""The slowest stage: fits on designs whose truth is known, and stages of every PE."""

import random
from importlib import import_module

import pytest

from cost_models.calibration import paths
from cost_models.calibration.designs import designs, families
from hw.spec import PeSpec

#: seconds of each count of a bit-serial PE
TRUTH = {
    "enable": 2e-10,
    "fan-out": 1e-11,
    "tree": 1e-10,
    "level": 9e-11,
    "dot": 1.5e-10,
    "bit": 2.2e-11,
    "width": 0,
}
TRUTH |= {"lanes": 1e-10, "select": 0, "spread": 0}
TRUTH["accumulator"] = 1.2e-10


def test_stages_that_were_put_in_are_found():
    rng = random.Random(0)
    make = import_module("hw.pe.bitserial").BitSerial
    specs = [
        make(lanes=rng.randrange(4, 200), acc_width=rng.randrange(10, 50), levels=rng.randrange(5))
        for _ in range(60)
    ]
    measured = [(f"p{k}", s, paths.period(s, TRUTH), s.lanes > 160) for k, s in enumerate(specs)]
    found = paths.judged({"bitserial": measured})["bitserial"]
    # What an accumulator takes once grows with its width as well: only together are the two determined.
    for name in ("level", "bit"):
        assert found["coefficients"][name] == pytest.approx(TRUTH[name], rel=0.1), name
    for key in ("held_out", "block"):
        assert found["errors"][key]["mape"] < 0.02, key


@pytest.mark.parametrize("name", families())
def test_every_pe_has_stages_that_grow_with_it(name):
    small, large = designs(name)[0].spec, designs(name)[-1].spec
    for spec in (small, large):
        assert len(paths.stages(spec)) >= 3
        assert all(count >= 0 for stage in paths.stages(spec) for count in stage.values())
    one = dict.fromkeys((name for stage in paths.stages(large) for name in stage), 1.0)
    assert paths.period(large, one) > 0


def test_a_pe_without_stages_is_refused():
    class Other(PeSpec):
        golden = latency = resources = create = None

    with pytest.raises(ValueError, match=r"^pe must be one of bitserial, .*, twoplane, not 'test_paths'$"):
        paths.stages(Other())
