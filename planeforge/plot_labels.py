"""Names beside the points of a plot, clear of each other, of all points and of the frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

Point = tuple[float, float]

SIZE = 9  #: of the names [points]
MARKER = 6.0  #: half the side of the square kept clear around a point [points]
LEADER = 16.0  #: a name farther off than this is joined to its point by a line [points]

#: Where a name may stand, from its point [points]: beside it first, then farther off.
OFFSETS = tuple(
    (dx * far, dy * far)
    for far in (1.0, 2.0, 3.0, 4.5, 6.0)
    for dx, dy in ((9, 0), (9, 8), (9, -8), (-9, 0), (-9, 8), (-9, -8), (0, 12), (0, -12))
)


def place(
    axes: Axes, points: Sequence[tuple[float, float, str]], lines: Sequence[tuple[Point, Point]] = ()
) -> None:
    """Write each point's name; the axes' scales and limits must stand already.

    Parameters: points, (x, y, name); lines, upright or level ones the names should stay off as well.
    Where no place is free, the one that covers least is taken.
    """
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("axes must belong to a figure to measure text, and belong to none")
    figure.draw_without_rendering()
    pixel = figure.dpi / 72
    frame = axes.get_window_extent()
    spots: list[Point] = [tuple(axes.transData.transform((x, y))) for x, y, _ in points]
    half = MARKER * pixel
    taken = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in spots]
    for start, end in lines:
        (left, low), (right, high) = axes.transData.transform(start), axes.transData.transform(end)
        taken.append(
            Bbox.from_extents(min(left, right), min(low, high), max(left, right), max(low, high)).padded(
                pixel
            )
        )
    for (x, y, text), spot in zip(points, spots, strict=True):
        sizes = _extent(axes, text)
        boxes = {offset: _box(spot, offset, sizes, pixel) for offset in OFFSETS}
        # Ties go to the nearer place: OFFSETS stand in that order, and min keeps the first.
        dx, dy = min(boxes, key=lambda offset: _covered(boxes[offset], taken, frame))
        taken.append(boxes[dx, dy])
        far = (dx**2 + dy**2) ** 0.5 > LEADER
        axes.annotate(
            text,
            (x, y),
            (dx, dy),
            textcoords="offset points",
            fontsize=SIZE,
            ha=_side(dx),
            va="center",
            parse_math=False,
            zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.4},
            arrowprops={"arrowstyle": "-", "color": "#8A8F98", "lw": 0.7, "shrinkB": 4} if far else None,
        )


def _side(dx: float) -> str:
    return "left" if dx > 0 else "right" if dx < 0 else "center"


def _extent(axes: Axes, text: str) -> tuple[float, float]:
    """Width and height of a name [pixels]."""
    probe = axes.annotate(text, (0, 0), xycoords="axes fraction", fontsize=SIZE, parse_math=False)
    box = probe.get_window_extent()
    probe.remove()
    return box.width, box.height


def _box(
    spot: tuple[float, float], offset: tuple[float, float], size: tuple[float, float], pixel: float
) -> Bbox:
    from matplotlib.transforms import Bbox

    x, y = spot[0] + offset[0] * pixel, spot[1] + offset[1] * pixel
    left = {"left": x, "right": x - size[0], "center": x - size[0] / 2}[_side(offset[0])]
    gap = 1.5 * pixel
    return Bbox.from_extents(left - gap, y - size[1] / 2 - gap, left + size[0] + gap, y + size[1] / 2 + gap)


def _covered(box: Bbox, taken: Sequence[Bbox], frame: Bbox) -> float:
    """Area of ``box`` that lies on something, or outside the frame (which counts double)."""
    from matplotlib.transforms import Bbox

    on = sum(_area(Bbox.intersection(box, other)) for other in taken)
    inside = _area(Bbox.intersection(box, frame))
    return on + 2 * (_area(box) - inside)


def _area(box: Bbox | None) -> float:
    return 0.0 if box is None else abs(box.width * box.height)
