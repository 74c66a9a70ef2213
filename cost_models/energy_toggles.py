"""Toggles of a PE's circuit on a run of beats, glitches included: what its energy is proportional to.

Every gate has a delay by its kind and by how many gates read it, in units without a technology; a gate whose
inputs change again before its output has followed does not move (inertial delay, as in Verilog's continuous
assignment). A toggle that is left when all has settled is the function's own, any other one a glitch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algo.compiled import kernel
from cost_models import tech
from cost_models.energy_circuit import Circuit, circuit
from cost_models.energy_gates import KINDS
from hw.beats import Beats
from hw.spec import PeSpec

Bits = NDArray[np.uint8]
Int = NDArray[np.int64]

_MOST_READ = 16  #: gates from which on a net is buffered, and gets no slower

#: What is counted in a clock. "pins": for each toggle of a net the gates and flip-flops that read it.
#: "settled" and "glitch" tell which toggles; gates alone have glitches.
FEATURES = (
    "flops",
    "input pins",
    "flop toggles",
    "flop pins",
    *(f"{kind} {what}" for kind in KINDS[:4] for what in ("settled", "glitch")),
    "settled pins",
    "glitch pins",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Toggles:
    """Counts of each window of clocks of a run."""

    counts: NDArray[np.float64]  #: [windows, features], of a clock, in the order of `FEATURES`
    outputs: Mapping[str, Bits]  #: bits of each output port, [clocks, bits], when all has settled


def drive(spec: PeSpec, beats: Beats) -> dict[str, Bits]:
    """Ports of a PE, [clocks, bits], offered a beat on every clock by a source that never stalls."""
    total = sum(spec.fields().values())
    words = np.ascontiguousarray(beats.payload(spec)).view(np.uint8).reshape(len(beats), -1)
    payload = np.unpackbits(words, axis=1, bitorder="little")[:, :total]
    one = np.ones((len(beats), 1), np.uint8)
    return {"i__payload": payload, "i__valid": one, "o__ready": one, "rst": 0 * one, "clk": 0 * one}


def toggles(made: Circuit, ports: Mapping[str, Bits], windows: NDArray[np.int64]) -> Toggles:
    """Count a run.

    Parameters: ports, bits of each input port, [clocks, bits]; windows, [n, 2], the first clock of each and
    the first behind it, ascending and apart
    """
    nodes = np.concatenate([made.inputs[name] for name in made.inputs])
    bits = np.concatenate([ports[name] for name in made.inputs], axis=1)
    first, readers = _fanout(made)
    loads = np.diff(first).astype(np.float64)
    loads += np.bincount(made.data >> 1, minlength=len(loads))
    shown = np.concatenate(list(made.outputs.values()))
    total, settled, seen = _run(made, _delays(made, loads), (first, readers), nodes, bits, shown, windows)
    widths = np.cumsum([len(bits) for bits in made.outputs.values()])[:-1]
    outputs = dict(zip(made.outputs, np.split(seen, widths, axis=1), strict=True))
    clocks = (windows[:, 1] - windows[:, 0])[:, None]
    counts = _features(made, loads, total, settled) / clocks
    counts[:, FEATURES.index("flops")] = len(made.flops)
    return Toggles(counts=counts, outputs=outputs)


def of_beats(spec: PeSpec, beats: Beats, windows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Counts of a PE, [windows, features], of a clock; see `toggles`."""
    return toggles(circuit(spec), drive(spec, beats), windows).counts


def _run(
    made: Circuit,
    delays: NDArray[np.int32],
    fanout: tuple[NDArray[np.int32], NDArray[np.int32]],
    inputs: NDArray[np.int32],
    bits: Bits,
    shown: NDArray[np.int32],
    windows: Int,
) -> tuple[Int, Int, Bits]:
    """Toggles [windows, nodes], all and settled, and the bits ``shown`` of each clock."""
    n = len(made.tables)
    values = _start(made.reads, made.tables, inputs, bits[0], made.flops, made.start)
    due, stamp = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    wheel = np.empty((int(delays.max()) + 1, n), np.int32)
    filled, dirty = np.zeros(len(wheel), np.int64), np.empty(n, np.int32)
    # The last row takes what is not counted.
    total, settled = np.zeros((2, len(windows) + 1, n), np.int64)
    window_of = np.full(len(bits), len(windows))
    for at, (first, end) in enumerate(windows):
        window_of[first:end] = at
    seen = np.empty((len(bits), len(shown)), np.uint8)
    seen[0] = values[shown >> 1] ^ (shown & 1)
    now = 0
    for clock in range(1, len(bits)):
        at = window_of[clock]
        before = values.copy()
        waiting = _edge(now, bits[clock], inputs, made.flops, made.data, delays, values, due, wheel, filled)
        now = _settle(
            now,
            waiting,
            made.reads,
            made.tables,
            delays,
            *fanout,
            values,
            total[at],
            due,
            stamp,
            wheel,
            filled,
            dirty,
        )
        # All lists are empty: time may begin anywhere.
        settled[at] += values != before
        seen[clock] = values[shown >> 1] ^ (shown & 1)
    return total[:-1], settled[:-1], seen


