"""A packed matrix is checked whole when it is made."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from algo.bitplane.format import Digit
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Plane


def parts() -> dict[str, Any]:
    term = Term(planes=("p",), coefs=(1,), digit=Digit.BIPOLAR, scale="s")
    return {
        "rows": 2,
        "columns": 70,
        "group": 64,
        "terms": (term,),
        "planes": {"p": Plane(np.zeros((2, 2), np.uint64))},
        "ints": {"s": Ints(np.ones((2, 2), np.int64), 16, True)},
        "exponent": Ints(np.zeros((2, 1), np.int64), 16, True),
    }


def changed(field: str, value: Any) -> PackedMatrix:
    return PackedMatrix(**(parts() | {field: value}))


def term(**changes: Any) -> tuple[Term, ...]:
    return (replace(parts()["terms"][0], **changes),)


def test_groups_cover_the_columns_and_the_last_may_be_short():
    matrix = PackedMatrix(**parts())
    assert matrix.groups == 2
    assert np.bincount(matrix.group_of).tolist() == [64, 6]
    assert matrix.streams == (None,)


def test_streams_are_listed_in_the_order_of_their_first_term():
    col = {"f": np.ones(70, np.float32), "g": np.ones(70, np.float32)}
    terms = tuple(replace(parts()["terms"][0], col=name) for name in ("g", None, "g", "f"))
    assert PackedMatrix(**(parts() | {"terms": terms, "factors": col})).streams == ("g", None, "f")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("rows", 0, "rows must be a positive integer, not 0"),
        ("group", 0, "group must be a positive integer, not 0"),
        ("columns", True, "columns must be a positive integer, not True"),
        ("terms", (), "terms must hold at least one term, not ()"),
        (
            "planes",
            {"p": Plane(np.zeros((2, 1), np.uint64))},
            "plane p must have shape [2 or 1, 2], not [2, 1]",
        ),
        (
            "planes",
            {"p": Plane(np.full((2, 2), 2**63, np.uint64))},
            "plane p must have pad bits 0 beyond column 70, not 1",
        ),
        (
            "ints",
            {"s": Ints(np.ones((2, 3), np.int64), 16, True)},
            "s must have shape [2 or 1, 2], not [2, 3]",
        ),
        (
            "exponent",
            Ints(np.ones((3, 1), np.int64), 16, True),
            "exponent must have shape [2 or 1, 1], not [3, 1]",
        ),
        ("row", np.ones(3, np.float32), "row must be float32 of shape [2], not float32 [3]"),
        ("row", np.array([1, np.nan], np.float32), "row must be finite, not NaN or infinity"),
        (
            "factors",
            {"f": np.ones(2, np.float64)},
            "f must be float32 or float16 of shape [70], not float64 [2]",
        ),
        ("terms", term(planes=("q",)), "plane must be one of p, not 'q'"),
        ("terms", term(mask="~q"), "plane must be one of p, not 'q'"),
        ("terms", term(scale="t"), "scale must be one of s, not 't'"),
        ("terms", term(zero="t"), "zero must be one of s, not 't'"),
        ("terms", term(col="t"), "col must be one of , not 't'"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(field, value, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        changed(field, value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: term(coefs=(1, 2)), "coefs must hold one integer per plane, not (1, 2) for ('p',)"),
        (lambda: term(coefs=(0,)), "coefs must be non-zero integers, not (0,)"),
        (lambda: Plane(np.zeros(2, np.uint64)), "words must be uint64 of two axes, not uint64 (2,)"),
    ],
)
def test_parts_wrong_in_themselves_are_refused(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()


def test_an_unknown_role_is_refused():
    with pytest.raises(ValueError, match=r"^role must be one of sign planes, .*, not 'x'$"):
        Plane(np.zeros((1, 1), np.uint64), "x")
