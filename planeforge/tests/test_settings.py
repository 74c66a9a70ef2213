"""Names and values a user types: methods, settings, PEs, arrays."""

import re
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from planeforge import hardware, settings
from planeforge.settings import configure, pairs


@dataclass(frozen=True, kw_only=True)
class Config:
    format: str = "a"
    group: int = 128
    share: float | None = None
    fast: bool = False
    metric: str = "hessian"


MODULE = SimpleNamespace(Config=Config, FORMATS=("a", "b"))


def test_text_becomes_the_type_the_method_declares():
    given = {"group": "64", "share": "0.5", "fast": "true", "metric": "magnitude"}
    assert configure(MODULE, "b", given) == Config(
        format="b", group=64, share=0.5, fast=True, metric="magnitude"
    )
    assert configure(MODULE, None, {"group": 32}).group == 32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: configure(MODULE, "c", {}), "format must be one of a, b, not 'c'"),
        (
            lambda: configure(MODULE, None, {"x": "1"}),
            "set must name one of group, share, fast, metric, not 'x'",
        ),
        (lambda: configure(MODULE, None, {"group": "1.5"}), "group must be an integer, not '1.5'"),
        (lambda: configure(MODULE, None, {"share": "x"}), "share must be a number, not 'x'"),
        (lambda: configure(MODULE, None, {"fast": "1"}), "fast must be true or false, not '1'"),
        (lambda: pairs(["a"]), "set must be key=value, not 'a'"),
        (lambda: pairs(["a=1", "a=2"]), "set must name each key once, not 'a' twice"),
        (lambda: hardware.array("8"), "array must be ROWSxCOLUMNS such as 8x8, not '8'"),
        (lambda: hardware.array("0x8"), "rows must be at least 1, not 0"),
        (lambda: hardware.pe("bitserial:lanes=x"), "lanes must be an integer, not 'x'"),
        (lambda: hardware.pe("bitserial:lanes=0"), "lanes must be at least 1, not 0"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


def test_unknown_names_are_told_the_known_ones():
    with pytest.raises(ValueError, match=r"^method must be one of .*rtn.*, not 'gptq9'$"):
        settings.method("gptq9")
    with pytest.raises(ValueError, match=r"^pe must be one of bitserial.*, not 'x'$"):
        hardware.pe("x")
    with pytest.raises(ValueError, match=r"^pe parameter must be one of lanes, .*, not 'y'$"):
        hardware.pe("bitserial:y=1")


def test_a_pe_takes_its_parameters_from_text():
    spec = hardware.pe("bitserial:lanes=100,acc_width=24")
    assert (spec.lanes, spec.acc_width) == (100, 24)
    assert hardware.array("3x5", "bitserial:lanes=9").pe.lanes == 9


def test_a_parameter_is_read_as_specs_print_themselves_and_given_once():
    assert hardware.pe("popcount:form=lut6,instances=True").instances is True
    with pytest.raises(ValueError, match=r"^instances must be true or false, not 'yes'$"):
        hardware.pe("popcount:form=lut6,instances=yes")
    with pytest.raises(ValueError, match=r"^pe parameter must be given once, not 'lanes' twice$"):
        hardware.pe("bitserial:lanes=4,lanes=8")
