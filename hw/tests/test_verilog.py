"""The exported folder: passes by itself, fails when touched, and never replaces what is not its own."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from hw import toolchain, verilog
from hw.beats import Beats
from hw.pe.bitserial import SAMPLES, BitSerial
from hw.spec import Beat

SPEC = BitSerial(lanes=37, acc_width=20, levels=2)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "rtl"
    verilog.export(SPEC, folder, Beats.random(SPEC, 150, 0), clock_hz=250e6)
    return folder


def build(folder: Path, what: str = "test") -> subprocess.CompletedProcess[str]:
    command = ["sh", str(folder / "build.sh"), what]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


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
    assert done.stderr == "build.sh: first argument must be test or synth, not 'simulate'\n"


def test_the_folder_says_what_it_is_and_names_no_place_of_this_machine(exported):
    manifest = json.loads((exported / verilog.MANIFEST).read_text())
    assert manifest["parameters"] == {"lanes": 37, "acc_width": 20, "levels": 2}
    assert sorted([*manifest["files"], verilog.MANIFEST]) == sorted(p.name for p in exported.iterdir())
    for path in exported.iterdir():
        assert str(Path.home()) not in path.read_text()
        assert str(Path(verilog.__file__).parent) not in path.read_text()
    assert "-period 4.000 [get_ports clk]" in (exported / "pe.sdc").read_text()
    readme = (exported / "README.txt").read_text()
    assert "[116:116]   last" in readme
    assert f"handed over {SPEC.latency()} clocks after" in readme


def test_a_folder_written_before_is_replaced_with_what_its_scripts_made(tmp_path):
    folder = tmp_path / "rtl"
    verilog.export(BitSerial(lanes=5), folder, Beats.random(BitSerial(lanes=5), 20, 0))
    (folder / "build").mkdir()
    verilog.export(BitSerial(lanes=6), folder, Beats.random(BitSerial(lanes=6), 20, 0))
    assert "lanes=6" in (folder / "pe.v").read_text()
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
