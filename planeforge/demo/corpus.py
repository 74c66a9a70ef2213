"""Builds the demo models' text from the running Python's own documentation.

``python -m planeforge.demo.corpus -o DIR`` writes the training, held-out and calibration texts, their NOTICE
and their SHA-256 sums. Every Python patch release documents itself differently, so the repository keeps one
frozen result beside this file; running the program again is for a new release of the demo, not for a test.
"""

import argparse
import ast
import hashlib
import importlib
import lzma
import platform
import re
import sys
import sysconfig
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MIN_DOCSTRING = 150  #: characters; shorter docstrings are mostly one stock sentence
MIN_REPEAT = 20  #: characters; a shorter paragraph ("See also:") may repeat without giving anything away
HELD_OUT_BYTES = 32 * 1024
CALIBRATION_BYTES = 16 * 1024
SAMPLE_SHARE = 8  #: no unit takes more than 1/8 of a sample, so that a sample is no single voice

# Folders of the standard library that hold tests, toys or other people's packages.
SKIPPED_FOLDERS = frozenset({
    "site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "idlelib",
    "pydoc_data", "lib2to3", "ensurepip", "turtledemo",
})  # fmt: skip

FOLDED = str.maketrans({
    "°": " deg ", "ß": "ss", "–": "-", "—": "--", "‘": "'", "’": "'", "“": '"', "”": '"', "•": "*",
    "…": "...", "→": "->", "×": "x", "©": "(c)",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One indivisible piece of the corpus: a help topic, or all long docstrings of one module."""

    name: str  #: "topic:NAME" or "module:PATH", the key that decides train or held out
    text: str  #: paragraphs separated by one blank line


def topics() -> Iterator[Unit]:
    """Yields the help topics of ``pydoc`` in order of name."""
    table: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    for name in sorted(table):
        yield Unit(name=f"topic:{name}", text=table[name])


def modules(library: Path) -> Iterator[Unit]:
    """Yields each standard-library module's docstrings of more than MIN_DOCSTRING characters, by path."""
    for path in sorted(library.rglob("*.py")):
        relative = path.relative_to(library)
        if SKIPPED_FOLDERS.intersection(relative.parts):
            continue
        tree = ast.parse(path.read_bytes())
        places = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, places)]
        long = [text for text in texts if len(text) > MIN_DOCSTRING]
        if long:
            yield Unit(name=f"module:{relative.as_posix()}", text="\n\n".join(long))


def fold(text: str) -> str:
    """Returns ``text`` in ASCII: accents dropped, typographic signs spelled out, the rest as "?"."""
    plain = unicodedata.normalize("NFKD", text.translate(FOLDED))
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    return plain.encode("ascii", "replace").decode("ascii")


def key(paragraph: str) -> str:
    """Returns the paragraph with white space flattened: two paragraphs of one key are the same text."""
    return re.sub(r"\s+", " ", paragraph).strip()


def without_repeats(units: Iterable[Unit]) -> list[Unit]:
    """Returns the units, folded, with every paragraph kept at its first appearance in the whole corpus only.

    A fifth of the help topics is repeated text; left in, it would put held-out paragraphs into training.
    """
    seen: set[str] = set()
    kept = []
    for unit in units:
        paragraphs = []
        for paragraph in re.split(r"\n\s*\n", fold(unit.text).expandtabs()):
            flat = key(paragraph)
            if not flat or (len(flat) > MIN_REPEAT and flat in seen):
                continue
            seen.add(flat)
            paragraphs.append("\n".join(line.rstrip() for line in paragraph.strip("\n").split("\n")))
        if paragraphs:
            kept.append(Unit(name=unit.name, text="\n\n".join(paragraphs) + "\n\n"))
    return kept


def draw(name: str, purpose: str) -> int:
    """Returns a number fixed by the unit's name alone, so adding a module moves no other unit."""
    return int.from_bytes(hashlib.sha256(f"{purpose}:{name}".encode()).digest()[:8], "big")


