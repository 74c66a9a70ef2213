"""The accelerator's folder: its testbench passes, fails on any fault, lints clean; buffers are blocks."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from amaranth.back import rtlil

from hw import folder, hierarchy, lint, manifest, synth
from hw.accelerator import export, registers, vectors
from hw.accelerator.buffer import BufferSpec
from hw.accelerator.commands import Command, Run
from hw.accelerator.spec import AcceleratorSpec
from hw.accelerator.tests.test_core import descriptor, loads, small

SPEC = small(scaling="serial", scale_bits=16)


def commands(spec: AcceleratorSpec = SPEC, runs: int = 1) -> list[Command]:
    """Loads of both halves, runs on one, the other, tiles in parts."""
    rng = random.Random(0)
    return [
        *loads(spec, rng, 0),
        descriptor(spec, 0, tag=7),
        *loads(spec, rng, 1),
        descriptor(spec, 0, tag=8, rows=1, drain=False),
        descriptor(spec, 1, tag=9, rows=1, columns=1, clear=False),
        *[descriptor(spec, 1, tag=10 + at) for at in range(runs)],
    ]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("export") / "rtl"
    export.write(SPEC, commands(), directory)
    return directory


def simulated(
    source: Path, target: Path, what: str = "", change: tuple[str, str] = ("", "")
) -> tuple[int, str]:
    """Status and output of the testbench, on a copy in which a pattern of one file is replaced."""
    target.mkdir()
    for path in source.iterdir():
        text = path.read_text()
        if path.name == what:
            changed = re.sub(*change, text, count=1, flags=re.M)
            assert changed != text
            text = changed
        (target / path.name).write_text(text)
    done = subprocess.run(
        ["sh", "build.sh", "test"], cwd=target, capture_output=True, text=True, check=False, timeout=300
    )
    return done.returncode, done.stdout + done.stderr


def test_the_testbench_passes_under_icarus_in_the_clocks_of_the_model(exported, tmp_path):
    status, output = simulated(exported, tmp_path / "rtl")
    made = vectors.of(SPEC, commands())
    assert status == 0, output
    wanted = f"pass 0: {len(made.words)} words in, {len(made.out)} out in {made.clocks} clocks, "
    assert [line.partition(":")[0] for line in output.splitlines()] == ["pass 0", "pass 1", "pass 2"]
    assert output.startswith(wanted)


@pytest.mark.parametrize(
    ("file", "pattern", "replacement", "complaint"),
    [
        ("tiles.hex", r"^0", "1", r"word \d+ must be"),
        ("words.hex", r"01$", "02", "must"),
        ("steps.hex", r"^(1.*)5(  // read COMPLETED)", r"\g<1>6\g<2>", "must read"),
        ("steps.hex", r"^02(.*  // write ID)", r"00\g<1>", "must be answered 0, not 2"),
        ("tb.v", r"localparam CLOCKS = ", r"localparam CLOCKS = 1 + ", "pass 0 must take"),
        ("drain.v", r"else if \(moves\) waits <=", "else waits <=", "must be held"),
        ("bus.v", r"2'h2", "2'h0", "must be answered 2, not 0"),
        ("control.v", r"else irq <= \w+;", "else irq <= 1'h1;", "only .* at step 3[0-9]"),
    ],
)
def test_the_testbench_fails_on_a_spoilt_file(exported, tmp_path, file, pattern, replacement, complaint):
    status, output = simulated(exported, tmp_path / "rtl", file, (pattern, replacement))
    assert status != 0, output
    assert re.search(complaint, output), output


@pytest.mark.parametrize("given", [{}, {"scaling": "serial", "scale_bits": 16}], ids=["parallel", "serial"])
def test_three_linters_find_what_is_waived_and_no_more(exported, tmp_path, given):
    spec = small(**given)
    files = {}
    if given:
        files = {name: (exported / name).read_text() for name in manifest.read(exported)["sources"]}
    else:
        spec = replace(spec, array=replace(spec.array, network="systolic"))
        made = export.contents(spec, vectors.of(spec, commands(spec)))
        files = {name: text for name, text in made.items() if re.search(r"^module \w+\(", text, re.M)}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert lint.icarus(tmp_path, list(files), export.MODULE) == ""
    for linter, check in (("verilator", lint.verilator), ("slang", lint.slang)):
        found = check(tmp_path, list(files), export.MODULE)
        assert not {code: text for code, text in found.items() if code not in lint.waived(linter)}


def test_the_folder_holds_the_register_map_and_says_what_it_is(exported):
    assert (exported / "registers.md").read_text() == registers.markdown()
    assert (exported / "registers.h").read_text() == registers.c_header()
    made = manifest.read(exported)
    assert (made["module"], made["accelerator"]) == ("accelerator", "AcceleratorSpec")
    assert made["pe"] == "BitSerial"
    assert made["parameters"]["w_depth"] == SPEC.w_depth
    assert made["sources"][-1] == "accelerator.v"
    assert manifest.changed(exported) == []
    for name in made["sources"]:
        text = (exported / name).read_text()
        assert "// array.pe.lanes = 8\n" in text
        assert len(re.findall(r"^module ", text, re.M)) == 1
    readme = (exported / "README.txt").read_text()
    for name in [*made["files"], manifest.MANIFEST, manifest.SUMS]:
        assert re.search(rf"^{re.escape(name)} |build.sh", readme, re.M), name
    assert f"hold {SPEC.memory_bits:,} bits" in readme
    assert "get_ports aclk" in (exported / "accelerator.xdc").read_text()
    for path in exported.iterdir():
        assert str(Path.home()) not in path.read_text()


def test_the_core_file_names_what_is_there(exported):
    core = yaml.safe_load((exported / "accelerator.core").read_text().removeprefix("CAPI=2:\n"))
    assert core["filesets"]["rtl"]["files"] == manifest.read(exported)["sources"]
    bench = {name for file in core["filesets"]["tb"]["files"] for name in file}
    assert bench == {"tb.v", "words.hex", "tiles.hex", "steps.hex"}


def test_buffers_too_large_for_an_ice40_are_said_to_be():
    spec = small(w_depth=1 << 15)
    values = export._values(spec, vectors.of(SPEC, commands()))
    assert values["ice40"] == {"hx8k": False, "up5k": False}


PINS = """
module pins_tb;
  reg aclk = 0, aresetn = 0, shift = 0, in = 0, arvalid = 0, rready = 0;
  wire arready, rvalid, out;
  reg [33:0] answer = 0;
  integer k;
  accelerator_pins dut (.aclk(aclk), .aresetn(aresetn), .irq(), .i_shift(1'b0), .i_data(1'b0), .i_valid(1'b0),
      .i_ready(), .o_shift(1'b0), .o_data(), .o_valid(), .o_ready(1'b0), .csr_shift(shift), .csr_in(in),
      .csr_out(out), .csr_awvalid(1'b0), .csr_awready(), .csr_wvalid(1'b0), .csr_wready(), .csr_bvalid(),
      .csr_bready(1'b0), .csr_arvalid(arvalid), .csr_arready(arready), .csr_rvalid(rvalid),
      .csr_rready(rready));
  always #5 aclk = ~aclk;
  initial begin
    repeat (2) @(negedge aclk);
    aresetn = 1;
    shift = 1;
    repeat (50) @(negedge aclk);  // address 0
    shift = 0;
    arvalid = 1;
    @(negedge aclk);
    arvalid = 0;
    rready = 1;
    while (!rvalid) @(negedge aclk);
    @(negedge aclk);
    shift = 1;
    for (k = 0; k < 34; k = k + 1) begin
      answer[k] = out;
      @(negedge aclk);
    end
    $display("%h", answer);
    $finish;
  end
endmodule
"""


def test_the_pins_shift_an_address_in_and_a_register_out(exported, tmp_path):
    (tmp_path / "pins_tb.v").write_text(PINS)
    sources = [*manifest.read(exported)["sources"], "accelerator_pins.v"]
    command = ["iverilog", "-g2005", "-Wall", "-Wno-timescale", "-o", "pins.vvp", "pins_tb.v"]
    command += [str(exported / name) for name in sources]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    ran = subprocess.run(["vvp", "-n", "pins.vvp"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(ran.stdout.split()[-1], 16) == registers.ID


@pytest.mark.parametrize(
    ("target", "blocks"), [("ecp5", 2), pytest.param("xilinx", 1, marks=pytest.mark.slow)]
)
def test_an_operand_buffer_is_block_memory(target, blocks):
    """Blocks alone: without a word about collisions Yosys puts 139 flip-flops around each bank of an ECP5."""
    buffer = BufferSpec(elements=1, bits=64, depth=256).create()
    design = hierarchy.verilog(str(rtlil.convert(buffer, name="buffer_w", emit_src=False)))
    found = synth.synthesize(design["buffer_w"], "buffer_w", target)
    assert (found.bram, found.flop) == (blocks, 0)


def test_many_runs_are_counted_and_do_not_go_to_the_queue_of_completions():
    few, many = (vectors.of(SPEC, commands(runs=count)) for count in (1, 16))
    for made, completions in ((few, 5 + 1), (many, 1)):
        found = [step for step in made.steps if step.text.startswith("read COMPLETION: how")]
        assert len(found) == completions
    assert many.runs == few.runs + 15


def test_the_last_tile_comes_again_as_bytes_some_of_them_clipped():
    made = vectors.of(SPEC, commands())
    word = made.out[-1]
    keep, data = word >> SPEC.bus & 0xFF, word & ((1 << SPEC.bus) - 1)
    assert keep == 0b1111
    assert {0x7F, 0x80} & set(data.to_bytes(8, "little")[:4])


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [({"rows": 3}, "COUNT"), ({"w_base": 99}, "ADDRESS"), ({"drain": False}, "no tile")],
)
def test_commands_that_fail_or_bring_nothing_out_are_refused(spoilt, reason):
    given: Sequence[Command] = [c for c in commands() if not isinstance(c, Run)]
    with pytest.raises(ValueError, match=f"^commands must bring out tiles and no error, not {reason}$"):
        vectors.of(SPEC, [*given, descriptor(SPEC, 0, **spoilt)])


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"^directory must be empty or one written before, not .*notes.txt$"):
        export.write(SPEC, commands(), tmp_path)
    with pytest.raises(ValueError, match=r"^clock_hz must be positive, not 0$"):
        folder.require_clock(0)
