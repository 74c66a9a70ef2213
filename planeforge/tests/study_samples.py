"""Rows of a study made by hand, priced by the real cost model: what report and plots are tested on."""

from dataclasses import asdict

from hw.spec import Activity
from planeforge.hardware import array
from planeforge.study_config import Study, StudyTable, resolve
from planeforge.study_rows import Accuracy, Layer, Row
from planeforge.study_table import Result, result

ENTRIES = 384 * 200
#: label, stored bits by role, published bits, KL of the weights alone, cycles per token
SAMPLES = (
    ("fp16", {"fp16 weights": 16.0}, 16.0, 0.0, 61_701),
    (
        "rtn int8",
        {"sign planes": 1.0, "extra planes": 7.0, "scales": 0.125, "zeros": 0.0625},
        8.0,
        2.8e-5,
        23_045,
    ),
    (
        "rtn int4",
        {"sign planes": 1.0, "extra planes": 3.0, "scales": 0.125, "zeros": 0.03125},
        4.0,
        0.0084,
        12_805,
    ),
    (
        "rtn int2",
        {"sign planes": 1.0, "extra planes": 1.0, "scales": 0.125, "zeros": 0.015625},
        2.0,
        0.256,
        7_685,
    ),
    ("BiLLM", {"sign planes": 1.0, "masks": 1.0, "scales": 0.5, "offsets": 0.375}, 1.1, 0.272, 17_925),
    ("ternary", {"sign planes": 1.0, "extra planes": 1.0, "scales": 0.125}, 1.585, 0.648, 5_125),
    ("sign", {"sign planes": 1.0, "scales": 0.125}, 1.0, 0.840, 2_565),
)


def score(kl: float) -> Accuracy:
    return Accuracy(
        tokens=1500,
        characters=3300,
        windows=24,
        perplexity=17 + 20 * kl,
        bits_per_character=1.93 + kl / 2,
        bits_per_character_se=0.02,
        kl=kl,
        kl_se=kl / 80,
        nll_increase=kl * 0.9,
        nll_increase_se=kl / 50,
    )


def row(label: str, bill: dict[str, float], published: float, kl: float, cycles: int) -> Row:
    tokens = 16
    stored = round(sum(bill.values()) * ENTRIES)
    work = Activity(
        cycles=cycles * tokens,
        beats=cycles * tokens * 60,
        w_toggles=cycles * tokens * 900,
        x_toggles=cycles * tokens * 1000,
        mask_toggles=cycles * 10,
        items=tokens * 384,
        scale_products=tokens * 384,
        weight_buffer_bits=cycles * tokens * 512,
        activation_buffer_bits=cycles * tokens * 512,
        result_bits=tokens * 384 * 32,
        dram_bits=stored + 10_000,
    )
    layer = Layer(
        name="model.layers.0.mlp.up_proj",
        rows=384,
        columns=200,
        stored_bits=stored,
        published_bits=published,
        weight_error=kl / 3,
        output_error=None if label == "fp16" else kl / 5,
        cycles=cycles * tokens,
        slots=cycles * tokens * 4096,
        macs=cycles * tokens * 4000,
        activity=asdict(work),
    )
    return Row(
        key=f"key-{label}",
        label=label,
        method=label.split()[0].lower(),
        tokens=tokens,
        note="runs as planes" if label == "fp16" else "",
        breakdown=bill,
        weights_only=score(kl),
        hardware=score(kl + 5.2e-4),
        layers=[layer],
        seconds={"quantize": 1.0, "score": 2.5},
    )


def priced(one: Row) -> Result:
    return result(one, array(), "asap7", "lpddr5")


def results() -> list[Result]:
    return [priced(row(*sample)) for sample in SAMPLES]


def study(**changes: object) -> Study:
    from pathlib import Path

    table = {"formats": [{"method": "rtn"}], "title": "Samples"} | changes
    return resolve(StudyTable(**table), Path())


def run(**changes: object) -> dict[str, object]:
    """What `planeforge.study.describe` says of a run."""
    digest = "0123456789abcdef" * 4
    text = {"name": "held.txt", "sha256": digest, "tokens": 1500, "characters": 3300}
    return {
        "planeforge": "0.1.0",
        "program_sha256": digest,
        "versions": {"python": "3.11", "numpy": "2.4"},
        "model": {
            "name": "tiny",
            "architecture": "LlamaForCausalLM",
            "sha256": digest,
            "weights": 1_443_072,
            "quantized_weights": 1_310_720,
            "context": 128,
            "changed_by_fp16": 3,
            "largest_change_by_fp16": 1e-6,
        },
        "text": text,
        "calibration": {"name": "calib.txt", "sha256": digest, "tokens": 7936, "windows": 62},
        "pe": {"name": "bitserial", "lanes": 64},
        "seed": 0,
    } | changes
