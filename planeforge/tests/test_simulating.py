"""`planeforge simulate`: parts against the whole, what it refuses, what it writes, what memory it takes."""

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest

from algo.bitplane.build import from_digits
from algo.bitplane.decode import integer_sums, outputs
from algo.bitplane.format import Digit, Format
from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec
from planeforge import simulating
from planeforge.cli import main
from sim import schedule
from sim.activity import Batches, measure

INT4 = Format(
    name="i",
    digit=Digit.UNIPOLAR,
    coefs=(1, 2, 4, -8),
    group=64,
    zero=True,
    published_bits=4.0,
    source="test",
)
ARRAY = ArraySpec(pe=BitSerial(lanes=64, acc_width=32), rows=4, columns=3)


def layer(rows=37, columns=130, tokens=11):
    rng = np.random.default_rng(0)
    groups = -(-columns // INT4.group)
    digits, zero = rng.integers(-8, 8, (rows, columns)), rng.integers(0, 4, (rows, groups))
    matrix = from_digits(INT4, digits, rng.random((rows, groups)), zero)
    return matrix, rng.normal(size=(tokens, columns)).astype(np.float32)


@pytest.mark.parametrize("engine", ["numba", "integer"])
def test_a_run_in_many_parts_gives_what_one_gives(engine, monkeypatch):
    matrix, x = layer()
    acts = simulating.streams(matrix, x, 8)
    expected = integer_sums(matrix, acts)
    counted = measure(matrix, Batches.whole(acts), ARRAY, sample=None)
    monkeypatch.setattr("algo.bitplane.rows.ENTRIES", 520)
    for name, size in (("ENTRIES", 1040), ("ROW_BITS", 7000), ("TOKEN_ENTRIES", 400), ("SUMS", 50)):
        monkeypatch.setattr(simulating, name, size)
    parts = list(simulating._parts(matrix, engine))
    assert len(parts) > 2
    run = simulating.simulate(matrix, x, engine=engine, array=ARRAY)
    np.testing.assert_array_equal(run.sums, expected)
    np.testing.assert_array_equal(run.outputs, outputs(matrix, acts, expected))
    assert (run.activity, run.planes, run.sampled) == (counted.activity, counted.planes, False)


def test_no_token_gives_no_output_and_no_activity():
    matrix, x = layer()
    run = simulating.simulate(matrix, x[:0], array=ARRAY, engine="integer")
    assert (run.outputs.shape, run.sums.shape, run.cycles) == ((0, 37), (1, 0, 37), 0)
    assert not any(asdict(run.activity).values())


def test_a_run_tells_what_buffers_and_the_memory_port_add_to_the_clocks():
    matrix, x = layer()
    slow = replace(ARRAY, dram_bits_per_cycle=1, dram_latency=50)
    run = simulating.simulate(matrix, x, array=slow)
    assert run.schedule.counters["busy"] + ARRAY.pe.latency() == run.cycles
    assert run.schedule.clocks > 2 * run.cycles
    assert run.schedule.bound == "memory"
    assert run.figures()["schedule"]["moved_bits"]["dram_results"] == 11 * 37 * 32


def test_activity_is_left_out_where_the_schedule_is_not_the_one_counted():
    matrix, x = layer()
    stays = replace(ARRAY, dataflow="weight-stationary")
    run = simulating.simulate(matrix, x, array=stays)
    assert (run.activity, run.planes, run.sampled) == (None, (), False)
    assert run.figures()["activity"] is None
    assert run.schedule.clocks > 0


def refused(error, message, x, **settings):
    matrix, _ = layer()
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        simulating.simulate(matrix, x, **{"array": ARRAY, "engine": "integer"} | settings)


def test_activations_that_do_not_fit_are_refused_with_the_numbers():
    _, x = layer()
    refused(TypeError, "activations must be real numbers, not complex64", x.astype(np.complex64))
    refused(TypeError, "activations must be real numbers, not bool", x > 0)
    refused(ValueError, "activations must be [tokens, 130], not [11, 129]", x[:, 1:])
    refused(ValueError, "activations must be [tokens, 130], not [130]", x[0])
    for bad in (np.nan, np.inf):
        worse = x.copy()
        worse[10, 129] = bad
        refused(ValueError, "activations must be finite, not NaN or infinity", worse)
    far = x.astype(np.float64)
    far[3, 4] = -1e39
    message = "activations must be at most 3.403e+38 in magnitude, not -1e+39"
    refused(ValueError, message, far)
    refused(ValueError, "act-bits must be an integer from 1 to 20, not 21", x, act_bits=21)
    refused(ValueError, "engine must be one of torch, numba, integer, not 'gpu'", x, engine="gpu")


def test_an_accumulator_too_small_for_the_worst_case_is_refused_before_any_work(monkeypatch):
    _, x = layer()
    monkeypatch.setitem(sys.modules, "sim.integer", None)  # an engine that would be called could not be
    # 64 columns of -8 times -128 are 65536: seventeen bits and a sign.
    small = ArraySpec(pe=BitSerial(lanes=64, acc_width=17))
    message = "acc_width must be at least 18 for 64 columns of digits -8 to 7 at 8 activation bits, not 17"
    refused(ValueError, message, x, array=small)


def test_only_real_beats_are_traced():
    matrix, x = layer()
    at = np.zeros(1, np.int64)
    acts = simulating.streams(matrix, x[:1], 8)
    expected = schedule.work(matrix, acts, ARRAY.pe, at, at).beats.to_list()
    assert simulating.first_beats(matrix, x, 8, ARRAY.pe, 9).to_list() == expected[:9]
    assert simulating.first_beats(matrix, x, 8, ARRAY.pe, 10**6).to_list() == expected
    with pytest.raises(ValueError, match=r"^beats must be at least 1, not 0$"):
        simulating.first_beats(matrix, x, 8, ARRAY.pe, 0)
    with pytest.raises(ValueError, match=r"^activations must have at least 1 token to trace, not 0$"):
        simulating.first_beats(matrix, x[:0], 8, ARRAY.pe, 5)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    np.save("w.npy", rng.normal(size=(20, 130)).astype(np.float32))
    np.save("x.npy", rng.normal(size=(5, 130)).astype(np.float32))
    main(["quantize", "w.npy", "--method", "rtn", "--format", "int4-g128", "-o", "w.packed"])
    return tmp_path


def test_the_verb_prints_the_planes_and_writes_the_waves(files, capsys):
    command = ["simulate", "w.packed", "--activations", "x.npy", "--vcd", "pe.vcd", "--vcd-beats", "7"]
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    for side in ("weight", "activation"):
        planes = [plane for plane in figures["by_plane"] if plane["side"] == side]
        assert sum(plane["beats"] for plane in planes) == figures["activity"]["beats"] > 0
    assert figures["registers_sampled"] is False
    assert "$enddefinitions" in (files / "pe.vcd").read_text()
    assert main([*command, "--sample", "2"]) == 0
    printed = capsys.readouterr().out
    assert "by plane" in printed
    assert "bit 7" in printed


MEMORY = """
import sys
from pathlib import Path
import numpy as np
from algo.bitplane import words
from algo.bitplane.format import Digit
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Plane
from planeforge.simulating import simulate

def run(rows, columns, tokens):
    rng = np.random.default_rng(0)
    shape = (rows, words.word_count(columns))
    planes = {n: Plane(rng.integers(0, 1 << 64, shape, np.uint64) & words.valid(columns)) for n in "ab"}
    term = Term(planes=("a", "b"), coefs=(1, -2), digit=Digit.UNIPOLAR, scale="s")
    scale = Ints(rng.integers(1, 9, (rows, -(-columns // 128))), 16, True)
    exponent = Ints(np.zeros((rows, 1), np.int64), 16, True)
    matrix = PackedMatrix(rows=rows, columns=columns, group=128, terms=(term,), planes=planes,
                          ints={"s": scale}, exponent=exponent)
    x = rng.normal(size=(tokens, columns)).astype(np.float32)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = peak()
    done = simulate(matrix, x, engine=sys.argv[1], sample=64)
    return peak() - before - done.sums.nbytes - done.outputs.nbytes

def peak():
    line = next(l for l in open("/proc/self/status") if l.startswith("VmHWM"))
    return 1024 * int(line.split()[1])

run(70, 300, 3)  # compilers and libraries take their memory
print(max(run(*map(int, size.split("x"))) for size in sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read where Linux keeps it")
@pytest.mark.parametrize("engine", ["numba", "integer"])
def test_a_run_takes_no_more_than_inputs_outputs_and_64_mb(engine):
    sizes = ["100000x1000x1", "70x4100x2000"]
    command = [sys.executable, "-c", MEMORY, engine, *sizes]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64e6
