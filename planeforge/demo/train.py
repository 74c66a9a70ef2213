"""Trains the demo's language models on the frozen documentation text, deterministically.

``python -m planeforge.demo.train tinydocs-1.4M -o DIR`` writes a Hugging Face directory: config.json,
tokenizer.json, tokenizer_config.json, generation_config.json, model.safetensors (bfloat16), train_log.json.
One thread and fixed seeds make a run repeatable on one kind of CPU; another kind of CPU sums float32 in
another order, so its weights differ in the last bits and the repository keeps the result of one run.
After a retraining, ``sha256sum */* > SHA256SUMS`` in the models' folder records the new files.
"""

import argparse
import hashlib
import json
import math
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from planeforge.demo import assets

VOCABULARY = 512
CONTEXT = 128  #: tokens; also what config.json says, so that no one scores at positions never trained
BOUNDARY, UNKNOWN = "<s>", "<unk>"  #: unknown: any byte that is not in the (ASCII) training text


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Shape and training schedule of one model."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    steps: int
    learning_rate: float  #: peak, reached after `warmup` steps, then half a cosine down to `floor` of it
    batch: int = 8  #: sequences of CONTEXT tokens
    warmup: int = 100
    floor: float = 0.01
    weight_decay: float = 0.1  #: on matrices only
    clip: float = 1.0  #: largest norm of the whole gradient
    seed: int = 0

    def rate(self, step: int) -> float:
        """Returns the learning rate of ``step``."""
        rising = min(1.0, (step + 1) / self.warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.learning_rate * rising * (self.floor + (1 - self.floor) * cosine)


RECIPES = {
    "tinydocs-1.4M": Recipe(
        hidden=256, layers=2, heads=4, kv_heads=4, intermediate=512, steps=3400, learning_rate=3e-3
    ),
    # One width of no multiple of 64, and fewer key heads than query heads: what unit tests should meet.
    # The name counts its linear layers (125952 weights); the tied embedding makes it 191872 parameters.
    "tinydocs-0.1M": Recipe(
        hidden=128, layers=1, heads=2, kv_heads=1, intermediate=200, steps=1500, learning_rate=6e-3
    ),
}


def train_tokenizer(text: str) -> Tokenizer:
    """Returns a byte-level BPE tokenizer of VOCABULARY entries learned from ``text``."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # No initial alphabet: 159 of 512 entries would go to bytes that ASCII text never holds.
    special = [BOUNDARY, UNKNOWN]
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def build(recipe: Recipe) -> Any:
    """Returns a freshly initialized Llama decoder of the recipe's shape (float32)."""
    torch.manual_seed(recipe.seed)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        rms_norm_eps=1e-5,
    )
    return transformers.LlamaForCausalLM(config)


def batches(ids: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Returns the start of every sequence, int64 [steps, batch]: whole passes over the text, each shuffled.

    Each pass cuts the text into sequences at another random offset, so every token is seen equally often
    and at varying positions.
    """
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    needed = recipe.steps * recipe.batch
    starts: list[torch.Tensor] = []
    while sum(map(len, starts)) < needed:
        offset = int(torch.randint(CONTEXT, (1,), generator=generator))
        cuts = torch.arange(offset, len(ids) - CONTEXT + 1, CONTEXT)
        starts.append(cuts[torch.randperm(len(cuts), generator=generator)])
    return torch.cat(starts)[:needed].reshape(recipe.steps, recipe.batch)


@torch.no_grad()
def loss_on(model: Any, ids: torch.Tensor) -> float:
    """Returns the mean loss [nats/token] over disjoint windows: a monitor, not the published score."""
    windows = ids[: len(ids) // CONTEXT * CONTEXT].reshape(-1, CONTEXT)
    losses = [float(model(input_ids=row[None], labels=row[None]).loss) for row in windows]
    return sum(losses) / len(losses)


def fit(model: Any, ids: torch.Tensor, held_out: torch.Tensor, recipe: Recipe) -> list[dict[str, float]]:
    """Trains ``model`` in place and returns the log, one row every 200 steps."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95), fused=True)
    positions = torch.arange(CONTEXT)
    log: list[dict[str, float]] = []
    recent: list[float] = []
    for step, starts in enumerate(batches(ids, recipe)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        sequences = ids[starts[:, None] + positions]
        loss = model(input_ids=sequences, labels=sequences, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(float(loss.detach()))
        if (step + 1) % 200 == 0 or step + 1 == recipe.steps:
            row = {
                "step": step + 1,
                "tokens": (step + 1) * sequences.numel(),
                "train_nats_per_token": round(sum(recent) / len(recent), 4),
                "held_out_nats_per_token": round(loss_on(model, held_out), 4),
                "cpu_seconds": round(time.process_time(), 1),
            }
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
            log.append(row)
            recent.clear()
    return log


def save(model: Any, tokenizer: Tokenizer, directory: Path) -> None:
    """Writes the Hugging Face directory, weights rounded to bfloat16."""
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOUNDARY,
        eos_token=BOUNDARY,
        unk_token=UNKNOWN,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    model.to(torch.bfloat16).save_pretrained(directory)
    wrapped.save_pretrained(directory)
    for path in directory.iterdir():
        path.chmod(0o644)  # safetensors writes 0600, which an installed package cannot share


def train(name: str, directory: Path) -> None:
    """Trains the model called ``name`` and writes it, with its log, into ``directory``."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    recipe = RECIPES[name]
    text, held_out = assets.training_text(), assets.held_out_text()
    tokenizer = train_tokenizer(text)
    model = build(recipe)
    ids = torch.tensor(tokenizer.encode(text).ids)
    held_out_ids = torch.tensor(tokenizer.encode(held_out).ids)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{name}: {parameters} parameters, {len(ids)} training tokens", flush=True)
    log = fit(model, ids, held_out_ids, recipe)
    directory.mkdir(parents=True, exist_ok=True)
    save(model, tokenizer, directory)
    facts = {
        "name": name,
        "parameters": parameters,
        "recipe": asdict(recipe),
        "context": CONTEXT,
        "training_text_sha256": hashlib.sha256(text.encode("ascii")).hexdigest(),
        "training_tokens": len(ids),
        "characters_per_token": round(len(text) / len(ids), 4),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "log": log,
    }
    (directory / "train_log.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="ascii")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m planeforge.demo.train", description=__doc__)
    parser.add_argument("name", choices=sorted(RECIPES), help="which model to train")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder to fill")
    arguments = parser.parse_args()
    train(arguments.name, arguments.output)


if __name__ == "__main__":
    main()
