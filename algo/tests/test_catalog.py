"""Named formats: collected from the module, decoded as their names say, refused by pinned messages."""

from __future__ import annotations

import re

import numpy as np
import pytest

from algo.bitplane.format import Format
from algo.formats import catalog


def test_all_holds_every_constant_of_the_module_once() -> None:
    constants = [value for name, value in vars(catalog).items() if isinstance(value, Format)]
    assert list(catalog.ALL.values()) == constants
    assert all(name == fmt.name and fmt.source for name, fmt in catalog.ALL.items())
    assert set(catalog.ALL) >= {f"int{bits}-g128" for bits in range(1, 9)} | {"sign-g128", "ternary-g128"}


@pytest.mark.parametrize(
    ("name", "values", "bits"),
    [
        *((f"int{bits}-g128", range(1 << bits), bits) for bits in range(1, 9)),
        ("sign-g128", [-1, 1], 1),
        ("ternary-g128", [0, 1, -1, 0], 1.584962500721156),
    ],
)
def test_codes_decode_to_the_integers_the_name_says(
    name: str, values: range | list[int], bits: float
) -> None:
    fmt = catalog.get(name)
    np.testing.assert_array_equal(fmt.values(), values)
    assert fmt.published_bits == bits
    assert fmt.group == 128
    assert fmt.scale == "fp16"
    assert fmt.zero == name.startswith("int")


def test_an_unknown_format_is_refused_with_the_names_there_are() -> None:
    listed = ", ".join(catalog.ALL)
    with pytest.raises(
        ValueError, match=f"^{re.escape(f'format must be one of {listed}, not {chr(39)}int5{chr(39)}')}$"
    ):
        catalog.get("int5")


def test_a_group_of_ones_own_replaces_the_formats() -> None:
    assert catalog.choose("int4-g128", ("int4-g128",), 32).group == 32
    assert catalog.choose("int4-g128", ("int4-g128",)) is catalog.INT4_G128
    assert catalog.INT4_G128.group == 128


def test_accepted_formats_begin_with_the_default() -> None:
    names = catalog.accepted_by(lambda fmt: fmt.zero and len(fmt.coefs) < 5, first=catalog.INT3_G128)
    assert names == ("int3-g128", "int4-g128", "int2-g128", "int1-g128")
