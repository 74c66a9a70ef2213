"""Clocks a second of the engines that execute a PE's RTL, batched, builds not counted.

CPU time of the process and of what it starts, one after the other; every engine's items are checked against
the PE's golden on a short run before it is timed.

    python benchmarks/bench_rtl_speed.py                     a million beats of 64 lanes, CXXRTL and Verilator
    python benchmarks/bench_rtl_speed.py --engines icarus netlist --beats 20000
"""

from __future__ import annotations

import argparse
import platform
import resource
from collections.abc import Callable

from hw.beats import Beats
from hw.spec import PeSpec
from planeforge.hardware import pe as named
from planeforge.verifying import BUDGET, runner

CHECKED = 2000  #: beats that are also computed by golden


def spent() -> float:
    """CPU seconds of this process and of its children that have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    usages = [resource.getrusage(kind) for kind in kinds]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(function: Callable[[], object]) -> float:
    began = spent()
    function()
    return spent() - began


def measure(spec: PeSpec, engine: str, beats: Beats) -> float:
    """CPU seconds of all beats, after a short run that builds the model and is checked."""
    run, few = runner(engine), Beats.random(spec, CHECKED, 1)
    if list(run(spec, few).items) != spec.items(few.to_list()):
        raise RuntimeError(f"items of {engine} must be golden's, and are not")
    return timed(lambda: run(spec, beats))


def main() -> None:
    parser = argparse.ArgumentParser(description="speed of the engines that execute RTL")
    parser.add_argument("--pe", default="bitserial:lanes=64")
    parser.add_argument("--beats", type=int, default=1_000_000)
    parser.add_argument("--engines", nargs="+", choices=BUDGET, default=["cxxrtl", "verilator"])
    given = parser.parse_args()
    spec = named(given.pe)
    beats = Beats.random(spec, given.beats, 0)
    print(f"{spec}, {given.beats} beats, {platform.processor() or platform.machine()}")
    for engine in given.engines:
        seconds = measure(spec, engine, beats)
        print(f"{engine:10s} {seconds:8.2f} s CPU {given.beats / seconds / 1e6:8.3f} M clocks/s", flush=True)


if __name__ == "__main__":
    main()
