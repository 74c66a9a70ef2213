"""A run for people to look at: Chrome's trace-event JSON, which Perfetto and ``chrome://tracing`` open.

One track each for the array (a job's span holds its waits for the scale unit), for what the array waits for
between jobs, for the memory port, and for every slot of the two buffers. Times are microseconds at the
array's assumed clock.
Source: Trace Event Format, Google (phases X, complete event, and M, metadata).
"""

from __future__ import annotations

from typing import Any

from sim.cycles import events
from sim.cycles.plan import BUSY, Plan

PROCESS = 1
ARRAY, WAITS, PORT = range(3)
TRACKS = {ARRAY: "array", WAITS: "array waits for", PORT: "memory port"}
BUFFERS = 3  #: the first track of a buffer's slots
#: Spans an array's job, its fetches, results and waits take at most.
SPANS_PER_JOB = 8


def trace(plan: Plan, jobs: int = 200) -> dict[str, Any]:
    """Trace-event JSON, as an object, of the first ``jobs`` tile jobs of a plan.

    Raises ValueError if ``jobs`` is below 1.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, not {jobs!r}")
    counters, spans = events.run(plan, SPANS_PER_JOB * min(jobs, plan.jobs) + 16)
    rows = [tuple(row) for row in spans.tolist()]
    busy = [row for row in rows if row[0] == 0]
    if plan.jobs > jobs and len(busy) > jobs:
        end = busy[jobs - 1][2]
        rows = [row for row in rows if row[1] < end]
    scale = 1e6 / plan.array.clock_hz
    made = [_event(plan, row, scale) for row in rows]
    made += _slots(plan, rows, scale)
    names = [_meta("process_name", 0, plan.product.name or "product")]
    tracks = {**TRACKS, **_slot_names(plan)}
    names += [_meta("thread_name", track, name) for track, name in tracks.items()]
    return {
        "displayTimeUnit": "ns",
        "otherData": {"clock_hz": plan.array.clock_hz, "clocks": counters["clocks"], "jobs": plan.jobs},
        "traceEvents": names + made,
    }


def _meta(kind: str, track: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": PROCESS, "tid": track, "args": {"name": name}}


def _span(track: int, name: str, start: int, end: int, scale: float, **args: int) -> dict[str, Any]:
    times = {"ts": start * scale, "dur": (end - start) * scale}
    return {
        "ph": "X",
        "name": name,
        "pid": PROCESS,
        "tid": track,
        **times,
        "args": {"start": start, "clocks": end - start, **args},
    }


def _event(plan: Plan, row: tuple[int, ...], scale: float) -> dict[str, Any]:
    kind, start, end, job = row
    name = events.COUNTERS[kind]
    if kind == 0:
        return _span(ARRAY, f"job {job}", start, end, scale, job=job, beats=_beats(plan, job))
    if name.startswith("port_"):
        return _span(PORT, name.removeprefix("port_"), start, end, scale, job=job)
    return _span(WAITS, name, start, end, scale, job=job)


def _nest(plan: Plan, job: int) -> tuple[int, int, int]:
    """Outer tile, chunk and inner tile of a job."""
    chunks = len(plan.chunks)
    outer, rest = divmod(job, plan.inner_tiles * chunks)
    block, rest = divmod(rest, plan.block * chunks)
    size = min(plan.block, plan.inner_tiles - block * plan.block)
    chunk, inner = divmod(rest, size)
    return outer, chunk, block * plan.block + inner


def _beats(plan: Plan, job: int) -> int:
    outer, chunk, inner = _nest(plan, job)
    row = outer if plan.rows_outer else inner
    kind = row if plan.per_row_tile else int(row == plan.row_tiles - 1)
    return int(plan.work[kind, chunk, BUSY])


def _slot_names(plan: Plan) -> dict[int, str]:
    names = {}
    for at, buffer in enumerate(("weights", "activations")):
        for slot in range(plan.array.buffers):
            names[BUFFERS + at * plan.array.buffers + slot] = f"{buffer} slot {slot}"
    return names


def _slots(plan: Plan, rows: list[tuple[int, ...]], scale: float) -> list[dict[str, Any]]:
    """What lies in a buffer's slots, from the start of its fetch to the end of the last job that reads it.

    An operand that stays in its buffer is not drawn: it has no slots.
    """
    ends = {row[3]: row[2] for row in rows if row[0] == 0}
    last = max((row[2] for row in rows), default=0)
    found = []
    for at, kind in enumerate(("port_weights", "port_activations")):
        outer = (kind == "port_weights") == plan.rows_outer
        if not outer and plan.inner_resident:
            continue
        fetches = [row for row in rows if events.COUNTERS[row[0]] == kind]
        for number, (_, start, _, job) in enumerate(fetches):
            track = BUFFERS + at * plan.array.buffers + number % plan.array.buffers
            behind = _last_reader(plan, job, outer)
            found.append(
                _span(track, f"for job {job}", start, ends.get(behind, last), scale, job=job, until=behind)
            )
    return found


def _last_reader(plan: Plan, job: int, outer: bool) -> int:
    """The last job that reads what was fetched for ``job``."""
    if not outer:
        return job
    if not plan.outer_streams:
        return job + plan.inner_tiles * len(plan.chunks) - 1
    inner = _nest(plan, job)[2]
    return job + min(plan.block, plan.inner_tiles - inner) - 1
