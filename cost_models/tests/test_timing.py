"""Clock periods of PEs by the stored fits."""

import pytest

from cost_models import timing
from cost_models.calibration import paths, store
from cost_models.tech import names
from hw.grid import Grid
from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec

DIRECT = [name for name in names() if name in store.names()]
PE = BitSerial(lanes=24, acc_width=32)


@pytest.mark.parametrize("tech", DIRECT)
def test_the_period_is_that_of_the_slowest_stage(tech):
    fitted = store.load(tech)["fits"]["bitserial"]["default"]["period"]["coefficients"]
    slowest = max(
        sum(fitted.get(name, 0.0) * count for name, count in stage.items()) for stage in paths.stages(PE)
    )
    found = timing.period(PE, tech)
    assert found.value == pytest.approx(slowest)
    assert found.low < found.value < found.high


@pytest.mark.parametrize("tech", DIRECT)
def test_a_wider_accumulator_is_no_faster_and_an_array_has_its_pe_s_clock(tech):
    wide = BitSerial(lanes=24, acc_width=48)
    assert timing.period(wide, tech).value >= timing.period(PE, tech).value
    array = Grid(array=ArraySpec(pe=PE, rows=2, columns=2))
    assert timing.period(array, tech) == timing.period(PE, tech)


def test_a_technology_without_a_calibration_is_refused():
    with pytest.raises(ValueError, match=r"^target must be one of .*, not 'nangate45'$"):
        timing.period(PE, "nangate45")
