"""The benches cocotb runs inside a simulator: one run of a PE, driven from files, observed into files.

`drive` moves every beat itself; ``PLANEFORGE_STIMULUS`` and ``PLANEFORGE_OBSERVED`` name its two files, both
JSON (see `hw.verilog_sim`). `batch` wakes twice: a module in Verilog reads and writes beside it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge


@cocotb.test()
async def drive(dut: Any) -> None:
    """Clock 0 is the first whose edge sees no reset. Just after an edge, values are still those before it."""
    stimulus = json.loads(Path(os.environ["PLANEFORGE_STIMULUS"]).read_text())
    observed: dict[str, Any] = {"items": [], "cycles": 0}
    Clock(dut.clk, 10, unit="ns").start()
    dut.rst.value = 1
    dut.i__valid.value = 0
    dut.i__payload.value = 0
    dut.o__ready.value = 0
    for _ in range(2):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    try:
        await run(dut, stimulus, observed)
    finally:
        Path(os.environ["PLANEFORGE_OBSERVED"]).write_text(json.dumps(observed))


@cocotb.test()
async def batch(dut: Any) -> None:
    """Reset as above, then the whole run without this side; the clock too is the simulator's own."""
    Clock(dut.clk, 10, unit="ns", impl="gpi").start()
    dut.rst.value = 1
    for _ in range(2):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    await RisingEdge(dut.done)


async def run(dut: Any, stimulus: dict[str, Any], observed: dict[str, Any]) -> None:
    payload = [int(word, 16) for word in stimulus["payload"]]
    offered, ready = stimulus["offered"], stimulus["ready"]
    items: list[int] = observed["items"]
    edge = RisingEdge(dut.clk)
    position, waiting, spare = 0, False, stimulus["spare"]
    refused: int | None = None
    for clock in range(stimulus["limit"]):
        offer = clock >= len(offered) or offered[clock] == "1"
        take = clock >= len(ready) or ready[clock] == "1"
        waiting = position < len(payload) and (waiting or offer)
        dut.i__valid.value = int(waiting)
        dut.o__ready.value = int(take)
        if waiting:
            dut.i__payload.value = payload[position]
        await edge
        valid = dut.o__valid.value == 1
        item = dut.o__payload.value.to_unsigned() if valid else None
        if refused is not None and item != refused:
            observed["fault"] = f"o must hold item {refused} until it is taken, not change at clock {clock}"
            raise RuntimeError(observed["fault"])
        refused = None if take else item
        if item is not None and take:
            items.append(item)
            if len(items) == stimulus["expected"]:
                observed["cycles"] = clock + 1
        if waiting and dut.i__ready.value == 1:
            position, waiting = position + 1, False
        if position == len(payload) and len(items) >= stimulus["expected"]:
            spare -= 1
            if spare < 0:
                return
