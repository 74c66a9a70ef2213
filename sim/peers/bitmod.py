"""BitMoD's simulator in closed form: cycles of a decoder on term-serial or bit-parallel arrays.

Source: Chen et al., BitMoD, HPCA 2025, arXiv:2411.11745; the released model of compute and memory cycles (not
stepped), its arrays and weight widths at commit e445a5f of abdelfattah-lab/BitMoD-HPCA-25. No fill, drain,
scale unit or bank conflict; a layer takes the longer of compute and memory. Written from the formulas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from sim.decoders import Decoder

ACT_BITS = 16  #: of activations and outputs: FP16
BUFFER_BYTES = 512 * 1024  #: of either on-chip buffer
DRAM_BITS = 256  #: a cycle: a 128-bit bus at double data rate
PHASES = ("prefill", "generation")


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """An array of the released evaluation."""

    name: str
    lanes: int  #: products of a PE in a pass
    rows: Mapping[str, int]  #: PEs along output channels, by phase
    columns: Mapping[str, int]  #: PEs along tokens, by phase
    weight_bits: Mapping[str, Mapping[str, Fraction]]  #: by phase and model; "": any other model
    kv_bits: int
    serial: bool  #: weights pass as terms of two bits

    def passes(self, bits: Fraction) -> int:
        """Cycles of a PE for one dot product of its lanes."""
        return ceil(Fraction(floor(bits), 2)) if self.serial else 1


@dataclass(frozen=True, kw_only=True)
class Cycles:
    """Cycles of a phase: of compute, of memory, and of the longer of the two layer by layer."""

    compute: int
    dram: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What moves in a phase, and the words that its buffers are read by."""

    steps: int  #: of the array; each reads a word of either buffer, however many passes follow
    weight_word: int  #: of the weight buffer [bits]
    input_word: int  #: of the input buffer [bits]
    weights: int  #: fetched, the cache with them [bits]
    inputs: int  #: fetched [bits]
    outputs: int  #: written back [bits]

    @property
    def dram_bits(self) -> int:
        """Through the memory port."""
        return self.weights + self.inputs + self.outputs


def _same(bits: str) -> Mapping[str, Mapping[str, Fraction]]:
    return {phase: {"": Fraction(bits)} for phase in PHASES}


def _by_model(**bits: str) -> Mapping[str, Mapping[str, Fraction]]:
    names = ("opt-1.3b", "phi-2", "yi-6b", "llama-2-7b", "llama-2-13b", "llama-3-8b")
    widths = {name: Fraction(bits[name.replace("-", "_").replace(".", "_")]) for name in names}
    return dict.fromkeys(PHASES, widths)


def _array(
    name: str,
    rows: tuple[int, int],
    columns: tuple[int, int],
    weight_bits: Mapping[str, Mapping[str, Fraction]],
    *,
    lanes: int = 1,
    kv_bits: int = 16,
    serial: bool = False,
) -> Accelerator:
    return Accelerator(
        name=name,
        lanes=lanes,
        rows=dict(zip(PHASES, rows, strict=True)),
        columns=dict(zip(PHASES, columns, strict=True)),
        weight_bits=weight_bits,
        kv_bits=kv_bits,
        serial=serial,
    )


_ANT = _by_model(opt_1_3b="5", phi_2="5", yi_6b="5.25", llama_2_7b="5", llama_2_13b="4", llama_3_8b="5")
_OLIVE = _by_model(opt_1_3b="4", phi_2="4", yi_6b="4", llama_2_7b="4", llama_2_13b="4", llama_3_8b="4.5")
_LOSSY = {"prefill": {"": Fraction("4.0625")}, "generation": {"": Fraction("3.0625")}}

ACCELERATORS: Mapping[str, Accelerator] = {
    one.name: one
    for one in (
        _array("fp16", (32, 64), (24, 12), _same("16")),
        _array("ant", (32, 64), (32, 16), _ANT),
        _array("olive", (36, 72), (32, 16), _OLIVE),
        _array("bitmod-lossless", (32, 64), (32, 16), _same("6.0625"), lanes=4, kv_bits=8, serial=True),
        _array("bitmod-lossy", (32, 64), (32, 16), _LOSSY, lanes=4, kv_bits=8, serial=True),
    )
}


@dataclass(frozen=True)
class _Layer:
    """``copies`` products of weights [rows, columns] and tokens [tokens, columns]."""

    rows: int
    columns: int
    tokens: int
    copies: int
    attention: bool


