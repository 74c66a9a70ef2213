"""The trace of a run: valid JSON, tracks without overlap, spans that add up to the counters."""

import json
from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given

from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec
from sim import trace
from sim.cycles import events
from sim.cycles.plan import plan
from sim.cycles.product import Pass, Product, Stored, places
from sim.tests.test_cycles import cases, planned


def spans_by_track(made):
    """Complete events by the name of their track, in order of time."""
    names = {e["tid"]: e["args"]["name"] for e in made["traceEvents"] if e["name"] == "thread_name"}
    tracks = defaultdict(list)
    for event in made["traceEvents"]:
        if event["ph"] == "X":
            tracks[names[event["tid"]]].append(event)
    return {name: sorted(found, key=lambda e: e["args"]["start"]) for name, found in tracks.items()}


def check_no_overlap(tracks):
    for name, spans in tracks.items():
        for before, after in pairwise(spans):
            assert before["args"]["start"] + before["args"]["clocks"] <= after["args"]["start"], name


@given(cases())
def test_spans_never_overlap_on_a_track_and_add_up_to_the_counters(case):
    made_plan = planned(*case)
    if not made_plan.jobs:
        return
    made = json.loads(json.dumps(trace.trace(made_plan, made_plan.jobs)))
    counters, _ = events.run(made_plan)
    tracks = spans_by_track(made)
    check_no_overlap(tracks)
    clocks = defaultdict(int)
    for name in ("array waits for", "memory port"):
        for event in tracks.get(name, []):
            clocks[name, event["name"]] += event["args"]["clocks"]
    jobs = tracks["array"]
    assert sum(e["args"]["clocks"] for e in jobs) == counters["busy"] + counters["scale"]
    assert sum(e["args"]["beats"] for e in jobs) == counters["busy"]
    for name in ("fill", "weights", "activations", "results", "latency", "drain"):
        assert clocks["array waits for", name] == counters[name]
    for name in ("weights", "activations", "results"):
        assert clocks["memory port", name] == counters[f"port_{name}"]
    assert made["otherData"]["clocks"] == counters["clocks"]


PRODUCT = Product(
    name="q",
    tokens=40,
    rows=40,
    columns=64,
    group=32,
    passes=(Pass(weight=places(4)),),
    activation=places(8),
    stored=Stored(planes=256, scales=32),
)
ARRAY = ArraySpec(pe=BitSerial(lanes=32), clock_hz=250e6, activation_buffer_bits=16384)


def test_a_window_shows_its_jobs_and_times_in_microseconds():
    made = trace.trace(plan(PRODUCT, ARRAY), jobs=7)
    tracks = spans_by_track(made)
    check_no_overlap(tracks)
    assert [e["args"]["job"] for e in tracks["array"]] == list(range(7))
    first = tracks["array"][0]
    assert first["args"]["beats"] == 2 * 4 * 8
    assert first["dur"] == pytest.approx(first["args"]["clocks"] / 250)
    assert first["ts"] == pytest.approx(first["args"]["start"] / 250)
    assert {e["ph"] for e in made["traceEvents"]} == {"X", "M"}
    # The weights of the first row tile serve its five token tiles.
    assert tracks["weights slot 0"][0]["args"]["until"] == 4


def test_a_window_without_a_job_is_refused():
    with pytest.raises(ValueError, match=r"^jobs must be at least 1, not 0$"):
        trace.trace(plan(PRODUCT, ARRAY), jobs=0)
