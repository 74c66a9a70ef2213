"""One row of a study as it is measured and kept: a file each, so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

SCHEMA = "planeforge.row/1"
PACKAGES = ("algo", "cost_models", "hw", "planeforge", "sim")
SOURCES = (".py", ".cc", ".json", ".lib", ".toml")  #: files whose content decides what a row holds


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Accuracy(_Record):
    """A score against the fp16 reference. Standard errors are over windows; None where there is but one."""

    tokens: int  #: scored
    characters: int  #: scored
    windows: int
    perplexity: float  #: per token
    bits_per_character: float
    bits_per_character_se: float | None
    kl: float  #: mean KL(reference || row) [nats/token]
    kl_se: float | None  #: both models see the same windows, so it is a paired error
    nll_increase: float  #: above the reference's [nats/token]
    nll_increase_se: float | None


class Layer(_Record):
    """One linear layer."""

    name: str
    rows: int
    columns: int
    stored_bits: int  #: all that the decoder needs
    published_bits: float  #: per weight, by the method's own formula
    weight_error: float  #: share of ||W||^2
    output_error: float | None  #: share of the output's energy on the calibration tokens
    cycles: int  #: of the array, for the whole batch
    slots: int  #: lanes of all PEs times cycles
    macs: int  #: one-bit multiply-accumulates of the product
    activity: dict[str, int]  #: fields of `hw.spec.Activity`, for the whole batch


class Row(_Record):
    """What a study found out about one format."""

    schema_name: str = SCHEMA
    key: str
    label: str
    method: str
    format: str | None = None
    config: dict[str, Any] = {}
    note: str = ""
    error: str | None = None  #: why there is no result; then nothing below is set
    tokens: int = 0  #: in the batch the hardware figures are of
    breakdown: dict[str, float] = {}  #: stored bits per weight by role
    weights_only: Accuracy | None = None  #: dequantized weights, float activations
    hardware: Accuracy | None = None  #: exact integers, activations of the study's width
    layers: list[Layer] = []
    seconds: dict[str, float] = {}  #: by stage

    @property
    def weights(self) -> int:
        """Entries of all layers."""
        return sum(layer.rows * layer.columns for layer in self.layers)

    @property
    def stored_bits(self) -> float:
        """Per weight, counted from the arrays the decoder needs."""
        return sum(layer.stored_bits for layer in self.layers) / self.weights

    @property
    def published_bits(self) -> float:
        """Per weight, by the method's own formula."""
        return self._mean([layer.published_bits for layer in self.layers])

    @property
    def weight_error(self) -> float:
        """Mean over weights of the layers' relative squared errors."""
        return self._mean([layer.weight_error for layer in self.layers])

    @property
    def output_error(self) -> float | None:
        """The same of the layers' outputs on the calibration tokens."""
        errors = [layer.output_error for layer in self.layers if layer.output_error is not None]
        return self._mean(errors) if len(errors) == len(self.layers) else None

    @property
    def cycles_per_token(self) -> float:
        """Clocks of the array."""
        return sum(layer.cycles for layer in self.layers) / self.tokens

    @property
    def utilisation(self) -> float:
        """Share of lane slots that did a one-bit multiply-accumulate."""
        slots = sum(layer.slots for layer in self.layers)
        return sum(layer.macs for layer in self.layers) / slots if slots else 0.0

    def _mean(self, values: list[float]) -> float:
        sizes = [layer.rows * layer.columns for layer in self.layers]
        return sum(v * s for v, s in zip(values, sizes, strict=True)) / sum(sizes)


def key_of(parts: Mapping[str, Any]) -> str:
    """A row's name: a digest of all that decides what it holds."""
    text = json.dumps(dict(parts) | {"schema": SCHEMA}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def code_digest() -> str:
    """SHA-256 over the program itself and its tables: a row of other code or constants is another row."""
    home = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((home / package).rglob("*")):
            where = path.relative_to(home)
            if path.suffix in SOURCES and not {"tests", "models"} & set(where.parts):
                digest.update(str(where).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def read(folder: Path, key: str) -> Row | None:
    """The finished row ``key``, or None where there is none, it failed, or its file is damaged."""
    path = folder / f"{key}.json"
    if not path.is_file():
        return None
    try:
        row = Row.model_validate_json(path.read_bytes())
    except ValidationError:
        return None
    sound = row.schema_name == SCHEMA and row.key == key and row.error is None
    return row if sound else None


def write(folder: Path, row: Row) -> None:
    """Keep a row; its file appears whole or not at all."""
    from algo.bitplane.store import write_whole

    write_whole(folder / f"{row.key}.json", (row.model_dump_json(indent=1) + "\n").encode())
