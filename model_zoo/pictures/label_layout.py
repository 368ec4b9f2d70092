"""Places for labels beside the points of a chart, for the comparison's picture and the page's charts alike."""

from __future__ import annotations

import math
from typing import Iterator, Sequence, Tuple

__all__ = ['Box', 'label_boxes', 'nearest']

Box = Tuple[float, float, float, float]  # x0, y0, x1, y1

# Right and left first, then around.
TURNS = (0, 8, *range(1, 8), *range(9, 16))
DIRECTIONS = [(math.cos(turn * math.pi / 8), math.sin(turn * math.pi / 8)) for turn in TURNS]


def label_boxes(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    *,
    radii: Sequence[float],
    clearance: float = 6,
) -> list[Box | None]:
    """Find room for each label near its point.

    Parameters
    ----------
    points : sequence of (x, y)
    sizes : sequence of (width, height)
        Of the labels.
    frame : (x0, y0, x1, y1)
        All labels stay inside.
    radii : sequence of float
        Distances from the point that are tried, in turn.
    clearance : float, default 6
        Between a label and any point, along each axis.

    Returns
    -------
    list of (x0, y0, x1, y1) or None
        Clear of all points and of each other; None where there is no room.
    """
    taken = [(x - clearance, y - clearance, x + clearance, y + clearance) for x, y in points]
    boxes = []
    for point, size in zip(points, sizes):
        box = next((box for box in _candidates(point, size, radii) if _is_free(box, frame, taken)), None)
        if box:
            taken.append(box)
        boxes.append(box)
    return boxes


def nearest(box: Box, point: tuple[float, float]) -> tuple[float, float]:
    """The point of a box that is nearest to another point."""
    (x0, y0, x1, y1), (x, y) = box, point
    return min(max(x, x0), x1), min(max(y, y0), y1)


def _candidates(point, size, radii) -> Iterator[Box]:
    (x, y), (width, height) = point, size
    for radius in radii:
        for right, up in DIRECTIONS:
            # The label's edge is where the direction ends, or its middle where that is straight up or down.
            left = x + radius * right - (0 if right > 0.1 else width if right < -0.1 else width / 2)
            bottom = y + radius * up - height / 2
            yield left, bottom, left + width, bottom + height


def _is_free(box, frame, taken):
    x0, y0, x1, y1 = box
    inside = frame[0] <= x0 and frame[1] <= y0 and x1 <= frame[2] and y1 <= frame[3]
    return inside and not any(
        x0 < right and left < x1 and y0 < top and bottom < y1 for left, bottom, right, top in taken
    )
