"""The three pictures of a study, as SVG text: the same bytes for the same results.

Colours are Okabe and Ito's, which stay apart for every common colour vision (Wong, "Points of view: Color
blindness", Nature Methods 8, 441, 2011); shapes and names say the same again without colour.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from algo.bitplane.planes import ROLES
from planeforge import plot_labels
from planeforge.study_table import Result, frontier

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#8A8F98", "#20242B"
#: One colour a role, in the order of `ROLES`.
ROLE_COLOURS = (BLUE, "#56B4E9", ORANGE, "#E69F00", "#009E73", "#F0E442", "#CC79A7", GREY, INK)
OWN_COLOUR = "#C9CED6"  #: of what is stored in no role of the contract (whole fp16 weights)
WIDE = 8.0  #: largest over smallest from which an axis is logarithmic
SHORT = 300.0  #: and below which its tick labels are plain numbers, three a decade

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E3E6EA",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "hatch.linewidth": 0.6,
    # Outlines, not letters: a browser's own fonts are wider or narrower, and names would collide.
    "svg.fonttype": "path",
}


def kl_against_bits(results: Sequence[Result]) -> str:
    """Divergence from the reference against stored bits per weight, as SVG."""
    with _figure("kl-against-bits") as (figure, axes):
        drawn = _divergent(results)
        xs, ys = [r.row.stored_bits for r in drawn], [r.kl for r in drawn]
        alone = [(r.row.stored_bits, r.weights_only_kl, r.kl) for r in drawn if r.weights_only_kl > 0]
        claims = [r.row.published_bits for r in drawn]
        axes.hlines(ys, claims, xs, color=ORANGE, linewidth=1.2, zorder=2)
        axes.plot(claims, ys, "|", color=ORANGE, ms=11, mew=2, label="bits as published")
        axes.vlines([x for x, _, _ in alone], [y for _, y, _ in alone], [y for _, _, y in alone], color=GREY)
        axes.plot(
            [x for x, _, _ in alone],
            [y for _, y, _ in alone],
            "o",
            mfc="white",
            mec=BLUE,
            ms=6,
            label="weights alone",
        )
        axes.plot(xs, ys, "o", color=BLUE, ms=7, label="as the hardware computes")
        _span(axes, "x", [*xs, *claims], base=2)
        _span(axes, "y", [*ys, *(y for _, y, _ in alone)])
        axes.set_xlabel("bits per weight, everything stored")
        axes.set_ylabel("KL to the fp16 model [nats/token]")
        _legend(axes, 3)
        lines = [((claim, y), (x, y)) for claim, x, y in zip(claims, xs, ys, strict=True)]
        lines += [((x, low), (x, high)) for x, low, high in alone]
        plot_labels.place(axes, [(x, y, r.label) for x, y, r in zip(xs, ys, drawn, strict=True)], lines)
        return _svg(figure)


def energy_against_kl(results: Sequence[Result]) -> str:
    """Energy per token against divergence, as SVG; the line joins what nothing else beats in both."""
    with _figure("energy-against-kl") as (figure, axes):
        drawn = _divergent(results)
        xs, ys = [r.kl for r in drawn], [r.energy.total / 1e3 for r in drawn]
        low, high = [r.energy.low / 1e3 for r in drawn], [r.energy.high / 1e3 for r in drawn]
        best = [(xs[i], ys[i]) for i in frontier(list(zip(xs, ys, strict=True)))]
        axes.plot(
            [x for x, _ in best],
            [y for _, y in best],
            color=ORANGE,
            linewidth=1.5,
            drawstyle="steps-post",
            label="nothing beats these in both",
        )
        axes.vlines(xs, low, high, color=GREY, linewidth=1.2, label="range of the cost model's constants")
        axes.plot(xs, ys, "o", color=BLUE, ms=7, label="estimate")
        _span(axes, "x", xs)
        _span(axes, "y", [*low, *high])
        axes.set_xlabel("KL to the fp16 model, as the hardware computes [nats/token]")
        axes.set_ylabel("energy per token [nJ]")
        _legend(axes, 3)
        lines = [((x, y0), (x, y1)) for x, y0, y1 in zip(xs, low, high, strict=True)]
        for (x0, y0), (x1, y1) in itertools.pairwise(best):
            lines += [((x0, y0), (x1, y0)), ((x1, y0), (x1, y1))]
        plot_labels.place(axes, [(x, y, r.label) for x, y, r in zip(xs, ys, drawn, strict=True)], lines)
        return _svg(figure)


def where_bits_go(results: Sequence[Result]) -> str:
    """Stored bits per weight by role, one bar a format, the published figure marked on it, as SVG."""
    with _figure("where-the-bits-go", height=1.6 + 0.44 * len(results)) as (figure, axes):
        bars = sorted(results, key=lambda r: (-r.row.stored_bits, r.label))
        places, ends = range(len(bars)), [0.0] * len(bars)
        for role in _roles(bars):
            widths = [r.row.breakdown.get(role, 0.0) for r in bars]
            known = role in ROLES
            colour = ROLE_COLOURS[ROLES.index(role)] if known else OWN_COLOUR
            axes.barh(
                places,
                widths,
                left=ends,
                height=0.62,
                color=colour,
                edgecolor="white",
                linewidth=0.6,
                label=role,
            )
            ends = [end + width for end, width in zip(ends, widths, strict=True)]
        claims = [r.row.published_bits for r in bars]
        axes.plot(claims, places, "|", color=INK, ms=19, mew=2, label="as published")
        for place, end, claim in zip(places, ends, claims, strict=True):
            axes.annotate(
                f"{end:.2f}", (max(end, claim), place), (7, 0), textcoords="offset points", va="center"
            )
        axes.set_yticks(list(places), [r.label for r in bars], parse_math=False)
        axes.set_xlim(0, 1.08 * max([*ends, *claims]))
        axes.set_xlabel("bits per weight, everything stored")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=plot_labels.SIZE)
        return _svg(figure)


def _divergent(results: Sequence[Result]) -> list[Result]:
    """What a logarithmic axis can show: a divergence of exactly 0 has no place on it."""
    return [r for r in results if r.kl > 0]


def _roles(results: Sequence[Result]) -> list[str]:
    """Roles that take bits: the contract's in its order, then any a row brings of its own."""
    used = dict.fromkeys(role for r in results for role, bits in r.row.breakdown.items() if bits)
    return [*(role for role in ROLES if role in used), *(role for role in used if role not in ROLES)]


