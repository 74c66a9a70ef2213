"""Whole decoders on an array, by name: models, weight formats, phases, a table, a trace."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hw.spec import ArraySpec
    from sim.decoders import Decoder
    from sim.peers.scheduled import Peer
    from sim.weight_formats import WeightFormat
    from sim.workload import Phase, Setting, Work

ALL = "all"  #: every format that is registered or described
SAMPLE = (32, 512)  #: rows and columns of the random matrix a method's own format is read off


def model(text: str) -> Decoder:
    """A decoder by the name of a library model, a ``config.json``, or the directory that holds one.

    Raises ValueError for an unknown name or a config that describes no known decoder.
    """
    from sim import decoders

    path = Path(text)
    if path.is_dir():
        path = path / "config.json"
    if not path.is_file():
        if text in decoders.LIBRARY:
            return decoders.LIBRARY[text]
        listed = ", ".join(decoders.LIBRARY)
        raise ValueError(f"model must be a config.json, its directory, or one of {listed}, not {text!r}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must hold JSON: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} must hold a JSON object, not {config!r}")
    return decoders.from_config(config, name=path.parent.name or "model")


def format_names() -> tuple[str, ...]:
    """Names a weight format may have: the catalog's, the described ones, the methods that are their own."""
    from algo.bitplane import family
    from algo.formats import catalog
    from sim import weight_formats

    own = [n for n in family.names("algo.methods") if not family.load("algo.methods", n).FORMATS]
    return (*catalog.ALL, *weight_formats.PUBLISHED, *own)


def formats(names: Sequence[str]) -> dict[str, WeightFormat | str]:
    """Weight formats by name; in the place of one that no array of planes runs, the reason.

    Raises ValueError for an unknown name, and for one that is asked for by its name and does not run.
    """
    known = format_names()
    for name in names:
        if name not in (*known, ALL):
            raise ValueError(f"format must be one of {ALL}, {', '.join(known)}, not {name!r}")
    every = ALL in names
    found: dict[str, WeightFormat | str] = {}
    for name in known if every else dict.fromkeys(names):
        try:
            found[name] = _format(name)
        except ValueError as error:
            if not every:
                raise
            found[name] = str(error)
    return found


def _format(name: str) -> WeightFormat:
    from algo.formats import catalog
    from sim import weight_formats

    if name in catalog.ALL:
        return weight_formats.of_format(catalog.ALL[name])
    if name in weight_formats.PUBLISHED:
        return weight_formats.PUBLISHED[name]
    return _of_method(name)


def _of_method(name: str) -> WeightFormat:
    """A method's own format, read off a random matrix it quantizes at its defaults."""
    import numpy as np

    from algo.bitplane import family
    from algo.formats.quantized import Calibration
    from sim import weight_formats

    module = family.load("algo.methods", name)
    rng = np.random.default_rng(0)
    weight = rng.normal(size=SAMPLE)
    calibration = Calibration.of(rng.normal(size=(2 * SAMPLE[1], SAMPLE[1])))
    result = module.quantize(weight, calibration, module.Config())
    if result.inner is not None:
        raise ValueError(f"format must be of one matrix, not {name!r}, which holds a product of two")
    return weight_formats.of_sample(name, result.matrix, module.SOURCE)


def peer(name: str) -> Peer:
    """A published accelerator by name. Raises ValueError naming them if there is none of that name."""
    from sim.peers import scheduled

    return scheduled.get(name)


def closed_form(name: str, job: Job) -> dict[str, Any]:
    """What a peer's own published formulas say, empty where it has none.

    Cycles of the BitMoD evaluation by phase (on that phase's array), or peak and LUTs of a BISMO array.
    """
    from dataclasses import asdict

    from sim.peers import bismo, bitmod

    if name in bitmod.ACCELERATORS:
        sizes = {"prefill": job.prefill, "generation": job.context}
        batch = job.setting.batch
        return {
            phase: asdict(bitmod.cycles(job.model, name, phase, context, batch))
            for phase, context in sizes.items()
            if context
        }
    if name.startswith("bismo") and job.peer is not None:
        array = job.peer.array
        dpa = bismo.Dpa(rows=array.rows, lanes=array.pe.lanes, columns=array.columns, clock_hz=array.clock_hz)
        return {"peak_gops": dpa.peak_gops, "lut_v1": dpa.lut("v1"), "lut_v2": dpa.lut("v2")}
    return {}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is run: a decoder, its phases and their setting."""

    model: Decoder
    setting: Setting
    prefill: int  #: tokens of the prompt; 0: no prefill
    context: int  #: positions a decoded token attends to; 0: no decode
    peer: Peer | None = None  #: whose products they become

    def works(self, phase: str, fmt: WeightFormat) -> list[Work]:
        """Products of a phase, "prefill" or "decode"."""
        from sim import workload

        if phase == "prefill":
            found = workload.prefill(self.model, fmt, self.prefill, self.setting)
        else:
            found = workload.decode(self.model, fmt, self.context, self.setting)
        return found if self.peer is None else self.peer.adapted(found)


def phases(job: Job, fmt: WeightFormat, array: ArraySpec) -> list[Phase]:
    """The phases of a job with one weight format.

    Raises ValueError if a buffer of the array is too small for a product.
    """
    from sim import workload

    sizes = {"prefill": (job.prefill, job.prefill), "decode": (job.context, 1)}
    return [
        workload.simulate(name, tokens * job.setting.batch, job.works(name, fmt), array)
        for name, (wanted, tokens) in sizes.items()
        if wanted
    ]


def trace(job: Job, fmt: WeightFormat, array: ArraySpec, product: str, jobs: int) -> dict[str, Any]:
    """Trace-event JSON of the first ``jobs`` tile jobs of one product, of the first phase.

    Raises ValueError if the phase has no product of that name.
    """
    from sim import trace as tracing
    from sim.cycles.plan import plan

    works = job.works("prefill" if job.prefill else "decode", fmt)
    by_name = {work.product.name: work.product for work in works}
    if product not in by_name:
        raise ValueError(f"trace-product must be one of {', '.join(by_name)}, not {product!r}")
    return tracing.trace(plan(by_name[product], array), jobs)


def row(phase: Phase, fmt: WeightFormat) -> dict[str, Any]:
    """One line of the table."""
    done = phase.total
    shares = {f"{name}_share": count / max(1, done.clocks) for name, count in done.stalls.items()}
    return {
        "format": fmt.name,
        "phase": phase.name,
        "bits_per_weight": fmt.bits_per_weight(),
        "clocks": done.clocks,
        "seconds": done.seconds,
        "tokens_per_second": phase.tokens / done.seconds,
        "utilisation": done.utilisation,
        "bound": done.bound,
        **shares,
        "dram_bytes": done.dram_bits / 8,
        **{name + "_bytes": bits / 8 for name, bits in done.moved.items()},
        "cache_bytes": phase.cache_bits / 8,
        "operations_per_byte": done.intensity,
        "machine_balance": done.balance,
        "pe_beats": done.beats,
        "items": done.items,
        "one_bit_macs": done.macs,
        **{f"{kind}_clocks": part.clocks for kind, part in phase.parts.items()},
    }


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    from algo.bitplane.store import write_whole

    write_whole(path, text.encode())


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The table as comma-separated values, whole or not at all."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for r in rows for key in r)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, out.getvalue())
