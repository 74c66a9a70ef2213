"""A whole decoder on an array: prefill of a prompt, and one decoded token at a context.

Matrix products alone: linear layers with quantized weights, attention as integers times integers with the
cache in the place of weights, the output head on the last position. Products follow each other, nothing of
one overlaps with the next. Not counted: norms, softmax, rotary embedding, quantizing activations, the
embedding's rows. Attention of a prompt is counted as the whole square; no causal half is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from hw.spec import ArraySpec, require_int
from sim.cycles import events, run
from sim.cycles.plan import check_width, plan
from sim.cycles.product import RESULT_BITS, Pass, Product, Stored, places
from sim.decoders import Decoder
from sim.weight_formats import WeightFormat

KV_SCALE_BITS = 16  #: a token's key, or value, of a head group has one fp16 scale


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a decoder is run."""

    batch: int = 1
    act_bits: int = 8  #: of activations, queries and attention weights
    kv_bits: int = 8  #: of the key-value cache
    result_bits: int = RESULT_BITS  #: of a product's outputs, but new keys and values: those have ``kv_bits``

    def __post_init__(self) -> None:
        for name in ("batch", "act_bits", "kv_bits", "result_bits"):
            require_int(name, getattr(self, name), 1)


@dataclass(frozen=True, kw_only=True)
class Work:
    """A product and how often a phase has it."""

    product: Product
    copies: int
    kind: str  #: "linear", "attention" or "head"
    cache_bits: int = 0  #: bits that one of them writes to the key-value cache


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A phase of a decoder on an array."""

    name: str  #: "prefill" or "decode"
    tokens: int  #: that the phase yields or takes in, all sequences of the batch
    total: run.Run
    parts: dict[str, run.Run]  #: by `Work.kind`
    cache_bits: int  #: through the memory port from and to the key-value cache

    def figures(self) -> dict[str, Any]:
        """What a table or a JSON object shows."""
        done = self.total
        return {
            "phase": self.name,
            "tokens": self.tokens,
            "tokens_per_second": self.tokens / done.seconds if done.clocks else 0.0,
            **done.figures(),
            "stall_shares": {
                name: count / done.clocks if done.clocks else 0.0 for name, count in done.stalls.items()
            },
            "dram_bytes": done.dram_bits / 8,
            "cache_bytes": self.cache_bits / 8,
            "clocks_by_part": {name: part.clocks for name, part in self.parts.items()},
        }


def prefill(model: Decoder, fmt: WeightFormat, tokens: int, setting: Setting) -> list[Work]:
    """Products of a prompt of ``tokens`` tokens, for every sequence of the batch."""
    return list(_products(model, fmt, tokens, tokens, setting))


def decode(model: Decoder, fmt: WeightFormat, context: int, setting: Setting) -> list[Work]:
    """Products of one token that attends to ``context`` positions, its own with them."""
    return list(_products(model, fmt, 1, context, setting))


def _products(
    model: Decoder, fmt: WeightFormat, tokens: int, context: int, setting: Setting
) -> Iterator[Work]:
    batch = setting.batch * tokens
    for name, (rows, columns) in model.linear().items():
        cached = name in ("k", "v")
        product = fmt.product(name, batch, rows, columns, setting.act_bits)
        bits = setting.kv_bits if cached else setting.result_bits
        written = batch * rows * bits if cached else 0
        yield Work(
            product=replace(product, result_bits=bits), copies=model.layers, kind="linear", cache_bits=written
        )
    if tokens and context:
        yield from _attention(model, tokens, context, setting)
    head = fmt.product(
        "head", setting.batch if tokens else 0, model.vocabulary, model.hidden, setting.act_bits
    )
    yield Work(product=replace(head, result_bits=setting.result_bits), copies=1, kind="head")


def _attention(model: Decoder, tokens: int, context: int, setting: Setting) -> Iterator[Work]:
    """Scores and weighted values; heads that share keys and values are tokens of one product."""
    queries = tokens * (model.heads // model.kv_heads)
    copies = model.layers * setting.batch * model.kv_heads
    passes = (Pass(weight=places(setting.kv_bits)),)
    scales = context * KV_SCALE_BITS
    sizes = {
        # Keys are rows; values lie along the columns, so that a token's scale is a column's.
        "scores": (context, model.head, Stored(planes=model.head * setting.kv_bits, scales=KV_SCALE_BITS)),
        "values": (model.head, context, Stored(planes=context * setting.kv_bits, shared=scales)),
    }
    for name, (rows, columns, stored) in sizes.items():
        product = Product(
            name=name,
            tokens=queries,
            rows=rows,
            columns=columns,
            group=columns,
            passes=passes,
            activation=places(setting.act_bits),
            stored=stored,
            result_bits=setting.result_bits,
        )
        yield Work(product=product, copies=copies, kind="attention")


def simulate(name: str, tokens: int, works: list[Work], array: ArraySpec) -> Phase:
    """All products of a phase on an array, one after the other; a product like another is simulated once.

    Raises ValueError if a buffer is too small for a product's smallest tile, or an accumulator for an item.
    """
    known: dict[Product, run.Run] = {}
    parts: dict[str, run.Run] = {}
    cache = 0
    for work in works:
        key = replace(work.product, name="product")
        if key not in known:
            made = plan(key, array)
            check_width(made)
            known[key] = run.figures(made, events.run(made)[0])
        done = known[key] * work.copies
        parts[work.kind] = parts[work.kind] + done if work.kind in parts else done
        # In attention the cache stands in the place of weights.
        cache += done.moved["dram_weights"] if work.kind == "attention" else work.copies * work.cache_bits
    return Phase(name=name, tokens=tokens, total=run.total(parts.values()), parts=parts, cache_bits=cache)
