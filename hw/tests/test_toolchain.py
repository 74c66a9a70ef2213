"""Outside programs: what they print, how they fail, and that builds are made once and whole."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import pytest

from hw import toolchain


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_a_call_returns_what_the_program_prints():
    assert toolchain.call(python("print(input()[::-1])"), text="abc\n") == "cba\n"


def test_a_failing_program_is_named_with_its_last_words():
    with pytest.raises(RuntimeError, match=r"^python\S* -c .* failed with status 3: no such plane$"):
        toolchain.call(python("import sys; print('no such plane', file=sys.stderr); sys.exit(3)"))


def test_a_program_that_hangs_is_ended_with_all_it_started(tmp_path):
    child = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with pytest.raises(RuntimeError, match=r"must finish within 3 s$"):
        toolchain.call(python(program), cwd=tmp_path, timeout=3)
    pid = int((tmp_path / "pid").read_text())
    for _ in range(50):
        if not running(pid):
            break
        time.sleep(0.1)
    assert not running(pid)


def running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_build_is_made_once_for_the_same_sources(tmp_path, monkeypatch):
    monkeypatch.setenv("PLANEFORGE_CACHE", str(tmp_path / "cache"))
    made = []

    def build(folder: Path) -> None:
        made.append(folder)
        (folder / "product").write_text("x")

    first = toolchain.built("kind", ["a", "b"], build)
    assert toolchain.built("kind", ["a", "b"], build) == first
    assert toolchain.built("kind", ["ab"], build) != first
    assert len(made) == 2
    assert (first / "product").read_text() == "x"


def test_a_build_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PLANEFORGE_CACHE", str(tmp_path))

    def build(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError("the compiler stopped")

    with pytest.raises(RuntimeError, match=r"^the compiler stopped$"):
        toolchain.built("kind", ["a"], build)
    assert not list(tmp_path.iterdir())


def test_a_build_that_another_process_finished_first_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("PLANEFORGE_CACHE", str(tmp_path))

    def build(folder: Path) -> None:
        theirs = tmp_path / f"kind-{toolchain.digest(['a'])}"
        theirs.mkdir()
        (theirs / "product").write_text("theirs")
        (folder / "product").write_text("ours")

    assert (toolchain.built("kind", ["a"], build) / "product").read_text() == "theirs"


def test_the_cache_is_in_the_home_folder_unless_named(tmp_path, monkeypatch):
    monkeypatch.delenv("PLANEFORGE_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert toolchain.cache() == tmp_path / ".cache" / "planeforge"


def test_yosys_finds_its_files_wherever_the_folder_is(tmp_path):
    (tmp_path / "and.v").write_text("module top(input a, b, output y); assign y = a & b; endmodule\n")
    toolchain.yosys("read_verilog and.v\nsynth -top top\nwrite_verilog -noattr out.v\n", tmp_path)
    assert "assign y = b & a" in (tmp_path / "out.v").read_text().replace("a & b", "b & a")


def test_without_a_compiler_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.delenv("CXX", raising=False)
    message = "a C++ compiler must be on the path to execute RTL in bulk: apt-get install g++"
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        toolchain.compiler()


def test_without_a_wheel_the_message_says_what_to_install():
    message = "no_such_wheel must be installed to execute RTL: pip install 'planeforge[rtl,sim,synth]'"
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        toolchain.folder_of("no_such_wheel")
