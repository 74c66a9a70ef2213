"""Shapes of decoder-only language models: from a Hugging Face ``config.json``, or of a small library.

Shapes alone: no weight is read, and transformers is not imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hw.spec import require_int

GATED = ("gemma", "gemma2", "granite", "llama", "mistral", "phi3", "qwen2", "qwen3", "stablelm", "yi")
PLAIN = ("gpt_neox", "opt", "phi", "starcoder2")  #: two matrices a feed-forward layer


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """What a decoder multiplies: sizes of its linear layers and of its attention."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int  #: groups of heads that share keys and values
    head: int  #: columns of a head
    vocabulary: int
    gated: bool  #: gate, up and down projection, instead of two matrices
    source: str

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "intermediate", "heads", "kv_heads", "head", "vocabulary"):
            require_int(name, getattr(self, name), 1)
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads must divide heads={self.heads}, not {self.kv_heads!r}")

    def linear(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of the linear layers of one decoder layer."""
        query, kv = self.heads * self.head, self.kv_heads * self.head
        attention = {
            "q": (query, self.hidden),
            "k": (kv, self.hidden),
            "v": (kv, self.hidden),
            "o": (self.hidden, query),
        }
        inner = {"up": (self.intermediate, self.hidden), "down": (self.hidden, self.intermediate)}
        return attention | ({"gate": inner["up"]} if self.gated else {}) | inner

    def weights(self) -> int:
        """Weights of all linear layers and the output head."""
        each = sum(rows * columns for rows, columns in self.linear().values())
        return self.layers * each + self.vocabulary * self.hidden


def from_config(config: Mapping[str, Any], name: str = "model") -> Decoder:
    """Shapes of the model a Hugging Face ``config.json`` describes.

    Raises ValueError if it is no decoder of a known kind, or a size is missing or no positive integer.
    """
    kind = config.get("model_type")
    if kind not in GATED + PLAIN:
        raise ValueError(f"model_type must be one of {', '.join(sorted(GATED + PLAIN))}, not {kind!r}")
    heads = _size(config, "num_attention_heads")
    hidden = _size(config, "hidden_size")
    own_head = config.get("head_dim") is not None
    kv = "num_key_value_heads"
    return Decoder(
        name=name,
        layers=_size(config, "num_hidden_layers"),
        hidden=hidden,
        intermediate=_size(config, "ffn_dim" if kind == "opt" else "intermediate_size"),
        heads=heads,
        kv_heads=_size(config, kv) if config.get(kv) is not None else heads,
        head=_size(config, "head_dim") if own_head else max(1, hidden // heads),
        vocabulary=_size(config, "vocab_size"),
        gated=kind in GATED,
        source=f"config.json of model_type {kind}",
    )


def _size(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{key} must be a positive integer in the config, not {value!r}")
    return value


def _llama(name: str, sizes: tuple[int, int, int, int, int, int], source: str, head: int = 0) -> Decoder:
    layers, hidden, intermediate, heads, kv_heads, vocabulary = sizes
    return Decoder(
        name=name,
        layers=layers,
        hidden=hidden,
        intermediate=intermediate,
        heads=heads,
        kv_heads=kv_heads,
        head=head or hidden // heads,
        vocabulary=vocabulary,
        gated=True,
        source=source,
    )


def _plain(name: str, sizes: tuple[int, int, int, int, int], source: str) -> Decoder:
    layers, hidden, intermediate, heads, vocabulary = sizes
    return Decoder(
        name=name,
        layers=layers,
        hidden=hidden,
        intermediate=intermediate,
        heads=heads,
        kv_heads=heads,
        head=hidden // heads,
        vocabulary=vocabulary,
        gated=False,
        source=source,
    )


_LLAMA_2 = "Touvron et al., Llama 2, arXiv:2307.09288; config.json of meta-llama/Llama-2-"
_OPT = "Zhang et al., OPT, arXiv:2205.01068, table 1; config.json of facebook/opt-"
_QWEN = "Qwen2.5 technical report, arXiv:2412.15115, table 1; config.json of Qwen/Qwen2.5-"

#: Public models by name; sizes: layers, hidden, intermediate, heads, (key-value heads,) vocabulary.
LIBRARY: Mapping[str, Decoder] = MappingProxyType(
    {
        model.name: model
        for model in (
            _llama("llama-2-7b", (32, 4096, 11008, 32, 32, 32000), _LLAMA_2 + "7b-hf"),
            _llama("llama-2-13b", (40, 5120, 13824, 40, 40, 32000), _LLAMA_2 + "13b-hf"),
            _llama(
                "llama-3-8b",
                (32, 4096, 14336, 32, 8, 128256),
                "Llama 3, arXiv:2407.21783, table 3; config.json of meta-llama/Meta-Llama-3-8B",
            ),
            _llama(
                "mistral-7b",
                (32, 4096, 14336, 32, 8, 32000),
                "Jiang et al., Mistral 7B, arXiv:2310.06825, table 1",
            ),
            _llama("qwen2.5-0.5b", (24, 896, 4864, 14, 2, 151936), _QWEN + "0.5B"),
            _llama("qwen2.5-7b", (28, 3584, 18944, 28, 4, 152064), _QWEN + "7B"),
            _llama(
                "yi-6b", (32, 4096, 11008, 32, 4, 64000), "Yi, arXiv:2403.04652; config.json of 01-ai/Yi-6B"
            ),
            _plain("opt-125m", (12, 768, 3072, 12, 50272), _OPT + "125m"),
            _plain("opt-1.3b", (24, 2048, 8192, 32, 50272), _OPT + "1.3b"),
            _plain("phi-2", (32, 2560, 10240, 32, 51200), "config.json of microsoft/phi-2"),
        )
    }
)


def get(name: str) -> Decoder:
    """Library model ``name``. Raises ValueError naming the models if there is none of that name."""
    if name not in LIBRARY:
        raise ValueError(f"model must be one of {', '.join(LIBRARY)}, not {name!r}")
    return LIBRARY[name]
