"""A PE's RTL in Amaranth's own simulator: thousands of clocks a second, no other tool needed."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Value
from amaranth.sim import Simulator
from numpy.typing import ArrayLike

from hw.beats import Beats, Run
from hw.spec import PeSpec
from hw.stimulus import Stimulus


def run(spec: PeSpec, beats: Beats, offered: ArrayLike = (), ready: ArrayLike = ()) -> Run:
    """Execute the RTL of ``spec`` on ``beats``.

    Parameters: offered, ready : bool [clocks], as in `PeSpec.stalled_cycles`
    Raises:     ValueError from `Stimulus.of`; RuntimeError if the PE hands over fewer or more items than the
                beats finish, or takes back or alters an item the sink was not ready for
    """
    stimulus = Stimulus.of(spec, beats, offered, ready)
    pe = spec.create()
    items: list[int] = []
    finished = 0

    async def bench(ctx: Any) -> None:
        nonlocal finished
        payload = [int.from_bytes(words.astype("<u4").tobytes(), "little") for words in stimulus.payload]
        offers, takes = iter(stimulus.offered.tolist()), iter(stimulus.ready.tolist())
        position, waiting, spare = 0, False, stimulus.spare
        refused: int | None = None
        ports = {"valid": pe.i.valid, "ready": pe.o.ready, "payload": pe.i.payload.as_value()}
        driven: dict[str, int] = {}
        for clock in range(stimulus.limit):
            offer, take = next(offers, True), next(takes, True)
            waiting = position < len(payload) and (waiting or offer)
            # Each set settles the whole design, so only what changes is set.
            changes = {"valid": int(waiting), "ready": int(take)}
            if waiting:
                changes["payload"] = payload[position]
            for name, value in changes.items():
                if driven.get(name) != value:
                    ctx.set(ports[name], value)
            driven.update(changes)
            sampled = ctx.tick().sample(pe.i.ready, pe.o.valid, Value.cast(pe.o.payload))
            _, _, accepted, valid, item = await sampled
            if refused is not None and not (valid and item == refused):
                raise RuntimeError(
                    f"o must hold item {refused} until it is taken, not change at clock {clock}"
                )
            refused = item if valid and not take else None
            if valid and take:
                items.append(item)
                finished = clock + 1 if len(items) == stimulus.expected else finished
            if waiting and accepted:
                position, waiting = position + 1, False
            if position == len(payload) and len(items) >= stimulus.expected:
                spare -= 1
                if spare < 0:
                    break

    simulator = Simulator(pe)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return stimulus.run(items, len(items), finished)
