"""SRAM by both forms, buffers of a kit's macros, register files, external memory."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models import dram, memory, registers, sram
from cost_models import tech as techs
from cost_models.area import gate_equivalents
from cost_models.registers import RegisterFile
from cost_models.sram import BANK, Macro
from cost_models.uncertain import Cost

#: liberty files of the kit's macros: read [pJ/bit], area [um2/bit]
IHP_1024X64 = (1.435, 4.027)


def priced(term):
    return Cost(unit="pJ", terms=(term,))


def test_the_linear_form_gives_the_real_macro_within_its_own_error():
    read, area = sram.cost("read", BANK, "macro"), sram.cost("area", BANK, "macro")
    assert read.total == pytest.approx(5.9 + 0.50 * 64 + 0.00070 * 65536)
    assert area.total == pytest.approx(13854 + 344 * 64 + 4.64 * 1024 + 3.383 * 65536)
    assert read.low < 64 * IHP_1024X64[0] < read.high
    assert area.low < 65536 * IHP_1024X64[1] < area.high


def test_a_write_takes_a_read_s_form_times_its_ratio():
    read, write = sram.cost("read", BANK, "macro"), sram.cost("write", BANK, "macro")
    assert write.total == pytest.approx(1.25 * read.total)


@pytest.mark.parametrize(
    ("fit", "read", "leakage"),  # single runs of CACTI 7 of 8 KB, 64 bits: [pJ], [nW]
    [
        ("cacti45hp", 6.048, 7.515e6),
        ("cacti45lop", 3.619, 8.970e4),
        ("cacti32hp", 3.332, 1.867e6),
        ("cacti32lop", 1.861, 7.715e5),
        ("cacti22hp", 1.727, 9.237e5),
        ("cacti22lop", 1.210, 5.213e5),
    ],
)
def test_the_power_laws_give_cacti_s_own_runs_within_their_error(fit, read, leakage):
    for quantity, run in (("read", read), ("leakage", leakage)):
        found = sram.cost(quantity, BANK, fit)
        assert found.low <= run <= found.high, quantity


def test_the_cells_decide_leakage_rather_than_the_size():
    hp, lop = (sram.cost("leakage", BANK, fit).total for fit in ("cacti45hp", "cacti45lop"))
    assert hp > 50 * lop


sizes = st.builds(Macro, words=st.integers(16, 1 << 14), bits=st.integers(1, 512))


@given(sizes, st.sampled_from(sram.fits()), st.sampled_from(["read", "write", "area"]))
def test_a_larger_macro_costs_more_and_none_is_free(macro, fit, quantity):
    found = sram.cost(quantity, macro, fit)
    assert 0 < found.low < found.total < found.high
    for more in (
        Macro(words=macro.words + 1, bits=macro.bits),
        Macro(words=macro.words, bits=macro.bits + 1),
    ):
        assert sram.cost(quantity, more, fit).total > found.total


def test_the_bank_is_what_a_technology_s_figures_hold_for_and_other_macros_have_a_shape():
    tech = techs.load("sg13g2")
    assert memory.read("r", 640, tech) == memory.read("r", 640, tech, BANK)
    assert sram.shape("read", BANK, "macro").value == 1
    small = Macro(words=256, bits=64)
    term = memory.read("r", 64, tech, small)
    expected = 64 * 1.435 * (5.9 + 0.5 * 64 + 0.0007 * 256 * 64) / (5.9 + 0.5 * 64 + 0.0007 * 65536)
    assert priced(term).total == pytest.approx(expected)
    assert memory.area("a", 1, tech, small).quantity == small.size
    assert sram.shape("leakage", small, "macro").value == 1
    assert sram.shape("leakage", small, "cacti45lop").value > 1  # a power under 1


def test_a_buffer_is_built_of_the_kit_s_macros_with_least_area():
    tech = techs.load("sg13g2")
    assert len(memory.macros(tech)) == 10
    assert str(memory.choose(65536, 64, tech)) == "1 of 1024x64"
    assert str(memory.choose(4096, 64, tech)) == "1 of 64x64"
    assert str(memory.choose(8 * 4096, 8, tech)) == "1 of 4096x8"
    wide = memory.choose(1 << 17, 128, tech)
    assert (wide.across, wide.deep, wide.macros, wide.bits) == (2, 1, 2, 1 << 17)
    assert memory.macros(techs.load("asap7")) == (BANK,)
    assert memory.choose(65537, 64, techs.load("asap7")).bits == 2 * 65536


@given(st.integers(1, 1 << 20), st.integers(1, 300))
def test_a_chosen_buffer_holds_what_it_must(bits, width):
    found = memory.choose(bits, width, techs.load("sg13g2"))
    assert found.across * found.macro.bits >= width
    assert found.deep * found.macro.words * width >= bits


def test_a_disabled_macro_still_pays_its_clock():
    assert sram.idle(3, 100).total == pytest.approx(3 * 100 * 0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Macro(words=0, bits=8), "words must be at least 1, not 0"),
        (lambda: Macro(words=8, bits=0), "bits must be at least 1, not 0"),
        (lambda: sram.cost("read", BANK, "ram"), f"fit must be one of {', '.join(sram.fits())}, not 'ram'"),
        (
            lambda: sram.cost("leakage", BANK, "macro"),
            "quantity must be one of read, area for macro, not 'leakage'",
        ),
        (lambda: memory.choose(0, 8, techs.load("asap7")), "bits must be at least 1, not 0"),
        (lambda: memory.choose(8, 0, techs.load("asap7")), "width must be at least 1, not 0"),
        (lambda: RegisterFile(words=0, bits=8), "words must be at least 1, not 0"),
        (
            lambda: registers.energy(RegisterFile(words=2, bits=8), 1, -1, 0, "asap7"),
            "written_toggles must be at least 0, not -1",
        ),
        (lambda: dram.energy(-1, 1, "ddr4"), "bits must be at least 0, not -1"),
        (lambda: dram.energy(1, 1, "ddr4", rows=-2), "rows must be at least 0, not -2"),
        (lambda: dram.energy(1, 1, "ddr4", packages=0), "packages must be at least 1, not 0"),
    ],
)
def test_what_is_no_memory_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()


def test_a_register_file_is_flops_enables_and_a_read_multiplexer():
    tech = techs.load("asap7")
    found = registers.area(RegisterFile(words=8, bits=16), tech)
    ge = tech.constant("area_ge").value
    assert found.breakdown == pytest.approx(
        {
            "flop": 128 * tech.constant("area_flop").value,
            "enable": 128 * gate_equivalents("flop").value * ge,
            "read_mux": 7 * 16 * 0.6 * gate_equivalents("mux2").value * ge,
        }
    )
    assert "read_mux" not in registers.area(RegisterFile(words=1, bits=16), tech).breakdown


def test_a_register_file_pays_its_clock_when_nothing_moves():
    file = RegisterFile(words=8, bits=16)
    assert set(registers.energy(file, 10, 0, 0, "asap7").breakdown) == {"clock"}
    busy = registers.energy(file, 10, 20, 30, "asap7").breakdown
    tech = techs.load("asap7")
    toggle = tech.constant("operand_toggle").value * 1e-3
    assert busy == pytest.approx(
        {
            "clock": 10 * 128 * tech.constant("clock_flop").value * 1e-3,
            "write": 20 * toggle,
            "read": 30 * 3 * 0.5 * toggle,
        }
    )


@pytest.mark.parametrize("name", techs.drams())
def test_external_memory_pays_bits_rows_and_its_background(name):
    row = techs.dram(name, "row").value
    found = dram.energy(10 * row, 1e-6, name).breakdown
    assert found == pytest.approx(
        {
            "transfer": 10 * row * techs.dram(name).value,
            "activate": 10 * 2000.0,
            "background": 1e6 * techs.dram(name, "background").value,
        }
    )
    # Misses: a row opened for every 64 bytes costs more than streaming, nothing else changes.
    missed = dram.energy(10 * row, 1e-6, name, rows=10 * row / 512, packages=2).breakdown
    assert missed["activate"] > found["activate"]
    assert missed["background"] == pytest.approx(2 * found["background"])
    assert missed["transfer"] == found["transfer"]
    idle = dram.energy(0, 1e-6, name)
    assert idle.low > 0
