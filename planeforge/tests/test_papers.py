"""docs/papers.md: every row says what stands here and names tests that exist, or says "not yet"."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in (ROOT / "docs" / "papers.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| paper ")
]
#: What a row may say in place of a test: nothing is done, or nothing is to be done.
WITHOUT = ("not yet", "nothing of it here")


@cache
def names_in(file: Path) -> set[str]:
    """Names of a module's test functions."""
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_paper_of_the_reading_list_has_a_row():
    assert len(ROWS) == 41
    assert len({row[0] for row in ROWS}) == 41
    assert all(len(row) == 3 for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_a_row_names_tests_that_exist_or_says_that_there_is_none(row):
    _, here, shown = row
    if not shown:
        assert any(phrase in here for phrase in WITHOUT)
        return
    for file, name in re.findall(r"`([\w/]+\.py)::(\w+)`", shown):
        assert name in names_in(ROOT / file)
    assert shown.count("`") == 2 * shown.count("::")
