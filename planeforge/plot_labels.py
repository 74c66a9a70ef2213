"""Names beside the points of a plot, clear of each other, of all points and of the frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[float, float]
Box = tuple[float, float, float, float]  #: left, low, right, high [pixels]

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
    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("axes must belong to a figure to measure text, and belong to none")
    figure.draw_without_rendering()
    pixel = figure.dpi / 72
    left, low, right, high = axes.get_window_extent().extents
    frame = (left, low, right, high)
    spots: list[Point] = [tuple(axes.transData.transform((x, y))) for x, y, _ in points]
    taken = [_around(spot, spot, MARKER * pixel) for spot in spots]
    for ends in lines:
        start, end = (tuple(axes.transData.transform(point)) for point in ends)
        taken.append(_around(start, end, pixel))
    for (x, y, text), spot in zip(points, spots, strict=True):
        size = _extent(axes, text)
        boxes = {offset: _box(spot, offset, size, pixel) for offset in OFFSETS}
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


def _around(start: Point, end: Point, room: float) -> Box:
    """The box of a line, with room on every side."""
    (x0, y0), (x1, y1) = start, end
    return (min(x0, x1) - room, min(y0, y1) - room, max(x0, x1) + room, max(y0, y1) + room)


def _box(spot: Point, offset: Point, size: Point, pixel: float) -> Box:
    """Where a name of that size would stand, with a gap around it."""
    x, y = spot[0] + offset[0] * pixel, spot[1] + offset[1] * pixel
    left = {"left": x, "right": x - size[0], "center": x - size[0] / 2}[_side(offset[0])]
    return _around((left, y - size[1] / 2), (left + size[0], y + size[1] / 2), 1.5 * pixel)


def _covered(box: Box, taken: Sequence[Box], frame: Box) -> float:
    """Area of ``box`` that lies on something, or outside the frame (which counts double)."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    return sum(_shared(box, other) for other in taken) + 2 * (area - _shared(box, frame))


def _shared(one: Box, other: Box) -> float:
    """Area two boxes have in common."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0
