"""Runs of a component with a stream in and a stream out, with stalls on either side."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Value
from amaranth.sim import Simulator


def run(component: Any, payloads: list[Any], wanted: int, offered: Any = (), ready: Any = ()) -> Any:
    """Payloads of ``o``, as `amaranth.sim` gives them, and the clocks up to the last of them.

    A source holds an offer until it is taken; the sink complains if an item that it refused changes.
    """
    taken: list[Any] = []
    finished = 0

    async def bench(ctx: Any) -> None:
        nonlocal finished
        offers, takes = iter(offered), iter(ready)
        position, waiting, spare, refused = 0, False, 24, None
        for clock in range(100_000):
            offer, take = next(offers, True), next(takes, True)
            waiting = position < len(payloads) and (waiting or bool(offer))
            ctx.set(component.i.valid, waiting)
            if waiting:
                ctx.set(component.i.payload, payloads[position])
            ctx.set(component.o.ready, bool(take))
            sampled = ctx.tick().sample(
                component.i.ready, component.o.valid, component.o.payload, Value.cast(component.o.payload)
            )
            _, _, accepted, valid, item, bits = await sampled
            assert refused is None or (valid and bits == refused), f"changed under back-pressure at {clock}"
            refused = bits if valid and not take else None
            if valid and take:
                taken.append(item)
                finished = clock + 1 if len(taken) == wanted else finished
            if waiting and accepted:
                position, waiting = position + 1, False
            if position == len(payloads) and len(taken) >= wanted:
                spare -= 1
                if not spare:
                    return
        raise AssertionError(f"{len(taken)} of {wanted} items after {position} of {len(payloads)} beats")

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return taken, finished
