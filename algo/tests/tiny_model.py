"""Tiny random Llama checkpoints, written as Hugging Face directories, for the tests of this folder."""

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
