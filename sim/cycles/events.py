"""Clocks of a plan by jumping from event to event: the default judge.

Rules, clock by clock. Array, memory port and scale units work side by side.

* A job starts when the array is idle, its two operands are in their buffers, and (first chunk of a tile) a
  place for the tile's results is free. The scale unit of a column takes an item from every PE at once, at the
  item's last clock or, if still at the item before, when it is done; the array waits.
* The port serves one request at a time, each for its latency and then its bits. Results go first. A fetch may
  start when its buffer has a free slot; a slot is freed at the end of the last job that reads it. Of two
  fetches the one needed by the earlier job goes first (the outer operand's if both are).
* Results of a tile leave once the pipeline and the scale unit have passed its last item on.

A clock in which the array has no beat is booked under what the next job waits for: see `COUNTERS`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.cycles import loop
from sim.cycles.plan import BUSY, LEAD, REST, Int, Plan

#: Counters of a run [clocks]; the first eight are of the array and add up to ``clocks``.
COUNTERS = (
    "busy",  #: a beat is taken
    "scale",  #: an item waits for the scale unit
    "fill",  #: before the first job
    "weights",  #: weights are not there
    "activations",  #: activations are not there
    "results",  #: no place for a tile's results
    "latency",  #: behind the last job: pipeline and scale unit
    "drain",  #: behind the last item: results leave
    "clocks",  #: all
    "port_weights",  #: of the memory port: fetching weights
    "port_activations",  #: fetching activations
    "port_results",  #: writing results
)
#: What a span shows: an array's job or wait by the counters above, a request of the port by the last three.
SPAN_FIELDS = ("kind", "start", "end", "job")


def run(plan: Plan, spans: int = 0) -> tuple[dict[str, int], Int]:
    """Counters of ``plan`` by name, and its first spans, int64 [at most ``spans``, 4] by `SPAN_FIELDS`."""
    counters = np.zeros(len(COUNTERS), np.int64)
    record = np.zeros((spans, len(SPAN_FIELDS)), np.int64)
    used = 0
    if plan.jobs:
        sizes, *tables = arguments(plan)
        ring = np.zeros((int(sizes[loop.D_PLACES]), 2), np.int64)
        used = loop.run(sizes, *tables, ring, counters, record)
    return dict(zip(COUNTERS, counters.tolist(), strict=True)), record[:used]


def arguments(plan: Plan) -> tuple[NDArray[np.int64], ...]:
    """What the loop takes: sizes of the nest, and the clocks of its requests and jobs by kind of tile."""
    array, stored = plan.array, plan.product.stored
    weight, act = plan.weight_bits, plan.activation_bits
    outer, inner = (weight, act) if plan.rows_outer else (act, weight)
    if not plan.outer_streams:
        outer = outer.sum(axis=1, keepdims=True)
    first = outer if plan.rows_outer else inner
    whole = 0 if (plan.row_tiles if plan.rows_outer else plan.inner_tiles) > 1 else 1
    extra = request(plan, first[whole, :1] + stored.shared) - request(plan, first[whole, :1])
    rows, columns = plan.live("rows"), plan.live("tokens")
    results = np.array([[r * c * plan.product.result_bits for c in columns] for r in rows], np.int64)
    scale = np.array(rows, np.int64) * array.scale_clocks
    dims = (
        *(plan.outer_tiles, plan.inner_tiles, plan.block, len(plan.chunks)),
        *(plan.outer_streams, plan.inner_resident, array.buffers, array.buffers * plan.block),
        *(array.latency(), plan.rows_outer, plan.per_row_tile, int(extra[0])),
    )
    work = np.ascontiguousarray(plan.work[..., [BUSY, LEAD, REST]])
    return (
        np.array(dims, np.int64),
        request(plan, outer),
        request(plan, inner),
        request(plan, results),
        scale,
        work,
    )


def request(plan: Plan, bits: Int) -> Int:
    """Clocks of the port for requests of ``bits``; nothing is no request."""
    moving = -(-bits // plan.array.dram_bits_per_cycle)
    return np.where(bits > 0, plan.array.dram_latency + moving, 0)