def cycles(model: Decoder, name: str, phase: str, context: int = 256, batch: int = 1) -> Cycles:
    """Cycles of a decoder's phase: a prompt of ``context`` tokens, or one token at that context.

    Raises ValueError for an unknown accelerator or phase, or a model whose weight width was not published.
    """
    machine, bits = _machine(model, name, phase)
    compute = dram = total = 0
    for layer in _layers(model, phase, context, batch):
        width = Fraction(machine.kv_bits) if layer.attention else bits
        busy = _steps(machine, phase, layer) * machine.passes(width)
        moved = sum(_moved(layer, width)) * 8 // DRAM_BITS
        compute, dram, total = compute + busy, dram + moved, total + max(busy, moved)
    return Cycles(compute=compute, dram=dram, total=total)


def traffic(model: Decoder, name: str, phase: str, context: int = 256, batch: int = 1) -> Traffic:
    """What moves in a decoder's phase; parameters and errors as `cycles`.

    A word holds what a step takes: of weights in whole fours of bits, of half as much where they are serial.
    """
    machine, bits = _machine(model, name, phase)
    steps = weights = inputs = outputs = 0
    for layer in _layers(model, phase, context, batch):
        width = Fraction(machine.kv_bits) if layer.attention else bits
        moved = _moved(layer, width)
        steps += _steps(machine, phase, layer)
        weights, inputs, outputs = weights + moved[0], inputs + moved[1], outputs + moved[2]
    share = 2 if machine.serial else 1
    return Traffic(
        steps=steps,
        weight_word=machine.lanes * ceil(bits / 4) * 4 * machine.rows[phase] // share,
        input_word=machine.lanes * ACT_BITS * machine.columns[phase] // share,
        weights=8 * weights,
        inputs=8 * inputs,
        outputs=8 * outputs,
    )


def _machine(model: Decoder, name: str, phase: str) -> tuple[Accelerator, Fraction]:
    """An accelerator and its weight bits for a model."""
    if name not in ACCELERATORS:
        raise ValueError(f"accelerator must be one of {', '.join(ACCELERATORS)}, not {name!r}")
    if phase not in PHASES:
        raise ValueError(f"phase must be one of {', '.join(PHASES)}, not {phase!r}")
    machine = ACCELERATORS[name]
    widths = machine.weight_bits[phase]
    bits = widths.get(model.name, widths.get(""))
    if bits is None:
        raise ValueError(f"model must be one of {', '.join(widths)} on {name}, not {model.name!r}")
    return machine, bits


def _layers(model: Decoder, phase: str, context: int, batch: int) -> Iterator[_Layer]:
    tokens, sequences = (context, batch) if phase == "prefill" else (batch, 1)
    linear = list(model.linear().values())
    for rows, columns in [*linear * model.layers, (model.vocabulary, model.hidden)]:
        yield _Layer(rows, columns, tokens, sequences, False)
    shared = model.heads // model.kv_heads
    queries = shared * (context if phase == "prefill" else 1)
    for _ in range(model.layers):
        yield _Layer(context, model.head, queries, batch * model.kv_heads, True)
        yield _Layer(model.head, context, queries, batch * model.kv_heads, True)


def _steps(machine: Accelerator, phase: str, layer: _Layer) -> int:
    """Tiles of PEs and lanes that cover a layer."""
    return (
        -(-layer.columns // machine.lanes)
        * -(-layer.rows // machine.rows[phase])
        * -(-layer.tokens // machine.columns[phase])
        * layer.copies
    )


def _moved(layer: _Layer, bits: Fraction) -> tuple[int, int, int]:
    """Bytes of weights, inputs and outputs through the memory port."""
    # A linear layer's weights are shared by the sequences, a cache is every sequence's own.
    copies = layer.copies if layer.attention else 1
    weights = ceil(layer.columns * bits / 8) * layer.rows * copies
    inputs = -(-layer.columns * ACT_BITS // 8) * layer.tokens * layer.copies
    outputs = -(-layer.rows * ACT_BITS // 8) * layer.tokens * layer.copies
    if weights > BUFFER_BYTES and inputs > BUFFER_BYTES:
        weight_times, input_times = -(-inputs // BUFFER_BYTES), -(-weights // BUFFER_BYTES)
        if weight_times * weights + inputs <= input_times * inputs + weights:
            weights *= weight_times
        else:
            inputs *= input_times
    return weights, inputs, outputs
