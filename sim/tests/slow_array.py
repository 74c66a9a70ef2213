"""An array clock by clock in plain Python: the judge of `sim.cycles.events`, which it shares no code with.

It takes a list of jobs, each with its item clocks, what it fetches and what it leaves behind, and a machine's
few numbers. Jobs are expanded here one by one from a product's own figures.
"""

from dataclasses import dataclass, field


@dataclass
class Job:
    """What the array does without looking for data."""

    items: list[int]  # clocks of each item that has beats
    scale: int  # clocks the scale unit is busy with an item of this tile
    weights: int  # number of the weight fetch it reads
    activations: int  # number of the activation fetch it reads
    begins: bool  # first chunk of a tile
    ends: bool  # last chunk of a tile
    result: int  # bits the tile leaves


@dataclass
class Fetch:
    """Bits that some jobs read."""

    bits: int
    jobs: list[int] = field(default_factory=list)
    stays: bool = False  # never leaves its buffer


@dataclass
class Machine:
    bits_per_clock: int
    latency: int  # of the port
    slots: int
    places: int
    pipeline: int


def simulate(
    jobs: list[Job], weights: list[Fetch], activations: list[Fetch], machine: Machine, weights_first
):
    """Counters by name."""
    names = ("busy", "scale", "fill", "weights", "activations", "results", "latency", "drain")
    count = dict.fromkeys([*names, "clocks", "port_weights", "port_activations", "port_results"], 0)
    if not jobs:
        return count
    ready = {"weights": set(), "activations": set()}
    fetches = {"weights": weights, "activations": activations}
    asked = {"weights": 0, "activations": 0}
    order = ("weights", "activations") if weights_first else ("activations", "weights")
    port = None  # [what, clocks left]
    job, running, unit = 0, False, 0
    item, left = 0, 0  # of the running job: items handed over, beats left of the next
    begun = written = 0
    waiting: list[int] = []  # results, by the clock they may leave at
    sizes: list[int] = []
    last_ready = 0
    clock, started = 0, False

    def held(kind: str) -> int:
        """Fetches asked for that a job not yet done will read, or that nothing has read yet."""
        return sum(1 for f in fetches[kind][: asked[kind]] if not f.stays and f.jobs[-1] >= job)

    def length(bits: int) -> int:
        return 0 if bits == 0 else machine.latency + len(range(0, bits, machine.bits_per_clock))

    while written < sum(1 for j in jobs if j.ends):
        # Everything that takes no time happens between two clocks.
        moved, reason = True, None
        while moved:
            moved, reason = False, None
            if port is not None and port[1] == 0:
                kind = port[0]
                if kind == "results":
                    written += 1
                else:
                    ready[kind].add(port[2])
                port, moved = None, True
            if running and item == len(jobs[job].items):
                if jobs[job].ends:
                    waiting.append(max(clock, last_ready))
                    sizes.append(jobs[job].result)
                running, job, moved = False, job + 1, True
            if not running and job < len(jobs):
                now = jobs[job]
                if now.weights not in ready["weights"]:
                    reason = "weights"
                elif now.activations not in ready["activations"]:
                    reason = "activations"
                elif now.begins and begun - written >= machine.places:
                    reason = "results"
                else:
                    running, started, moved = True, True, True
                    begun += now.begins
                    item, left = 0, now.items[0] if now.items else 0
            if moved:
                continue
            if port is None and len(waiting) > written and waiting[written] <= clock:
                port = ["results", length(sizes[written]), written]
                moved = port[1] == 0
            elif port is None:
                able = []
                for kind in order:
                    at = asked[kind]
                    if at < len(fetches[kind]):
                        fetch = fetches[kind][at]
                        if fetch.stays or held(kind) < machine.slots:
                            able.append((fetch.jobs[0], order.index(kind), kind))
                if able:
                    kind = min(able)[2]
                    port = [kind, length(fetches[kind][asked[kind]].bits), asked[kind]]
                    asked[kind] += 1
                    moved = port[1] == 0
        if written == sum(1 for j in jobs if j.ends):
            break
        # One clock.
        unit = max(0, unit - 1)
        if running:
            count["busy" if left else "scale"] += 1
            left = max(0, left - 1)
            if left == 0 and unit == 0:
                now = jobs[job]
                unit, last_ready = now.scale, clock + 1 + machine.pipeline + now.scale
                item += 1
                left = now.items[item] if item < len(now.items) else 0
        elif job < len(jobs):
            count[reason if started else "fill"] += 1
        else:
            count["latency" if clock < last_ready else "drain"] += 1
        if port is not None:
            count["port_" + port[0]] += 1
            port[1] -= 1
        clock += 1
    count["clocks"] = clock
    return count
