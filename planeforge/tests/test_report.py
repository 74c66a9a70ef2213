"""The report: one page that needs nothing else, that explains its columns and names its sources."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from cost_models.sparsity import price
from planeforge import report, report_tables
from planeforge.study_rows import Row
from planeforge.study_table import added, figures, frontier, ranked, table
from planeforge.tests.study_samples import SAMPLES, priced, results, row, run, study

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Tags, references and text of a page; refuses one whose tags do not match."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.references, self.text, self.cells = [], [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        self.references += [given[name] for name in ("href", "src", "xlink:href", "srcset") if name in given]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.text.append(" ".join(data.split()))


@pytest.fixture(scope="module")
def sampled():
    return ranked(results())


@pytest.fixture(scope="module")
def html(sampled):
    return report.render(study(), sampled, [], run())


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_the_page_runs_no_script_and_fetches_nothing(html, page):
    assert "script" not in page.tags
    beside = {"results.csv", "layers.csv", "run.json", "verilog/pe.v", "verilog/README.txt", "data:,"}
    assert {r for r in page.references if not r.startswith("#")} == beside
    assert not re.search(r"url\(\s*['\"]?(?!#)", html)
    assert "@import" not in html


def test_the_page_holds_its_three_pictures_and_every_format(page):
    assert page.tags.count("svg") == 3
    for label, *_ in SAMPLES:
        assert label in page.text


def test_every_column_has_a_unit_and_a_meaning(page, sampled):
    for column in report_tables.main_columns(study(), sampled):
        assert column.unit
        assert len(column.meaning) > 30 or column.heading == "Published"
        head = f"{column.group}: {column.heading}" if column.group else column.heading
        assert f"{head} [{column.unit}]" in page.text
        assert column.meaning in page.text


def test_every_constant_behind_a_cost_stands_on_the_page_with_its_source(page, sampled):
    used = {c.key: c for r in sampled for cost in (r.area, r.energy) for c in cost.constants}
    assert len(used) > 10
    for constant in used.values():
        assert constant.key in page.text
        assert " ".join(constant.source.split()) in page.text


def test_hashes_versions_and_pe_parameters_stand_on_the_page(page):
    text = " ".join(page.text)
    for wanted in (
        "0123456789abcdef",
        "numpy 2.4",
        "acc_width",
        "32",
        "500 MHz",
        "seed 0",
        "asap7",
        "lpddr5",
    ):
        assert wanted in text


def test_the_same_results_make_the_same_page(html, sampled):
    assert report.render(study(), sampled, [], run()) == html


def test_names_are_text_and_never_markup(sampled):
    odd = '<img src=x onerror=alert(1)> & "co"'
    _, *rest = SAMPLES[1]
    mixed = [*sampled[:1], priced(row(odd, *rest).model_copy(update={"note": odd}))]
    failed = [Row(key="k", label=odd, method="m", error=odd)]
    made = run(model=run()["model"] | {"name": odd})
    page = Page(report.render(study(title=odd), mixed, failed, made))
    assert "img" not in page.tags
    assert page.text.count(odd) >= 5


def test_failed_formats_stand_first_with_their_reason(sampled):
    failed = [Row(key="k", label="broken", method="m", error="ValueError: scale must be finite, not nan")]
    page = Page(report.render(study(), sampled, failed, run()))
    assert "1 of 8 formats failed" in page.text
    assert page.text.index("ValueError: scale must be finite, not nan") < page.text.index("Results")


def test_a_study_in_which_all_failed_still_has_a_page():
    failed = [Row(key="k", label="broken", method="m", error="ValueError: no")]
    page = Page(report.render(study(), [], failed, run(model=run()["model"] | {"quantized_weights": None})))
    assert "1 of 1 formats failed" in page.text
    assert "svg" not in page.tags


def test_results_without_the_reference_have_no_relative_energy(sampled):
    others = [r for r in sampled if r.label != "fp16"]
    columns = report_tables.main_columns(study(), others)
    relative = next(column for column in columns if column.unit == "vs fp16")
    assert {relative.cell(r) for r in others} == {"–"}
    Page(report.render(study(), others, [], run()))


def test_findings_name_the_widest_gap_and_who_is_beaten_by_whom(sampled):
    text = report_tables.findings(sampled, 8)
    assert text[0] == (
        "The widest gap between claim and file is BiLLM's: 1.10 bits per weight as published, 2.88 stored, "
        "2.61 times as many."
    )
    assert text[1] == (
        "BiLLM loses in divergence and energy at once, beyond the errors of both, to rtn int4 and rtn int2."
    )
    assert "0.000520 nats/token" in text[-1]


def test_nobody_loses_by_less_than_the_errors(sampled):
    by_label = {r.label: r for r in sampled}
    billm, int2 = by_label["BiLLM"], by_label["rtn int2"]
    assert report_tables._loses(billm, int2)
    assert not report_tables._loses(int2, billm)
    vague = priced(
        billm.row.model_copy(update={"hardware": billm.row.hardware.model_copy(update={"kl_se": 0.1})})
    )
    assert not report_tables._loses(vague, int2)
    assert "No format loses" in report_tables.findings([int2, by_label["sign"]], 8)[1]


def test_a_frontier_holds_what_nothing_beats():
    points = [(3.0, 1.0), (1.0, 3.0), (2.0, 2.0), (2.5, 2.5), (3.0, 3.0)]
    assert frontier(points) == [1, 2, 0]


def test_costs_add_up_part_by_part(sampled):
    one, other = sampled[0].energy, sampled[1].energy
    both = added([one, other], 0.5)
    assert both.total == pytest.approx((one.total + other.total) / 2)
    assert both.low == pytest.approx((one.low + other.low) / 2)
    assert both.breakdown["dram"] == pytest.approx((one.breakdown["dram"] + other.breakdown["dram"]) / 2)
    assert len(both.terms) == len(one.terms)


def test_the_table_has_no_gaps_where_a_format_stores_nothing_of_a_kind(sampled):
    failed = [Row(key="k", label="broken", method="m", error="ValueError: no")]
    frame = table(sampled, sampled[0], failed)
    assert list(frame["format"]) == [*(r.label for r in sampled), "broken"]
    sound = frame.iloc[:-1]
    bills = [name for name in frame.columns if name.endswith("_bits_per_weight")]
    assert not sound[bills].isna().any().any()
    assert float(sound.set_index("format").loc["sign", "masks_bits_per_weight"]) == 0.0
    assert frame.columns[-1] == "error"
    assert frame["error"].iloc[-1] == "ValueError: no"


def test_relative_energies_have_the_narrower_range(sampled):
    reference = report.reference_of(sampled)
    for r in sampled:
        line = figures(r, reference)
        own = line["energy_high_pj_per_token"] / line["energy_low_pj_per_token"]
        assert (
            line["energy_relative_low"]
            <= line["energy_relative_to_reference"]
            <= line["energy_relative_high"]
        )
        assert line["energy_relative_high"] / line["energy_relative_low"] < own


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (None, "–"),
        (61_701.0, "61,701"),
        (16.958, "17.0"),
        (2.8e-5, "2.80e-05"),
        (0.00836, "0.00836"),
    ],
)
def test_figures_have_three_significant_digits(value, text):
    assert report_tables.figure(value) == text


def test_a_score_that_is_missing_is_refused_where_it_is_needed():
    blank = priced(row(*SAMPLES[1]).model_copy(update={"hardware": None, "weights_only": None}))
    for name in ("kl", "weights_only_kl"):
        with pytest.raises(ValueError, match=r"^row rtn int8 must have been scored, and failed instead$"):
            getattr(blank, name)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed")
def test_a_browser_opens_the_page_without_a_complaint(html, tmp_path):
    def complaints(name, text):
        (tmp_path / name).write_text(text)
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", (tmp_path / name).as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return [line for line in done.stderr.splitlines() if ":CONSOLE" in line]

    assert complaints("report.html", html) == []
    # The check sees what it looks for.
    assert complaints("broken.html", html.replace("</body>", "<script>nowhere()</script></body>"))


def test_what_sparsity_costs_stands_on_the_page_in_plain_sentences(page):
    said = price.sentences("asap7")
    assert said[0].startswith("2:4 with a plain index costs area of a 1-bit popcount PE")
    assert "saves area of an INT8 PE" in said[0]
    assert set(said) <= set(page.text)
