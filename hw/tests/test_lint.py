"""Three linters find nothing in exported Verilog but what the list waives, and find what is planted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from algo.bitplane import family
from hw import hierarchy, lint, toolchain
from hw.accelerator import export
from hw.accelerator.spec import AcceleratorSpec
from hw.grid import Grid
from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec, PeSpec

BROADCAST = Grid(array=ArraySpec(pe=BitSerial(lanes=5, acc_width=9), rows=2, columns=2))
SYSTOLIC = Grid(array=ArraySpec(pe=BitSerial(lanes=5, acc_width=9), rows=2, columns=2, network="systolic"))


def put(design: str, folder: Path) -> list[str]:
    modules = hierarchy.verilog(design)
    for name, text in modules.items():
        (folder / f"{name}.v").write_text(text)
    return [f"{name}.v" for name in modules]


def cases() -> Iterator[tuple[PeSpec | AcceleratorSpec, str, str]]:
    """A design, its RTLIL, its top module."""
    for name in family.names("hw.pe"):
        pe = family.load("hw.pe", name).SAMPLES[1]
        yield pe, toolchain.rtlil(pe), "pe"
    for spec in (BROADCAST, SYSTOLIC):
        yield spec, toolchain.rtlil(spec, "array"), "array"
    whole = AcceleratorSpec(array=BROADCAST.array)
    yield whole, export.rtlil(whole), export.MODULE


def test_every_design_raises_what_is_waived_and_all_that_is_waived_is_raised(tmp_path):
    raised: dict[str, set[str]] = {"verilator": set(), "slang": set()}
    for number, (spec, design, top) in enumerate(cases()):
        folder = tmp_path / str(number)
        folder.mkdir()
        sources = put(design, folder)
        assert lint.icarus(folder, sources, top) == "", spec
        for linter, check in (("verilator", lint.verilator), ("slang", lint.slang)):
            found = check(folder, sources, top)
            more = {code: text for code, text in found.items() if code not in lint.waived(linter)}
            assert not more, (spec, linter, more)
            raised[linter] |= found.keys()
    assert {linter: sorted(codes) for linter, codes in raised.items()} == {
        linter: sorted(lint.waived(linter)) for linter in raised
    }


@pytest.mark.parametrize(
    ("planted", "linter", "code"),
    [
        ("reg l; always @* if (a) l = b;", "verilator", "LATCH"),
        ("wire [2:0] t = 3'd7; wire [1:0] u = t;", "verilator", "WIDTHTRUNC"),
        ("wire [2:0] t = 3'd7; wire [1:0] u = t;", "slang", "width-trunc"),
    ],
)
def test_a_planted_fault_is_found(tmp_path, planted, linter, code):
    (tmp_path / "top.v").write_text(
        f"module top(input a, input b, output c);\n{planted}\nassign c = a;\nendmodule\n"
    )
    found = {"verilator": lint.verilator, "slang": lint.slang}[linter](tmp_path, ["top.v"], "top")
    assert code in found
    assert code not in lint.waived(linter)


def test_icarus_finds_a_planted_fault(tmp_path):
    (tmp_path / "top.v").write_text("module top(input a); assign t = a; endmodule\n")
    assert "implicit definition of wire 't'" in lint.icarus(tmp_path, ["top.v"], "top")
    (tmp_path / "top.v").write_text("module top(input a; endmodule\n")
    with pytest.raises(RuntimeError, match=r"^iverilog failed with status \d+: top.v:1: [^|]*error"):
        lint.icarus(tmp_path, ["top.v"], "top")


def test_a_source_that_is_not_there_is_told(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match=r"^slang must take none.v; it did not$"):
        lint.slang(tmp_path, ["none.v"], "top")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        RuntimeError, match=r"^iverilog must be on the path to lint: apt-get install iverilog$"
    ):
        lint.icarus(tmp_path, ["none.v"], "top")
