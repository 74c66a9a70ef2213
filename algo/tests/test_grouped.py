"""Settings that methods share: shorthands resolved, everything else refused by pinned messages."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import pytest

from algo.formats import grouped
from algo.methods import gptq, rtn, sign, xnor


def refused(error: type[Exception], message: str, call: Callable[[], object]) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


def test_bits_and_format_say_the_same_or_are_refused() -> None:
    assert rtn.Config().format == "int4-g128"
    assert rtn.Config(bits=2).format == "int2-g128"
    assert gptq.Config(format="int3-g128", bits=3) == gptq.Config(bits=3)
    message = "bits must be 4 for format int4-g128, not 2"
    refused(ValueError, message, lambda: rtn.Config(format="int4-g128", bits=2))
    refused(ValueError, message, lambda: dataclasses.replace(gptq.Config(), bits=2))


def test_bits_no_format_has_are_refused_with_those_there_are() -> None:
    refused(ValueError, "bits must be one of 1, 2, 3, 4, 5, 6, 7, 8, not 9", lambda: rtn.Config(bits=9))
    refused(ValueError, "bits must be one of 2, 3, 4, 5, 6, 7, 8, not 1", lambda: gptq.Config(bits=1))
    refused(TypeError, "bits must be an integer, not '2'", lambda: rtn.Config(bits="2"))
    refused(ValueError, "bits must be at least 1, not 0", lambda: rtn.Config(bits=0))


def test_the_group_of_a_configuration_replaces_the_formats() -> None:
    assert sign.Config(group=5).chosen().group == 5
    assert sign.Config().chosen().group == 128
    refused(ValueError, "group must be at least 1, not 0", lambda: sign.Config(group=0))
    refused(ValueError, "group must be at least 1, not 0", lambda: xnor.Config(group=0))
    refused(TypeError, "group must be an integer, not True", lambda: xnor.Config(group=True))
    refused(TypeError, "group must be an integer, not 1.5", lambda: rtn.Config(group=1.5))


def test_values_out_of_range_are_refused_by_name() -> None:
    wrong = "damping must be a finite number above 0, not "
    for value in (0, -1.0, float("nan"), float("inf"), "0.1", True):
        refused(ValueError, f"{wrong}{value!r}", lambda value=value: grouped.check_number("damping", value))
    message = "share must be a number above 0 and below 1, not 1"
    refused(ValueError, message, lambda: grouped.check_number("share", 1, below=1))
    grouped.check_number("share", 0.5, below=1)
    message = "metric must be one of a, b, not 'c'"
    refused(ValueError, message, lambda: grouped.check_choice("metric", "c", ("a", "b")))
    grouped.check_choice("metric", "b", ("a", "b"))
    refused(TypeError, "refit must be true or false, not 1", lambda: grouped.check_switch("refit", 1))
    grouped.check_switch("refit", False)