def sample(units: Iterable[Unit], size: int, purpose: str) -> list[Unit]:
    """Returns whole units of together at most ``size`` bytes, none above size/SAMPLE_SHARE, drawn by name."""
    chosen: list[Unit] = []
    used = 0
    for unit in sorted(units, key=lambda unit: draw(unit.name, purpose)):
        if len(unit.text) <= min(size // SAMPLE_SHARE, size - used):
            chosen.append(unit)
            used += len(unit.text)
    return chosen


def split(units: list[Unit]) -> tuple[list[Unit], list[Unit], list[Unit]]:
    """Returns (training, held-out, calibration) units; the last are among the first, the held-out nowhere."""
    held_out = sample(units, HELD_OUT_BYTES, "held-out text")
    names = {unit.name for unit in held_out}
    train = [unit for unit in units if unit.name not in names]
    return train, held_out, sample(train, CALIBRATION_BYTES, "calibration")


def join(units: Iterable[Unit]) -> str:
    """Returns the units' text, one after the other."""
    return "".join(unit.text for unit in units)


def licence(library: Path) -> str:
    """Returns the PSF License Version 2 as the running Python ships it."""
    text = (library / "LICENSE.txt").read_text(encoding="utf-8")
    found = re.search(
        r"^PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2\n.*?(?=\n+BEOPEN)", text, re.DOTALL | re.MULTILINE
    )
    if found is None:
        raise ValueError(f"{library / 'LICENSE.txt'} must hold the PSF License Version 2, and does not")
    return found.group()


def notice(library: Path, train: list[Unit], held_out: list[Unit], calibration: list[Unit]) -> str:
    """Returns the NOTICE: whose text it is, under which licence, and how it was made."""

    def names(units: list[Unit]) -> str:
        return "".join(f"  {unit.name}\n" for unit in units)

    def size(units: list[Unit]) -> str:
        return f"{len(units)} units, {len(join(units))} characters"

    return f"""\
Python documentation text
=========================

The files train.txt.xz, heldout.txt and calibration.txt in this folder are derived from the documentation and
the standard library of Python {platform.python_version()}:

  {sys.copyright.splitlines()[0]} All Rights Reserved.

They are distributed under the Python Software Foundation License Version 2 (SPDX: PSF-2.0), which ends this
file. https://docs.python.org/3/license.html also lists the terms of modules that came to Python from
elsewhere, some of whose docstrings are in the text. The models in ../models were trained on train.txt.xz.

Changes made to the original (by planeforge/demo/corpus.py): help topics of pydoc and docstrings longer than
{MIN_DOCSTRING} characters were extracted; paragraphs that repeat an earlier one were removed; text was folded
to ASCII; trailing white space, tabs and repeated blank lines were normalized; whole topics and modules were
held out.

train.txt.xz     {size(train)}, all that is not held out
heldout.txt      {size(held_out)}, never trained on:
{names(held_out)}calibration.txt  {size(calibration)}, part of the training text:
{names(calibration)}

{licence(library)}
"""


def write(directory: Path) -> None:
    """Writes train.txt.xz, heldout.txt, calibration.txt, NOTICE and SHA256SUMS into ``directory``."""
    library = Path(sysconfig.get_paths()["stdlib"])
    train, held_out, calibration = split(without_repeats([*topics(), *modules(library)]))
    files = {
        "train.txt.xz": lzma.compress(join(train).encode("ascii"), preset=9 | lzma.PRESET_EXTREME),
        "heldout.txt": join(held_out).encode("ascii"),
        "calibration.txt": join(calibration).encode("ascii"),
        "NOTICE": notice(library, train, held_out, calibration).encode("ascii"),
    }
    files["SHA256SUMS"] = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())
    ).encode("ascii")
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
        print(f"{len(content):>8} bytes  {directory / name}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m planeforge.demo.corpus", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder to fill")
    write(parser.parse_args().output)


if __name__ == "__main__":
    main()
