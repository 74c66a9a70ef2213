"""Peak memory of quantizing a large checkpoint, block by block, beside the bytes of the checkpoint.

Makes a Llama-shaped checkpoint of random bfloat16 weights, shard by shard, quantizes it in a process of its
own and prints that process's largest resident set as the kernel counts it; mapped file pages count in it.

    python benchmarks/bench_big_model.py --blocks 2 --sequences 1 --length 64
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from planeforge.output import table

SHARD_BYTES = 1_000_000_000
STANDARD_DEVIATION = 0.02  #: of the weights, as Llama is initialized
LETTERS = "".join(map(chr, range(32, 127))) + "\n"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A Llama without grouped heads; the defaults are those of the 7B model."""

    hidden: int = 4096
    mlp: int = 11008
    heads: int = 32
    vocabulary: int = 32000
    blocks: int = 2
    context: int = 4096

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every tensor, in the order of the shards."""
        yield "model.embed_tokens.weight", (self.vocabulary, self.hidden)
        for index in range(self.blocks):
            start = f"model.layers.{index}"
            for name in "qkvo":
                yield f"{start}.self_attn.{name}_proj.weight", (self.hidden, self.hidden)
            yield f"{start}.mlp.gate_proj.weight", (self.mlp, self.hidden)
            yield f"{start}.mlp.up_proj.weight", (self.mlp, self.hidden)
            yield f"{start}.mlp.down_proj.weight", (self.hidden, self.mlp)
            yield f"{start}.input_layernorm.weight", (self.hidden,)
            yield f"{start}.post_attention_layernorm.weight", (self.hidden,)
        yield "model.norm.weight", (self.hidden,)
        yield "lm_head.weight", (self.vocabulary, self.hidden)

    def config(self) -> dict[str, object]:
        """What config.json says."""
        return {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "hidden_size": self.hidden,
            "intermediate_size": self.mlp,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "num_hidden_layers": self.blocks,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.context,
            "tie_word_embeddings": False,
            "dtype": "bfloat16",
        }


def write(directory: Path, shape: Shape) -> int:
    """Write the checkpoint; returns the bytes of its shards."""
    directory.mkdir()
    generator = torch.Generator().manual_seed(0)
    held: dict[str, torch.Tensor] = {}
    where: dict[str, str] = {}
    shards = 0

    def flush() -> None:
        nonlocal shards
        shards += 1
        name = f"model-{shards:05d}.safetensors"
        save_file(held, directory / name, metadata={"format": "pt"})
        where.update(dict.fromkeys(held, name))
        held.clear()

    for name, extents in shape.tensors():
        size = 2 * torch.Size(extents).numel()
        if held and sum(2 * tensor.numel() for tensor in held.values()) + size > SHARD_BYTES:
            flush()
        if len(extents) == 1:
            held[name] = torch.ones(extents, dtype=torch.bfloat16)
        else:
            held[name] = torch.empty(extents, dtype=torch.bfloat16)
            for part in torch.split(held[name], 1024):
                part.copy_(torch.randn(part.shape, generator=generator) * STANDARD_DEVIATION)
    flush()
    index = {"metadata": {}, "weight_map": where}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "config.json").write_text(json.dumps(shape.config()))
    _write_tokenizer(directory)
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def _write_tokenizer(directory: Path) -> None:
    """One token a letter: the text only has to become numbers below the vocabulary."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    names = ["<s>", "<unk>", *LETTERS]
    inner = Tokenizer(models.BPE({name: at for at, name in enumerate(names)}, [], unk_token="<unk>"))
    inner.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", unk_token="<unk>").save_pretrained(
        directory
    )


def measured(code: str, folder: Path) -> tuple[int, float]:
    """Peak resident set [bytes] and seconds of a process that runs ``code``.

    As /proc says it of the process's own memory: what `wait` returns also counts the parent's before the
    start.
    """
    noted = folder / "peak"
    tail = f"import shutil; shutil.copyfile('/proc/self/status', {str(noted)!r})"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tail}"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{code} failed: {done.stdout}{done.stderr}")
    seconds = time.perf_counter() - began
    (line,) = (line for line in noted.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024, seconds


def main() -> None:
    """Make, measure, print, delete."""
    given = _arguments()
    shape = Shape(
        hidden=given.hidden,
        mlp=given.mlp,
        heads=given.heads,
        vocabulary=given.vocabulary,
        blocks=given.blocks,
    )
    folder = Path(tempfile.mkdtemp(dir=given.work, prefix="planeforge-big-"))
    try:
        bytes_stored = write(folder / "model", shape)
        words = ["quantize", str(folder / "model"), "--method", given.method, "--length", str(given.length)]
        words += ["--sequences", str(given.sequences), *(word for s in given.set for word in ("--set", s))]
        words += ["-o", str(folder / "packed")]
        alone, _ = measured("import torch, numba, transformers.models.llama.modeling_llama", folder)
        quantize = f"from planeforge.cli import main\nif main({words!r}): raise SystemExit(1)"
        peak, seconds = measured(quantize, folder)
        packed = sum(path.stat().st_size for path in (folder / "packed").glob("packed-*"))
    finally:
        shutil.rmtree(folder)
    block = 4 * sum(torch.Size(s).numel() for n, s in shape.tensors() if n.startswith("model.layers.0."))
    widest = 8 * max(shape.hidden, shape.mlp) ** 2
    _print(
        f"{given.method}, {given.blocks} blocks of {shape.hidden} x {shape.mlp}, "
        f"{given.sequences} x {given.length} tokens, {seconds:.0f} s",
        bytes_stored,
        {
            "checkpoint, bfloat16 shards": bytes_stored,
            "the same in float32": 2 * bytes_stored,
            "one block in float32": block,
            "widest layer's Hessian, float64": widest,
            "packed layers": packed,
            "peak resident, imports alone": alone,
            "peak resident, quantizing": peak,
        },
    )


def _print(title: str, whole: int, figures: dict[str, int]) -> None:
    rows = [
        {"what": what, "MB": round(size / 1e6), "of the checkpoint": f"{size / whole:.2f}"}
        for what, size in figures.items()
    ]
    table(rows, title)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    defaults = Shape()
    for name in ("hidden", "mlp", "heads", "vocabulary", "blocks"):
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, name))
    parser.add_argument("--method", default="rtn")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the method")
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--work", default="/var/tmp", help="where the checkpoint is made, and deleted")
    return parser.parse_args()


if __name__ == "__main__":
    main()
