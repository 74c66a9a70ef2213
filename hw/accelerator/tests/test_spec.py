"""Parameters and packets: what they come to, and what is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from hw.accelerator.commands import Load, Opcode, Run, factor_entry, header, packed, step_entry
from hw.accelerator.session import Session, as_hex
from hw.accelerator.spec import AcceleratorSpec
from hw.accelerator.tests.test_core import small
from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec, Step


@dataclass(frozen=True, kw_only=True)
class TwoSums(BitSerial):
    """A PE of two accumulators for one output."""

    @property
    def outputs(self) -> int:
        return 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"w_depth": 12}, r"^w_depth must be a power of two, not 12$"),
        ({"x_depth": 0}, r"^x_depth must be at least 1, not 0$"),
        ({"steps": 3}, r"unexpected keyword"),
        ({"step_depth": 1 << 16}, r"^step_depth must be at most 32768, not 65536$"),
        ({"scale_bits": 65}, r"^scale_bits must be at most 64, not 65$"),
        ({"queue": 0}, r"^queue must be at least 1, not 0$"),
        ({"bus": 32}, r"^bus must be at least 64, not 32$"),
        ({"bus": 96}, r"^bus must be a multiple of 64, not 96$"),
        ({"sum_bits": 40}, r"^sum_bits must be one of 16, 32, 64, not 40$"),
        ({"scaling": "dsp"}, r"^scaling must be one of parallel, serial, not 'dsp'$"),
        ({"rows": 256}, r"^rows of the array must be at most 255, not 256$"),
        ({"columns": 256}, r"^columns of the array must be at most 255, not 256$"),
    ],
)
def test_a_bad_parameter_is_refused(given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        small(**given)


def test_a_pe_whose_accumulators_are_no_outputs_is_refused():
    message = "pe must have an accumulator per row and token (1 x 1), not 2"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        AcceleratorSpec(array=ArraySpec(pe=TwoSums(), rows=1, columns=1))


def test_memory_is_both_halves_of_every_buffer():
    spec = small()
    entries = {"w": (16, 2 * 8), "x": (16, 2 * 8), "mask": (8, 2 * 8), "scale": (32, 2 * 24)}
    entries |= {"requant": (4, 16 + 6), "steps": (8, 8 + 8 + 7)}
    assert spec.memory_bits == sum(2 * depth * bits for depth, bits in entries.values())


def test_items_stand_in_the_order_of_the_arrays_port():
    assert small(rows=2, columns=3).items() == [[0, 1, 2], [3, 4, 5]]


def test_a_load_brings_its_entries_word_by_word():
    spec = small()
    load = Load(opcode=Opcode.LOAD_W, address=17, entries=[[1, 2], [3, 255]], tag=9)
    assert load.words(spec) == [header(1, 9, 17, 2), 0x0201, 0xFF03]
    everywhere = Load(opcode=Opcode.LOAD_SCALE_ALL, address=0, entries=[[-2]])
    assert everywhere.words(spec) == [header(7, 0, 0, 1), 0xFFFFFE]


def test_a_run_is_five_words():
    words = Run(rows=2, columns=1, steps=3, w_base=7, w_step=5, tiles=4, tag=1, narrow=True).words(small())
    assert words == [
        header(16, 1, 0, 4),
        7,
        0,
        5 | 2 << 24 | 1 << 32 | 7 << 40 | 1 << 48,
        1 | 4 << 16 | 3 << 48,
    ]


def test_a_step_and_a_factor_are_packed_from_the_lowest_bit():
    step = Step((1,), (0,), True, True)
    assert step_entry(step, 3, 4, first=True, last=False, x_bipolar=True) == [3 | 4 << 8 | 0b1011010 << 16]
    bubble = Step((), (), True, False)
    assert step_entry(bubble, 0, 0, first=False, last=True) == [0b0001101 << 16]
    assert factor_entry(-1, 33, small()) == [0xFFFF | 33 << 16]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: packed({"a": 4}, {"a": 2}), r"^a must be at most 3, not 4$"),
        (lambda: header(1, 1 << 16, 0, 1), r"^tag must be at most 65535, not 65536$"),
        (lambda: factor_entry(1 << 15, 0, small()), r"^mantissa must be at most 32767, not 32768$"),
        (lambda: factor_entry(1, 64, small()), r"^shift must be at most 63, not 64$"),
        (
            lambda: Session(writes=[], words=[1], lasts=[], tiles=0, finish=[], limit=1),
            r"^lasts must be 1 flags, not 0$",
        ),
    ],
)
def test_what_does_not_fit_a_packet_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_words_as_text_carry_the_ends_of_packets():
    session = Session(writes=[], words=[10, 255, 0], lasts=[False, True, True], tiles=0, finish=[], limit=1)
    assert as_hex(session) == ["a", "ff!", "0!"]
