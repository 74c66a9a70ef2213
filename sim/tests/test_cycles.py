"""Clocks of an array with buffers and memory: the event loop against a loop over clocks, and both by hand."""

import re
from dataclasses import replace

import numpy as np
from hypothesis import given, reject
from hypothesis import strategies as st

from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec
from sim.cycles import events
from sim.cycles.plan import plan
from sim.cycles.product import Pass, Product, Stored
from sim.tests.slow_array import Fetch, Job, Machine, simulate

ARRAY_COUNTERS = events.COUNTERS[:8]


def expanded(product, array, chunks, beats=None):
    """Jobs, weight fetches and activation fetches of a product, one by one.

    beats: clocks of the items of (row tile, piece, pass), where they are not those of the PE.
    """
    rows_outer = array.outer == "rows"
    row_tiles = [range(r, min(r + array.rows, product.rows)) for r in range(0, product.rows, array.rows)]
    token_tiles = [
        range(t, min(t + array.columns, product.tokens)) for t in range(0, product.tokens, array.columns)
    ]
    act_row = product.streams * product.columns * len(product.activation)
    stored = product.stored.planes + product.stored.masks + product.stored.scales
    bits = {
        "weights": [[len(t) * part(stored, product.columns, c) for c in chunks] for t in row_tiles],
        "activations": [
            [len(t) * (part(act_row, product.columns, c) + product.token_bits * (c[0] == 0)) for c in chunks]
            for t in token_tiles
        ],
    }
    capacity = {"weights": array.weight_buffer_bits, "activations": array.activation_buffer_bits}
    outer, inner = ("weights", "activations") if rows_outer else ("activations", "weights")
    whole = {k: max((sum(v) for v in b), default=0) for k, b in bits.items()}
    streams = whole[outer] > capacity[outer] // array.buffers
    total = sum(map(sum, bits[inner])) + (0 if rows_outer else product.stored.shared)
    stays = total <= capacity[inner]
    block = len(bits[inner])
    if array.dataflow == "output-stationary":
        block = 1
    else:
        held = array.result_buffer_bits // array.buffers
        block = min(block, held // (array.rows * array.columns * array.pe.acc_width))
    jobs, fetches = [], {"weights": [], "activations": []}
    at = {}
    for o in range(len(bits[outer])):
        for first in range(0, len(bits[inner]), max(1, block)):
            for k, chunk in enumerate(chunks):
                for i in range(first, min(first + block, len(bits[inner]))):
                    row, token = (o, i) if rows_outer else (i, o)
                    used = {}
                    keys = {
                        outer: (o, first, k) if streams else (o,),
                        inner: (i, k) if stays else (o, i, k),
                    }
                    amount = {outer: bits[outer][o][k] if streams else sum(bits[outer][o])}
                    amount[inner] = bits[inner][i][k]
                    for kind, key in keys.items():
                        if (kind, key) not in at:
                            at[kind, key] = len(fetches[kind])
                            extra = product.stored.shared if kind == "weights" and not fetches[kind] else 0
                            fetches[kind].append(Fetch(amount[kind] + extra, stays=kind == inner and stays))
                        used[kind] = at[kind, key]
                        fetches[kind][used[kind]].jobs.append(len(jobs))
                    live = len(row_tiles[row])
                    result = live * len(token_tiles[token]) * product.result_bits
                    jobs.append(
                        Job(
                            items=items(product, array, chunk, None if beats is None else beats[row]),
                            scale=live * array.scale_clocks,
                            **used,
                            begins=k == 0,
                            ends=k == len(chunks) - 1,
                            result=result,
                        )
                    )
    machine = Machine(
        bits_per_clock=array.dram_bits_per_cycle,
        latency=array.dram_latency,
        slots=array.buffers,
        places=array.buffers * max(1, block),
        pipeline=array.latency(),
    )
    return jobs, fetches, machine


def part(bits, columns, chunk):
    return bits * chunk[1] // columns - bits * chunk[0] // columns


def items(product, array, chunk, beats):
    """Clocks of a chunk's items that have any."""
    found, first = [], chunk[0]
    while first < chunk[1]:
        stop = min(chunk[1], first - first % product.group + product.group)
        for number, one in enumerate(product.passes):
            if beats is not None:
                found.append(beats[first, number])
                continue
            size = stop - first
            if array.pack_kept:
                size = sum(1 for c in range(size) if c % one.of < one.keep)
            words = (size + array.pe.lanes - 1) // array.pe.lanes
            exponents = [
                abs(w).bit_length() + abs(a).bit_length() - 2 for w in one.weight for a in product.activation
            ]
            bubbles = sum(1 for e in range(max(exponents)) if e not in exponents)
            found.append(words * len(exponents) + (bubbles if array.planes == "outermost" else 0))
        first = stop
    return [clocks for clocks in found if clocks]


def judged(product, array, chunks, beats=None):
    jobs, fetches, machine = expanded(product, array, chunks, beats)
    return simulate(jobs, fetches["weights"], fetches["activations"], machine, array.outer == "rows")


@st.composite
def cases(draw):
    passes = draw(
        st.lists(
            st.builds(
                lambda weight, sums, masked, nm: Pass(
                    weight=weight, sums=sums, masked=masked, keep=nm[0], of=nm[1]
                ),
                st.sampled_from([(1,), (1, -1), (1, 2, -4), (1, 8)]),
                st.booleans(),
                st.booleans(),
                st.sampled_from([(1, 1), (2, 4), (1, 2)]),
            ),
            min_size=1,
            max_size=2,
        )
    )
    columns = draw(st.integers(1, 21))
    product = Product(
        tokens=draw(st.integers(0, 5)),
        rows=draw(st.integers(1, 7)),
        columns=columns,
        group=draw(st.integers(1, columns)),
        passes=tuple(passes),
        activation=draw(st.sampled_from([(1,), (1, -2), (1, 2, -4)])),
        stored=Stored(
            planes=draw(st.integers(0, 3)) * columns,
            masks=draw(st.integers(0, columns)),
            scales=draw(st.integers(0, 40)),
            shared=draw(st.sampled_from([0, 0, 17])),
        ),
        streams=draw(st.integers(1, 2)),
        result_bits=draw(st.sampled_from([1, 8, 32])),
        token_bits=draw(st.sampled_from([0, 32])),
    )
    array = ArraySpec(
        pe=BitSerial(lanes=draw(st.sampled_from([1, 3, 8])), acc_width=8, levels=draw(st.integers(0, 1))),
        rows=draw(st.integers(1, 3)),
        columns=draw(st.integers(1, 3)),
        weight_buffer_bits=draw(st.integers(1, 900)),
        activation_buffer_bits=draw(st.integers(1, 900)),
        result_buffer_bits=draw(st.integers(1, 600)),
        dram_bits_per_cycle=draw(st.sampled_from([1, 4, 7, 64, 1000])),
        dataflow=draw(st.sampled_from(["output-stationary", "weight-stationary"])),
        outer=draw(st.sampled_from(["rows", "tokens"])),
        planes=draw(st.sampled_from(["outermost", "inside"])),
        buffers=draw(st.integers(1, 3)),
        dram_latency=draw(st.sampled_from([0, 0, 1, 9])),
        scale_clocks=draw(st.sampled_from([0, 0, 1, 3, 8])),
        pack_kept=draw(st.booleans()),
    )
    return product, array


SMALL = re.compile(r"(weight|activation|result)_buffer_bits must be at least")


def planned(product, array, facts=None):
    """The plan of a case, unless its buffers are too small."""
    try:
        return plan(product, array, facts)
    except ValueError as error:
        if not SMALL.match(str(error)):
            raise
        return reject()


@given(cases())
def test_event_loop_equals_the_loop_over_clocks(case):
    made = planned(*case)
    counted, _ = events.run(made)
    assert counted == judged(*case, made.chunks)
    assert sum(counted[name] for name in ARRAY_COUNTERS) == counted["clocks"]


class Dice:
    """Work of every row tile by a throw, zeros often."""

    def __init__(self, seed):
        self.seed = seed
        self.thrown = {}

    def work(self, pieces, product, array):
        tiles = -(-product.rows // array.rows)
        rng = np.random.default_rng((self.seed, pieces[0][0]))
        found = rng.integers(0, 6, (tiles, len(pieces), len(product.passes), 4)) * rng.integers(
            0, 2, (tiles, len(pieces), len(product.passes), 1)
        )
        for tile in range(tiles):
            for at, (first, _) in enumerate(pieces):
                for number in range(len(product.passes)):
                    self.thrown.setdefault(tile, {})[first, number] = int(found[tile, at, number, 0])
        return found


@given(cases(), st.integers(0, 99))
def test_event_loop_equals_it_where_every_row_tile_skips_something_else(case, seed):
    product, array = case
    array = replace(array, skip="words")
    dice = Dice(seed)
    made = planned(product, array, dice)
    counted, _ = events.run(made)
    assert counted == judged(product, array, made.chunks, dice.thrown)


@st.composite
def long_cases(draw):
    """Many tiles of the outer operand: what repeats is jumped over."""
    product, array = draw(cases())
    many = draw(st.integers(20, 60))
    few = draw(st.integers(1, 6))
    rows, tokens = (many, few) if array.outer == "rows" else (few, many)
    return replace(product, rows=rows, tokens=tokens), array


@given(long_cases())
def test_jumping_over_what_repeats_changes_no_counter(case):
    made = planned(*case)
    counted, _ = events.run(made)
    # A run that keeps spans takes every step.
    stepped, spans = events.run(made, spans=1)
    assert counted == stepped
    assert len(spans) == 1
    if made.jobs < 100:
        assert counted == judged(*case, made.chunks)
