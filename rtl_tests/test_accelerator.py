"""The whole accelerator as Verilog under Icarus: its AXI ports under random traffic, and a model's layers."""

from __future__ import annotations

import random

import numpy as np
import pytest

from algo import checkpoint, evaluation
from algo.bitplane import rows
from hw.accelerator import bulk, icarus, reference, registers
from hw.accelerator.axi_lite import OKAY, SLVERR
from hw.accelerator.commands import Error
from hw.accelerator.session import Session
from hw.accelerator.spec import AcceleratorSpec
from hw.accelerator.tests import packets
from hw.accelerator.tests.test_random import scenario
from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec
from planeforge import accelerating, model_quantizing
from planeforge.demo import assets
from planeforge.packed_model import record_inputs
from planeforge.simulating import streams
from sim.integer import integer_sums

SMALL = AcceleratorSpec(
    array=ArraySpec(pe=BitSerial(lanes=8, acc_width=14, levels=1), rows=2, columns=2),
    w_depth=16,
    x_depth=16,
    mask_depth=8,
    scale_depth=32,
    requant_depth=8,
    step_depth=4,
)

STREAM = ("idle", "waits", "stalled", "moves")
#: What has to happen at the ports in a run: every state of one stream beside every state of the other, ...
BINS = {f"s_axis {a}, m_axis {b}" for a in STREAM for b in STREAM} | {
    "m_axis partial word", "m_axis whole word", "irq rises", "reset within a session",
    "write: together", "write: aw first", "write: w first", "bready late", "bready at once",
    "rready late", "rready at once",
}  # fmt: skip


def accesses() -> list[tuple[str, int, int, int]]:
    """Register accesses that disturb nothing: every read, refused writes, writes that change nothing here."""
    nowhere = registers.table()[-1].offset + 4
    found = [("read", register.offset, 0, 0) for register in registers.table()]
    found += [("read", registers.offset("COMPLETION"), 0, 0)] * 20
    found += [("read", nowhere, 0, 0), ("read", 2, 0, 0), ("write", nowhere, 5, 15), ("write", 6, 5, 15)]
    found += [("write", registers.offset("IRQ_ENABLE"), value, 15) for value in range(8)]
    for register in registers.table():
        # Without a byte strobe a write changes nothing, whatever the value.
        found.append(("write", register.offset, 0xFFFFFFFF, 0))
    return found


def test_the_ports_stand_any_traffic_and_every_case_occurs():
    words = scenario(SMALL, 20, 100)  # a seed that meets every error
    model = packets.modelled(SMALL, words)
    assert {c.error for c in model.completions} == set(Error)
    auto = registers.encode("CONTROL", auto=1, quiet=1, clear=1)
    reads = ("ERRORS", "COMPLETED", "FAILED", *["COMPLETION"] * 18)
    session = Session(
        writes=[(registers.offset("CONTROL"), auto), (registers.offset("IRQ_ENABLE"), 7)],
        words=[word for packet in words for word in packet],
        lasts=[at == len(packet) - 1 for packet in words for at in range(len(packet))],
        tiles=len(model.tiles),
        finish=[(registers.offset(name), None) for name in reads],
        limit=30_000,
    )
    rng = random.Random(3)
    seen = icarus.observe(
        SMALL,
        session,
        goes={"s_axis": 0.55, "m_axis": 0.2, "s_axi": 0.5},
        traffic=accesses(),
        cut=[rng.randrange(100, 300) for _ in range(2)],
        linger=300,
        seed=4,
    )
    assert [bytes.fromhex(tile) for tile in seen["tiles"]] == model.tiles
    errors, completed, failed, *rest = seen["reads"]
    wanted = [(c.tag, c.error) for c in model.completions if c.error]
    assert (completed, failed) == (len(model.completions) - len(wanted), len(wanted))
    assert errors == sum({1 << error for _, error in wanted})
    popped = [
        value
        for kind, offset, value, _ in seen["traffic"]
        if kind == "read" and offset == registers.offset("COMPLETION")
    ]
    ended = [registers.decode("COMPLETION", value) for value in (*popped, *rest)]
    assert [(c["tag"], c["error"]) for c in ended if c["valid"]] == wanted
    check_traffic(seen["traffic"])
    assert set(seen["bins"]) >= BINS, BINS - set(seen["bins"])


