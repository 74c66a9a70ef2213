"""Families: a file is a member, a wrong name is told the right ones."""

import pytest

from algo.bitplane import family


def test_members_are_the_modules_of_the_folder_without_its_tests():
    members = family.names("algo.bitplane")
    assert "family" in members
    assert "tests" not in members
    assert family.load("algo.bitplane", "family") is family


def test_an_unknown_member_is_refused_with_the_members_named():
    with pytest.raises(ValueError, match=r"^bitplane must be one of activation-formats, .*, words, not 'x'$"):
        family.load("algo.bitplane", "x")
