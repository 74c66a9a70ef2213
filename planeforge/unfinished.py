"""A model half quantized: what a killed command leaves beside its output, for the next one to go on from.

The folder ``.NAME.unfinished`` holds ``out``, which becomes the output; the hidden states before the next
block; and ``state.json``, which names the command and what of it is done. Nothing counts before the state
says so: files it does not know of are written over.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from algo.bitplane.store import write_whole

SCHEMA = "planeforge.unfinished/1"
_STATE = "state.json"


class Unfinished:
    """The work on one output, held by one process at a time."""

    def __init__(self, output: Path, lock: IO[bytes], state: dict[str, Any]) -> None:
        self.output, self._lock = output, lock
        self.folder = folder(output)
        self.out = self.folder / "out"
        self._state = state

    @property
    def facts(self) -> list[float]:
        """Of the blocks that the pass before sharing out has seen."""
        return list(self._state["facts"])

    @property
    def layers(self) -> dict[str, dict[str, Any]]:
        """Records of the layers that are done."""
        return dict(self._state["layers"])

    @property
    def blocks(self) -> int:
        """Decoder blocks that are done."""
        return int(self._state["blocks"])

    @property
    def moved(self) -> bool:
        """Whether nothing was left to do but to tidy up."""
        return not self.out.is_dir()

    def states_file(self, stage: str, index: int) -> Path:
        """Where the hidden states before block ``index`` are."""
        return self.folder / f"{stage}-{index}.f32"

    def add_fact(self, index: int, fact: float) -> None:
        """A block of the pass before sharing out is done, and the states behind it are in their file."""
        self._state["facts"].append(fact)
        self._save()
        self.states_file("facts", index).unlink(missing_ok=True)

    def add_block(self, index: int, records: Mapping[str, Any]) -> None:
        """A block is done: its packed file is written, the states behind it are in their file."""
        self._state["layers"] |= records
        self._state["blocks"] = index + 1
        self._save()
        self.states_file("states", index).unlink(missing_ok=True)

    def check(self, files: Sequence[Path]) -> None:
        """Raises ValueError if one of the files that the state counts on is missing."""
        for path in files:
            if not path.is_file():
                raise ValueError(f"{self.folder} must hold {path.name}, and does not: give --restart")

    def sweep(self) -> None:
        """Remove what a killed command had begun to write beside what the state counts on."""
        wanted = {made["file"] for made in self._state["layers"].values()}
        for path in [] if self.moved else self.out.iterdir():
            if path.name not in wanted:
                path.unlink()

    def publish(self) -> None:
        """Move what is finished to its place, which holds nothing or what may be replaced."""
        if self.output.exists():
            self.output.rename(self.folder / "replaced")
        self.out.rename(self.output)
        self.discard()

    def discard(self) -> None:
        """Remove the folder; the state first, so that half a folder counts for nothing."""
        _remove(self.folder)

    @property
    def untouched(self) -> bool:
        """Whether nothing is done yet."""
        return not (self._state["facts"] or self._state["blocks"])

    def _save(self) -> None:
        write_whole(self.folder / _STATE, json.dumps(self._state).encode())


def folder(output: Path) -> Path:
    """Where the work on ``output`` is."""
    return output.parent / f".{output.name}.unfinished"


@contextlib.contextmanager
def begun(output: Path, identity: Mapping[str, Any], restart: bool) -> Iterator[Unfinished]:
    """Work on ``output``, new or gone on with; removed where it fails before anything is done.

    Parameters: identity, all that the output's bytes depend on, as JSON values; restart, discard what is
    there.
    Raises ValueError if another process is at it, or what is there is of another command or damaged.
    """
    place = folder(output)
    place.mkdir(exist_ok=True)
    with (place / "lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"output must be worked on by one command at a time: {place} is in use"
            raise ValueError(message) from None
        known = json.loads(json.dumps(identity))
        state = None if restart else _read(place, known)
        if state is None:
            _clear(place)
            (place / "out").mkdir()
            state = {"schema": SCHEMA, "identity": known, "facts": [], "blocks": 0, "layers": {}}
            write_whole(place / _STATE, json.dumps(state).encode())
        work = Unfinished(output, lock, state)
        work.sweep()
        try:
            yield work
        except BaseException:
            if work.untouched:
                work.discard()
            raise


def _read(place: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The state of a folder; None where there is none.

    Raises ValueError if it is of another command, or damaged.
    """
    path = place / _STATE
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = json.loads(path.read_bytes())
        if state["schema"] != SCHEMA or not {"facts", "blocks", "layers"} <= set(state):
            raise ValueError(f"schema {state['schema']!r}")
        theirs: dict[str, Any] = dict(state["identity"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} must be the state of unfinished work ({error}): give --restart") from None
    for key, value in identity.items():
        if theirs.get(key) != value:
            raise ValueError(
                f"output has unfinished work of another command in {place}, whose {key} is "
                f"{_short(theirs.get(key))}, not {_short(value)}: repeat that command, or give --restart to "
                "discard it"
            )
    return state


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _clear(place: Path) -> None:
    """Empty a folder but for its lock, the state first."""
    (place / _STATE).unlink(missing_ok=True)
    for path in place.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


def _remove(place: Path) -> None:
    _clear(place)
    shutil.rmtree(place)
