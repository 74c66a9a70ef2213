"""How the demo's text is made: on a small library of its own, so that no Python release matters."""

import hashlib
import lzma
import re
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planeforge.demo import corpus
from planeforge.demo.corpus import Unit

LONG = "A sentence that stands here only to be long enough. " * 4


def test_only_long_docstrings_of_library_modules_are_taken(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "a.py").write_text(f'"""{LONG}"""')
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.py").write_text(
        f'"""Short."""\nclass C:\n    """{LONG}\n\n    Indented."""\n'
        f'    async def f(self):\n        """{LONG}f"""\n'
    )
    (tmp_path / "a.py").write_text('"""Short."""')
    assert list(corpus.modules(tmp_path)) == [
        Unit(name="module:b/c.py", text=f"{LONG}\n\nIndented.\n\n{LONG}f")
    ]


def test_topics_come_in_order_of_name() -> None:
    names = [unit.name for unit in corpus.topics()]
    assert names == sorted(names)
    assert "topic:with" in names


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("caf\u00e9 \u2013 na\u00efve", "cafe - naive"),
        ("\u201cx\u201d\u2026", '"x"...'),
        ("\u03c0\u2192", "?->"),
    ],
)
def test_text_is_folded_to_ascii(text: str, folded: str) -> None:
    assert corpus.fold(text) == folded


def test_repeated_paragraphs_are_kept_once_in_the_whole_corpus() -> None:
    again = "This paragraph   is\nrepeated."
    units = [
        Unit(name="a", text=f"One.\n\n{again}\n\n\n\nSee also:"),
        Unit(name="b", text="\tTwo. \n \nThis paragraph is repeated.\n\nSee also:"),
        Unit(name="c", text=again),
    ]
    assert corpus.without_repeats(units) == [
        Unit(name="a", text=f"One.\n\n{again}\n\nSee also:\n\n"),
        Unit(name="b", text="        Two.\n\nSee also:\n\n"),
    ]


units = st.lists(
    st.builds(Unit, name=st.text("abcdef", min_size=1), text=st.text("xy", max_size=9000)),
    unique_by=lambda unit: unit.name,
    max_size=30,
)


@given(units)
def test_parts_are_whole_units_and_held_out_is_in_no_other(given_units: list[Unit]) -> None:
    train, held_out, calibration = corpus.split(given_units)
    assert sorted([*train, *held_out], key=lambda unit: unit.name) == sorted(
        given_units, key=lambda u: u.name
    )
    assert not {unit.name for unit in train} & {unit.name for unit in held_out}
    assert {unit.name for unit in calibration} <= {unit.name for unit in train}
    assert len(corpus.join(held_out)) <= 32 * 1024
    assert len(corpus.join(calibration)) <= 16 * 1024


@given(units)
def test_a_sample_is_of_many_voices_and_fixed_by_name(given_units: list[Unit]) -> None:
    chosen = corpus.sample(given_units, 16384, "purpose")
    assert all(len(unit.text) <= 2048 for unit in chosen)
    assert chosen == corpus.sample(reversed(given_units), 16384, "purpose")
    if len(corpus.join(given_units)) <= 16384:
        assert {unit.name for unit in chosen} == {u.name for u in given_units if len(u.text) <= 2048}


def test_written_files_agree_with_their_sums_and_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    for at in range(40):
        (library / f"m{at}.py").write_text(f'"""{LONG.replace("sentence", f"sentence {at}")}"""')
    (library / "LICENSE.txt").write_text(
        "A.\n\nPYTHON SOFTWARE FOUNDATION LICENSE VERSION 2\n1. Terms.\n\nBEOPEN B.\n"
    )
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(library)})
    monkeypatch.setattr(corpus, "HELD_OUT_BYTES", 4000)
    monkeypatch.setattr(corpus, "topics", lambda: iter(()))
    out = tmp_path / "out"
    corpus.write(out)
    listed = dict(reversed(line.split()) for line in (out / "SHA256SUMS").read_text().splitlines())
    assert set(listed) == {"train.txt.xz", "heldout.txt", "calibration.txt", "NOTICE"}
    for name, digest in listed.items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    train = lzma.decompress((out / "train.txt.xz").read_bytes()).decode()
    held_out = (out / "heldout.txt").read_text()
    numbers = [f"sentence {at} that" for at in range(40)]
    assert sum(number in train for number in numbers) + sum(number in held_out for number in numbers) == 40
    assert 0 < sum(number in held_out for number in numbers) < 40
    notice = (out / "NOTICE").read_text()
    assert "SPDX: PSF-2.0" in notice
    assert notice.endswith("\nPYTHON SOFTWARE FOUNDATION LICENSE VERSION 2\n1. Terms.\n")


def test_a_library_without_its_licence_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "LICENSE.txt"
    path.write_text("All yours.\n")
    message = f"{path} must hold the PSF License Version 2, and does not"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        corpus.licence(tmp_path)
