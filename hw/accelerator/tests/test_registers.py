"""The register map: its document and its header say what the table says, and a C compiler agrees."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from hw.accelerator import registers
from hw.accelerator.commands import Error
from hw.accelerator.registers import ACCESS, decode, encode, offset, table
from hw.accelerator.tests.test_random import SPECS


def test_registers_stand_side_by_side_and_their_fields_do_not_overlap():
    assert [r.offset for r in table()] == list(range(0, 4 * len(table()), 4))
    assert len({r.name for r in table()}) == len(table())
    for register in table():
        assert register.access in ACCESS
        bits = [bit for f in register.fields for bit in range(f.low, f.low + f.bits)]
        assert bits == sorted(set(bits))
        assert bits[-1] < 32
    assert max(r.offset for r in table()) < 1 << registers.ADDRESS_BITS


def test_every_error_has_its_flag_at_its_own_number():
    flags = {f.name: f.low for f in registers.BY_NAME["ERRORS"].fields}
    assert {e.name.lower(): int(e) for e in Error if e} == dict(list(flags.items())[:7])
    assert list(flags) == [e.name.lower() for e in Error if e] + ["completion_lost", "doorbell_lost"]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_capabilities_are_those_of_the_accelerator(spec):
    values = registers.constants(spec)
    assert decode("SHAPE", values["SHAPE"]) == {
        "rows": spec.rows,
        "columns": spec.columns,
        "lanes": spec.array.pe.lanes,
    }
    assert decode("WIDTHS", values["WIDTHS"])["bus"] * 64 == spec.bus
    assert decode("DEPTHS0", values["DEPTHS0"]) == {"w": spec.w_depth, "x": spec.x_depth}
    assert decode("FEATURES", values["FEATURES"])["serial"] == (spec.scaling == "serial")
    assert values["ID"].to_bytes(4, "little") == b"PFAC"


def test_values_and_fields_are_each_others_inverse():
    value = encode("COMPLETION", tag=0xABCD, error=5, valid=1)
    assert value == 0x8005ABCD
    assert decode("COMPLETION", value) == {"tag": 0xABCD, "error": 5, "valid": 1}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cuont": 1}, r"^field of DOORBELL must be one of count, not 'cuont'$"),
        ({"count": 1 << 16}, r"^count must be from 0 to 65535, not 65536$"),
    ],
)
def test_a_field_that_does_not_fit_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        encode("DOORBELL", **fields)


def test_the_document_names_every_register_and_field():
    text = registers.markdown()
    rows = re.findall(r"^\| (0x\w+) \| (\w+) \| (\w+) \| (.+) \|$", text, re.MULTILINE)
    assert rows == [(f"{r.offset:#04x}", r.name, r.access, r.text) for r in table()]
    for register in table():
        section = text.split(f"## {register.name} (")[1].split("## ")[0]
        for field in register.fields:
            assert f"| {field.name} | {field.text} |" in section


def test_the_header_means_the_same_to_a_c_compiler(tmp_path):
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler, "a C compiler must be on the path"
    (tmp_path / "registers.h").write_text(registers.c_header())
    lines = [f'_Static_assert(PLANEFORGE_{r.name} == {offset(r.name)}, "offset");' for r in table()]
    for register in table():
        for field in register.fields:
            name = f"PLANEFORGE_{register.name}_{field.name.upper()}"
            lines.append(f'_Static_assert({name}_MASK >> {name}_SHIFT == {(1 << field.bits) - 1}u, "mask");')
            lines.append(f'_Static_assert({name}_SHIFT == {field.low}, "shift");')
    (tmp_path / "check.c").write_text('#include "registers.h"\n' * 2 + "\n".join(lines) + "\n")
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "check.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
