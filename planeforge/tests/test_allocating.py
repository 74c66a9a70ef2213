"""``planeforge allocate``: budgets kept, each rule's own choice, and a plan that reads back."""

import itertools
import json
import re
from types import SimpleNamespace

import pytest

from algo import checkpoint as door
from algo import plan
from algo.allocation import baq
from algo.methods import rtn
from algo.sensitivity import LayerSensitivity, OptionResult
from planeforge import allocating
from planeforge.cli import main
from planeforge.demo import assets

SMALL = str(assets.model(assets.UNIT_TEST_MODEL))
INT2, INT3, INT4 = (f"rtn:format=int{bits}-g128" for bits in (2, 3, 4))
TWO = ("--menu", INT2, "--menu", INT4)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "calib.txt"
    path.write_text(assets.calibration_text()[:6000])
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, text):
    """Runs the verb; returns what it printed and the plan it wrote."""

    def call(capsys, *words):
        out = tmp_path_factory.mktemp("plans") / "plan.json"
        capsys.readouterr()
        line = ["allocate", SMALL, "--calib", str(text), *map(str, words), "-o", str(out), "--json"]
        assert main(line) == 0
        return json.loads(capsys.readouterr().out), plan.read(out)

    return call


def test_the_exact_rule_keeps_its_budget_and_beats_a_uniform_choice_of_no_fewer_bits(run, capsys):
    figures, made = run(capsys, "--budget", 3.5, *TWO, "--menu", INT3)
    names = [name for name, _ in door.linear_layers(door.load(SMALL).model)]
    plan.check_layers(made, names)
    assert [row["layer"] for row in figures["layers"]] == list(made.layers) == names
    assert (made.by, made.budget) == ("ip", 3.5)
    for row in figures["layers"]:
        assert made.layers[row["layer"]].config == rtn.Config(
            format=row["option"].removeprefix("rtn:format=")
        )
    uniform = {row["option"]: row for row in figures["uniform"]}
    assert uniform[INT3]["bits_per_weight"] <= figures["bits_per_weight"] <= 3.5
    assert figures["loss"] < uniform[INT3]["loss"]
    assert figures["loss"] == pytest.approx(sum(row["loss"] for row in figures["layers"]))


def test_a_budget_of_cycles_binds_beside_the_bits(run, capsys):
    free, _ = run(capsys, "--budget", 9, *TWO)
    assert {row["option"] for row in free["layers"]} == {INT4}
    limit = free["cycles_per_token"] - 1
    bound, _ = run(capsys, "--budget", 9, *TWO, "--max-cycles", limit)
    assert bound["cycles_per_token"] <= limit
    assert bound["loss"] > free["loss"]
    assert {row["option"] for row in bound["layers"]} == {INT2, INT4}


@pytest.mark.parametrize("by", ["lim", "zd", "luq"])
def test_a_ranking_gives_the_better_format_to_the_layers_that_matter_most(run, capsys, by):
    few = ("--clusters", 20) if by == "luq" else ()
    figures, _ = run(capsys, "--by", by, "--budget", 3.5, *TWO, *few)
    kept = [row[by] for row in figures["layers"] if row["option"] == INT4]
    lowered = [row[by] for row in figures["layers"] if row["option"] == INT2]
    assert kept
    assert lowered
    assert max(kept) <= min(lowered) if by == "zd" else min(kept) >= max(lowered)
    assert figures["bits_per_weight"] <= 3.5


def layer(weights, *options, **scores):
    found = tuple(OptionResult(loss=loss, bits=bits, cycles=None) for loss, bits in options)
    return LayerSensitivity(weights=weights, block=0, options=found, **{"lim": 0, "zd": 0, "luq": 0} | scores)


def test_baq_knows_the_dearest_option_alone_and_models_the_rest():
    # At 4 bits the second layer loses 16 times as much. What was measured at 2 bits is not looked at.
    measured = {
        "a": layer(100, (9e9, 200), (1.0, 400), (0.0, 300)),
        "b": layer(100, (0.0, 200), (16.0, 400), (0.0, 300)),
    }
    chosen, scores = allocating._chosen(measured, "baq", 3.0, None)
    assert chosen == [0, 1]
    assert scores["closed_form_bits"] == pytest.approx([2.0, 4.0])
    assert scores["closed_form_bits"] == baq.closed_form([256, 4096], 3.0, [100, 100]).tolist()