def _span(axes: Axes, which: str, values: Sequence[float], base: int = 10) -> None:
    """A logarithmic axis where the data span far, and room at both ends."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if not values:
        return
    low, high = min(values), max(values)
    axis, limits = (axes.xaxis, axes.set_xlim) if which == "x" else (axes.yaxis, axes.set_ylim)
    if low > 0 and high / low >= WIDE:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log", base=base)
        if base == 2 or high / low < SHORT:
            axis.set_major_locator(LogLocator(base=base, subs=(1.0,) if base == 2 else (1.0, 2.0, 5.0)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axis.set_minor_formatter(NullFormatter())
        room = (high / low) ** 0.09
        limits(low / room, high * room)
    else:
        room = 0.12 * ((high - low) or abs(high) or 1.0)
        limits(max(0.0, low - room) if low >= 0 else low - room, high + room)


def _legend(axes: Axes, columns: int) -> None:
    axes.legend(
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncol=columns,
        fontsize=plot_labels.SIZE,
        borderaxespad=0.2,
    )


@contextmanager
def _figure(name: str, height: float = 4.6) -> Iterator[tuple[Figure, Axes]]:
    """A figure in the house style; ``name`` makes the ids in its SVG its own on a page with others."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: Any = {**_STYLE, "svg.hashsalt": name}
    with mpl.rc_context(style):
        figure = Figure(figsize=(8.2, height), layout="constrained")
        yield figure, figure.subplots()


def _svg(figure: Figure) -> str:
    """The figure as one ``<svg>`` element, without date, program or document type."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
