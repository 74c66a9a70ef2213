"""One row of a study, measured: quantize, score, score as the hardware computes, count the array's work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.storage import breakdown, stored_bytes
from algo.formats import stages
from hw.spec import Activity, ArraySpec
from planeforge import reference as fp16
from planeforge.simulating import streams
from planeforge.study_config import REFERENCE, Entry
from planeforge.study_rows import Accuracy, Layer, Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from algo.checkpoint import Checkpoint
    from algo.evaluation import Reference, Score, Tokens

Moved = Callable[[float, str], None]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all rows of a study are measured with."""

    checkpoint: Checkpoint  #: weights are fp16 values
    text: Tokens  #: held out
    reference: Reference  #: the fp16 model on that text
    calibration: NDArray[np.int64]  #: [sequences, context]
    array: ArraySpec
    act_bits: int
    tokens: int  #: in the batch the array's work is counted on


@dataclass(kw_only=True)
class _Clock:
    """Wall-clock seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - began, 3)


def reference_row(bench: Bench, key: str, progress: Moved) -> Row:
    """The fp16 model itself: its weights lowered exactly to planes, stored in 16 bits each."""
    clock = _Clock()
    model = bench.checkpoint.model
    with clock.stage("quantize"):
        matrices = fp16.lowered_layers(
            model, bench.array, bench.act_bits, lambda share: progress(0.2 * share, "lowering to planes")
        )
    widths = sorted(len(matrix.planes) for matrix in matrices.values())
    layers = {name: _Quality(fp16.WEIGHT_BITS, 0.0, None) for name in matrices}
    note = (
        f"runs as {widths[0]} to {widths[-1]} two's-complement planes, the exact lowering of each layer's "
        "fp16 weights; stored and fetched as 16 bits, and unfolding them is not costed"
    )
    return _measured(
        bench,
        Row(key=key, label=REFERENCE, method=REFERENCE, format=REFERENCE, note=note, tokens=bench.tokens),
        model,
        matrices,
        layers,
        clock,
        progress,
        stored_as_fp16=True,
    )


def format_row(bench: Bench, entry: Entry, key: str, progress: Moved) -> Row:
    """A format: every linear layer quantized, in order, as the driver does it."""
    from algo import driver

    clock = _Clock()
    with clock.stage("quantize"):
        made = driver.quantize_model(
            bench.checkpoint,
            entry.method,
            entry.config,
            bench.calibration,
            progress=lambda done, total, name: progress(0.4 * done / total, f"quantizing {name}"),
        )
    matrices = {
        held: matrix
        for name, layer in made.layers.items()
        for held, matrix in stages.named(name, layer.quantized).items()
    }
    layers = {
        name: _Quality(layer.quantized.published_bits, layer.weight_error, layer.output_error)
        for name, layer in made.layers.items()
    }
    row = Row(
        key=key,
        label=entry.label,
        method=entry.method,
        format=entry.format,
        config=asdict(entry.config),
        tokens=bench.tokens,
    )
    return _measured(bench, row, made.model, matrices, layers, clock, progress)


@dataclass(frozen=True)
class _Quality:
    published_bits: float
    weight_error: float
    output_error: float | None


def _measured(
    bench: Bench,
    row: Row,
    model: Any,
    matrices: Mapping[str, PackedMatrix],
    qualities: Mapping[str, _Quality],
    clock: _Clock,
    progress: Moved,
    stored_as_fp16: bool = False,
) -> Row:
    """``row`` with its scores and the work of its layers."""
    from planeforge.packed_model import record_inputs
    from sim.linear import INNER_BITS, swap

    with clock.stage("score"):
        alone = _score(bench, model, lambda share: progress(0.4 + 0.15 * share, "scoring the weights alone"))
    with clock.stage("score as integers"):
        exact = swap(model, matrices, "integer", bench.act_bits)
        hardware = _score(
            bench, exact, lambda share: progress(0.55 + 0.35 * share, "scoring in exact integers")
        )
    with clock.stage("count"):
        inputs = record_inputs(exact, list(matrices), bench.text.ids[: bench.tokens])
        layers = []
        held = stages.by_layer(matrices)
        for index, (name, layer) in enumerate(held.items()):
            progress(0.9 + 0.1 * index / len(held), f"counting {name}")
            parts = {name: (layer.outer, bench.act_bits if layer.inner is None else INNER_BITS)}
            if layer.inner is not None:
                parts |= {name + stages.INNER: (layer.inner, bench.act_bits)}
            work = [_work(bench, m, inputs[n], bits, stored_as_fp16) for n, (m, bits) in parts.items()]
            layers.append(_layer(name, list(parts.values()), qualities[name], bench, work, stored_as_fp16))
    bill = {fp16.ROLE: float(fp16.WEIGHT_BITS)} if stored_as_fp16 else overall_breakdown(matrices)
    found = {
        "weights_only": alone,
        "hardware": hardware,
        "layers": layers,
        "breakdown": bill,
        "seconds": clock.seconds,
    }
    return row.model_copy(update=found)


def _score(bench: Bench, model: Any, moved: Callable[[float], None]) -> Accuracy:
    from algo import evaluation

    score = evaluation.score(
        model,
        bench.text,
        bench.checkpoint.context,
        reference=bench.reference,
        progress=lambda done, total: moved(done / total),
    )
    return accuracy(score)


def accuracy(score: Score) -> Accuracy:
    """A score as a row keeps it.

    Raises ValueError for a score without a reference.
    """
    if score.kl is None or score.nll_increase is None:
        raise ValueError("score must have a reference, and has none")
    return Accuracy(
        tokens=score.tokens,
        characters=score.characters,
        windows=score.windows,
        perplexity=score.perplexity,
        bits_per_character=score.bits_per_character,
        bits_per_character_se=score.bits_per_character_se,
        kl=score.kl,
        kl_se=score.kl_se,
        nll_increase=score.nll_increase,
        nll_increase_se=score.nll_increase_se,
    )


def _work(
    bench: Bench, matrix: PackedMatrix, x: NDArray[np.float32], act_bits: int, stored_as_fp16: bool
) -> Activity:
    """What the array does for one matrix on its recorded inputs, [tokens, columns]."""
    from sim.activity import activity

    counted = activity(matrix, streams(matrix, x, act_bits), bench.array)
    return fp16.as_stored(counted, matrix, bench.array, len(x)) if stored_as_fp16 else counted


def _layer(
    name: str,
    parts: Sequence[tuple[PackedMatrix, int]],
    quality: _Quality,
    bench: Bench,
    work: Sequence[Activity],
    stored_as_fp16: bool,
) -> Layer:
    """A layer's row; ``parts``, its stored matrices, the outer first, and the bits of their activations."""
    from sim.schedule import shape

    rows, columns = parts[0][0].rows, parts[-1][0].columns
    done = sum(work[1:], start=work[0])
    stored = fp16.WEIGHT_BITS * rows * columns
    if not stored_as_fp16:
        stored = 8 * sum(sum(stored_bytes(matrix).values()) for matrix, _ in parts)
    array = bench.array
    return Layer(
        name=name,
        rows=rows,
        columns=columns,
        stored_bits=stored,
        published_bits=quality.published_bits,
        weight_error=quality.weight_error,
        output_error=quality.output_error,
        cycles=done.cycles,
        slots=done.cycles * array.tile_rows * array.tile_tokens * array.pe.lanes,
        macs=sum(shape(matrix, bits, bench.tokens).macs() for matrix, bits in parts),
        activity=asdict(done),
    )


def overall_breakdown(matrices: Mapping[str, PackedMatrix]) -> dict[str, float]:
    """Stored bits per weight by role, over all layers."""
    layers = stages.by_layer(matrices).values()
    weights = sum(rows * columns for rows, columns in (layer.shape for layer in layers))
    bill: dict[str, float] = {}
    for matrix in matrices.values():
        for role, bits in breakdown(matrix).items():
            bill[role] = bill.get(role, 0.0) + bits * matrix.rows * matrix.columns / weights
    return bill