def test_the_order_of_a_menu_does_not_decide_which_format_is_low():
    scores = {"a": {"lim": 1.0, "zd": 0.3}, "b": {"lim": 2.0, "zd": 0.4}}
    for low, by in itertools.product((0, 1), ("lim", "zd")):
        options = [(5.0, 200), (1.0, 400)] if low == 0 else [(1.0, 400), (5.0, 200)]
        measured = {name: layer(100, *options, **found) for name, found in scores.items()}
        chosen, _ = allocating._chosen(measured, by, 3.0, None)
        kept = {"lim": "b", "zd": "a"}[by]
        assert dict(zip(measured, chosen, strict=True))[kept] == 1 - low
        assert sorted(chosen) == [0, 1]


def test_every_stage_of_a_layer_takes_its_clocks():
    from planeforge.hardware import array
    from sim.schedule import shape

    made = rtn.quantize([[1.0, -2.0, 0.5] * 30] * 5)
    count = allocating._counter("bitserial", "4x4", 8)
    spec = array("4x4", "bitserial")
    once = spec.cycles(shape(made.matrix, 8, 1))
    assert count(made) == once > 0
    assert count(SimpleNamespace(stages=(made.matrix, made.matrix))) == 2 * once


def test_the_table_names_layers_options_and_totals(text, tmp_path, capsys):
    out = tmp_path / "plan.json"
    assert (
        main(["allocate", SMALL, "--by", "baq", "--budget", "3", "--calib", str(text), *TWO, "-o", str(out)])
        == 0
    )
    printed = capsys.readouterr().out
    assert "model.layers.0.self_attn.q_proj" in printed
    assert "this plan, by baq" in printed
    assert "closed_form_bits" in printed
    assert "totals, budget 3 bits per weight" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--by best --budget 3 {two}", "by must be one of ip, baq, lim, zd, luq, not 'best'"),
        ("--budget 0 {two}", "budget must be a finite number above 0 [bits per weight], not 0.0"),
        ("--budget inf {two}", "budget must be a finite number above 0 [bits per weight], not inf"),
        ("--budget 3 --menu rtn", "menu must hold two options or more, each once, not rtn"),
        ("--budget 3 --menu rtn --menu rtn", "menu must hold two options or more, each once, not rtn, rtn"),
        (
            "--by zd --budget 3 {two} --menu rtn",
            "menu must hold two options for zd, which ranks the layers, not 3",
        ),
        (
            "--by lim --budget 3 {two} --max-cycles 9",
            "max-cycles must be left out for lim (rule ip takes it), not 9",
        ),
        ("--budget 3 {two} --clusters 9", "clusters must be left out for ip (rule luq takes it), not 9"),
        ("--budget 3 --menu rtn --menu nope", "method must be one of "),
        ("--budget 3 --menu rtn --menu rtn:size=3", "set must name one of group"),
        ("--budget 3 --menu rtn --menu rtn:format=int9", "format must be one of int4-g128, "),
        ("--budget 3 --menu rtn --menu rtn:group", "set must be key=value, not 'group'"),
        ("--budget 3 {two} --pe nope", "pe must be one of "),
        ("--budget 3 {two} --calib {short}", "calib must hold at least 128 tokens, not "),
        ("--budget 1 {two}", "budget must be at least 2.37"),
        ("--by baq --budget 1 {two}", "budget must be at least 2.37"),
        ("--by lim --budget 1 {two}", "budget must be at least 2.37"),
        ("--budget 3 {two} --max-cycles 9", "budget cycles must be at least "),
        ("--budget 9 {two} -o no/plan.json", "output folder must exist, not 'no'"),
    ],
)
def test_requests_that_do_not_fit_are_refused_in_one_line(
    text, tmp_path, capsys, monkeypatch, words, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.txt").write_text("too little")
    line = words.format(two=" ".join(TWO), short="short.txt").split()
    line += [] if "-o" in line else ["-o", "plan.json"]
    line += [] if "--calib" in line else ["--calib", str(text)]
    assert main(["allocate", SMALL, *line]) == 2
    error = capsys.readouterr().err
    assert re.match(f"error: {re.escape(message)}", error)
    assert error.count("\n") == 1
    assert not (tmp_path / "plan.json").exists()
