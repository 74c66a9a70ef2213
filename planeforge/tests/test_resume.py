"""Quantizing that is killed goes on from the last whole block and ends in the same bytes."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from algo.tests import tiny_model
from algo.tests.sharing_method import Sharing
from planeforge import unfinished
from planeforge.cli import main

ROOT = Path(__file__).parents[2]
TEXT = "the quick brown fox jumps over the lazy dog.\n" * 12
#: Shares a setting out over the blocks first: two passes that may be killed.
METHOD = "sharing"
#: What takes long to import and computes nothing.
BEFORE_THE_FORKS = (
    "algo.driver",
    "algo.evaluation",
    "planeforge.model_quantizing",
    "transformers.models.llama.modeling_llama",
    "transformers.tokenization_utils_tokenizers",
)


def register():
    """Let the family of methods have one more."""
    from algo.bitplane import family

    module, real = Sharing(), family.load
    family.load = lambda package, name: module if name == METHOD else real(package, name)
    return real


@pytest.fixture(scope="module", autouse=True)
def sharing():
    from algo.bitplane import family

    real = register()
    yield
    family.load = real


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    (folder / "calib.txt").write_text(TEXT)
    return tiny_model.write_family(folder / "model", "llama", shard="4KB")


def words(source, output, *more):
    command = ["quantize", source, "--method", METHOD, "--set", "group=24", "--length", "13"]
    return [str(w) for w in (*command, "--calib", source.parent / "calib.txt", *more, "-o", output)]


@pytest.fixture(scope="module")
def whole(source):
    """What an uninterrupted run writes."""
    output = source.parent / "whole"
    assert main(words(source, output)) == 0
    return output


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# What follows runs in another process, which forks one child for each command.


def run_commands(commands):
    """Run commands in children, each killed at its n-th change of a file, or not; prints how each ended."""
    register()
    for name in BEFORE_THE_FORKS:
        importlib.import_module(name)

    for arguments, moment in commands:
        child = os.fork()
        if child == 0:
            changes = die_at(moment, Path(arguments[-1]).parent)
            with contextlib.redirect_stdout(io.StringIO()):
                status = main(arguments)
            Path(arguments[-1]).with_suffix(".changes").write_text(str(len(changes)))
            os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def die_at(moment, folder):
    """Kill this process right before its n-th change of a file below ``folder``."""
    changes = []

    def watch(event, arguments):
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if not writes and event not in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"):
            return
        if str(folder) in str(arguments[0]):
            changes.append(event)
            if len(changes) == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    return changes


def in_children(commands):
    """Exit status of each command, negative where a signal ended it."""
    code = f"from planeforge.tests.test_resume import run_commands; run_commands({commands!r})"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


def check_killed(source, whole, folder, choose):
    """Kill runs at the moments that ``choose`` picks of the uninterrupted run's changes; go on; compare."""
    assert in_children([(words(source, folder / "count"), None)]) == [0]
    assert contents(folder / "count") == contents(whole)
    total = int((folder / "count.changes").read_text())
    assert total > 60
    outputs = {moment: folder / f"at{moment}" / "packed" for moment in choose(total)}
    for output in outputs.values():
        output.parent.mkdir()
    killed = in_children([(words(source, output), moment) for moment, output in outputs.items()])
    assert killed == [-signal.SIGKILL] * len(outputs)
    for output in outputs.values():
        assert not output.exists() or contents(output) == contents(whole)
    states = [unfinished.folder(output) / "state.json" for output in outputs.values()]
    read = [json.loads(path.read_text()) for path in states if path.is_file()]
    assert in_children([(words(source, output), None) for output in outputs.values()]) == [0] * len(outputs)
    for moment, output in outputs.items():
        assert contents(output) == contents(whole), f"killed at change {moment} of {total}"
        assert {path.name for path in output.parent.iterdir()} == {"packed", "packed.changes"}
    return [(len(state["facts"]), state["blocks"]) for state in read]


