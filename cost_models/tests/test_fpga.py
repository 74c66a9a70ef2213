"""Look-up tables of PEs by the stored fits."""

from dataclasses import asdict

import pytest

from cost_models import fpga
from cost_models.calibration import store
from hw.grid import Grid
from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec

STORED = [family for family in fpga.FPGAS if family in store.names()]
PE = BitSerial(lanes=24, acc_width=32)


@pytest.mark.parametrize("family", STORED)
def test_tables_are_counted_parts_times_the_fitted_coefficients(family):
    fitted = store.load(family)["fits"]["bitserial"]["default"]["lut"]["coefficients"]
    # Its tree has registers after every so many levels.
    assert PE.levels > 1
    expected = sum(
        fitted.get(f"{'tree, cut at times' if part == 'tree' else part}.{kind}", 0.0) * count
        for part, cells in PE.parts().items()
        for kind, count in asdict(cells).items()
    )
    found = fpga.luts(PE, family)
    assert found.unit == "LUT"
    assert found.total == pytest.approx(expected)
    assert found.low < found.total < found.high
    assert found.fit == fpga.fit_error(PE, family)


@pytest.mark.parametrize("family", STORED)
def test_an_array_takes_about_as_many_as_its_pes(family):
    array = ArraySpec(pe=PE, rows=3, columns=4)
    found, one = fpga.luts(Grid(array=array), family), fpga.luts(PE, family)
    # Gates that read one operand alone are shared.
    assert 9 * one.total < found.total <= 12 * one.total


def test_a_pe_or_family_without_a_fit_is_told_apart(monkeypatch):
    monkeypatch.setattr(fpga.store, "names", lambda: ("ice40",))
    monkeypatch.setattr(fpga.store, "load", lambda _: {"target": "ice40", "fits": {"ternary": {}}})
    assert not fpga.is_calibrated(PE, "ice40")
    assert not fpga.is_calibrated(PE, "xilinx")
    with pytest.raises(
        ValueError, match=r"^pe must be one calibrated for ice40 \(ternary\), not 'bitserial'$"
    ):
        fpga.luts(PE, "ice40")


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match=r"^family must be one of ice40, ecp5, xilinx, not 'asap7'$"):
        fpga.luts(PE, "asap7")
