"""The three pictures: sound SVG, the same bytes each time, names that cover nothing."""

import itertools
import re
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from planeforge import plot_labels, plots
from planeforge.tests.study_samples import SAMPLES, priced, results, row

PLOTS = (plots.kl_against_bits, plots.energy_against_kl, plots.where_bits_go)


@pytest.fixture(scope="module")
def sampled():
    return results()


@pytest.fixture(scope="module")
def drawn(sampled):
    return {draw: draw(sampled) for draw in PLOTS}


@pytest.mark.parametrize("draw", PLOTS)
def test_a_plot_is_one_svg_element_that_names_every_format(drawn, draw):
    assert ElementTree.fromstring(drawn[draw]).tag == "{http://www.w3.org/2000/svg}svg"
    # Letters are drawn as outlines; what they spell stands in a comment beside them.
    for label, *_ in SAMPLES:
        assert f"<!-- {label} -->" in drawn[draw]


@pytest.mark.parametrize("draw", PLOTS)
def test_a_plot_has_the_same_bytes_every_time(sampled, drawn, draw):
    assert draw(sampled) == drawn[draw]
    assert "dc:date" not in drawn[draw]


def test_plots_on_one_page_share_no_id_that_means_two_things(drawn):
    found = [
        {
            element.get("id"): ElementTree.tostring(element).strip()
            for element in ElementTree.fromstring(svg).iter()
        }
        for svg in drawn.values()
    ]
    referred = [set(re.findall(r"[(\"']#([^)\"']+)", svg)) for svg in drawn.values()]
    for (one, one_uses), (other, other_uses) in itertools.combinations(zip(found, referred, strict=True), 2):
        for name in (one_uses | other_uses) & set(one) & set(other):
            assert one[name] == other[name], name


@pytest.mark.parametrize("draw", PLOTS)
def test_a_plot_of_one_format_draws(sampled, drawn, draw):
    alone = draw(sampled[2:3])
    assert ElementTree.fromstring(alone) is not None
    assert "<!-- rtn int4 -->" in alone
    assert "<!-- sign -->" not in alone


def test_a_format_without_divergence_is_left_off_the_logarithmic_axes(sampled):
    exact = row("exact", {"sign planes": 1.0}, 1.0, 0.0, 100)
    exact = priced(exact.model_copy(update={"hardware": exact.weights_only}))
    assert "<!-- exact -->" not in plots.kl_against_bits([*sampled, exact])
    assert "<!-- exact -->" in plots.where_bits_go([*sampled, exact])


@pytest.mark.parametrize("draw", PLOTS)
def test_a_label_is_text_whatever_it_holds(sampled, draw):
    _, *rest = SAMPLES[2]
    # As mathematics it would be refused: a brace is missing.
    odd = priced(row("größer <b> & 5$ -- \\frac{ $", *rest))
    assert ElementTree.fromstring(draw([sampled[1], odd])) is not None


def test_every_role_has_a_colour_of_its_own():
    assert len(set(plots.ROLE_COLOURS)) == len(plots.ROLES) == len(plots.ROLE_COLOURS)


def placed(points, lines=()):
    """Extents of the names as drawn, and the frame."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 10)
    plot_labels.place(axes, points, lines)
    figure.draw_without_rendering()
    spots = [axes.transData.transform((x, y)) for x, y, _ in points]
    # An annotation's own extent would include the line to its point.
    boxes = [super(type(text), text).get_window_extent() for text in axes.texts]
    return boxes, spots, axes.get_window_extent()


def overlap(one, other):
    both = Bbox.intersection(one, other)
    return both is not None and both.width > 0 and both.height > 0


def test_names_of_crowded_points_cover_neither_each_other_nor_a_point_nor_leave_the_frame():
    points = [(5 + 0.15 * i, 5 - 0.1 * i, f"some format {i}") for i in range(8)]
    points += [(9.9, 9.9, "in the corner"), (0.1, 0.1, "in the other"), (9.9, 5.0, "at the edge")]
    boxes, spots, frame = placed(points)
    assert len(boxes) == len(points)
    for one, other in itertools.combinations(boxes, 2):
        assert not overlap(one, other)
    for box, (x, y) in itertools.product(boxes, spots):
        assert not box.contains(x, y)
    for box in boxes:
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1
        assert frame.y0 <= box.y0
        assert box.y1 <= frame.y1


def test_a_name_stands_beside_its_point_where_there_is_room():
    boxes, [(x, y)], _ = placed([(5.0, 5.0, "alone")])
    assert boxes[0].x0 > x
    assert boxes[0].y0 < y < boxes[0].y1


def test_a_name_keeps_off_a_line():
    line = ((0.0, 5.0), (10.0, 5.0))
    boxes, [(_, y)], _ = placed([(5.0, 5.0, "alone")], [line])
    assert not boxes[0].y0 < y < boxes[0].y1


def test_names_are_refused_on_axes_without_a_figure():
    figure = Figure()
    axes = figure.subplots()
    axes.remove()
    with pytest.raises(
        ValueError, match=r"^axes must belong to a figure to measure text, and belong to none$"
    ):
        plot_labels.place(axes, [(0.0, 0.0, "x")])