def test_a_run_killed_at_any_moment_is_gone_on_with_to_the_same_bytes(source, whole, tmp_path):
    # In the first pass, in the second, and at one of the last moves; each change is the slow test's.
    done = check_killed(source, whole, tmp_path, lambda n: [2 * n // 5, 3 * n // 5, 4 * n // 5, n - 1])
    assert any(0 < facts < 3 for facts, _ in done)
    assert len({blocks for _, blocks in done}) > 2


@pytest.mark.slow
def test_a_run_killed_at_each_change_of_a_file_is_gone_on_with(source, whole, tmp_path):
    done = check_killed(source, whole, tmp_path, lambda n: range(1, n + 1))
    assert {blocks for _, blocks in done} == {0, 1, 2, 3}
    assert {facts for facts, _ in done} == {0, 1, 2, 3}


# From here on in this process again.


def stopped_at(monkeypatch, arguments, layer):
    """Run a command up to a layer, which fails."""
    from algo import driver

    real = driver._replace

    def fail(choice, linear, calibration):
        stopped_at.count += 1
        if stopped_at.count == layer:
            raise KeyboardInterrupt
        return real(choice, linear, calibration)

    stopped_at.count = 0
    with monkeypatch.context() as patch:
        patch.setattr(driver, "_replace", fail)
        assert main(arguments) == 130


@pytest.fixture
def half(source, tmp_path, monkeypatch):
    """An output of whose three blocks one is done."""
    output = tmp_path / "half"
    stopped_at(monkeypatch, words(source, output), 10)
    assert not output.exists()
    return output


def error_of(capsys, *arguments):
    capsys.readouterr()
    assert main(list(arguments)) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message.removeprefix("error: ").strip()


def test_finished_blocks_are_not_done_again(source, half, whole, monkeypatch):
    first = unfinished.folder(half) / "out" / "packed-00000-of-00003.safetensors"
    before = first.stat()
    blocks = []
    from algo.block_source import ShardedBlocks

    plain = ShardedBlocks.block

    def noted(self, index):
        blocks.append(index)
        return plain(self, index)

    monkeypatch.setattr(ShardedBlocks, "block", noted)
    assert main(words(source, half)) == 0
    assert blocks == [1, 2]
    after = (half / first.name).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert contents(half) == contents(whole)


@pytest.mark.parametrize(
    ("more", "key", "old", "new"),
    [
        (("--seed", "1"), "seed", "0", "1"),
        (("--sequences", "2"), "calibration", ".*", ".*"),
        (("--set", "group=16"), "method", ".*", ".*"),
    ],
)
def test_another_command_on_unfinished_work_is_refused(source, half, capsys, more, key, old, new):
    arguments = words(source, half, *more)
    if "group=16" in more:
        arguments.remove("group=24")
        arguments.pop(arguments.index("--set"))
    place = re.escape(str(unfinished.folder(half)))
    assert re.fullmatch(
        f"output has unfinished work of another command in {place}, whose {key} is {old}, not {new}: repeat "
        "that command, or give --restart to discard it",
        error_of(capsys, *arguments),
    )
    assert unfinished.folder(half).is_dir()


def test_restart_discards_what_is_unfinished(source, half, whole):
    assert main(words(source, half, "--seed", "7", "--restart")) == 0
    assert json.loads((half / "manifest.json").read_text())["seed"] == 7
    assert not unfinished.folder(half).exists()
    shutil.rmtree(half)
    assert main(words(source, half)) == 0
    assert contents(half) == contents(whole)


def test_two_commands_cannot_work_on_one_output(source, half, capsys):
    place = unfinished.folder(half)
    with (place / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        message = f"output must be worked on by one command at a time: {place} is in use"
        assert error_of(capsys, *words(source, half)) == message
        assert error_of(capsys, *words(source, half, "--restart")) == message


def test_unfinished_work_that_is_damaged_is_refused_with_the_way_out(source, half, whole, capsys):
    place = unfinished.folder(half)
    states = place / "states-1.f32"
    kept = states.read_bytes()
    states.unlink()
    message = f"{place} must hold states-1.f32, and does not: give --restart"
    assert error_of(capsys, *words(source, half)) == message
    states.write_bytes(kept[:-4])
    assert re.search(r"states-1\.f32 must be \d+ bytes for ", error_of(capsys, *words(source, half)))
    states.write_bytes(kept)
    state = (place / "state.json").read_text()
    for text in ("{", "[]", json.dumps({"schema": "other"})):
        (place / "state.json").write_text(text)
        message = error_of(capsys, *words(source, half))
        start = re.escape(f"{place / 'state.json'} must be the state of unfinished work (")
        assert re.fullmatch(rf"{start}.*\): give --restart", message)
    (place / "state.json").write_text(state)
    assert main(words(source, half)) == 0
    assert contents(half) == contents(whole)


def test_a_failure_before_any_block_leaves_nothing_behind(source, tmp_path, monkeypatch):
    arguments = words(source, tmp_path / "out")
    arguments[arguments.index("group=24")] = "group=16"  # nothing to share out first
    stopped_at(monkeypatch, arguments, 3)
    assert list(tmp_path.iterdir()) == []


def test_a_packed_model_is_replaced_only_when_the_new_one_is_whole(source, whole, tmp_path, monkeypatch):
    output = tmp_path / "packed"
    shutil.copytree(whole, output)
    stopped_at(monkeypatch, words(source, output, "--seed", "3"), 10)
    assert contents(output) == contents(whole)
    assert main(words(source, output, "--seed", "3")) == 0
    assert json.loads((output / "manifest.json").read_text())["seed"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["packed"]
