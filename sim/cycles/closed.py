"""Closed forms of a plan's clocks, where the port never keeps the array waiting or never rests.

Each says when it holds; outside that range it says nothing. The event loop needs none of them: they are a
second opinion on it, and a formula to reason with.
"""

from __future__ import annotations

import numpy as np

from sim.cycles.events import request
from sim.cycles.plan import LEAD, REST, Plan


def clocks(plan: Plan) -> int | None:
    """Clocks by the closed form that holds, None if none does."""
    found = compute_bound(plan)
    return memory_bound(plan) if found is None else found


def compute_bound(plan: Plan) -> int | None:
    """First fetches + all jobs at the pace of the scale unit + pipeline + last results.

    Holds for two slots a buffer, equal row tiles if a scale unit is shared, and jobs no shorter than all the
    port may have to do meanwhile: a fetch of either operand, results, what it was doing, and the pipeline.
    """
    array = plan.array
    lead, rest = plan.work[..., LEAD], plan.work[..., REST]
    if not plan.jobs or array.buffers != 2 or not np.all(lead > 0):
        return None
    if array.scale_clocks and plan.product.rows % array.tile_rows:
        return None
    scale = min(array.tile_rows, plan.product.rows) * array.scale_clocks
    first, longest, results = _requests(plan)
    outer, inner = longest
    tail = array.latency() + scale
    if int((lead + rest).min()) < max(outer, inner) + outer + inner + max(results) + tail:
        return None
    paced = (np.maximum(lead, scale) + rest).sum(axis=1)
    if plan.per_row_tile:
        jobs = int(paced.sum()) * plan.token_tiles
    else:
        jobs = (int(paced[0]) * (plan.row_tiles - 1) + int(paced[1])) * plan.token_tiles
    # Before the first item the unit is idle.
    jobs -= max(0, scale - int(lead[0 if plan.per_row_tile or plan.row_tiles > 1 else 1, 0]))
    return sum(first) + jobs + tail + results[1]


def memory_bound(plan: Plan) -> int | None:
    """All fetches, all results but those before the last, and the last job with its pipeline.

    The last results but one leave while the last job runs. Holds for one tile of tokens that is fetched once,
    with rows in one chunk and two slots, where a job with its pipeline takes no longer than the fetch of a
    tile's weights, but longer than its results.
    """
    array, stored = plan.array, plan.product.stored
    single = plan.rows_outer and plan.token_tiles == 1 and len(plan.chunks) == 1 and not plan.per_row_tile
    if (
        not single
        or not plan.jobs
        or array.buffers != 2
        or plan.row_tiles < 2
        or not np.all(plan.work[..., LEAD])
    ):
        return None
    whole, last = (int(n) for n in request(plan, plan.weight_bits.sum(axis=1)))
    first = int(request(plan, plan.weight_bits[:1].sum(axis=1) + stored.shared)[0])
    acts = int(request(plan, plan.activation_bits[1:].sum(axis=1))[0])
    scale = np.array(plan.live("rows")) * array.scale_clocks
    job = plan.work[:, 0, LEAD] + plan.work[:, 0, REST] + array.latency() + scale
    row = plan.live("tokens")[1] * plan.product.result_bits
    results = [int(n) for n in request(plan, np.array(plan.live("rows")) * row)]
    if int(job.max()) > min(whole, last) or int(job.min()) <= max(results):
        return None
    fetches = acts + first + (plan.row_tiles - 2) * whole + last
    return fetches + (plan.row_tiles - 2) * results[0] + int(job[1]) + results[1]


def _requests(plan: Plan) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Clocks of the first fetch of either operand, of the longest of either, of first and last results."""
    shared = plan.product.stored.shared
    weight, act = plan.weight_bits, plan.activation_bits
    outer, inner = (weight, act) if plan.rows_outer else (act, weight)
    if not plan.outer_streams:
        outer = outer.sum(axis=1, keepdims=True)
    counts = (plan.outer_tiles, plan.inner_tiles)
    start = [int(bits[0 if n > 1 else 1, 0]) for bits, n in zip((outer, inner), counts, strict=True)]
    start[0 if plan.rows_outer else 1] += shared
    first = [int(n) for n in request(plan, np.array(start))]
    longest = [max(int(request(plan, b).max()), f) for b, f in zip((outer, inner), first, strict=True)]
    (rows, last_rows), (tokens, last_tokens) = plan.live("rows"), plan.live("tokens")
    ends = np.array([rows * tokens, last_rows * last_tokens]) * plan.product.result_bits
    results = [int(n) for n in request(plan, ends)]
    return (first[0], first[1]), (longest[0], longest[1]), (results[0], results[1])