def _features(made: Circuit, loads: NDArray[np.float64], total: Int, settled: Int) -> NDArray[np.float64]:
    """Columns of `FEATURES` that are toggles, summed over the clocks of each window."""
    glitch = total - settled
    inputs, flops = made.kinds == -2, made.kinds == -3
    gates = made.kinds >= 0
    columns = [
        np.zeros(len(total)),
        total[:, inputs] @ loads[inputs],
        total[:, flops].sum(axis=1),
        total[:, flops] @ loads[flops],
    ]
    for kind in range(4):
        of_kind = made.kinds == kind
        columns += [settled[:, of_kind].sum(axis=1), glitch[:, of_kind].sum(axis=1)]
    columns += [settled[:, gates] @ loads[gates], glitch[:, gates] @ loads[gates]]
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)


def _fanout(made: Circuit) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Gates that read each node: where its list begins, and the lists."""
    gate, _ = np.nonzero(made.reads)
    node = made.reads[made.reads > 0]
    order = np.argsort(node, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(node, minlength=len(made.reads)))])
    return first.astype(np.int32), gate[order].astype(np.int32)


def _delays(made: Circuit, loads: NDArray[np.float64]) -> NDArray[np.int32]:
    gate, xor, flop, reader = (
        tech.design(f"{name}_delay").value for name in ("gate", "xor", "flop", "reader")
    )
    slow = [xor] * (len(KINDS) - 1)
    own = np.array([gate, *slow, flop, 0, 0])[made.kinds]  # kinds -3, -2, -1 count from the end
    return (own + reader * np.minimum(loads, _MOST_READ)).astype(np.int32)


@kernel
def _value(reads: Any, tables: Any, values: Any, gate: int) -> int:
    at = values[reads[gate, 0]] | values[reads[gate, 1]] << 1 | values[reads[gate, 2]] << 2
    return tables[gate] >> at & 1


@kernel
def _plan(node: int, when: int, due: Any, wheel: Any, filled: Any) -> None:
    """Let a node flip at a time, of which `wheel` has a list."""
    slot = when % len(wheel)
    due[node] = when
    wheel[slot, filled[slot]] = node
    filled[slot] += 1


@kernel
def _settle(
    now: int,
    waiting: int,
    reads: Any,
    tables: Any,
    delays: Any,
    first: Any,
    readers: Any,
    values: Any,
    counts: Any,
    due: Any,
    stamp: Any,
    wheel: Any,
    filled: Any,
    dirty: Any,
) -> int:
    """Let ``waiting`` planned flips and all that follow from them happen; returns the time behind them."""
    while waiting:
        slot, found = now % len(wheel), 0
        for k in range(filled[slot]):
            node = wheel[slot, k]
            if due[node] != now:
                continue
            due[node] = -1
            waiting -= 1
            values[node] ^= 1
            counts[node] += 1
            for at in range(first[node], first[node + 1]):
                gate = readers[at]
                if stamp[gate] != now:
                    stamp[gate] = now
                    dirty[found] = gate
                    found += 1
        filled[slot] = 0
        for k in range(found):
            gate = dirty[k]
            moves = _value(reads, tables, values, gate) != values[gate]
            if moves and due[gate] < 0:
                _plan(gate, now + delays[gate], due, wheel, filled)
                waiting += 1
            elif not moves and due[gate] >= 0:
                due[gate] = -1
                waiting -= 1
        now += 1
    return now


@kernel
def _edge(
    now: int,
    bits: Any,
    inputs: Any,
    flops: Any,
    data: Any,
    delays: Any,
    values: Any,
    due: Any,
    wheel: Any,
    filled: Any,
) -> int:
    """Plan what a clock's edge and the inputs behind it flip; returns how many flips."""
    waiting = 0
    for k in range(len(flops)):
        node = flops[k]
        if values[node] != values[data[k] >> 1] ^ (data[k] & 1):
            _plan(node, now + delays[node], due, wheel, filled)
            waiting += 1
    for k in range(len(inputs)):
        if values[inputs[k]] != bits[k]:
            _plan(inputs[k], now, due, wheel, filled)
            waiting += 1
    return waiting


@kernel
def _start(reads: Any, tables: Any, inputs: Any, bits: Any, flops: Any, start: Any) -> Any:
    """Settled values of all nodes before the first edge."""
    values = np.zeros(len(tables), np.uint8)
    for k in range(len(flops)):
        values[flops[k]] = start[k]
    for k in range(len(inputs)):
        values[inputs[k]] = bits[k]
    for gate in range(len(tables)):
        if reads[gate, 0]:
            values[gate] = _value(reads, tables, values, gate)
    return values
