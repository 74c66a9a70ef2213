"""Clocks by events beside a compiled loop over every clock, on the same plans, in one run.

Both give all counters of the run; they must be equal. CPU time of one thread, contenders interleaved in an
order that turns with every repetition, medians printed.

    python benchmarks/bench_cycles.py --repetitions 7
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from timing import medians

from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec
from sim.cycles import events
from sim.cycles.plan import BUSY, Plan, item, plan
from sim.cycles.product import Pass, Product, Stored, places

TARGET = 25.0  #: times the loop over clocks


@njit
def by_clocks(job, weights, acts, results, first_reader, setting, counters):  # type: ignore[no-untyped-def]
    """The rules of `sim.cycles.events`, one clock at a time, without a scale unit.

    job: [n, 5] beats, weight fetch, activation fetch, begins, ends; weights, acts: clocks of the fetches;
    results: clocks by job; first_reader: [2, fetches] first job of each fetch.
    """
    slots, spots, latency, stays = setting
    n, port, left, what = len(job), -1, 0, 0
    there, asked = np.zeros(2, np.int64), np.zeros(2, np.int64)
    at, beats, running, started = 0, 0, False, False
    ready = np.zeros(n, np.int64)
    length = np.zeros(n, np.int64)
    begun, finished, written, total, pipe, clock = 0, 0, 0, job[:, 4].sum(), 0, 0
    while True:
        if port >= 0 and left == 0:
            if port == 2:
                written += 1
            else:
                there[port] += 1
            port = -1
        if running and beats == 0:
            if job[at, 4]:
                ready[finished], length[finished] = clock + latency, results[at]
                finished += 1
            running = False
            at += 1
        reason = -1
        if not running and at < n:
            if there[0] <= job[at, 1]:
                reason = 3
            elif there[1] <= job[at, 2]:
                reason = 4
            elif job[at, 3] and begun - written >= spots:
                reason = 5
            else:
                running, started, beats = True, True, job[at, 0]
                begun += job[at, 3]
                pipe = clock + beats + latency
        if port < 0:
            if written < finished and ready[written] <= clock:
                port, left = 2, length[written]
            else:
                now = min(at, n - 1)
                take = -1
                if asked[0] < len(weights) and asked[0] - job[now, 1] < slots:
                    take = 0
                may = asked[1] < len(acts) and (stays or asked[1] - job[now, 2] < slots)
                if may and (take < 0 or first_reader[1, asked[1]] < first_reader[0, asked[0]]):
                    take = 1
                if take >= 0:
                    what = asked[take]
                    port, left = take, weights[what] if take == 0 else acts[what]
                    asked[take] += 1
        if written == total:
            break
        clock += 1
        if running:
            counters[0] += 1
            beats -= 1
        elif at < n:
            counters[reason if started else 2] += 1
        else:
            counters[6 if clock <= pipe else 7] += 1
        if port >= 0:
            counters[9 + port] += 1
            left -= 1
    counters[8] = clock


def jobs_of(made: Plan) -> tuple[Any, ...]:
    """What `by_clocks` takes, of an output-stationary plan with rows outermost; one entry per job."""
    array, product, chunks = made.array, made.product, len(made.chunks)
    o, i, k = (
        a.ravel()
        for a in np.meshgrid(
            np.arange(made.row_tiles), np.arange(made.token_tiles), np.arange(chunks), indexing="ij"
        )
    )
    row_last, token_last = (o == made.row_tiles - 1) * 1, (i == made.token_tiles - 1) * 1
    number = np.arange(len(o))
    weight_of = number if made.outer_streams else o
    act_of = i * chunks + k if made.inner_resident else number
    weight_bits = made.weight_bits if made.outer_streams else made.weight_bits.sum(axis=1, keepdims=True)
    first_w, first_a = np.unique(weight_of, return_index=True)[1], np.unique(act_of, return_index=True)[1]
    weights = events.request(made, weight_bits[row_last[first_w], k[first_w] if made.outer_streams else 0])
    acts = events.request(made, made.activation_bits[token_last[first_a], k[first_a]])
    rows, tokens = np.array(made.live("rows")), np.array(made.live("tokens"))
    results = events.request(made, rows[row_last] * tokens[token_last] * product.result_bits)
    readers = np.zeros((2, max(len(first_w), len(first_a))), np.int64)
    readers[0, : len(first_w)], readers[1, : len(first_a)] = first_w, first_a
    kind = o if made.per_row_tile else row_last
    job = np.stack([made.work[kind, k, BUSY], weight_of, act_of, k == 0, k == chunks - 1], axis=1)
    setting = (array.buffers, array.buffers, array.latency(), int(made.inner_resident))
    return job.astype(np.int64), weights, acts, results, readers, setting


def cases() -> Mapping[str, Plan]:
    """Plans by name: each kind of bound, and tiles so short that events are as dense as they get."""
    pe = BitSerial()
    array = ArraySpec(pe=pe)
    int4 = (Pass(weight=(1, 2, 4, 8)), Pass(weight=(1,), sums=True))

    def product(tokens: int, rows: int, columns: int, passes: tuple[Pass, ...], bits: int) -> Product:
        row = Stored(planes=sum(len(p.weight) for p in passes if not p.sums) * columns, scales=columns // 8)
        return Product(
            tokens=tokens,
            rows=rows,
            columns=columns,
            group=128,
            passes=passes,
            activation=places(bits),
            stored=row,
        )

    slow = ArraySpec(pe=pe, dram_bits_per_cycle=16, dram_latency=60)
    sign, wide = (Pass(weight=(1,)),), ArraySpec(pe=pe, dram_bits_per_cycle=512)
    skipping = ArraySpec(pe=pe, skip="words")
    return {
        "11008x4096 int4 x int8, 128 tokens": plan(product(128, 11008, 4096, int4, 8), array),
        "the same, every row tile different": plan(product(128, 11008, 4096, int4, 8), skipping, Thinned()),
        "11008x4096 int4 x int8, one token, 16-bit port": plan(product(1, 11008, 4096, int4, 8), slow),
        "11008x4096 sign x int8, 128 tokens": plan(product(128, 11008, 4096, sign, 8), array),
        "the same, 16-bit port, every row tile different": plan(
            product(128, 4096, 4096, sign, 8), replace(slow, skip="words"), Thinned()
        ),
        "11008x512 sign x 4 bits, 2048 tokens, short tiles": plan(product(2048, 11008, 512, sign, 4), wide),
    }


class Thinned:
    """Facts that leave each row tile another share of its beats, so that nothing repeats."""

    def work(self, pieces: list[tuple[int, int]], product: Product, array: ArraySpec) -> NDArray[np.int64]:
        tiles = -(-product.rows // array.rows)
        share = np.random.default_rng(0).integers(128, 257, (tiles, 1, 1, 1))
        whole = [
            [item(stop - first, one, product, array) for one in product.passes] for first, stop in pieces
        ]
        return np.array(whole, np.int64) * share // 256


def clocks_of(made: Plan, jobs: tuple[Any, ...]) -> NDArray[np.int64]:
    counters = np.zeros(len(events.COUNTERS), np.int64)
    by_clocks(*jobs, counters)
    return counters


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=7)
    repetitions = parser.parse_args().repetitions
    print(f"{'plan':50s} {'jobs':>8s} {'Mclocks':>8s} {'by clocks':>12s} {'by events':>12s} {'ratio':>7s}")
    worst = float("inf")
    for name, made in cases().items():
        jobs = jobs_of(made)
        exact, found = clocks_of(made, jobs), list(events.run(made)[0].values())
        if exact.tolist() != found:
            print(f"{name}: counters differ: {exact.tolist()} by clocks, {found} by events")
            return 1
        clocks = found[events.COUNTERS.index("clocks")]
        took = medians(
            {
                "clocks": lambda made=made, jobs=jobs: clocks_of(made, jobs),
                "events": lambda made=made: events.run(made),
            },
            repetitions,
        )
        ratio = took["clocks"] / took["events"]
        worst = min(worst, ratio)
        print(
            f"{name:50s} {made.jobs:8d} {clocks / 1e6:8.2f} {clocks / took['clocks'] / 1e6:8.0f} M/s "
            f"{clocks / took['events'] / 1e9:8.1f} G/s {ratio:7.0f}"
        )
    print(f"counters equal; smallest ratio {worst:.0f}, target {TARGET:.0f}; {os.cpu_count()} CPUs")
    return 0 if worst >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
