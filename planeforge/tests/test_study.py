"""A study from its file to its folder: figures that agree, resumption, rows that fail alone."""

import csv
import json
import math

import pytest

from planeforge import study, study_rows
from planeforge.cli import main
from planeforge.demo import assets

MODEL = assets.MODELS / assets.UNIT_TEST_MODEL
HEAD = f'model = "{MODEL}"\nwindows = 8\ncalibration_windows = 8\ntokens = 12\nthreads = 1\n'
INT8, INT4, INT2 = (
    f'[[formats]]\nlabel = "int{n}"\nmethod = "rtn"\nformat = "int{n}-g128"\n' for n in (8, 4, 2)
)
SIGN = '[[formats]]\nlabel = "sign"\nmethod = "sign"\n'
BILLM = '[[formats]]\nlabel = "BiLLM"\nmethod = "billm"\n'


def written(folder, text):
    path = folder / "study.toml"
    path.write_text(text)
    return path


def table(folder):
    with (folder / "results.csv").open(newline="") as file:
        return {line["format"]: line for line in csv.DictReader(file)}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished study: its folder, its figures by format, what was reported of its progress."""
    folder = tmp_path_factory.mktemp("study")
    moves = []
    path = written(folder, HEAD + INT8 + INT4 + INT2 + SIGN + BILLM)
    result = study.compare(path, folder / "out", lambda share, doing: moves.append((share, doing)))
    return folder / "out", result, moves


def test_divergence_orders_the_formats(done):
    lines = table(done[0])
    for column in ("kl_nats_per_token", "weights_only_kl_nats_per_token"):
        kl = {label: float(line[column]) for label, line in lines.items()}
        assert kl["int8"] < kl["int4"] < kl["int2"] < kl["sign"]


def test_the_table_is_sorted_by_divergence_and_equals_the_figures_returned(done):
    out, result, _ = done
    lines = table(out)
    kl = [float(line["weights_only_kl_nats_per_token"]) for line in lines.values()]
    assert kl == sorted(kl)
    assert [figures["format"] for figures in result["figures"]] == list(lines)
    for figures in result["figures"]:
        stored = float(lines[figures["format"]]["energy_pj_per_token"])
        assert stored == pytest.approx(figures["energy_pj_per_token"], rel=1e-8)


def test_the_reference_diverges_by_its_activations_alone(done):
    line = table(done[0])["fp16"]
    assert float(line["weights_only_kl_nats_per_token"]) == 0
    assert float(line["kl_nats_per_token"]) > 0
    assert float(line["stored_bits_per_weight"]) == 16
    assert float(line["weight_error_fraction"]) == 0
    assert float(line["energy_relative_to_reference"]) == 1
    assert "two's-complement planes" in line["note"]


def test_stored_bits_are_the_sum_of_their_parts_and_exceed_what_is_published(done):
    for label, line in table(done[0]).items():
        parts = [
            float(value)
            for name, value in line.items()
            if name.endswith("_bits_per_weight")
            and name not in ("stored_bits_per_weight", "published_bits_per_weight")
        ]
        assert math.fsum(parts) == pytest.approx(float(line["stored_bits_per_weight"]), rel=1e-8)
        if label != "fp16":
            assert float(line["stored_bits_per_weight"]) > float(line["published_bits_per_weight"])


def test_stored_bits_are_those_of_the_file_the_quantizer_writes(done, tmp_path):
    out = tmp_path / "packed"
    assert main(["quantize", str(MODEL), "--method", "sign", "-o", str(out)]) == 0
    from algo.bitplane import storage
    from planeforge import packed

    matrices, _ = packed.read(out)
    bits = 8 * sum(sum(storage.stored_bytes(m).values()) for m in matrices.values())
    weights = sum(m.rows * m.columns for m in matrices.values())
    assert float(table(done[0])["sign"]["stored_bits_per_weight"]) == pytest.approx(bits / weights, rel=1e-8)


def test_energy_is_the_sum_of_its_parts_and_of_its_layers(done):
    out = done[0]
    with (out / "layers.csv").open(newline="") as file:
        layers = list(csv.DictReader(file))
    for label, line in table(out).items():
        total = float(line["energy_pj_per_token"])
        assert float(line["energy_low_pj_per_token"]) < total < float(line["energy_high_pj_per_token"])
        whole = {"energy_pj_per_token", "energy_low_pj_per_token", "energy_high_pj_per_token"}
        parts = [
            float(v)
            for k, v in line.items()
            if k.startswith("energy_") and k.endswith("_pj_per_token") and k not in whole
        ]
        assert math.fsum(parts) == pytest.approx(total, rel=1e-7)
        own = [float(layer["energy_pj_per_token"]) for layer in layers if layer["format"] == label]
        assert len(own) == 7
        assert math.fsum(own) == pytest.approx(total, rel=1e-7)


def test_cycles_are_those_counted_by_hand(done):
    with (done[0] / "layers.csv").open(newline="") as file:
        layers = {(line["format"], line["layer"]): line for line in csv.DictReader(file)}
    # down_proj: 128 rows of 200 columns, in groups of 128 and 72, each two words of 64 lanes.
    tiles = (128 // 8) * 2
    latency = 6
    sign = tiles * (2 + 2) * 8 + latency
    # Four weight planes by eight of activations, and for the zero point the activations alone.
    int4 = tiles * (2 + 2) * (4 * 8 + 8) + latency
    name = "model.layers.0.mlp.down_proj"
    assert float(layers["sign", name]["array_cycles_per_token"]) * 12 == pytest.approx(sign)
    assert float(layers["int4", name]["array_cycles_per_token"]) * 12 == pytest.approx(int4)
    utilisation = float(layers["sign", name]["array_utilisation_fraction"])
    assert utilisation == pytest.approx(128 * 12 * 200 * 8 / (sign * 64 * 64))


def test_progress_never_goes_back_and_names_the_format_at_work(done):
    moves = done[2]
    shares = [share for share, _ in moves]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    for label in ("fp16", "int8", "BiLLM"):
        assert any(doing.startswith(f"{label}, ") for _, doing in moves)


def test_the_run_is_described_well_enough_to_repeat_it(done):
    run = json.loads((done[0] / "run.json").read_text())
    assert run["schema"] == "planeforge.run/1"
    assert run["model"]["sha256"] == assets.sums(assets.MODELS)[f"{assets.UNIT_TEST_MODEL}/model.safetensors"]
    assert run["text"]["sha256"] == assets.sums(assets.TEXT)["heldout.txt"]
    assert run["study"]["windows"] == 8
    assert {row["label"] for row in run["rows"]} == {"fp16", "int8", "int4", "int2", "sign", "BiLLM"}
    assert {"python", "numpy", "torch"} <= set(run["versions"])
    assert str(assets.MODELS) not in json.dumps({k: v for k, v in run.items() if k != "study"})


def test_as_many_windows_are_scored_as_were_asked_for(done):
    rows = [json.loads(path.read_text()) for path in (done[0] / "rows").iterdir()]
    assert {row["hardware"]["windows"] for row in rows} == {8}
    # The first window scores its context less one, each further one half a context.
    assert {row["hardware"]["tokens"] for row in rows} == {127 + 7 * 64}
    held_out = assets.held_out_text()
    run = json.loads((done[0] / "run.json").read_text())
    assert 0 < run["text"]["characters"] < len(held_out)


def test_verilog_and_tables_stand_beside_the_report(done):
    out = done[0]
    names = {path.name for path in out.iterdir()}
    assert names == {"report.html", "results.csv", "layers.csv", "run.json", "rows", "verilog"}
    assert "module pe" in (out / "verilog" / "pe.v").read_text()


def test_a_second_run_measures_nothing_and_writes_the_same_bytes(done, monkeypatch):
    from algo import driver

    out = done[0]
    kept = ("report.html", "results.csv", "layers.csv", "run.json", "verilog/pe.v")
    before = {name: (out / name).read_bytes() for name in kept}
    monkeypatch.setattr(driver, "quantize_model", None)
    study.compare(out.parent / "study.toml", out)
    assert {name: (out / name).read_bytes() for name in kept} == before


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    path, out = written(tmp_path, HEAD + INT8 + SIGN), tmp_path / "out"

    def kill(share, doing):
        if doing.startswith("sign, scoring"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.compare(path, out, kill)
    half = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in (out / "rows").iterdir()}
    assert len(half) == 2
    assert not (out / "report.html").exists()
    study.compare(path, out)
    whole = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in (out / "rows").iterdir()}
    assert len(whole) == 3
    assert {name: whole[name] for name in half} == half
    assert set(table(out)) == {"fp16", "int8", "sign"}


def test_a_format_that_fails_is_a_row_and_stops_no_other(tmp_path, capsys):
    # Eight weight planes need a wider accumulator than one sign plane does.
    narrow = "[pe]\nparameters = { acc_width = 18 }\n"
    path, out = written(tmp_path, HEAD + INT8 + SIGN + narrow), tmp_path / "out"
    assert main(["compare", str(path), "-o", str(out)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "1 of 3 formats failed (int8: ValueError: " in error
    lines = table(out)
    assert list(lines) == ["fp16", "sign", "int8"]
    assert lines["int8"]["error"].startswith("ValueError: ")
    assert lines["int8"]["kl_nats_per_token"] == ""
    assert lines["sign"]["error"] == ""
    assert "1 of 3 formats failed" in (out / "report.html").read_text()
    # A failure is kept, but is no result: the next run tries again.
    [failed] = [row["key"] for row in json.loads((out / "run.json").read_text())["rows"] if row["error"]]
    assert json.loads((out / "rows" / f"{failed}.json").read_text())["error"].startswith("ValueError: ")
    assert study_rows.read(out / "rows", failed) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("tokens = 200", r"^tokens must be at most 128, what the model was trained to see, not 200$"),
        ('calibration = "short.txt"', r"^calibration must hold at least 128 tokens, not \d+$"),
        ('text = "short.txt"', r"^text must hold at least 64 tokens, not \d+$"),
        ('text = "empty.txt"', r"^text must hold text, and '.*empty\.txt' is empty$"),
    ],
)
def test_a_study_the_model_cannot_run_is_refused_before_anything_is_written(tmp_path, change, message):
    (tmp_path / "short.txt").write_text("A few words, no more.")
    (tmp_path / "empty.txt").write_text(" \n")
    path = written(tmp_path, f'model = "{MODEL}"\n{change}\n{SIGN}')
    with pytest.raises(ValueError, match=message):
        study.compare(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_somebody_elses_is_refused(tmp_path):
    path = written(tmp_path, HEAD + SIGN)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(
        ValueError, match=r"^output must be new, empty or hold an earlier study, not '.*mine'$"
    ):
        study.compare(path, tmp_path / "mine")
    with pytest.raises(ValueError, match=r"^output must be a folder, not the file '.*study\.toml'$"):
        study.compare(path, path)
    (tmp_path / "old" / "rows").mkdir(parents=True)
    (tmp_path / "old" / "verilog").mkdir()
    (tmp_path / "old" / "verilog" / "mine.v").write_text("module mine; endmodule")
    with pytest.raises(ValueError, match=r"which holds mine\.v$"):
        study.compare(path, tmp_path / "old")


def test_whatever_decides_a_result_changes_its_key():
    parts = {"label": "a", "config": {"group": 128}, "tokens": 16, "model": "0" * 64}
    changed = [
        parts | {"label": "b"},
        parts | {"config": {"group": 64}},
        parts | {"tokens": 17},
        parts | {"model": "1" * 64},
    ]
    keys = {study_rows.key_of(p) for p in [parts, *changed]}
    assert len(keys) == 5
    assert study_rows.key_of(dict(reversed(parts.items()))) == study_rows.key_of(parts)


def test_a_study_that_asks_for_more_has_other_rows(done, tmp_path):
    from planeforge import study_config, study_load

    def keys(head):
        setting = study_load.load(study_config.load(written(tmp_path, head + SIGN)))
        return study._blank(setting, "sign", "sign", "sign-g128", {"group": None}).key

    base = keys(HEAD)
    assert keys(HEAD) == base
    other = [
        HEAD.replace("tokens = 12", "tokens = 13"),
        HEAD.replace("windows = 8\ntokens", "windows = 9\ntokens"),
        HEAD.replace("windows = 8\ncal", "windows = 9\ncal"),
        "act_bits = 4\n" + HEAD,
        "pe = { parameters = { lanes = 32 } }\n" + HEAD,
        "array = { rows = 4 }\n" + HEAD,
    ]
    assert len({base, *map(keys, other)}) == 1 + len(other)
    # Prices are joined when the table is made: they ask for no new measurement.
    assert keys('dram = "ddr4"\n' + HEAD) == base


@pytest.mark.parametrize(
    "damage", [b"", b"{", b'{"key": "k"}', b'{"key": "other", "label": "x", "method": "x"}']
)
def test_a_damaged_row_is_measured_again(tmp_path, damage):
    sound = study_rows.Row(key="k", label="x", method="x")
    study_rows.write(tmp_path, sound)
    assert study_rows.read(tmp_path, "k") == sound
    (tmp_path / "k.json").write_bytes(damage)
    assert study_rows.read(tmp_path, "k") is None


def test_a_row_of_an_infinite_perplexity_survives_its_file(tmp_path):
    from planeforge.tests.study_samples import score

    infinite = score(1.0).model_copy(update={"perplexity": math.inf})
    row = study_rows.Row(key="k", label="x", method="x", hardware=infinite)
    study_rows.write(tmp_path, row)
    assert study_rows.read(tmp_path, "k") == row


def test_torch_has_as_many_threads_afterwards_as_before():
    import torch

    before = torch.get_num_threads()
    with study._threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
