"""Tiny random checkpoints, written as Hugging Face directories, for tests."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, processors

CONTEXT = 16
LETTERS = "abcdefghijklmnopqrstuvwxyz .\n"


def model(seed: int, *, vocabulary: int = 2 + len(LETTERS), tied: bool = True) -> Any:
    """Returns a Llama with widths that are no multiple of 64, weights large enough to prefer some tokens."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=tied,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.LlamaForCausalLM(config).eval()


def _configs() -> dict[str, Any]:
    """A configuration of each family, with what sets it apart: other masks by block, widths, biases."""
    rotary: dict[str, Any] = {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
    }
    grouped = {**rotary, "num_key_value_heads": 1}
    return {
        "llama": transformers.LlamaConfig(**grouped, tie_word_embeddings=True),
        "mistral": transformers.MistralConfig(**grouped, sliding_window=5),
        # Full attention in the first block, a sliding window in the others.
        "qwen2": transformers.Qwen2Config(
            **grouped, use_sliding_window=True, sliding_window=5, max_window_layers=1
        ),
        "qwen3": transformers.Qwen3Config(**grouped, head_dim=8),
        # Projections around the blocks, learned positions, ReLU.
        "opt": transformers.OPTConfig(
            hidden_size=24, ffn_dim=40, num_hidden_layers=3, num_attention_heads=2, word_embed_proj_dim=16
        ),
        "gpt-neox": transformers.GPTNeoXConfig(**rotary),
    }


FAMILIES = tuple(_configs())


def write_family(directory: Path, family: str, *, shard: str = "50GB") -> Path:
    """Writes a checkpoint of one of `FAMILIES` into ``directory`` and returns it."""
    torch.manual_seed(3)
    config = _configs()[family]
    names = {
        "vocab_size": 2 + len(LETTERS),
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 1,
        # OPT's own name of it is another.
        ("init_std" if family == "opt" else "initializer_range"): 0.2,
    }
    for name, value in names.items():
        setattr(config, name, value)
    made = transformers.AutoModelForCausalLM.from_config(config).eval()
    made.save_pretrained(directory, max_shard_size=shard)
    tokenizer().save_pretrained(directory)
    return directory


def tokenizer(*, opens: bool = False) -> Any:
    """Returns a tokenizer of one token a letter; with ``opens``, one that puts <s> first."""
    names = ["<s>", "<unk>", *LETTERS]
    inner = Tokenizer(models.BPE({name: at for at, name in enumerate(names)}, [], unk_token="<unk>"))
    inner.decoder = decoders.Fuse()
    if opens:
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", unk_token="<unk>", model_max_length=CONTEXT
    )


def write(directory: Path, seed: int = 0, *, opens: bool = False, shard: str = "50GB", **shape: Any) -> Path:
    """Writes a whole checkpoint into ``directory`` and returns it."""
    model(seed, **shape).save_pretrained(directory, max_shard_size=shard)
    tokenizer(opens=opens).save_pretrained(directory)
    return directory