def check_traffic(traffic: list[list[int]]) -> None:
    """Every register was read and written, and each access was answered as the table says."""
    by_offset = {register.offset: register for register in registers.table()}
    constants = {registers.offset(name): value for name, value in registers.constants(SMALL).items()}
    touched = set()
    for kind, offset, value, response in traffic:
        register = by_offset.get(offset)
        allowed = register is not None and (kind == "read" or register.access not in ("ro", "pop"))
        assert response == (OKAY if allowed else SLVERR), (kind, offset)
        if kind == "read" and offset in constants:
            assert value == constants[offset]
        touched.add((kind, register.name if register else "nowhere"))
    names = [*(register.name for register in registers.table()), "nowhere"]
    assert touched == {(kind, name) for kind in ("read", "write") for name in names}


#: Integers with zero points; of every kind, signs with zones and offsets, and trits: of 200 columns, no
#: multiple of 64.
ONE = (("rtn", "int4-g128", "q_proj"),)
EVERY = (("billm", None, "q_proj"), *ONE, ("ternary", None, "down_proj"))


@pytest.fixture(scope="module", params=[ONE, pytest.param(EVERY, marks=pytest.mark.slow)], ids=len)
def layers(request):
    """Layers of a trained model, and their own inputs."""
    source = checkpoint.load(assets.model(assets.UNIT_TEST_MODEL))
    ids = evaluation.tokens(source, assets.held_out_text()[:400]).ids[:5]
    found = []
    for method, fmt, ending in request.param:
        made = model_quantizing.run(source, method, fmt, {}, None)
        name = next(name for name in made.matrices if name.endswith(ending))
        inputs = record_inputs(made.model, [name], ids)
        found.append((made.matrices[name], streams(made.matrices[name], inputs[name], 8)))
    return found


def layer_spec(size: int, **given: object) -> AcceleratorSpec:
    array = ArraySpec(pe=BitSerial(lanes=64, acc_width=32), rows=size, columns=size)
    return AcceleratorSpec(array=array, **{"scale_bits": 24, "w_depth": 64, "x_depth": 64} | given)


def test_rows_of_a_models_layers_run_on_the_verilog(layers, monkeypatch):
    monkeypatch.setattr(rows, "ENTRIES", 0)  # two rows at a time
    for matrix, activations in layers:
        part = next(iter(rows.split(matrix)))[1]
        wanted = integer_sums(part, activations)
        report = accelerating.sums(part, activations, layer_spec(2), icarus.run)
        np.testing.assert_array_equal(report.sums, wanted)
        assert np.any(wanted)


@pytest.mark.slow
@pytest.mark.parametrize("scaling", ["parallel", "serial"])
def test_whole_layers_of_a_model_run_on_the_rtl(layers, scaling):
    spec = layer_spec(4, scaling=scaling)
    for matrix, activations in layers:
        wanted = accelerating.sums(matrix, activations, spec, reference.run)
        report = accelerating.sums(matrix, activations, spec, bulk.run)
        np.testing.assert_array_equal(wanted.sums, integer_sums(matrix, activations))
        np.testing.assert_array_equal(report.sums, wanted.sums)
        assert report.beats == wanted.beats


@pytest.mark.slow
def test_a_whole_layer_takes_the_same_clocks_as_verilog_and_as_bulk(layers):
    matrix, activations = layers[0]
    report = accelerating.sums(matrix, activations, layer_spec(4), icarus.run)
    np.testing.assert_array_equal(report.sums, integer_sums(matrix, activations))
    bulky = accelerating.sums(matrix, activations, layer_spec(4), bulk.run)
    assert (report.clocks, report.beats) == (bulky.clocks, bulky.beats)
