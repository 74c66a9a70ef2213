"""The event loop behind `sim.cycles.events`, compiled. Judged by a loop over clocks in the tests.

One long function on purpose: its state is two dozen local numbers. Kept in an array and handed to short
functions they made it six times slower.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from algo.compiled import kernel

#: Sizes of the nest: tiles of the outer and of the inner operand, inner tiles a block, chunks; whether a
#: chunk of the outer operand is fetched for every block, and the inner operand once; slots of a buffer,
#: places for results; clocks of the pipeline; whether weights are outer, and whether every row tile has a
#: table of its own; clocks that the first fetch of weights takes longer.
D_OUTER, D_INNER, D_BLOCK, D_CHUNKS, D_STREAMS, D_STAYS, D_SLOTS, D_PLACES = range(8)
D_LATENCY, D_ROWS_OUTER, D_OWN_TABLES, D_EXTRA = range(8, 12)

NEVER = 1 << 62  #: the end of what does not run
BUSY, SCALE, FILL, WEIGHTS, ACTIVATIONS, RESULTS, LATENCY, DRAIN, CLOCKS, PORT = range(10)
GROWING = 13  #: numbers of the state that only grow
LOOKS = 14  #: numbers of the state as seen from the job and the clock, before the results that wait


@kernel
def _advance(outer, base, chunk, d):  # type: ignore[no-untyped-def]
    """Outer tile, block and chunk behind the given ones."""
    chunk += 1
    if chunk == d[D_CHUNKS]:
        chunk = 0
        base += d[D_BLOCK]
        if base >= d[D_INNER]:
            base = 0
            outer += 1
    return outer, base, chunk


@kernel
def _note(spans, used, kind, start, end, job):  # type: ignore[no-untyped-def]
    """Write a span if there is room; returns how many there are."""
    if used < len(spans):
        spans[used, 0], spans[used, 1], spans[used, 2], spans[used, 3] = kind, start, end, job
        used += 1
    return used


@kernel
def _look(looks, now, stays, ring, oldest, clocks):  # type: ignore[no-untyped-def]
    """Write to ``looks`` the state without what only grows; returns how many entries it takes.

    now: what grows, see `run`; clocks: how long port, scale unit and pipeline still take.
    """
    job, waiting = now[2], now[11] - now[12]
    looks[0], looks[1], looks[2] = now[4] - now[1], now[5] - job, now[6] - now[3]
    looks[3], looks[4] = now[7] - now[3], now[8] if stays else now[8] - job
    looks[5], looks[6], looks[7] = now[9] if stays else now[9] - job, now[10] - now[11], waiting
    for n in range(len(clocks)):
        looks[8 + n] = clocks[n]
    for n in range(waiting):
        at = (oldest + n) % len(ring)
        looks[LOOKS + 2 * n], looks[LOOKS + 2 * n + 1] = max(ring[at, 0] - now[0], 0), ring[at, 1]
    return LOOKS + 2 * waiting


@kernel
def _repeats(looks, past_looks, count, now, past, d):  # type: ignore[no-untyped-def]
    """How often what lies between two states that look alike fits before the end; 0 if they do not.

    Neither the last outer tile nor the last fetch may lie in what is jumped over: they are unlike the others.
    """
    for n in range(count):
        if looks[n] != past_looks[n]:
            return 0
    times = (d[D_OUTER] - 2 - max(now[1], now[4])) // (now[1] - past[1])
    if not d[D_STAYS]:
        fetches = d[D_OUTER] * d[D_INNER] * d[D_CHUNKS]
        times = min(times, (fetches - 1 - now[8]) // (now[8] - past[8]))
    return max(times, 0)


@kernel
def run(d, outer_clocks, inner_clocks, drain_clocks, scale, work, ring, c, spans):  # type: ignore[no-untyped-def]
    """Run to the end: counters are left in ``c``, spans in ``spans``. Returns the number of spans.

    Parameters: outer_clocks, inner_clocks, of fetches [whole or last tile, chunk]; drain_clocks, of results
    [whole or last row tile, whole or last token tile]; scale, clocks of the scale unit [whole or last row
    tile]; work, [kinds of row tiles, chunks, 3], see `sim.cycles.plan`; ring, [places, 2], zeros: results
    that wait, when ready and for how long. All int64.
    """
    n_outer, n_inner, block, n_chunks = d[D_OUTER], d[D_INNER], d[D_BLOCK], d[D_CHUNKS]
    streams, stays, slots, places = d[D_STREAMS] == 1, d[D_STAYS] == 1, d[D_SLOTS], d[D_PLACES]
    rows_outer, own_tables, latency = d[D_ROWS_OUTER] == 1, d[D_OWN_TABLES] == 1, d[D_LATENCY]
    per_outer, tiles = n_inner * n_chunks, n_outer * n_inner
    total = n_outer * per_outer
    outer_kind, inner_kind = (WEIGHTS, ACTIVATIONS) if rows_outer else (ACTIVATIONS, WEIGHTS)

    # Typed like the tables: literals of two kinds would be compiled for each.
    zero: Any = np.int64(0)
    one: Any = np.int64(1)
    # The next or running job, as loop counters, and the fetch of the outer operand it needs.
    o, base, k, j = zero, zero, zero, zero
    size = min(block, n_inner)
    job, needed = zero, one
    # Fetches: the next of either operand, the job that first reads it, how many are there.
    fo, f_base, fk, fo_job = zero, zero, zero, zero
    outer_asked, outer_there = zero, zero
    g_base, gk, gj, inner_asked = zero, zero, zero, zero
    inner_total = per_outer if stays else total
    inner_there = zero
    # Tiles whose results have a place, wait to be written, are written; ends of the ring of those that wait.
    begun, finished, written = zero, zero, zero
    newest, oldest = zero, zero
    t = zero
    never = zero + NEVER
    job_end, port_end, port_kind = never, never, zero - 1
    scale_free, pipe_empty = zero, zero
    started, used = False, zero
    # What repeats from one outer tile to a later one is jumped over. A past state is kept to be met again.
    watching = len(spans) == 0 and not (own_tables and rows_outer)
    looks, past_looks = np.zeros(LOOKS + 2 * places, np.int64), np.zeros(LOOKS + 2 * places, np.int64)
    past_looks[0] = -1  # like no state
    now, past = np.zeros(GROWING + len(c), np.int64), np.zeros(GROWING + len(c), np.int64)
    clocks_left = np.zeros(6, np.int64)
    waited, patience = zero, one

    while True:
        # What ends now.
        if port_end == t:
            if port_kind == RESULTS:
                written += 1
            elif port_kind == outer_kind:
                outer_there += 1
            else:
                inner_there += 1
            port_end = never
        if job_end == t:
            job_end = never
            if k == n_chunks - 1:
                outer_last, inner_last = o == n_outer - 1, base + j == n_inner - 1
                row_last = outer_last if rows_outer else inner_last
                token_last = inner_last if rows_outer else outer_last
                ring[newest, 0] = max(t, pipe_empty)
                ring[newest, 1] = drain_clocks[1 if row_last else 0, 1 if token_last else 0]
                newest = newest + 1 if newest + 1 < places else zero
                finished += 1
            job += 1
            j += 1
            if j == size:
                j = zero
                before = o
                o, base, k = _advance(o, base, k, d)
                size = min(block, n_inner - base)
                needed += 1 if streams else o - before
                if watching and o != before and o < n_outer - 1:
                    now[0], now[1], now[2], now[3], now[4], now[5] = t, o, job, needed, fo, fo_job
                    now[6], now[7], now[8], now[9] = outer_asked, outer_there, inner_asked, inner_there
                    now[10], now[11], now[12] = begun, finished, written
                    for n in range(len(c)):
                        now[GROWING + n] = c[n]
                    clocks_left[0] = ((f_base * n_chunks + fk) * n_inner + g_base) * n_chunks + gk
                    clocks_left[1], clocks_left[2] = gj, port_kind
                    clocks_left[3] = never if port_end == never else port_end - t
                    clocks_left[4], clocks_left[5] = max(scale_free - t, 0), max(pipe_empty - t, 0)
                    count = _look(looks, now, stays, ring, oldest, clocks_left)
                    times = _repeats(looks, past_looks, count, now, past, d)
                    if times > 0:
                        ahead = times * (t - past[0])
                        for n in range(places):
                            ring[n, 0] += ahead
                        port_end = never if port_end == never else port_end + ahead
                        scale_free, pipe_empty = scale_free + ahead, pipe_empty + ahead
                        for n in range(len(now)):
                            now[n] += times * (now[n] - past[n])
                        for n in range(len(c)):
                            c[n] = now[GROWING + n]
                        t, o, job, needed, fo, fo_job = now[0], now[1], now[2], now[3], now[4], now[5]
                        outer_asked, outer_there, inner_asked, inner_there = now[6], now[7], now[8], now[9]
                        begun, finished, written = now[10], now[11], now[12]
                        watching = False
                    elif waited == patience:
                        for n in range(len(now)):
                            past[n] = now[n]
                        for n in range(count):
                            past_looks[n] = looks[n]
                        waited, patience = zero, 2 * patience
                    waited += 1

        # The next job.
        reason = zero - 1
        if job_end == never:
            if job < total:
                inner_needed = min(job + 1, inner_total)
                outer_short, inner_short = outer_there < needed, inner_there < inner_needed
                if outer_short or inner_short:
                    weights_short = outer_short if rows_outer else inner_short
                    reason = WEIGHTS if weights_short else ACTIVATIONS
                    if not started:
                        reason = FILL
                elif k == 0 and begun - written >= places:
                    reason = RESULTS
                else:
                    row = o if rows_outer else base + j
                    last = 1 if row == (n_outer if rows_outer else n_inner) - 1 else 0
                    kind = row if own_tables else last
                    busy = work[kind, k, 0]
                    job_end = t
                    if busy > 0:
                        job_end = max(t + work[kind, k, 1], scale_free) + work[kind, k, 2]
                        scale_free = job_end + scale[last]
                        pipe_empty = scale_free + latency
                    c[BUSY] += busy
                    c[SCALE] += job_end - t - busy
                    used = _note(spans, used, BUSY, t, job_end, job)
                    if k == 0:
                        begun += 1
                    started = True
                    if job_end == t:
                        continue
            else:
                reason = LATENCY if t < pipe_empty else DRAIN

        # The next request.
        wake = never
        if port_end == never:
            want_outer = fo < n_outer and outer_asked - (needed - 1) < slots
            want_inner = inner_asked < inner_total and (stays or inner_asked - job < slots)
            port_kind, clocks, what = zero - 1, zero, zero
            if written < finished and ring[oldest, 0] <= t:
                port_kind, clocks, what = RESULTS, ring[oldest, 1], written
                oldest = oldest + 1 if oldest + 1 < places else zero
            elif want_outer and (not want_inner or fo_job <= inner_asked):
                port_kind, what = outer_kind, fo_job
                clocks = outer_clocks[1 if fo == n_outer - 1 else 0, fk]
                if rows_outer and outer_asked == 0:
                    clocks += d[D_EXTRA]
                outer_asked += 1
                if streams:
                    fo_job += min(block, n_inner - f_base)
                    fo, f_base, fk = _advance(fo, f_base, fk, d)
                else:
                    fo_job += per_outer
                    fo += 1
            elif want_inner:
                port_kind, what = inner_kind, inner_asked
                clocks = inner_clocks[1 if g_base + gj == n_inner - 1 else 0, gk]
                if not rows_outer and inner_asked == 0:
                    clocks += d[D_EXTRA]
                inner_asked += 1
                gj += 1
                if gj == min(block, n_inner - g_base):
                    gj = zero
                    _, g_base, gk = _advance(fo, g_base, gk, d)
            elif written < finished:
                wake = ring[oldest, 0]
            if port_kind >= 0:
                port_end = t + clocks
                c[PORT + port_kind - WEIGHTS] += clocks
                used = _note(spans, used, PORT + port_kind - WEIGHTS, t, port_end, what)
                if clocks == 0:
                    continue

        if written == tiles:
            break
        then = min(port_end, wake, job_end)
        if job == total and t < pipe_empty:
            then = min(then, pipe_empty)
        if reason >= 0:
            c[reason] += then - t
            used = _note(spans, used, reason, t, then, job)
        t = then
    c[CLOCKS] = t
    return used
