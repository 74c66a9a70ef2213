"""Packets through the RTL of the core: words in with stalls, tiles and completions out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from amaranth.sim import Simulator

from hw.accelerator.commands import Error
from hw.accelerator.core import Core
from hw.accelerator.model import Completion, Model
from hw.accelerator.spec import AcceleratorSpec

KINDS = ("runs", "waits_out", "waits_in")


@dataclass
class Observed:
    """What came out of a run, and its clocks by kind."""

    tiles: list[bytes] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    clocks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    done_at: list[int] = field(default_factory=list)  #: clock of each completion


def modelled(spec: AcceleratorSpec, packets: list[list[int]]) -> Model:
    model = Model(spec)
    for packet in packets:
        model.packet(packet)
    return model


def run(
    spec: AcceleratorSpec,
    packets: list[list[int]],
    offered: Any = (),
    ready: Any = (),
    go: Any = (),
    limit: int = 20_000,
    component: Any = None,
) -> Observed:
    """Feed packets until as many completions came as the model has, and some clocks more."""
    core = component or Core(spec)
    wanted = len(modelled(spec, packets).completions)
    words = [(w, at == len(p) - 1) for p in packets for at, w in enumerate(p)]
    seen = Observed()

    async def bench(ctx: Any) -> None:
        offers, takes, goes = iter(offered), iter(ready), iter(go)
        position, waiting, spare, refused, tile = 0, False, 30, None, b""
        for clock in range(limit):
            waiting = position < len(words) and (waiting or bool(next(offers, True)))
            take = bool(next(takes, True))
            ctx.set(core.s.valid, waiting)
            if waiting:
                ctx.set(core.s.payload, {"data": words[position][0], "last": words[position][1]})
            ctx.set(core.m.ready, take)
            ctx.set(core.go, bool(next(goes, True)))
            sampled = await ctx.tick().sample(
                core.s.ready, core.m.valid, core.m.payload, core.done, core.done_error, core.done_tag,
                core.runs, core.waits_out, core.waits_in, core.idle,
            )  # fmt: skip
            accepted, valid, word, done, error, tag, runs, waits_out, waits_in, idle = sampled[2:]
            assert runs + waits_out + waits_in <= 1
            for name, value in (("runs", runs), ("waits_out", waits_out), ("waits_in", waits_in)):
                seen.clocks[name] += value
            bits = (word.data, word.keep, word.last) if valid else None
            assert refused is None or bits == refused, f"changed under back-pressure at clock {clock}"
            refused = bits if valid and not take else None
            if valid and take:
                size = word.keep.bit_length()
                assert size
                assert word.keep == (1 << size) - 1
                assert word.last or size == spec.bus // 8
                tile += word.data.to_bytes(spec.bus // 8, "little")[:size]
                if word.last:
                    seen.tiles.append(tile)
                    tile = b""
            if done:
                seen.completions.append(Completion(tag=tag, error=Error(error)))
                seen.done_at.append(clock)
            if waiting and accepted:
                position, waiting = position + 1, False
            if position == len(words) and len(seen.completions) >= wanted:
                spare -= 1
                if not spare:
                    assert idle
                    assert not tile
                    return
        raise AssertionError(
            f"{len(seen.completions)} of {wanted} completions after {position} of {len(words)} words"
        )

    simulator = Simulator(core)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return seen
